variable "X" { default = "root" }
include "a" { file = "a.hcl" }
target "t" { args = { X = X } }
