variable "CRED" {
  type = object({user = string, pass = string})
  sensitive = true
}
target "default" { args = { P = CRED.pass, U = "${CRED.user}!" } }
