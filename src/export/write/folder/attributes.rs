//! Modes, owners and times of files, as they are and as they should be.

use std::{
    ffi::OsStr,
    io,
    os::fd::{AsFd, BorrowedFd},
};

use rustix::fs::{AtFlags, FileType, Gid, Mode, Stat, Timespec, Timestamps, Uid};

use crate::{layer::view::ViewEntry, spec::local::FileOwner};

/// Whether a file is of this kind, by the type bits of its mode.
pub(super) fn is(stat: &Stat, kind: FileType) -> bool {
    FileType::from_raw_mode(stat.st_mode) == kind
}

/// The permission bits that an exported file gets: those it has in the image.
pub(super) fn mode_of(entry: &ViewEntry) -> Mode {
    Mode::from_raw_mode(entry.mode)
}

/// The access and modification time that an exported file gets: its modification time in the image, or `epoch`
/// (`SOURCE_DATE_EPOCH`, seconds since 1970) where it is set.
pub(super) fn times(entry: &ViewEntry, epoch: Option<i64>) -> Timestamps {
    match epoch {
        Some(epoch) => at_second(epoch),
        None => {
            let time = Timespec { tv_sec: entry.mtime.0, tv_nsec: entry.mtime.1.into() };
            Timestamps { last_access: time, last_modification: time }
        }
    }
}

/// Access and modification time at a full second since 1970.
pub(super) const fn at_second(second: i64) -> Timestamps {
    let time = Timespec { tv_sec: second, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

/// The modification time of an existing file, as access and modification time, for setting it again.
#[expect(clippy::useless_conversion, reason = "the fields differ between architectures")]
pub(super) fn stat_times(stat: &Stat) -> Timestamps {
    let nsec = i64::try_from(stat.st_mtime_nsec).unwrap_or(0);
    let time = Timespec { tv_sec: i64::from(stat.st_mtime), tv_nsec: nsec };
    Timestamps { last_access: time, last_modification: time }
}

/// Whether the modification time of a file is the wanted one, to the nanosecond.
///
/// Always true when `wanted` leaves the time alone (`UTIME_OMIT`, utimensat(2)). Access times are not compared.
pub(super) fn has_wanted_mtime(stat: &Stat, wanted: &Timestamps) -> bool {
    let (now, wanted) = (stat_times(stat).last_modification, wanted.last_modification);
    wanted.tv_nsec == rustix::fs::UTIME_OMIT || (now.tv_sec, now.tv_nsec) == (wanted.tv_sec, wanted.tv_nsec)
}

/// Whether a file has the owner that it should have, or may have any.
pub(super) fn has_owner(stat: &Stat, wanted: Option<FileOwner>) -> bool {
    wanted.is_none_or(|wanted| (stat.st_uid, stat.st_gid) == (wanted.uid, wanted.gid))
}

/// Gives an open file its owner. The kernel takes the set-id bits away, so the mode is set after it (`chown(2)`).
pub(super) fn own(file: impl AsFd, wanted: Option<FileOwner>) -> io::Result<()> {
    let Some(FileOwner { uid, gid }) = wanted else { return Ok(()) };
    Ok(rustix::fs::fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?)
}

/// Gives a name in an open directory its owner; a link is not followed.
pub(super) fn own_name(dir: BorrowedFd<'_>, name: &OsStr, wanted: Option<FileOwner>) -> io::Result<()> {
    let Some(FileOwner { uid, gid }) = wanted else { return Ok(()) };
    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    Ok(rustix::fs::chownat(dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?)
}
