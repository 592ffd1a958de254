# One Dockerfile, two platforms: `build` runs on the machine's own platform, once for each platform it compiles for.

target "default" {
  contexts  = { base = "oci-layout://../base/layout" }
  platforms = ["linux/amd64", "linux/arm64"]
  output    = ["type=local,dest=out"]
}
