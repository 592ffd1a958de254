//! `bake`: reads a plan of targets, builds what changed, hands the results to exporters.
//!
//! The modules, in reading order; see ARCHITECTURE.md for the whole in one look. Each may use only those above it, as
//! `tests/architecture.rs` checks. With the feature `fuzzing` there is only what the targets in `fuzz/` reach: it compiles in a
//! fraction of the time.
#![cfg_attr(
    feature = "fuzzing",
    expect(dead_code, unused_imports, reason = "a target reaches only a part of a module")
)]

// ── words: pure data, no I/O, used by all ──
mod oci; // digest, descriptor, platform, reference, image config
mod report; // span, source map, diagnostic, event: what we tell the user, as data
mod spec; // the option mini-languages, parsed once: output, cache-from/to, attest, secret, ssh, ulimit

// ── language: text to plan ──
#[cfg(not(feature = "fuzzing"))]
mod affected; // which targets of a plan can have another result than at an earlier revision
mod definition; // find, read, parse bake files into one syntax: HCL, JSON, YAML, Compose
mod dockerfile; // text ─► instructions ─► stages ─► graph
#[cfg(not(feature = "fuzzing"))]
mod eval; // variables, functions, matrix, inheritance, overrides ─► typed targets
mod graph; // op, vertex, graph: the work of a run
#[cfg(not(feature = "fuzzing"))]
mod plan; // targets × platforms ─► petgraph of builds and exports, deduplicated
#[cfg(not(feature = "fuzzing"))]
mod shard; // targets divided among runners

// ── mechanisms: one resource each, no knowledge of builds ──
mod archive; // tar in any dialect and compression, read as a stream
#[cfg(not(feature = "fuzzing"))]
mod buildkit; // a BuildKit daemon, spoken to: connections, sessions, solves
mod fetch; // git and http
mod grant; // files of this machine that a definition names: checked and opened in one act
mod layer; // tree ◄─► tar, diff, gzip, zstd
#[cfg(not(feature = "fuzzing"))]
mod objects; // object stores and the cache service of GitHub Actions, as places of shared caches
mod registry; // distribution protocol and OCI layouts: resolve, pull, push
#[cfg(not(feature = "fuzzing"))]
mod sandbox; // one process in namespaces
#[cfg(not(feature = "fuzzing"))]
mod ssh; // private keys of the user, and the agent that signs with them
#[cfg(not(feature = "fuzzing"))]
mod store; // blobs, snapshots, records on disk; leases, locks, collection

// ── running ──
#[cfg(not(feature = "fuzzing"))]
mod dispatch; // runs a plan on an engine: dispatcher, executor, interrupts, one outcome
#[cfg(not(feature = "fuzzing"))]
mod engine; // plan nodes ─► dockerfile ─► solve ─► export
#[cfg(not(feature = "fuzzing"))]
mod export; // image, registry, local, tar, oci, docker, cacheonly
#[cfg(not(feature = "fuzzing"))]
mod solve; // decides what is cached, runs the rest

// ── shell ──
#[cfg(not(feature = "fuzzing"))]
pub mod cli; // arguments ─► settings ─► commands
#[cfg(not(feature = "fuzzing"))]
mod ui; // everything printed

#[cfg(feature = "fuzzing")]
pub mod fuzz; // entry points of the fuzz targets in `fuzz/`
