//! The embedded engine: Dockerfiles in, images and files out, in this process.
//!
//! ```text
//! setup: what it needs of the world ─► prepare: checks everything ─► EmbeddedEngine ─┬─ build: solve, write caches
//!                                                                                    └─ export: hand to exporters
//! debug: the same up to one step, which is held
//! named: names of results ─► records of them, and back
//! ```

mod build;
mod debug;
mod export;
mod named;
mod node;
mod prepare;
mod setup;

pub(crate) use crate::solve::op::source::record_archive;
pub(crate) use debug::prepare_debug;
pub(crate) use named::recorded_platforms;
pub(crate) use prepare::prepare;
pub(crate) use setup::EngineSetup;
