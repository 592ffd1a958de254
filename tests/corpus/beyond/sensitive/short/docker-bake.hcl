variable "PIN" {
  type = number
  sensitive = true
}
target "default" { args = { PIN = PIN, NEXT = PIN + 1, OTHER = "a7b" } }
