# The last stage as a tar of one file, and the intermediate stage `builder` as a tar of its whole root file system.

group "default" {
  targets = ["result", "builder"]
}

target "result" {
  contexts = { base = "oci-layout://../base/layout" }
  output   = ["type=tar,dest=out/result.tar"]
}

target "builder" {
  inherits = ["result"]
  target   = "builder"
  output   = ["type=tar,dest=out/builder.tar"]
}
