//! The commands of the documents that people build and export by, each with `docker build` and `docker buildx build` replaced
//! by `bake build`. The compilers are stand-ins: an image whose `go` and `rustc` write a script that says what they were
//! asked for.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use crate::{
    docker_registry::Registry,
    load::engine,
    support::{Bake, Ran, base_layout, tar_entries},
};

/// Writes a program to what follows `-o`.
const COMPILER: &str = "#!/bin/sh\necho \"$(basename $0) $*\" >&2\nout=\nlast=\nfor word; do\n  [ \"$last\" = -o ] && out=$word\n  last=$word\ndone\n[ -n \"$out\" ] || exit 0\nmkdir -p \"$(dirname \"$out\")\"\necho \"made by $(basename $0) of $last\" > \"$out\"\nchmod 755 \"$out\"\n";

/// An OCI layout of an image with the compilers, for two platforms: both run the programs of this machine.
fn compilers() -> &'static Path {
    static MADE: OnceLock<Bake> = OnceLock::new();
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let bake = Bake::new();
        bake.write("compiler", COMPILER);
        bake.write("Dockerfile", "FROM --platform=$BUILDPLATFORM base\nCOPY --chmod=755 compiler /bin/go\nCOPY --chmod=755 compiler /bin/rustc\n");
        let base = format!("base=oci-layout://{}", base_layout().display());
        let args = ["--platform", "linux/amd64,linux/arm64", "-t", "c:1", "-o", "type=oci,tar=false,dest=layout", "."];
        bake.run(&[&["build", "--build-context", &base], args.as_slice()].concat()).ok();
        bake
    });
    PATH.get_or_init(|| made.path("layout"))
}

/// Runs a command of a document in a folder: `docker build` and `docker buildx build` are `bake build`, whose bases come from
/// the layout of the compilers.
#[must_use]
fn run(bake: &Bake, folder: &str, command: &str, bases: &[&str], env: &[(&str, &str)]) -> Ran {
    let words: Vec<&str> = command.split(' ').collect();
    let rest = words.strip_prefix(&["docker", "build"]).or_else(|| words.strip_prefix(&["docker", "buildx", "build"]));
    let contexts: Vec<String> =
        bases.iter().map(|base| format!("--build-context={base}=oci-layout://{}", compilers().display())).collect();
    let contexts = contexts.iter().map(String::as_str);
    let args: Vec<&str> =
        ["build"].into_iter().chain(contexts).chain(rest.expect("it is a command of docker").iter().copied()).collect();
    bake.run_with(folder, &args, env)
}

/// "BuildKit's ability to export build artifacts as a tar archive".
#[test]
fn export_build_artifacts_as_a_tar_archive() {
    let bake = Bake::new();
    bake.write("main.go", "package main\n");
    bake.write(
        "Dockerfile",
        "# syntax=docker/dockerfile:1\nFROM golang:1.21 AS builder\nWORKDIR /app\nCOPY . .\n\
         RUN CGO_ENABLED=0 GOOS=linux go build -o myapp .\nFROM scratch\nCOPY --from=builder /app/myapp .\nEXPOSE 8080\nCMD [\"./myapp\"]\n",
    );
    let bases = ["golang:1.21"];
    run(&bake, "", "docker build -t myapp-image .", &bases, &[("DOCKER_BUILDKIT", "1")]).ok();
    run(&bake, "", "docker build --output type=tar,dest=myapp.tar myapp-image", &[], &[]).ok();
    let entries = tar_entries(&bake.path("myapp.tar"));
    assert_eq!(entries, [("myapp".to_owned(), b"made by go of .\n".to_vec())]);
}

/// "Export binaries" of the guide, with the `server`, `client` and `binaries` stages.
#[test]
fn export_binaries_of_the_guide() {
    let bake = Bake::new();
    for file in ["go.mod", "go.sum", "cmd/client/main.go", "cmd/server/main.go"] {
        bake.write(file, "x\n");
    }
    bake.write(
        "Dockerfile",
        r#"# syntax=docker/dockerfile:1
ARG GO_VERSION=1.21
FROM golang:${GO_VERSION}-alpine AS base
WORKDIR /src
RUN --mount=type=cache,target=/go/pkg/mod/ \
    --mount=type=bind,source=go.sum,target=go.sum \
    --mount=type=bind,source=go.mod,target=go.mod \
    go mod download -x

FROM base as build-client
RUN --mount=type=cache,target=/go/pkg/mod/ \
    --mount=type=bind,target=. \
    go build -o /bin/client ./cmd/client

FROM base as build-server
ARG APP_VERSION="0.0.0+unknown"
RUN --mount=type=cache,target=/go/pkg/mod/ \
    --mount=type=bind,target=. \
    go build -ldflags "-X main.version=$APP_VERSION" -o /bin/server ./cmd/server

FROM scratch AS client
COPY --from=build-client /bin/client /bin/
ENTRYPOINT [ "/bin/client" ]

FROM scratch AS server
COPY --from=build-server /bin/server /bin/
ENTRYPOINT [ "/bin/server" ]

FROM scratch AS binaries
COPY --from=build-client /bin/client /
COPY --from=build-server /bin/server /
"#,
    );
    let bases = ["golang:1.21-alpine"];
    run(&bake, "", "docker build --output=. --target=server .", &bases, &[]).ok();
    assert_eq!(bake.read("bin/server"), "made by go of ./cmd/server\n");
    let mode = std::fs::metadata(bake.path("bin/server")).expect("written").permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
    assert!(!bake.path("bin/client").exists(), "only the server is exported");
    run(&bake, "", "docker build --output=bin --target=binaries .", &bases, &[]).ok();
    assert_eq!(bake.read("bin/client"), "made by go of ./cmd/client\n");
}

