# `REGISTRY=registry.example.com/me bake --push`

variable "REGISTRY" {
  default = "localhost:5000"
}

target "default" {
  tags = ["${REGISTRY}/motd:latest", "${REGISTRY}/motd:1.0"]
}
