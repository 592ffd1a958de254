include "w" { file = "w.hcl" }
target "a" { description = "Mine" }
