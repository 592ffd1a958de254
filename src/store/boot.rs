//! What counts after the system was started anew: after a power loss, a clean reboot, or on another machine to which the
//! state directory was copied.
//!
//! `kill -9` loses nothing: names appear by rename, and the page cache outlives a process. A power loss can keep a name
//! and lose the bytes. So each record carries the boot it was written in and the time since that boot, and `synced/BOOT`
//! says when the last `syncfs` of a boot was started. Something is known to be on disk if it was written in the running
//! boot, or before that `syncfs`. What is not known to be on disk is in doubt, and is treated by its kind:
//!
//! | in doubt | what is done | why that is enough |
//! | --- | --- | --- |
//! | a record of a step, build, layer or request | believed | its checksum covers all of it, and what it names is checked below |
//! | a snapshot | before its tree is read, the tree is compared with its digest; without a digest it is made again | the digest was computed from the page cache, which had the right bytes |
//! | a blob | hashed when it is first looked at | its name is its digest |
//! | a receipt | not believed, the output is written again | output files outside the state directory have no digest that could be compared cheaply |
//!
//! So after a clean reboot, or from a restored backup, nothing is built again; snapshots whose sync is known cost nothing,
//! the others one read of those that are used.
//!
//! A `syncfs` costs what the whole machine has written, so nobody waits for it unless it is cheap beside the run: a helper
//! process makes it after the run has ended. Only the file of the mark is open in it, and the mark is written in place (one
//! write of a fixed length), so that the helper makes no name in the state directory. If the helper was killed, a later
//! run syncs, when the kernel has written most of it back by itself.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::AsFd,
        unix::{
            fs::{FileExt as _, OpenOptionsExt as _},
            process::CommandExt as _,
        },
    },
    path::Path,
    process::Stdio,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// One start of the system, told from others by the kernel's boot id (proc_sys_kernel(5), `random/boot_id`).
pub(super) struct Boot {
    /// `/proc/sys/kernel/random/boot_id`; empty if there is none: then nothing is known to be of this boot.
    pub(super) id: String,
    /// Wall clock of the start of the boot, nanoseconds.
    pub(super) started: i64,
}

/// The time of the last `syncfs` of one boot: nanoseconds since the boot, and of the wall clock.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Synced {
    pub(super) since_boot: i64,
    pub(super) wall: i64,
}

impl Boot {
    /// The running boot of this machine. Where the kernel does not say which it is (no /proc), the id is empty.
    pub(super) fn current() -> Self {
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

/// The resolution of [`since_boot`], in nanoseconds.
pub(super) const TICK: i64 = 10_000_000;

/// The time of the wall clock, in nanoseconds since 1970.
pub(super) fn wall_clock() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
}

/// Reads when the last completed `syncfs` of boot `id` began; `None` if none is recorded.
pub(super) fn synced(dir: &Path, id: &str) -> Option<Synced> {
    let text = fs::read_to_string(dir.join(id)).ok()?;
    let (since_boot, wall) = text.strip_suffix('\n')?.trim_start().split_once(' ')?;
    Some(Synced { since_boot: since_boot.parse().ok()?, wall: wall.trim_start().parse().ok()? })
}

/// The file `synced/BOOT` of the running boot, open for writing.
pub(super) struct Mark(File);

impl Mark {
    /// Opens the mark of a boot, or creates it. An empty mark records no `syncfs`.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path).map(Self)
    }

    /// Makes one `syncfs` of the file system of the mark, then writes the mark.
    pub(super) fn sync(&self) -> io::Result<()> {
        sync_and_mark(&self.0)
    }
}

/// Everything that was written before this call is on disk when it returns; `mark` says so.
///
/// Two processes may do this at once; the mark that remains is that of one of them, and true in either case.
fn sync_and_mark(mark: &File) -> io::Result<()> {
    let (since_boot, wall) = (since_boot(), wall_clock());
    rustix::fs::syncfs(mark.as_fd())?;
    // Numbers of 64 bits have at most 20 characters: the length never changes, so one write replaces all.
    mark.write_all_at(format!("{since_boot:>20} {wall:>20}\n").as_bytes(), 0)
}

/// First argument with which `bake` starts itself as the helper that syncs.
pub(crate) const SYNC_COMMAND: &str = "__sync";

/// Starts the helper that syncs and writes `mark`. It outlives this process and holds no lock of the store.
pub(super) fn sync_later(mark: &Mark, command: super::state::HelperCommandFn) -> io::Result<()> {
    let input = Stdio::from(mark.0.try_clone()?);
    let mut helper = command("/proc/self/exe".as_ref());
    helper.arg(SYNC_COMMAND).stdin(input).stdout(Stdio::null()).stderr(Stdio::null());
    // A group of its own: an interrupt of the terminal is meant for what the user runs next. It need not keep a working
    // directory that the user may want to remove or unmount.
    helper.process_group(0).current_dir("/").spawn().map(drop)
}

/// The main function of the sync helper: `syncfs`, then the mark, which is its standard input. Returns the exit code.
pub(crate) fn sync_main() -> u8 {
    let mark = io::stdin().as_fd().try_clone_to_owned().map(File::from);
    u8::from(mark.and_then(|mark| sync_and_mark(&mark)).is_err())
}

/// Whether `path` is on a file system in memory, of which nothing is left after a reboot.
pub(super) fn is_volatile(path: &Path) -> bool {
    const TMPFS: u64 = 0x0102_1994;
    rustix::fs::statfs(path).is_ok_and(|stat| u64::try_from(stat.f_type).is_ok_and(|kind| kind == TMPFS))
}

/// The latest wall clock time at which a `syncfs` of any boot was started.
pub(super) fn last_synced_wall(dir: &Path) -> i64 {
    let names = fs::read_dir(dir).into_iter().flatten().flatten();
    names.filter_map(|name| synced(dir, name.file_name().to_str()?)).map(|it| it.wall).max().unwrap_or(i64::MIN)
}

/// The bytes of all programs that the kernel has yet to write to disk; `None` without /proc.
pub(super) fn dirty_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let of = |key: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    };
    Some((of("Dirty:")? + of("Writeback:")?).saturating_mul(1024))
}

/// The estimated duration of a `syncfs` of `dirty` bytes, on a plain disk.
pub(super) fn sync_cost(dirty: u64) -> Duration {
    Duration::from_millis(5) + Duration::from_secs_f64(dirty as f64 / 400e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_agree_about_the_start_of_the_boot() {
        let (first, second) = (Boot::current(), Boot::current());
        assert_eq!(first.id, second.id);
        assert!((first.started - second.started).abs() < 1_000_000_000);
    }

    #[test]
    fn a_damaged_sync_mark_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "12 34\n").unwrap();
        fs::write(dir.path().join("b"), "12 9").unwrap();
        fs::write(dir.path().join("empty"), "").unwrap();
        assert!(synced(dir.path(), "a") == Some(Synced { since_boot: 12, wall: 34 }));
        assert!(synced(dir.path(), "b").is_none());
        assert!(synced(dir.path(), "empty").is_none());
        assert_eq!(last_synced_wall(dir.path()), 34);
    }

    #[test]
    fn a_mark_is_replaced_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let mark = Mark::open(&dir.path().join("a")).unwrap();
        let before = wall_clock();
        mark.sync().unwrap();
        let first = synced(dir.path(), "a").unwrap();
        mark.sync().unwrap();
        let second = synced(dir.path(), "a").unwrap();
        assert!(before <= first.wall && first.wall < second.wall);
    }
}
