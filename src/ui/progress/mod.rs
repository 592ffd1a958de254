//! Progress of a run, drawn from its events.
//!
//! ```text
//! events ─► channel ─► one thread: Steps (what is known) ─► plain | tty | rawjson ─► standard error
//! ```
//!
//! Nothing that runs waits for a terminal, except a command whose output comes faster than it can be shown. Output of a
//! process is made harmless before it is shown; a step that was found in the cache takes one short line at most.

pub(super) mod conclusion;
mod lines;
mod plain;
mod rawjson;
mod steps;
mod tty;
mod view;

pub(crate) use conclusion::conclusion;
pub(crate) use view::{ProgressMode, ProgressView};
