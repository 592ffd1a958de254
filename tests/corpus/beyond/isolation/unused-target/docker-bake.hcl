target "a" { tags = ["x"] }
target "b" { tags = [NOPE] }
