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
    oci::{Digest, digest::FieldHasher, key::KeyField},
    spec::local::FileOwner,
};

/// Identifies one exported file together with its source: while the mark of both is unchanged, the file is not written
/// again.
///
/// The first 16 bytes of a digest over the path, `stat` data of the source (device, inode, size, mode, mtime, ctime;
/// never its content), the epoch of the export, and `stat` data of the written file. Made by [`mark`].
pub(crate) type FileMark = [u8; 16];

/// Hashes the `stat` data of everything below a folder, so that any later change to it is noticed. No file is read.
///
/// For each name, at any depth: device, inode, mode, size, mtime, ctime, user and group id. Links are not followed. The folder
/// itself is not part of it. `None` if more than `max_names` names (files and folders together) are found.
///
/// # Errors
/// Those of the system; also when a name vanishes meanwhile, or folders lie deeper than [`DEEPEST_FOLDER`].
pub(crate) fn fingerprint(folder: &Path, max_names: usize) -> io::Result<Option<Digest>> {
    let root = at::host_dir(folder)?;
    let seen = AtomicUsize::new(0);
    print_of(root.as_fd(), Path::new(""), 0, &seen, max_names)
}

fn print_of(
    root: BorrowedFd<'_>,
    path: &Path,
    depth: usize,
    seen: &AtomicUsize,
    max_names: usize,
) -> io::Result<Option<Digest>> {
    if depth > DEEPEST_FOLDER {
        return Err(io::Error::other("folders lie too deep"));
    }
    let dir = at::dir(root, path)?;
    let mut names = at::names(dir.as_fd())?;
    if seen.fetch_add(names.len(), Ordering::Relaxed) + names.len() > max_names {
        return Ok(None);
    }
    names.sort_unstable();
    let prints: Vec<(Digest, bool)> = names
        .par_iter()
        .with_min_len(256)
        .map(|name| {
            let stat = at::stat(dir.as_fd(), name)?.ok_or(io::ErrorKind::NotFound)?;
            let mut hasher = FieldHasher::new("stamp/2");
            hasher.bytes(name.as_bytes());
            stamp(&mut hasher, &stat);
            Ok((hasher.finish(), FileType::from_raw_mode(stat.st_mode) == FileType::Directory))
        })
        .collect::<io::Result<_>>()?;
    drop(dir);
    let folders: Vec<&OsString> = names.iter().zip(&prints).filter(|(_, it)| it.1).map(|(name, _)| name).collect();
    let below: Vec<Option<Digest>> = folders
        .par_iter()
        .map(|name| print_of(root, &path.join(name), depth + 1, seen, max_names))
        .collect::<io::Result<_>>()?;
    let mut hasher = FieldHasher::new("folder/1");
    prints.iter().for_each(|print| {
        hasher.digest(&print.0);
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
    hasher.number(u64::from(stat.st_gid));
}

/// Computes the [`FileMark`] of a file from the `stat` data of its source (`entry`) and of the written file (`stat`) as
/// they are now.
///
/// `path` is the path of the file in the exported tree; `epoch` the time and `owner` the owner that the export gives to
/// all files, if it does.
pub(crate) fn mark(
    path: &Path,
    entry: &ViewEntry,
    epoch: Option<i64>,
    owner: Option<FileOwner>,
    stat: &Stat,
) -> FileMark {
    let mut hasher = FieldHasher::new("mark/2");
    owner.add_to(&mut hasher);
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
