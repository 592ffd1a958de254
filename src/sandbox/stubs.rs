//! Removes from a layer what was only made to be mounted on: `/etc/hosts`, `/run/secrets/…`. It runs after the container
//! is gone, on the upper directory, and follows no link: the command may have planted some.

use std::{
    os::fd::{BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, UTIME_OMIT},
    fs::{fgetxattr, fstat, open, openat2, statat, unlinkat, utimensat},
    io::{Errno, Result},
};
use serde::{Deserialize, Serialize};

use super::spec::octets;

/// The files and directories that were made in the root of one step only to be mounted on.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct MadeStubs {
    /// In the order of making.
    pub(super) stubs: Vec<Stub>,
    /// The existing directories above the stubs, as they were before.
    pub(super) parents: Vec<StubParent>,
}

/// One file or directory that was made to be mounted on.
#[derive(Serialize, Deserialize)]
pub(super) struct Stub {
    #[serde(with = "octets")]
    pub(super) path: Vec<u8>,
    /// Whether it is a directory; else it is an empty file.
    pub(super) dir: bool,
}

/// A directory of the image as it was before a stub was made in it, so that its copy in the upper directory can be
/// removed.
///
/// Making a stub lets overlayfs copy the directory up. [`clean`] removes the copy if it is empty, not opaque, and still
/// has this mode, owner and modification time: then the command changed nothing in it, and it does not belong in the
/// layer.
#[derive(Serialize, Deserialize)]
pub(super) struct StubParent {
    #[serde(with = "octets")]
    pub(super) path: Vec<u8>,
    /// With the file type bits, as in `st_mode`.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Seconds and nanoseconds.
    pub(super) mtime: (i64, i64),
}

/// Removes the stubs that are still empty, then the copied-up parents in which nothing else happened.
///
/// `upper` is the upper directory of the step's overlay; it runs after the container is gone. Best effort: what cannot
/// be removed stays, as it then belongs to the command's own changes.
pub(super) fn clean(upper: &Path, made: &MadeStubs) {
    if made.stubs.is_empty() {
        return;
    }
    let Ok(upper) = open(upper, DIR, Mode::empty()) else { return };
    for stub in made.stubs.iter().rev() {
        let _kept = remove_stub(&upper, stub);
    }
    let mut parents: Vec<&StubParent> = made.parents.iter().filter(|it| !it.path.is_empty()).collect();
    parents.sort_by_key(|it| std::cmp::Reverse(it.path.len()));
    for parent in parents {
        let _kept = remove_unchanged(&upper, parent);
    }
}

const DIR: OFlags = OFlags::DIRECTORY.union(OFlags::RDONLY).union(OFlags::CLOEXEC);

fn remove_stub(upper: &OwnedFd, stub: &Stub) -> Result<()> {
    let (dir, name) = open_parent(upper, &stub.path)?;
    let had = fstat(&dir)?;
    if stub.dir {
        unlinkat(&dir, name, AtFlags::REMOVEDIR)?;
    } else {
        let stat = statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_size != 0 {
            return Ok(());
        }
        unlinkat(&dir, name, AtFlags::empty())?;
    }
    restore_mtime(std::os::fd::AsFd::as_fd(&dir), &had)
}

fn remove_unchanged(upper: &OwnedFd, parent: &StubParent) -> Result<()> {
    let (dir, name) = open_parent(upper, &parent.path)?;
    let had = fstat(&dir)?;
    let copy = openat2(&dir, name, DIR | OFlags::NOFOLLOW, Mode::empty(), beneath())?;
    let stat = fstat(&copy)?;
    let now = (stat.st_mode, stat.st_uid, stat.st_gid, (stat.st_mtime, stat.st_mtime_nsec.cast_signed()));
    if now != (parent.mode, parent.uid, parent.gid, parent.mtime) || is_opaque(&copy) {
        return Ok(());
    }
    unlinkat(&dir, name, AtFlags::REMOVEDIR)?;
    restore_mtime(std::os::fd::AsFd::as_fd(&dir), &had)
}

/// Whether the directory hides those of the same name below: then it is a change even if it is empty.
fn is_opaque(dir: &OwnedFd) -> bool {
    ["trusted.overlay.opaque", "user.overlay.opaque"].into_iter().any(|name| {
        let mut value = [0; 1];
        !matches!(fgetxattr(dir, name, &mut value), Err(Errno::NODATA | Errno::OPNOTSUPP))
    })
}

fn open_parent<'a>(upper: &OwnedFd, path: &'a [u8]) -> Result<(OwnedFd, &'a [u8])> {
    let (parent, name) = match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&b"."[..], path),
    };
    Ok((openat2(upper, parent, DIR, Mode::empty(), beneath())?, name))
}

fn beneath() -> ResolveFlags {
    ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS
}

/// Sets the modification time of an open directory to that in `had`; the access time stays.
pub(super) fn restore_mtime(dir: BorrowedFd<'_>, had: &Stat) -> Result<()> {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: had.st_mtime, tv_nsec: had.st_mtime_nsec.cast_signed() },
    };
    utimensat(dir, ".", &times, AtFlags::empty())
}
