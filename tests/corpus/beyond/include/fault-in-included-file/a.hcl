target "t" {
  tags = [NOPE]
}
