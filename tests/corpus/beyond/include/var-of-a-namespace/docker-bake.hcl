include "a" { file = "x.hcl" }
include "b" { file = "x.hcl" }
