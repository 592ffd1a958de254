//! A whole store as one archive, for machines that begin with nothing (CI): written from one store, added to another.
//!
//! ```text
//! bake-store                      JSON: version of the form, what the trees were made by
//! blobs/sha256/HEX                a blob
//! snapshots/HEX                   JSON: what is known of the snapshot, the digest of its tree
//! snapshots/HEX/fs/…              its tree, as it lies in the store
//! index/TABLE/HEX                 JSON: the value of a record
//! ```
//!
//! A zstd-compressed tar archive, in this order, so that a record comes after what it names. What is of one machine alone is
//! left out: receipts, stat caches, cache mounts, repositories, logs. Blobs and trees are compared with their digests when they are
//! read; records are believed, as those of the store itself are.

mod form;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub(crate) use read::ImportedStore;
