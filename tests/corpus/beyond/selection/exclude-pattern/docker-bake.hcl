group "release" { targets = ["web", "docs", "tools"] }
group "tools" { targets = ["a", "b"] }
target "web" { contexts = { d = "target:docs" } }
target "docs" {}
target "a" {}
target "b" {}
