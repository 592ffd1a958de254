variable "F" { default = "a.hcl" }
include "a" { file = F }
