include "a" { file = "a.hcl" }
target "t" { args = { Y = Y } }
