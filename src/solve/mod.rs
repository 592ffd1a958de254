//! Finds or makes the results of vertices: what is known comes from the store, the rest runs.
//!
//! ```text
//! graph ─► solver: for each vertex, inputs first
//!            key (fast: definition; slow: content of what is read) ─► record in the store? ─► tree
//!            else op: source │ exec │ file │ merge ─► snapshot ─► record ─► tree
//! ```
//!
//! A result is a [`Tree`](tree::Tree). Its identity enters the keys of the vertices that read it, so a step whose inputs
//! turn out equal is found again however it came about.

pub(crate) mod content;
pub(crate) mod failure;
pub(crate) mod key;
pub(crate) mod local;
pub(crate) mod op;
pub(crate) mod slots;
pub(crate) mod solver;
pub(crate) mod tree;
