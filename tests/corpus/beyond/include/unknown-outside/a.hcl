variable "Y" { default = "a" }
