target "a" { tags = ["x"] }
target "b" { dockerfile = "other.Dockerfile" }
