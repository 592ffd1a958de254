include "a" {
  file = "a.hcl"
  vars = { TGA = "x" }
}
