target "app" {
  name = "app-${os}-${n}"
  matrix = {
    os = ["linux", "bsd"]
    n  = ["2", "1"]
  }
}
