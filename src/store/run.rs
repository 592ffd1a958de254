//! One run of one process: its own directory for half made things, the sign that it lives, and the shared lock that tells
//! prune about it. Sweeps what dead runs left behind.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use super::{
    error::{StoreError, StoreResult},
    remove::remove_tree,
};

/// The temporary directory of one run, `tmp/RUN`, whose file `alive` is locked while the process lives.
pub(super) struct StoreRun {
    dir: PathBuf,
    /// Held exclusively; its modification time is the start of the run.
    _alive: File,
    next: AtomicU64,
}

impl StoreRun {
    /// Makes the temporary directory of this run, and takes over those of dead runs, to be removed in the background.
    ///
    /// `tmp/lock` is held meanwhile, so that no one takes a directory for dead before its `alive` file is locked.
    pub(super) fn start(tmp: &Path) -> StoreResult<Self> {
        make_dir(tmp)?;
        let path = tmp.join("lock");
        let _gate = lock_file(&path, FlockOperation::LockExclusive)?;
        let random = getrandom::u64().map_err(|error| StoreError::Io {
            action: "draw a random name in",
            path: tmp.to_owned(),
            source: io::Error::other(error.to_string()),
        })?;
        let dir = tmp.join(format!("{}-{random:016x}", std::process::id()));
        make_dir(&dir)?;
        let alive = dir.join("alive");
        let file = lock_file(&alive, FlockOperation::LockExclusive)?;
        let run = Self { dir, _alive: file, next: AtomicU64::new(0) };
        run.sweep(tmp);
        Ok(run)
    }

    /// A new path inside the directory of this run; nothing is made there.
    pub(super) fn fresh(&self) -> PathBuf {
        self.dir.join(self.next.fetch_add(1, Ordering::Relaxed).to_string())
    }

    /// Moves the directories of dead runs into our own and removes them without making the run wait.
    fn sweep(&self, tmp: &Path) {
        let Ok(names) = fs::read_dir(tmp) else { return };
        let mut dead = Vec::new();
        for entry in names.flatten() {
            let path = entry.path();
            if path == self.dir || !path.is_dir() || lives(&path) {
                continue;
            }
            let here = self.fresh();
            if fs::rename(&path, &here).is_ok() {
                dead.push(here);
            }
        }
        if !dead.is_empty() {
            // What this thread does not finish is in the directory of this run, for the next sweep.
            let removal = move || dead.iter().for_each(|path| drop(remove_tree(path)));
            drop(std::thread::Builder::new().name("sweep".to_owned()).spawn(removal));
        }
    }
}

impl Drop for StoreRun {
    fn drop(&mut self) {
        drop(remove_tree(&self.dir));
    }
}

/// The time when the oldest living run started, in nanoseconds of the wall clock; `except` is our own.
pub(super) fn oldest_live(tmp: &Path, except: &StoreRun) -> Option<i64> {
    let names = fs::read_dir(tmp).into_iter().flatten().flatten();
    let live = names.map(|entry| entry.path()).filter(|path| *path != except.dir && path.is_dir() && lives(path));
    live.filter_map(|path| fs::metadata(path.join("alive")).ok())
        .map(|meta| meta.mtime().saturating_mul(1_000_000_000).saturating_add(meta.mtime_nsec()))
        .min()
}

/// Whether the process that owns the directory holds its `alive` file.
fn lives(dir: &Path) -> bool {
    let Ok(file) = OpenOptions::new().read(true).open(dir.join("alive")) else { return false };
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => false,
        // Also where locks are not supported: then nothing is ever taken for dead.
        Err(_) => true,
    }
}

/// Opens (makes) `path` and locks it; waits unless `how` says otherwise, when a busy lock is an error of kind
/// `WouldBlock`.
///
/// # Errors
/// Also where the file system has no locks: processes on it could not be kept apart.
pub(super) fn lock_file(path: &Path, how: FlockOperation) -> StoreResult<File> {
    let open = || OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = match open() {
        // Someone has put a directory here: it is ours to remove.
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
            remove_tree(path).map_err(StoreError::io("remove", path))?;
            open()
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_dir(path.parent().unwrap_or(path))?;
            open()
        }
        other => other,
    }
    .map_err(StoreError::io("open", path))?;
    flock_retry(&file, how).map_err(StoreError::lock(path))?;
    Ok(file)
}

/// Calls `flock` again when a signal interrupts it.
pub(super) fn flock_retry(file: &File, how: FlockOperation) -> io::Result<()> {
    loop {
        match flock(file, how) {
            Err(Errno::INTR) => (),
            other => return Ok(other?),
        }
    }
}

/// Makes a directory with its parents, for the user alone whatever the umask; that it exists is fine.
pub(super) fn make_dir(path: &Path) -> StoreResult<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(StoreError::io("make the directory", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_runs_are_swept_and_live_ones_are_not() {
        let temp = tempfile::tempdir().unwrap();
        let tmp = temp.path().join("tmp");
        let live = StoreRun::start(&tmp).unwrap();
        let half = live.fresh();
        fs::write(&half, "half made").unwrap();
        let dead = tmp.join("1-dead");
        fs::create_dir_all(dead.join("0/fs")).unwrap();
        fs::write(dead.join("alive"), "").unwrap();
        let second = StoreRun::start(&tmp).unwrap();
        assert!(half.exists());
        assert!(!dead.exists());
        assert!(oldest_live(&tmp, &second).is_some());
        drop(live);
        assert!(!half.exists());
        assert!(oldest_live(&tmp, &second).is_none());
    }
}
