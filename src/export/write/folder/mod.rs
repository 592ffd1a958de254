//! Trees as folders of the user.
//!
//! Only what differs is written: a file that an earlier export wrote and nobody touched since is known by its mark, any
//! other file of equal length is compared. What is written is made in `DEST/.bake-tmp-…` and renamed. Everything goes
//! through open directories: no link in the destination is followed. Nothing of the store is hard-linked into it.

mod attributes;
mod clear;
mod entry;
#[cfg(test)]
mod tests;
mod walk;

pub(crate) use clear::{TEMPORARY, make_locked, remove};
pub(crate) use walk::finish_folders;
pub(super) use walk::{FolderOptions, stage, write};
