variable "T" {}
target "b" { args = { T = T } }
