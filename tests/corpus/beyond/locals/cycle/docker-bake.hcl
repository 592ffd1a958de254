locals {
  a = local.b
  b = local.a
}
target "default" { args = { A = local.a } }
