TAG = "x"
PORTS = "many"
