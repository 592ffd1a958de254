# Three results that belong together: `bake` shows all of them, or, when one fails, none.
# `bake --var BROKEN=1` fails, and changes nothing.

variable "VERSION" {
  default = "1"
}

variable "BROKEN" {
  default = ""
}

group "default" {
  targets = ["client", "server", "docs"]
  release = "defer-output"
}

target "client" {
  args   = { VERSION = VERSION }
  target = "client"
  output = ["type=tar,dest=out/client.tar"]
}

target "server" {
  args   = { VERSION = VERSION }
  target = "server"
  output = ["type=oci,dest=out/server.tar"]
}

target "docs" {
  args   = { VERSION = VERSION }
  target = BROKEN == "" ? "docs" : "broken"
  output = ["type=local,dest=out/docs"]
}
