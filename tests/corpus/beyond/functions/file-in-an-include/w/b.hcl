target "t" { args = { V = file("v"), L = join(" ", fileset(".", "*")) } }
