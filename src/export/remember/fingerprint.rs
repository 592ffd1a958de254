//! Fingerprints of folders and marks of the files in them: whether they are as an earlier export left them.

use std::{
    ffi::OsString,
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use rayon::prelude::*;
use rustix::fs::{FileType, Stat};

use crate::{
    export::built::DEEPEST_FOLDER,
    layer::view::{ViewEntry, at},
    oci::{Digest, digest::FieldHasher},
};

/// A hash over the source of an exported file and the stamp of that file once written: as long as both are the same, the
/// file need not be written again.
pub(crate) type FileMark = [u8; 16];

/// A digest over the stamps (inode, size, times, mode) of everything in a folder; it changes when anything in it changes.
/// `None` when there are more than `most` names.
pub(crate) fn fingerprint(folder: &Path, most: usize) -> io::Result<Option<Digest>> {
    let root = at::host_dir(folder)?;
    let seen = AtomicUsize::new(0);
    print_of(root.as_fd(), Path::new(""), 0, &seen, most)
}

fn print_of(
    root: BorrowedFd<'_>,
    path: &Path,
    depth: usize,
    seen: &AtomicUsize,
    most: usize,
) -> io::Result<Option<Digest>> {
    if depth > DEEPEST_FOLDER {
        return Err(io::Error::other("folders lie too deep"));
    }
    let dir = at::dir(root, path)?;
    let mut names = at::names(dir.as_fd())?;
    if seen.fetch_add(names.len(), Ordering::Relaxed) + names.len() > most {
        return Ok(None);
    }
    names.sort_unstable();
    let prints: Vec<(Digest, bool)> = names
        .par_iter()
        .with_min_len(256)
        .map(|name| {
            let stat = at::stat(dir.as_fd(), name)?.ok_or(io::ErrorKind::NotFound)?;
            let mut hasher = FieldHasher::new("stamp/1");
            hasher.bytes(name.as_bytes());
            stamp(&mut hasher, &stat);
            Ok((hasher.finish(), FileType::from_raw_mode(stat.st_mode) == FileType::Directory))
        })
        .collect::<io::Result<_>>()?;
    drop(dir);
    let folders: Vec<&OsString> = names.iter().zip(&prints).filter(|(_, it)| it.1).map(|(name, _)| name).collect();
    let below: Vec<Option<Digest>> = folders
        .par_iter()
        .map(|name| print_of(root, &path.join(name), depth + 1, seen, most))
        .collect::<io::Result<_>>()?;
    let mut hasher = FieldHasher::new("folder/1");
    prints.iter().for_each(|it| {
        hasher.digest(&it.0);
    });
    for print in below {
        let Some(print) = print else { return Ok(None) };
        hasher.digest(&print);
    }
    Ok(Some(hasher.finish()))
}

#[expect(clippy::unnecessary_cast, reason = "the fields differ between architectures")]
fn stamp(hasher: &mut FieldHasher, stat: &Stat) {
    hasher.number(stat.st_dev as u64).number(stat.st_ino as u64).number(u64::from(stat.st_mode));
    hasher.number(stat.st_size as u64).number(stat.st_mtime as u64).number(stat.st_mtime_nsec as u64);
    hasher.number(stat.st_ctime as u64).number(stat.st_ctime_nsec as u64).number(u64::from(stat.st_uid));
}

/// The mark of a file as source and destination are now.
pub(crate) fn mark(path: &Path, entry: &ViewEntry, epoch: Option<i64>, stat: &Stat) -> FileMark {
    let mut hasher = FieldHasher::new("mark/1");
    hasher.bytes(path.as_os_str().as_bytes());
    hasher.number(entry.dev_ino.0).number(entry.dev_ino.1).number(entry.size).number(u64::from(entry.mode));
    hasher.number(entry.mtime.0.cast_unsigned()).number(entry.mtime.1.into());
    hasher.number(entry.ctime.0.cast_unsigned()).number(entry.ctime.1.into());
    hasher.optional(epoch.map(|it| it.to_string()).as_deref());
    stamp(&mut hasher, stat);
    let mut mark = [0; 16];
    mark.copy_from_slice(&hasher.finish().raw()[..16]);
    mark
}
