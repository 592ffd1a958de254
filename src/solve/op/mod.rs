//! The ops: how each makes a snapshot out of its inputs.
//!
//! ```text
//! file ─► copy (trees) ─┬─► tree_writer ─► transfer     exec ─► sandbox, output     source ─► git │ http
//!   └───► archive ──────┘
//! ```
//!
//! Whether an op runs at all is decided in `solve::lookup`; what it reads is found in `solve::content`.

mod archive;
mod chmod;
mod copy;
mod copy_into;
pub(crate) mod error;
pub(crate) mod exec;
pub(crate) mod file;
mod git;
mod http;
mod output;
mod owner;
pub(crate) mod source;
#[cfg(test)]
mod tests;
mod transfer;
pub(crate) mod tree_writer;
