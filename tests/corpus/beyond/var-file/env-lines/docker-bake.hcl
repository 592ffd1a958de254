variable "TAG" { default = "d" }
variable "DEBUG" { default = false }
variable "PORTS" { type = list(number) }
target "default" {
  tags = [TAG]
  args = { D = DEBUG, P = join(",", PORTS) }
}
