variable "V" { default = "1" }
locals {
  name = "x-${V}"
  both = "${local.name}/${local.later}"
}
locals { later = join("-", target.t.tags) }
target "t" { tags = ["a", "b"] }
target "default" { args = { A = local.both } }
