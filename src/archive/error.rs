//! What can be wrong with an archive. Messages name the member; which archive it was is for the caller to say.

use std::io;

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveError {
    /// A member is malformed, or is something that may not be.
    #[error("bad archive: {what}: {}", shown_name(member))]
    Member { what: &'static str, member: Vec<u8> },
    /// The bytes are no valid archive, and no member is known that could be blamed.
    #[error("bad archive: {0}")]
    Malformed(&'static str),
    /// More of something than is allowed.
    #[error("the archive is larger than allowed: more than {limit} {what}")]
    Limit { what: &'static str, limit: u64 },
    /// The compressed or packed bytes cannot be read.
    #[error("cannot read the archive: {0}")]
    Read(#[source] io::Error),
}

impl ArchiveError {
    /// An error about one member. `what` has no full stop and no name in it.
    pub(crate) fn member(what: &'static str, member: &[u8]) -> Self {
        Self::Member { what, member: member.to_owned() }
    }
}

/// Makes a name from an archive fit for a message: no control characters, at most 200 bytes.
pub(crate) fn shown_name(name: &[u8]) -> String {
    let mut text: String = String::from_utf8_lossy(&name[..name.len().min(200)])
        .chars()
        .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
        .collect();
    if name.len() > 200 {
        text.push('…');
    }
    text
}
