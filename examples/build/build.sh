#!/bin/sh
# What `bake convert build.sh` makes a bake file of.
set -e
VERSION=${VERSION:-1.0.0}
docker build --build-context base=oci-layout://../base/layout --target=server -t "server:$VERSION" \
    --output "type=oci,dest=out/server-$VERSION.tar" .
docker buildx build --build-context base=oci-layout://../base/layout --target=binaries -o out/bin .
