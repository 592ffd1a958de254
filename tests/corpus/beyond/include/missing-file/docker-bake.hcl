
include "w" { file = "wbe.hcl" }
