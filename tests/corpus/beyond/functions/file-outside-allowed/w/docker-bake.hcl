target "default" {
  args = { V = file("../v") }
}
