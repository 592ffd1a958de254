# `bake test` builds and keeps the result in the cache only; `bake` exports it afterwards and runs nothing again.

target "test" {
  contexts = { base = "oci-layout://../base/layout" }
  output   = ["type=cacheonly"]
}

target "default" {
  inherits = ["test"]
  output   = ["type=local,dest=out", "type=oci,dest=out/report.oci.tar"]
}
