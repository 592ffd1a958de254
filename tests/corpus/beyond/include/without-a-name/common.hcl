variable "V" { default = "theirs" }
function "twice" {
  params = [s]
  result = "${s}${s}"
}
target "common" { labels = { a = "b" } }
