//! What a step reads of a tree, and its content hash: equal content has the same hash, however the tree was made.
//!
//! ```text
//! source (a context or stacked layers) ─► select (COPY paths, wildcards, --exclude) ─► hash ─► digest in the slow key
//!    └─ local: the context, read lazily         └─ also used by `op` to copy                └─ entry_hash: one name
//! ```
//!
//! Hashing and copying share [`select`], so that what is hashed is what is copied. Copying itself is `solve::op`.

mod entry_hash;
pub(crate) mod error;
pub(crate) mod files;
pub(crate) mod hash;
pub(crate) mod local;
pub(crate) mod select;
pub(crate) mod source;
#[cfg(test)]
mod tests;
pub(crate) mod walk;
