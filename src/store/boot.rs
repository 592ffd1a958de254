//! What survives a power loss.
//!
//! `kill -9` loses nothing: names appear by rename and the page cache outlives a process. A power loss can keep a name
//! and lose the bytes. So records carry the boot they were written in and the time since that boot. In the same boot
//! they count at once. In a later boot they count if a `syncfs` of the whole file system was started after they were
//! written; `synced/BOOT` says when the last one of a boot was started.
//!
//! A `syncfs` costs what the whole machine has written, so it is made where it is cheap: at the end of a run if it costs
//! little beside the run, else at the start of a later one, when the kernel has written most of it back by itself.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Which boot this is and when it began.
pub(super) struct Boot {
    /// `/proc/sys/kernel/random/boot_id`; empty if there is none: then nothing is known to be of this boot.
    pub(super) id: String,
    /// Wall clock of the start of the boot, nanoseconds.
    pub(super) started: i64,
}

/// The last `syncfs` of one boot: (nanoseconds since the boot, wall clock nanoseconds).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Synced {
    pub(super) since_boot: i64,
    pub(super) wall: i64,
}

impl Boot {
    pub(super) fn now() -> Self {
        let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let id: String = id.trim().chars().filter(|c| c.is_ascii_hexdigit() || *c == '-').take(64).collect();
        Self { id, started: wall_clock() - since_boot() }
    }
}

/// Nanoseconds since the boot, sleep included, cut to [`TICK`]; zero if the system does not say.
pub(super) fn since_boot() -> i64 {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let hundredths = text.split(' ').next().and_then(|it| it.split_once('.')).and_then(|(seconds, part)| {
        let part: i64 = (part.len() == 2).then(|| part.parse().ok())??;
        seconds.parse::<i64>().ok()?.checked_mul(100)?.checked_add(part)
    });
    hundredths.and_then(|it| it.checked_mul(TICK)).unwrap_or(0)
}

/// What [`since_boot`] is cut to.
pub(super) const TICK: i64 = 10_000_000;

/// Nanoseconds of the wall clock.
pub(super) fn wall_clock() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
}

/// The last completed `syncfs` of boot `id`.
pub(super) fn synced(dir: &Path, id: &str) -> Option<Synced> {
    let text = fs::read_to_string(dir.join(id)).ok()?;
    let (since_boot, wall) = text.strip_suffix('\n')?.split_once(' ')?;
    Some(Synced { since_boot: since_boot.parse().ok()?, wall: wall.parse().ok()? })
}

/// The latest wall clock time at which a `syncfs` of any boot was started.
pub(super) fn last_synced_wall(dir: &Path) -> i64 {
    let names = fs::read_dir(dir).into_iter().flatten().flatten();
    names.filter_map(|name| synced(dir, name.file_name().to_str()?)).map(|it| it.wall).max().unwrap_or(i64::MIN)
}

/// Bytes the kernel has yet to write, of all programs.
pub(super) fn dirty_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let of = |key: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    };
    Some((of("Dirty:")? + of("Writeback:")?).saturating_mul(1024))
}

/// What a `syncfs` of `dirty` bytes takes, guessed for a plain disk.
pub(super) fn sync_cost(dirty: u64) -> Duration {
    Duration::from_millis(5) + Duration::from_secs_f64(dirty as f64 / 400e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_agree_about_the_start_of_the_boot() {
        let (first, second) = (Boot::now(), Boot::now());
        assert_eq!(first.id, second.id);
        assert!((first.started - second.started).abs() < 1_000_000_000);
    }

    #[test]
    fn a_damaged_sync_mark_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "12 34\n").unwrap();
        fs::write(dir.path().join("b"), "12 9").unwrap();
        assert!(synced(dir.path(), "a") == Some(Synced { since_boot: 12, wall: 34 }));
        assert!(synced(dir.path(), "b").is_none());
        assert_eq!(last_synced_wall(dir.path()), 34);
    }
}
