include "b" { file = "b.hcl" }
