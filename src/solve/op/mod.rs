//! The ops: each answers what it reads (`read`) and how it runs; one file per op.

mod archive;
mod chmod;
mod copy;
pub(crate) mod exec;
pub(crate) mod file;
mod glob;
mod output;
mod owner;
pub(crate) mod read;
pub(crate) mod select;
pub(crate) mod source;
#[cfg(test)]
mod tests;
mod transfer;
mod tree_writer;
