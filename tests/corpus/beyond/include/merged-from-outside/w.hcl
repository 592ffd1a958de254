target "app" {
  tags = ["theirs"]
  args = { A = "1" }
}
