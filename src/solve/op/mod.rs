//! The ops: how each makes a snapshot out of its inputs.
//!
//! ```text
//! file ─► copy (trees) ─┬─► tree_writer ─► dir_times     exec (agent) ─► sandbox, output, moved, cover, single_id
//!   └───► archive ──────┤                                source ─► git │ http
//!           linked ─────┘                                held: an exec that the user looks into
//! ```
//!
//! Whether an op runs at all is decided in `solve::lookup`; what it reads is found in `solve::content`.

pub(crate) mod agent;
mod archive;
mod copy;
mod copy_into;
mod cover;
mod dir_times;
pub(crate) mod error;
pub(crate) mod exec;
pub(crate) mod file;
mod git;
pub(crate) mod held;
mod http;
pub(crate) mod linked;
mod moved;
mod output;
mod owner;
mod single_id;
pub(crate) mod source;
#[cfg(test)]
mod tests;
pub(crate) mod tree_writer;
