include "w" { file = "w/b.hcl" }
