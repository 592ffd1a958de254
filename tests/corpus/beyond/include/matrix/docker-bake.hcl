include "w" { file = "w.hcl" }
group "default" { targets = ["w_app"] }
