include "w" { file = "w.hcl" }
target "w_app" { tags = ["mine"] }
