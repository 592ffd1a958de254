locals { p = "pre" }
function "f" {
  params = [x]
  result = "${local.p}-${x}"
}
target "default" { args = { A = f("y") } }
