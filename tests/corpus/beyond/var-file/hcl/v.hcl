# values
BASE  = "v1"
TAG   = "${BASE}.2"
DEBUG = true
PORTS = [80, 443]
