locals { name = "x" }
target "default" { args = { A = local.nmae } }
