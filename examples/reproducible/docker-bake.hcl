# The same bytes on every machine and every day: all times are SOURCE_DATE_EPOCH.

variable "SOURCE_DATE_EPOCH" {
  default = "1700000000"
}

target "default" {
  args   = { SOURCE_DATE_EPOCH = SOURCE_DATE_EPOCH }
  tags   = ["site:latest"]
  output = ["type=oci,rewrite-timestamp=true,dest=out/site.tar"]
}
