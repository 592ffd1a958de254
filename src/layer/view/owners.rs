//! Owners where the kernel can keep none: as a user with one id, everything on disk belongs to that user. There the owner of a
//! file or directory is kept in an extended attribute of it, which goes with it through copies and renames, and every look at
//! a tree sees that owner.
//!
//! Links, pipes and devices can have no such attribute: they belong to root there.

use std::{
    ffi::OsStr,
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::atomic::{AtomicBool, Ordering},
};

use rustix::{
    fs::{AtFlags, FileType, Gid, Stat, Uid, XattrFlags},
    io::Errno,
};

use super::at::by_number;

/// The names of attributes of our own begin with it: they belong to no image.
pub(crate) const OWN_PREFIX: &[u8] = b"user.bake.";
const OWNER: &str = "user.bake.owner";

/// Whether owners are recorded. Set once, before the first tree is opened: it follows from the user namespace, which is one
/// for the whole process.
static RECORDED: AtomicBool = AtomicBool::new(false);

/// Has owners recorded from now on instead of given.
pub(crate) fn record() {
    RECORDED.store(true, Ordering::Relaxed);
}

/// Whether owners are recorded instead of given.
pub(crate) fn are_recorded() -> bool {
    RECORDED.load(Ordering::Relaxed)
}

/// Gives an open file or directory an owner.
///
/// # Errors
/// Those of the system; `EINVAL` for an id that the user namespace does not have.
pub(crate) fn give(fd: impl AsFd, uid: u32, gid: u32) -> rustix::io::Result<()> {
    let fd = fd.as_fd();
    if !are_recorded() {
        return rustix::fs::fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    }
    match text(uid, gid) {
        Some(text) => rustix::fs::fsetxattr(fd, OWNER, text.as_bytes(), XattrFlags::empty()),
        None => gone(rustix::fs::fremovexattr(fd, OWNER)),
    }
}

/// As [`give`], of `name` in an open directory, which is not followed if it is a link.
///
/// # Errors
/// As [`give`].
pub(crate) fn give_at(dir: BorrowedFd<'_>, name: &OsStr, uid: u32, gid: u32) -> rustix::io::Result<()> {
    if !are_recorded() {
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        return rustix::fs::chownat(dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW);
    }
    let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if !can_have_owner(&stat) {
        return Ok(());
    }
    let path = by_number(dir, name);
    match text(uid, gid) {
        Some(text) => rustix::fs::lsetxattr(&path, OWNER, text.as_bytes(), XattrFlags::empty()),
        None => gone(rustix::fs::lremovexattr(&path, OWNER)),
    }
}

/// The `stat` data of an open file or directory with its recorded owner.
pub(super) fn of(fd: BorrowedFd<'_>, stat: Stat) -> io::Result<Stat> {
    with_owner(stat, |value| rustix::fs::fgetxattr(fd, OWNER, value))
}

/// The `stat` data of `name` in an open directory with its recorded owner.
pub(super) fn of_entry(dir: BorrowedFd<'_>, name: &OsStr, stat: Stat) -> io::Result<Stat> {
    with_owner(stat, |value| rustix::fs::lgetxattr(by_number(dir, name), OWNER, value))
}

fn with_owner(mut stat: Stat, read: impl FnOnce(&mut [u8]) -> rustix::io::Result<usize>) -> io::Result<Stat> {
    if !are_recorded() || !can_have_owner(&stat) {
        return Ok(stat);
    }
    let mut value = [0; 32];
    match read(&mut value) {
        Ok(n) => {
            // A command of the image may have written there what it likes.
            if let Some((uid, gid)) = parse(&value[..n]) {
                (stat.st_uid, stat.st_gid) = (uid, gid);
            }
            Ok(stat)
        }
        Err(Errno::NODATA | Errno::NOTSUP | Errno::RANGE) => Ok(stat),
        // It was removed meanwhile, which whoever looks for it finds out.
        Err(Errno::NOENT) => Ok(stat),
        Err(error) => Err(error.into()),
    }
}

/// Extended attributes of users are for files and directories only (xattr(7)).
fn can_have_owner(stat: &Stat) -> bool {
    matches!(FileType::from_raw_mode(stat.st_mode), FileType::RegularFile | FileType::Directory)
}

/// The value of the attribute; `None` for root, who needs none.
fn text(uid: u32, gid: u32) -> Option<String> {
    ((uid, gid) != (0, 0)).then(|| format!("{uid}:{gid}"))
}

fn parse(value: &[u8]) -> Option<(u32, u32)> {
    let (uid, gid) = std::str::from_utf8(value).ok()?.split_once(':')?;
    Some((uid.parse().ok()?, gid.parse().ok()?))
}

fn gone(removed: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match removed {
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_written_as_they_are_read() {
        assert_eq!(text(0, 0), None);
        for owner in [(0, 42), (1000, 0), (u32::MAX - 1, 7)] {
            assert_eq!(text(owner.0, owner.1).and_then(|text| parse(text.as_bytes())), Some(owner));
        }
        for bad in [&b""[..], b"1", b"a:b", b"1:2:3", b"-1:0", b"\xff:1"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }
}
