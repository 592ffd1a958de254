//! How each op is run; one file per op.

mod archive;
mod chmod;
mod copy;
pub(crate) mod file;
mod glob;
mod owner;
pub(crate) mod select;
#[cfg(test)]
mod tests;
mod transfer;
mod tree_writer;
