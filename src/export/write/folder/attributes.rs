//! Modes and times of files, as they are and as they should be.

use rustix::fs::{FileType, Mode, Stat, Timespec, Timestamps};

use crate::layer::view::ViewEntry;

pub(super) fn is(stat: &Stat, kind: FileType) -> bool {
    FileType::from_raw_mode(stat.st_mode) == kind
}

pub(super) fn mode_of(entry: &ViewEntry) -> Mode {
    Mode::from_raw_mode(entry.mode)
}

pub(super) fn times(entry: &ViewEntry, epoch: Option<i64>) -> Timestamps {
    match epoch {
        Some(epoch) => at_second(epoch),
        None => {
            let time = Timespec { tv_sec: entry.mtime.0, tv_nsec: entry.mtime.1.into() };
            Timestamps { last_access: time, last_modification: time }
        }
    }
}

pub(super) const fn at_second(second: i64) -> Timestamps {
    let time = Timespec { tv_sec: second, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

#[expect(clippy::useless_conversion, reason = "the fields differ between architectures")]
pub(super) fn stat_times(stat: &Stat) -> Timestamps {
    let nsec = i64::try_from(stat.st_mtime_nsec).unwrap_or(0);
    let time = Timespec { tv_sec: i64::from(stat.st_mtime), tv_nsec: nsec };
    Timestamps { last_access: time, last_modification: time }
}

/// Whether a file has the time that it should have, or may have any.
pub(super) fn has_time(stat: &Stat, wanted: &Timestamps) -> bool {
    let (now, wanted) = (stat_times(stat).last_modification, wanted.last_modification);
    wanted.tv_nsec == rustix::fs::UTIME_OMIT || (now.tv_sec, now.tv_nsec) == (wanted.tv_sec, wanted.tv_nsec)
}
