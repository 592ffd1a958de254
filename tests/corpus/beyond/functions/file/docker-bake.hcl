target "default" {
  args = {
    V = trimspace(file("VERSION"))
    E = fileexists("VERSION")
    N = fileexists("nope")
    S = join(",", fileset("src", "**/*.go"))
  }
}
