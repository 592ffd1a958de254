variable "TOKEN" {
  default   = "hunter2-default"
  sensitive = true
}
variable "URL" { default = "https://me:${TOKEN}@host" }
target "default" {
  args = {
    TOKEN = TOKEN
    URL   = URL
    B64   = base64encode(TOKEN)
    MORE  = "x-${base64encode("u:${TOKEN}")}"
    PLAIN = "plain"
    LEN   = strlen(TOKEN)
  }
  tags = ["app:1"]
}
