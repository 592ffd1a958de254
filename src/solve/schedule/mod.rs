//! When a vertex is resolved: each at most once in a run, inputs before users, what is longest first.
//!
//! ```text
//! result ─► order: what it needs ─► tasks: one for each vertex ─► slots: how many of them run a step at a time
//! ```
//!
//! How a vertex is resolved is not known here: `solver` passes it in.

pub(crate) mod order;
pub(crate) mod slots;
pub(crate) mod tasks;
