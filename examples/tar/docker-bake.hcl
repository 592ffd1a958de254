# The last stage as a tar of one file, and the intermediate stage `builder` twice: as a tar of its whole root file system,
# and as a tar of what was added to its base image.
#
#   docker build --output type=tar,dest=result.tar .
#   docker build --output type=tar,dest=builder.tar,source=builder .
#   docker build --output type=tar,dest=added.tar,source=builder,mode=min .

target "default" {
  contexts = { base = "oci-layout://../base/layout" }
  output = [
    "type=tar,dest=out/result.tar",
    "type=tar,dest=out/builder.tar,source=builder",
    "type=tar,dest=out/added.tar,source=builder,mode=min",
  ]
}
