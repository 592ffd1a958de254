//! Content hashes: what the part of a tree that something reads is, whatever history made it (spec/dockerfile.md §15.2).
//!
//! A hash covers type, mode, owner, data, link target, device number and extended attributes, recursively by name; never
//! times, and never the header of the selected directory itself. Copying is `solve::op::file`.

use std::{io, path::Path, sync::Arc};

use crate::{
    graph,
    layer::view::{Entry, View},
    oci::Digest,
    solve::op::file::FileError,
};

/// Digests of files that are known from an earlier run, by their stat data; `store`'s stat cache.
pub(crate) trait FileDigests: Send + Sync {
    /// The digest of the file at this path of the folder (relative, with `/`), if it is the same file as then.
    fn get(&self, path: &Path, entry: &Entry) -> Option<Digest>;
    fn put(&self, path: &Path, entry: &Entry, digest: Digest);
}

/// Remembers nothing.
pub(crate) struct NoDigests;

impl FileDigests for NoDigests {
    fn get(&self, _: &Path, _: &Entry) -> Option<Digest> {
        None
    }
    fn put(&self, _: &Path, _: &Entry, _: Digest) {}
}

/// A directory of the host less what is ignored. Directories are read and files hashed when first asked for, in
/// parallel, and then remembered: share one tree among all who read the same context.
pub(crate) struct LocalTree {}

impl LocalTree {
    /// Costs nothing by itself. `ignore` and `name` as in [`graph::Local`].
    pub(crate) fn open(_local: &graph::Local, _digests: Arc<dyn FileDigests>) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// A tree that something is read from.
#[derive(Clone)]
pub(crate) struct Source {
    /// What to call it in messages: `the build context`, `stage `build``, `image alpine:3`.
    pub(crate) name: String,
    pub(crate) tree: Tree,
}

/// The content of a [`Source`].
#[derive(Clone)]
pub(crate) enum Tree {
    /// A directory of the host.
    Local(Arc<LocalTree>),
    /// Snapshots.
    View(Arc<View>),
}

/// The content that a COPY or ADD selects. Do not call it on a rayon thread.
pub(crate) fn of_copy(_source: &Source, _copy: &graph::Copy) -> Result<Digest, FileError> {
    Err(FileError::Unsupported)
}

/// The content at a path, the last link followed (a bind mount's source). `/` is all. Do not call it on a rayon thread.
pub(crate) fn of_path(_source: &Source, _path: &str) -> Result<Digest, FileError> {
    Err(FileError::Unsupported)
}
