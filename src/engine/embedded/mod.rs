//! The embedded engine: Dockerfiles in, images and files out, in this process.
//!
//! ```text
//! setup: what it needs of the world ─► prepare: checks everything ─► EmbeddedEngine ─┬─ build: solve, write caches
//!                                                                                    └─ export: hand to exporters
//! ```

mod build;
mod export;
mod node;
mod prepare;
mod setup;

pub(crate) use prepare::prepare;
pub(crate) use setup::EngineSetup;
