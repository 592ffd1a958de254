include "b" { file = "b/b.json" }
target "t" { inherits = ["b_t"] }
