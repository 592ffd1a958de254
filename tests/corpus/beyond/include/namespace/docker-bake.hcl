include "web" { file = "services/web/docker-bake.hcl" }
target "all" {
  contexts = { web = "target:web_app" }
  args = { TAGS = join(",", target.web_app.tags) }
}
