target "default" {
  args = {
    A = env("A_VAR")
    B = env("B_VAR", "none")
    C = env("C_VAR")
  }
}
