include { file = "common.hcl" }
target "default" {
  inherits = ["common"]
  args = { V = V, W = twice("x") }
}
variable "V" { default = "mine" }
