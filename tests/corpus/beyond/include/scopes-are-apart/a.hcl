variable "X" { default = "a" }
function "f" {
  params = []
  result = X
}
target "t" { args = { X = f() } }
