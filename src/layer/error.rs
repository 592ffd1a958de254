//! What can go wrong with a layer. Messages name the entry and what was done to it; which archive it was is for the
//! caller to say.

use std::io;

use crate::archive::{ArchiveError, shown_name};

/// Why a layer cannot be packed, unpacked or compressed; each variant names the entry.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LayerError {
    /// The archive is malformed, too large, or cannot be read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The file system has too little room for what the archive holds.
    #[error("no space left to unpack `{}`: it needs {needed} {what}, and {free} are free", shown_name(entry))]
    NoSpace { what: &'static str, entry: Vec<u8>, needed: u64, free: u64 },
    /// The result cannot be written.
    #[error("cannot write the archive: {0}")]
    Write(#[source] io::Error),
    /// The system refused something about an entry.
    #[error("cannot {action} `{}`: {source}", shown_name(entry))]
    Io { action: &'static str, entry: Vec<u8>, source: io::Error },
    /// An owner that does not exist in this user namespace.
    #[error(
        "cannot give `{}` to {uid}:{gid}: {source} (without root, a range of ids in /etc/subuid and /etc/subgid is needed, or `BAKE_SINGLE_ID=1`)",
        shown_name(entry)
    )]
    Owner { entry: Vec<u8>, uid: u32, gid: u32, source: io::Error },
}

impl LayerError {
    /// Makes an error of a failed system call, for `map_err`: the action and the entry that it was about.
    pub(super) fn io<E: Into<io::Error>>(action: &'static str, entry: &[u8]) -> impl FnOnce(E) -> Self + use<E> {
        let entry = entry.to_owned();
        move |source| Self::Io { action, entry, source: source.into() }
    }

    /// An error about one entry of an archive: what is wrong with it.
    pub(super) fn entry(what: &'static str, entry: &[u8]) -> Self {
        ArchiveError::member(what, entry).into()
    }
}
