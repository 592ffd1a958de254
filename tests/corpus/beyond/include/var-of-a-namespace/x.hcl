variable "TAG" { default = "d" }
target "t" { tags = [TAG] }
