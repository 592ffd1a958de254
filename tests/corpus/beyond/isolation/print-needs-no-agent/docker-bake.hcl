target "default" { ssh = ["default"] }
