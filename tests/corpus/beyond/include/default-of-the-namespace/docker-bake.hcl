include "web" { file = "web/docker-bake.hcl" }
