function "file" {
  params = [x]
  result = "mine ${x}"
}
target "default" { args = { A = file("nope") } }
