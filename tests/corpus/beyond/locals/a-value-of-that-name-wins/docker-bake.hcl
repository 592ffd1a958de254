local = { a = "attribute" }
locals { a = "block" }
target "default" { args = { A = local.a } }
