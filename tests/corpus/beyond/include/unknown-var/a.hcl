variable "TAG" {}
target "t" {}
