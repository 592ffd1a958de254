variable "TAG" {}
variable "OTHER" { default = "o" }
target "app" { tags = ["app:${TAG}-${OTHER}"] }
