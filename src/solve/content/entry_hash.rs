//! The hash of one name in a directory: the fields that count, in one place for contexts and for layers.
//!
//! Type, mode, owner, data, link target, device number and extended attributes count; times never do.

use std::{
    cell::RefCell,
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read},
    os::unix::ffi::OsStrExt,
};

use sha2::{Digest as _, Sha256};

use crate::{
    layer::view::{EntryKind, ViewEntry, at},
    oci::{Digest, digest::FieldHasher},
};

/// Starts the hash of a directory's content.
pub(super) fn dir_hasher() -> FieldHasher {
    FieldHasher::new("dir/1")
}

/// Adds one name to the hash of a directory. `payload` is the digest of the data of a file or the content of a directory,
/// `link` the text of a link.
pub(super) fn absorb(
    hasher: &mut FieldHasher,
    name: &OsStr,
    entry: &ViewEntry,
    payload: Option<&Digest>,
    link: Option<&OsStr>,
) {
    let ViewEntry {
        kind,
        mode,
        uid,
        gid,
        rdev: (major, minor),
        // The data is in the payload.
        size: _,
        // When and where it was written does not count.
        mtime: _,
        ctime: _,
        nlink: _,
        dev_ino: _,
        layer: _,
    } = entry;
    // The mode of a link means nothing.
    let mode = if *kind == EntryKind::Symlink { 0 } else { *mode };
    // One field for all the numbers: few bytes, and every one has its place.
    let mut header = [0_u8; 21];
    header[0] = match kind {
        EntryKind::File => 0,
        EntryKind::Dir => 1,
        EntryKind::Symlink => 2,
        EntryKind::Fifo => 3,
        EntryKind::Socket => 4,
        EntryKind::CharDev => 5,
        EntryKind::BlockDev => 6,
    };
    for (to, number) in header[1..].chunks_exact_mut(4).zip([mode, *uid, *gid, *major, *minor]) {
        to.copy_from_slice(&number.to_le_bytes());
    }
    hasher.bytes(name.as_bytes()).bytes(&header);
    match (payload, link) {
        (Some(digest), _) => hasher.digest(digest),
        (None, Some(link)) => hasher.bytes(link.as_bytes()),
        (None, None) => hasher.bytes(&[]),
    };
}

/// Hashes a file's data; with its extended attributes, if it has some.
pub(super) fn file_digest(file: &File, size: u64) -> io::Result<Digest> {
    thread_local! {
        static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    let data = BUFFER.with_borrow_mut(|buffer| -> io::Result<Digest> {
        buffer.resize(256 * 1024, 0);
        let mut hasher = Sha256::new();
        let mut left = size;
        loop {
            let n = match (&*file).read(buffer) {
                Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
                n => n?,
            };
            hasher.update(&buffer[..n]);
            left = left.saturating_sub(n as u64);
            // The caller compares the size before and after; without a bound a file that grows would be read forever.
            if n == 0 || left == 0 && size > 0 {
                return Ok(Digest::from_raw(hasher.finalize().into()));
            }
        }
    })?;
    Ok(with_xattrs(data, &at::xattrs(file)?))
}

/// Joins the digest of content and its extended attributes; without any it is the digest of the content.
pub(super) fn with_xattrs(content: Digest, xattrs: &[(OsString, Vec<u8>)]) -> Digest {
    if xattrs.is_empty() {
        return content;
    }
    let mut hasher = FieldHasher::new("attributes/1");
    hasher.digest(&content);
    for (name, value) in xattrs {
        hasher.bytes(name.as_bytes()).bytes(value);
    }
    hasher.finish()
}
