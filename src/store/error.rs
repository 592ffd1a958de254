//! What can go wrong with the store. Every message names the file or digest and what was being done to it.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::oci::Digest;

/// The result of a function of the store that can fail.
pub(crate) type StoreResult<T> = std::result::Result<T, StoreError>;

/// Why an operation of the store failed. Every message names the file or digest.
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
    /// The state directory is one in which others can plant results.
    #[error(
        "users other than its owner can write to the state directory, which has the mode {mode:o}: {} \
         (`chmod go-w` takes that right away)",
        path.display()
    )]
    OpenHome { path: PathBuf, mode: u32 },
    /// The state directory in the default place belongs to another user.
    #[error("the state directory belongs to the user {owner}, and not to us or root: {}", path.display())]
    ForeignHome { path: PathBuf, owner: u32 },
    /// A later `bake` keeps there what this one would misread.
    #[error(
        "a later `bake` has written to it: its format is {found}, this one knows up to {ours}: {}", path.display()
    )]
    LaterFormat { path: PathBuf, found: u32, ours: u32 },
    /// The file system says that it has no locks.
    #[error("the file system has no locks, by which processes that share it are kept apart: {}", path.display())]
    NoLocks { path: PathBuf, source: io::Error },
    /// Locks hold on one machine, and others can use the directory.
    #[error(
        "the file system is shared by machines and mounted with `{option}`, so that its locks do not keep them apart: {}",
        path.display()
    )]
    LocalLocks { path: PathBuf, option: String },
    /// A value that cannot be written as JSON.
    #[error("cannot encode a record for `{}`: {source}", path.display())]
    Encode { path: PathBuf, source: serde_json::Error },
}

impl StoreError {
    /// Makes an error of a failed system call, for `map_err`: the action and the path that it was about.
    pub(super) fn io<E: Into<io::Error>>(action: &'static str, path: &Path) -> impl FnOnce(E) -> Self + use<E> {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source: source.into() }
    }

    /// Makes an error of a lock that could not be had, for `map_err`.
    pub(super) fn lock(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        use rustix::io::Errno;
        let path = path.to_owned();
        let says_none = |error: &io::Error| {
            let none = [Errno::NOTSUP, Errno::NOLCK, Errno::NOSYS].map(Errno::raw_os_error);
            error.raw_os_error().is_some_and(|errno| none.contains(&errno))
        };
        move |source| match says_none(&source) {
            true => Self::NoLocks { path, source },
            false => Self::Io { action: "lock", path, source },
        }
    }

    /// What to do about it, where that is more than to look at the message.
    pub(crate) fn help(&self) -> &'static str {
        match self {
            Self::LaterFormat { .. } => "use that version of `bake`, or name another directory by `BAKE_HOME`",
            Self::NoLocks { .. } | Self::LocalLocks { .. } => {
                "name a directory on a disk of this machine by `BAKE_HOME`"
            }
            _ => "`BAKE_HOME` names another place for it",
        }
    }

    /// Whether the error says that the file system is read-only: results can then be used but not kept.
    pub(crate) fn is_read_only(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.raw_os_error() == Some(rustix::io::Errno::ROFS.raw_os_error()))
    }
}
