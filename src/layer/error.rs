//! What can go wrong with a layer. Messages name the entry and what was done to it; which archive it was is for the
//! caller to say.

use std::io;

/// A fault of packing, unpacking or encoding a layer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LayerError {
    /// The bytes are no valid archive, or hold what may not be.
    #[error("bad archive: {what}: {}", shown(entry))]
    Entry { what: &'static str, entry: Vec<u8> },
    /// The bytes are no valid archive, before any entry is known.
    #[error("bad archive: {0}")]
    Archive(&'static str),
    /// More than is allowed.
    #[error("the archive is larger than allowed: more than {limit} {what}")]
    Limit { what: &'static str, limit: u64 },
    /// The compressed or packed bytes cannot be read.
    #[error("cannot read the archive: {0}")]
    Read(#[source] io::Error),
    /// The result cannot be written.
    #[error("cannot write the archive: {0}")]
    Write(#[source] io::Error),
    /// The system refused something about an entry.
    #[error("cannot {action} `{}`: {source}", shown(entry))]
    Io { action: &'static str, entry: Vec<u8>, source: io::Error },
    /// An owner that does not exist in this user namespace.
    #[error(
        "cannot give `{}` to {uid}:{gid}: {source} (without root, a range of ids in /etc/subuid and /etc/subgid is needed)",
        shown(entry)
    )]
    Owner { entry: Vec<u8>, uid: u32, gid: u32, source: io::Error },
}

impl LayerError {
    /// For `map_err`: the action and entry of a failed system call.
    pub(super) fn io<E: Into<io::Error>>(action: &'static str, entry: &[u8]) -> impl FnOnce(E) -> Self + use<E> {
        let entry = entry.to_owned();
        move |source| Self::Io { action, entry, source: source.into() }
    }

    pub(super) fn entry(what: &'static str, entry: &[u8]) -> Self {
        Self::Entry { what, entry: entry.to_owned() }
    }
}

/// A name for people: without control characters, and not endless.
fn shown(name: &[u8]) -> String {
    let mut text: String = String::from_utf8_lossy(&name[..name.len().min(200)])
        .chars()
        .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
        .collect();
    if name.len() > 200 {
        text.push('…');
    }
    text
}
