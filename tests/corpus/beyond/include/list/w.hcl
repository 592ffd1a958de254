variable "T" { default = "1" }
target "b" { description = "Theirs" }
