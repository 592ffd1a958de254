#!/bin/sh
# A pipeline as it was, for the Docker CLI. One install step before it makes `bake` serve it (docs/plugin.md):
#
#     install -D "$(command -v bake)" ~/.docker/cli-plugins/docker-buildx
set -e
docker buildx create --name ci --use
docker buildx build --tag registry.example.com/motd --load .
docker buildx build --output type=oci,dest=./image.tar .
docker buildx build --output type=tar,dest=out/motd.tar .
docker buildx ls --format {{.Name}}
docker buildx rm ci
