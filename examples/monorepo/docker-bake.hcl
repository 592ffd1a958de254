# `bake release` builds every service; the shared library is built once, as a target that the others read.

group "default" {
  targets = ["release"]
}

group "release" {
  description = "All services"
  targets     = ["api", "web"]
}

target "lib" {
  context = "lib"
}

target "_service" {
  contexts = {
    base = "oci-layout://../base/layout"
    lib  = "target:lib"
  }
}

target "api" {
  inherits = ["_service"]
  context  = "api"
  tags     = ["api:latest"]
  output   = ["type=oci,dest=out/api.tar"]
}

target "web" {
  inherits = ["_service"]
  context  = "web"
  tags     = ["web:latest"]
  output   = ["type=oci,dest=out/web.tar"]
}
