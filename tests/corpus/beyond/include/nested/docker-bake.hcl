include "a" { file = "a/a.hcl" }
