target "default" {
  args = { V = file("../../../../../../etc/passwd") }
}
