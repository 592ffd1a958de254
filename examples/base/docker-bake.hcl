# A base image made from the machine's own static busybox, as an OCI layout folder for the other examples.

target "default" {
  dockerfile-inline = <<-EOT
    FROM scratch AS unpack
    COPY --from=host busybox /bin/busybox
    RUN ["/bin/busybox", "--install", "-s", "/bin"]
    FROM scratch
    COPY --from=unpack /bin /bin
    COPY <<EOF /etc/passwd
    root:x:0:0:root:/root:/bin/sh
    EOF
    WORKDIR /root
    WORKDIR /
    CMD ["/bin/sh"]
    EOT
  contexts = { host = "/bin" }
  tags     = ["base:latest"]
  output   = ["type=oci,tar=false,dest=layout"]
}
