//! `bake`: reads a plan of targets, builds what changed, hands the results to exporters.
//!
//! The modules, in reading order; see ARCHITECTURE.md for the whole in one look. Each may use only those above it, as
//! `tests/architecture.rs` checks.

// ── words: pure data, no I/O, used by all ──
mod oci; // digest, descriptor, platform, reference, image config
mod report; // span, source map, diagnostic, event: what we tell the user, as data
mod spec; // the option mini-languages, parsed once: output, cache-from/to, attest, secret, ssh, ulimit

// ── language: text to plan ──
mod definition; // find, read, parse bake files into one syntax: HCL, JSON, YAML, Compose
mod dockerfile; // text ─► instructions ─► stages ─► graph
mod eval; // variables, functions, matrix, inheritance, overrides ─► typed targets
mod graph; // op, vertex, graph: the work of a run
mod plan; // targets × platforms ─► petgraph of builds and exports, deduplicated

// ── mechanisms: one resource each, no knowledge of builds ──
mod archive; // tar in any dialect and compression, read as a stream
mod fetch; // git and http
mod grant; // files of this machine that a definition names: checked and opened in one act
mod layer; // tree ◄─► tar, diff, gzip, zstd
mod objects; // object stores and the cache service of GitHub Actions, as places of shared caches
mod registry; // distribution protocol and OCI layouts: resolve, pull, push
mod sandbox; // one process in namespaces
mod ssh; // private keys of the user, and the agent that signs with them
mod store; // blobs, snapshots, records on disk; leases, locks, collection

// ── running ──
mod dispatch; // runs a plan on an engine: dispatcher, executor, interrupts, one outcome
mod engine; // plan nodes ─► dockerfile ─► solve ─► export
mod export; // image, registry, local, tar, oci, docker, cacheonly
mod solve; // decides what is cached, runs the rest

// ── shell ──
pub mod cli; // arguments ─► settings ─► commands
mod ui; // everything printed

#[cfg(feature = "fuzzing")]
pub mod fuzz; // entry points of the fuzz targets in `fuzz/`
