# The repository's own plan: packages the `bake` binary that runs it.
#
#   cargo run --release -- release     the packages of a release, under dist/
#   bake source                        the same image, compiled in a container with a Rust base image

variable "VERSION" {
  description = "Version that the packages carry"
  default     = "0.1.0"
}

variable "BINARY_DIR" {
  description = "Folder with the compiled binary"
  default     = "target/release"
}

variable "PLATFORM" {
  description = "Platform that the binary was compiled for: linux/amd64 or linux/arm64"
  default     = BAKE_LOCAL_PLATFORM
}

function "package" {
  params = [extension]
  result = "dist/bake-${VERSION}-${replace(PLATFORM, "/", "-")}${extension}"
}

group "default" {
  targets = ["release"]
}

group "release" {
  description = "Every package of a release, from one build"
  targets     = ["package"]
}

target "package" {
  description = "The static binary, smoke-tested, in all the forms that users fetch"
  dockerfile  = "packaging/Dockerfile"
  contexts    = { binary = BINARY_DIR }
  platforms   = [PLATFORM]
  tags        = ["bake:${VERSION}"]
  labels = {
    "org.opencontainers.image.title"    = "bake"
    "org.opencontainers.image.version"  = VERSION
    "org.opencontainers.image.licenses" = "Apache-2.0"
  }
  output = [
    "type=oci,compression=zstd,dest=${package(".oci.tar")}",
    "type=docker,compression=gzip,dest=${package(".docker.tar")}",
    "type=tar,dest=${package(".rootfs.tar")}",
    "type=local,dest=${package("")}",
  ]
}

target "source" {
  description = "The same image, compiled from source in a container"
  dockerfile  = "packaging/source.Dockerfile"
  platforms   = [PLATFORM]
  tags        = ["bake:${VERSION}"]
  output      = ["type=oci,compression=zstd,dest=${package(".source.oci.tar")}"]
}
