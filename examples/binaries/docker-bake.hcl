# `bake` exports both binaries into bin/; `bake images` makes an image archive of each.

variable "APP_VERSION" {
  default = "1.0.0"
}

target "_common" {
  contexts = { base = "oci-layout://../base/layout" }
  args     = { APP_VERSION = APP_VERSION }
}

target "default" {
  inherits = ["_common"]
  target   = "binaries"
  output   = ["type=local,dest=bin"]
}

group "images" {
  targets = ["client", "server"]
}

target "client" {
  inherits = ["_common"]
  target   = "client"
  tags     = ["client:${APP_VERSION}"]
  output   = ["type=oci,dest=out/client.tar"]
}

target "server" {
  inherits = ["_common"]
  target   = "server"
  tags     = ["server:${APP_VERSION}"]
  output   = ["type=docker,dest=out/server.tar"]
}
