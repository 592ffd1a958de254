//! Runs a [`graph::File`]: COPY, ADD, WORKDIR, heredoc files (spec/dockerfile.md §7).
//!
//! Writes into the upper directory of the new layer, nothing is mounted. Which content is selected is hashed in
//! `solve::content`.

use std::{io, path::Path};

use crate::{graph, layer::view::View, solve::content::Source};

/// A file operation could not be done. Names paths of images and contexts only, never of the store.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("not supported")]
    Unsupported,
}

impl FileError {
    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        None
    }
}

/// Something that worked but is probably not what was meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Warning {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

/// Writes a layer: the upper directory `fs/` above the tree that is changed.
pub(crate) struct TreeWriter {}

impl TreeWriter {
    /// `upper` is an empty directory. `lower` is the tree below; the empty one for `COPY --link`.
    pub(crate) fn new(_upper: &Path, _lower: View) -> io::Result<Self> {
        Ok(Self {})
    }
}

/// Applies the actions in order. `sources[i]` is the vertex's input `i`; that of input 0, which is `dest`, is not used.
///
/// Blocking; do not call it on a rayon thread.
pub(crate) fn run(
    _actions: &[graph::Action],
    _dest: &mut TreeWriter,
    _sources: &[Source],
) -> Result<Vec<Warning>, FileError> {
    Err(FileError::Unsupported)
}
