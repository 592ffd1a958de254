target "a" {
tags=["x"]   # why
}
