include "a" { file = "a.hcl" }
