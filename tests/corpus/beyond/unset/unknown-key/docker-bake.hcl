target "base" {
  args = { A = "1", B = "2" }
  labels = { l = "x" }
}
target "app" {
  inherits = ["base"]
  tags = ["t"]
  attest = ["type=sbom", "type=provenance,mode=max"]
  secret = ["id=a,env=A", "id=b,env=B"]
  annotations = ["k=v"]
  description = "words"
  resources = { memory = "1g" }
}
