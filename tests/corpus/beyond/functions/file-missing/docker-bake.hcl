target "default" {
  args = { V = file("VERSIN") }
}
