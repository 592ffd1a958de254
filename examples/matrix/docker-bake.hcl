# One block, four targets: `bake`, or `bake app-plain-small` for one of them.

target "default" {
  name = "app-${flavour}-${size}"
  matrix = {
    flavour = ["plain", "debug"]
    size    = ["small", "large"]
  }
  contexts = { base = "oci-layout://../base/layout" }
  args = {
    FLAVOUR = flavour
    SIZE    = size
  }
  tags   = ["app:${flavour}-${size}"]
  output = ["type=oci,dest=out/${flavour}-${size}.tar"]
}
