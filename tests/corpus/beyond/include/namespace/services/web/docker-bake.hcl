variable "TAG" { default = "latest" }
group "default" { targets = ["app", "docs"] }
target "base" { args = { TAG = TAG } }
target "app" {
  inherits = ["base"]
  tags = ["app:${TAG}"]
  contexts = { base = "target:base", assets = "assets" }
  output = ["type=local,dest=out"]
  secret = ["id=token,src=token.txt"]
}
target "docs" { context = "docs" }
