# `bake image`, then `bake local`: the second unpacks what the first has built, and a repeat of either writes nothing.

target "_content" {
  contexts = { base = "oci-layout://../base/layout" }
}

target "image" {
  inherits = ["_content"]
  tags     = ["content:latest"]
  output   = ["type=oci,dest=out/content.tar"]
}

target "local" {
  inherits = ["_content"]
  output   = ["type=local,dest=out/root"]
}

target "default" {
  inherits = ["image"]
}
