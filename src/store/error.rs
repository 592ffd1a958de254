//! What can go wrong with the store. Every message names the file or digest and what was being done to it.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::oci::Digest;

/// What the store's functions give.
pub(crate) type StoreResult<T> = std::result::Result<T, StoreError>;

/// A fault of the store.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// The system refused; the source says why (disk full, read-only file system, ...).
    #[error("cannot {action} `{}` in the state directory: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    /// Bytes were not what was promised.
    #[error("digest mismatch: expected {expected}, got {actual}")]
    Mismatch { expected: Digest, actual: Digest },
    /// There is no such blob (any more).
    #[error("blob is not in the state directory: {digest}")]
    Missing { digest: Digest },
    /// The file is not what was once written there.
    #[error("damaged cache file `{}`: {what}", path.display())]
    Damaged { path: PathBuf, what: &'static str },
    /// A value that cannot be written as JSON.
    #[error("cannot encode a record for `{}`: {source}", path.display())]
    Encode { path: PathBuf, source: serde_json::Error },
}

impl StoreError {
    /// For `map_err`: the action and path of a failed system call.
    pub(super) fn io<E: Into<io::Error>>(action: &'static str, path: &Path) -> impl FnOnce(E) -> Self + use<E> {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source: source.into() }
    }

    /// Whether the file system is read-only: results can then be used but not kept.
    pub(crate) fn is_read_only(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.raw_os_error() == Some(rustix::io::Errno::ROFS.raw_os_error()))
    }
}
