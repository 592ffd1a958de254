# The release image, compiled in a container.
ARG RUST_VERSION=1.95
FROM rust:${RUST_VERSION}-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock clippy.toml ./
COPY .cargo .cargo
COPY src src
COPY tests tests
COPY schemas schemas
# The words about each code are part of the program.
COPY docs/errors.md docs/errors.md
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked && cp target/release/bake /bake

FROM scratch
COPY --from=build /bake /bake
RUN ["/bake", "--version"]
ENTRYPOINT ["/bake"]