/// "Export binaries | Docker Docs".
#[test]
fn export_binaries_of_the_manual() {
    let bake = Bake::new();
    bake.write(
        "hello-world-bin/Dockerfile",
        r#"# syntax=docker/dockerfile:1
FROM rust:alpine AS build
WORKDIR /src
COPY <<EOT hello.rs
fn main() {
    println!("Hello World!");
}
EOT
RUN rustc -o /bin/hello hello.rs

FROM scratch
COPY --from=build /bin/hello /
ENTRYPOINT ["/hello"]
"#,
    );
    let bases = ["rust:alpine"];
    run(&bake, "hello-world-bin", "docker build --output=. .", &bases, &[]).ok();
    assert_eq!(bake.read("hello-world-bin/hello"), "made by rustc of hello.rs\n");

    let command = "docker build --platform=linux/amd64,linux/arm64 --output=out .";
    run(&bake, "hello-world-bin", command, &bases, &[]).ok();
    for platform in ["linux_amd64", "linux_arm64"] {
        assert_eq!(bake.read(&format!("hello-world-bin/out/{platform}/hello")), "made by rustc of hello.rs\n");
    }
}

/// "Exporters overview": every command of the page.
#[test]
fn exporters_overview() {
    let bake = Bake::new();
    let registry = Registry::start(&bake);
    let images = engine(&bake);
    let host = format!("unix://{}", bake.path("engine.sock").display());
    bake.write("app/Dockerfile", "FROM scratch\nCOPY file /\n");
    bake.write("app/file", "content\n");
    let name = format!("{}/image", registry.address);
    let run = |command: &str| {
        let command = command.replace("<registry>/<image>", &name);
        run(&bake, "app", &command, &[], &[("DOCKER_HOST", &host)]).ok()
    };
    let has_tag = |tag: &str| {
        let file = format!("registry/docker/registry/v2/repositories/image/_manifests/tags/{tag}/current/link");
        bake.path(&file).exists()
    };
    for kind in [
        "image",
        "registry",
        "local,dest=out-local",
        "tar,dest=out.tar",
        "oci,dest=oci.tar",
        "docker,dest=docker.tar",
        "cacheonly",
    ] {
        run(&format!("docker buildx build --tag <registry>/<image> --output type={kind} ."));
    }
    assert_eq!(bake.read("app/out-local/file"), "content\n");
    assert!(has_tag("latest"));
    run("docker buildx build --output type=docker,name=<registry>/<image>:docker .");
    run("docker buildx build --tag <registry>/<image>:load --load .");
    for tag in ["docker", "load"] {
        let loaded = images.lock().expect("no thread panics").images.contains_key(&format!("{name}:{tag}"));
        assert!(loaded, "{tag}");
    }
    run("docker buildx build --tag <registry>/<image>:push --push .");
    run("docker buildx build --output type=image,name=<registry>/<image>:image,push=true .");
    run("docker buildx build --output type=registry,name=<registry>/<image>:registry .");
    for tag in ["push", "image", "registry"] {
        assert!(has_tag(tag), "{tag}");
    }
    run("docker buildx build --output type=oci,dest=./image.tar .");
    let names: Vec<String> = tar_entries(&bake.path("app/image.tar")).into_iter().map(|(name, _)| name).collect();
    assert!(names.contains(&"index.json".to_owned()) && names.contains(&"oci-layout".to_owned()), "{names:?}");
    run("docker buildx build --output type=tar,dest=path/to/output .");
    assert_eq!(tar_entries(&bake.path("app/path/to/output")), [("file".to_owned(), b"content\n".to_vec())]);
    run("docker buildx build --output type=cacheonly");
    let silent = run("docker buildx build .");
    assert!(
        silent.stderr.contains("Build result will only remain in the build cache") && silent.stderr.contains("--push"),
        "{silent:?}"
    );
    run("docker buildx build --output type=local,dest=path/to/folder .");
    assert_eq!(bake.read("app/path/to/folder/file"), "content\n");
    run("docker buildx build --output type=image,name=<registry>/<image>:zstd,push=true,compression=zstd .");
    run("docker buildx build --output type=image,name=<registry>/<image>:oci,push=true,oci-mediatypes=true .");
    assert!(has_tag("zstd") && has_tag("oci"));
}
