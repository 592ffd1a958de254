include "a" { file = "a.hcl" }
target "default" {}
