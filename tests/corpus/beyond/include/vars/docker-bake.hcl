variable "VERSION" { default = "3" }
include "web" {
  file = "web.hcl"
  vars = { TAG = "v${VERSION}" }
}
