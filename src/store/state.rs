//! The state directory as one process uses it: its locks, its directory for half made things, and how complete things get
//! their names. What is stored, and in which form, is for the other files of this folder.

use std::{
    collections::HashSet,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Instant,
};

use rustix::fs::FlockOperation;

use super::{
    boot::{self, Boot, Mark},
    error::{StoreError, StoreResult},
    format, home,
    remove::{FileIdentity, remove_tree},
    run::{StoreRun, flock_retry, lock_file, make_dir},
};

/// A function that makes the command of a program, with the environment that child processes get.
pub(crate) type HelperCommandFn = fn(&std::ffi::OsStr) -> std::process::Command;

/// The state directory, as used by one run. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Store(pub(super) Arc<StoreInner>);

/// The shared state of all clones of a [`Store`]: paths, locks, and what this run knows of its snapshots.
pub(super) struct StoreInner {
    /// `$BAKE_HOME/v1`.
    pub(super) root: PathBuf,
    /// What this one does not have is looked for in these, in this order.
    pub(super) lower: Vec<Store>,
    /// It is one of another's `lower` ones: nothing in it is changed.
    pub(super) is_lower: bool,
    /// Blobs of a lower store that were hashed in this run.
    pub(super) hashed: Mutex<HashSet<crate::oci::Digest>>,
    boot: OnceLock<Boot>,
    last_synced: OnceLock<i64>,
    began: Instant,
    /// The shared lock of `store.lock`; absent as long as there is no such file.
    pub(super) shared: OnceLock<File>,
    run: OnceLock<StoreRun>,
    /// The folder of the output of this run's steps.
    pub(super) logs: OnceLock<RunLogs>,
    /// Held while `logs` is set.
    pub(super) making_logs: Mutex<()>,
    /// Held while `shared` and `run` are set.
    starting: Mutex<()>,
    /// Something was published by this run.
    wrote: AtomicBool,
    /// As `wrote`, until [`Store::finish_run`].
    unsynced: AtomicBool,
    /// Snapshots made or examined by this run, by the hexadecimal digits of their names.
    pub(super) sound: Mutex<HashSet<crate::oci::Digest>>,
    /// The thread that computes digests of new snapshots; started by the first of them.
    pub(super) digests: Mutex<Option<super::content::DigestQueue>>,
}

/// The folder of the output of this run's steps; see `step_log.rs`.
pub(super) struct RunLogs {
    pub(super) dir: PathBuf,
    /// The number of the next log.
    pub(super) next: AtomicU32,
    /// The list of steps, opened for appending.
    pub(super) steps: File,
}

/// The age, in nanoseconds, after which the time of last use is renewed.
pub(super) const STALE: i64 = 24 * 3600 * 1_000_000_000;

impl Store {
    /// As [`Self::open_over`], over none.
    #[cfg(test)]
    pub(crate) fn open(home: &Path) -> StoreResult<Self> {
        Self::open_over(home, Vec::new())
    }

    /// Opens the store below `home`, whose owner and mode were checked by [`super::HomeDir::open`]. Touches no file:
    /// nothing is made before something is kept. What this store does not have is looked for in the `lower` ones, in this
    /// order.
    pub(super) fn open_over(home: &Path, lower: Vec<Self>) -> StoreResult<Self> {
        Self::make(home, lower, false)
    }

    /// Opens a store of which nothing is ever changed, and holds it, so that `prune` of it waits.
    pub(super) fn open_lower(home: &Path) -> StoreResult<Self> {
        let store = Self::make(home, Vec::new(), true)?;
        fs::metadata(&store.0.root).map_err(StoreError::io("look at", &store.0.root))?;
        store.share()?;
        Ok(store)
    }

    fn make(home: &Path, lower: Vec<Self>, is_lower: bool) -> StoreResult<Self> {
        let home = std::path::absolute(home).map_err(StoreError::io("find", home))?;
        Ok(Self(Arc::new(StoreInner {
            root: home.join(home::ROOT),
            lower,
            is_lower,
            hashed: Mutex::new(HashSet::new()),
            boot: OnceLock::new(),
            last_synced: OnceLock::new(),
            began: Instant::now(),
            shared: OnceLock::new(),
            run: OnceLock::new(),
            logs: OnceLock::new(),
            making_logs: Mutex::new(()),
            starting: Mutex::new(()),
            wrote: AtomicBool::new(false),
            unsynced: AtomicBool::new(false),
            sound: Mutex::new(HashSet::new()),
            digests: Mutex::new(None),
        })))
    }

    /// Makes an empty directory for this run, removed when the run ends. It is on the file system of the snapshots.
    pub(crate) fn tmp_dir(&self) -> StoreResult<PathBuf> {
        let path = self.fresh()?;
        make_dir(&path)?;
        Ok(path)
    }

    /// Ends the work of a run: waits for the digests of its snapshots, and has what was written synced to disk.
    ///
    /// A sync that is cheap beside the run is made here. Otherwise a helper process makes it after this one has ended, so
    /// that nobody waits for it. `command` starts that helper; that it cannot be started is no fault, because what is
    /// not known to be synced is compared with its digest before it is used in a later boot (see `boot.rs`).
    pub(crate) fn finish_run(&self, command: HelperCommandFn) -> StoreResult<()> {
        {
            let _span = tracing::debug_span!("digests of new snapshots").entered();
            self.finish_digests();
        }
        let _span = tracing::debug_span!("sync of the store").entered();
        if !self.0.unsynced.swap(false, Ordering::SeqCst) || boot::is_volatile(&self.0.root) {
            return Ok(());
        }
        match boot::dirty_bytes() {
            Some(dirty) if boot::sync_cost(dirty) < self.0.began.elapsed() / 10 => self.sync(),
            _ => {
                if let Some(mark) = self.mark()? {
                    drop(boot::sync_later(&mark, command));
                }
                Ok(())
            }
        }
    }

    /// Announces that this process is a run that looks at things, before it looks, so that `prune` spares them.
    pub(crate) fn hold(&self) -> StoreResult<()> {
        self.share()
    }

    /// The directory in which `fetch` keeps repositories between runs.
    pub(crate) fn git_dir(&self) -> PathBuf {
        let path = self.path("git");
        // If it cannot be made, the clone into it fails and reports that.
        drop(self.begin().and_then(|_| make_dir(&path)));
        path
    }

    /// Makes one `syncfs` of the file system of the store, and records it in the mark of this boot.
    pub(super) fn sync(&self) -> StoreResult<()> {
        match self.mark()? {
            Some(mark) => mark.sync().map_err(StoreError::io("sync", &self.0.root)),
            None => {
                let root = File::open(&self.0.root).map_err(StoreError::io("open", &self.0.root))?;
                rustix::fs::syncfs(&root).map_err(StoreError::io("sync", &self.0.root))
            }
        }
    }

    /// The mark of this boot, opened; `None` if the system has no boot id.
    fn mark(&self) -> StoreResult<Option<Mark>> {
        let boot = self.boot();
        if boot.id.is_empty() {
            return Ok(None);
        }
        let dir = self.path("synced");
        make_dir(&dir)?;
        let path = dir.join(&boot.id);
        Mark::open(&path).map(Some).map_err(StoreError::io("open", &path))
    }

    /// A path below the versioned root of the store.
    pub(super) fn path(&self, sub: &str) -> PathBuf {
        self.0.root.join(sub)
    }

    /// The running boot; read from the system once.
    pub(super) fn boot(&self) -> &Boot {
        self.0.boot.get_or_init(Boot::current)
    }

    /// Whether something written between `earliest` and `latest` (wall clock nanoseconds) was written in this boot, or
    /// before the last `syncfs` of an earlier one began.
    pub(super) fn survived(&self, earliest: i64, latest: i64) -> bool {
        // The start of the boot is known to a clock tick; a second of doubt costs one hash.
        earliest >= self.boot().started + 1_000_000_000 || latest <= self.last_synced()
    }

    /// When the last recorded `syncfs` of any boot began, in nanoseconds of the wall clock; `i64::MIN` if none is
    /// recorded.
    pub(super) fn last_synced(&self) -> i64 {
        *self.0.last_synced.get_or_init(|| boot::last_synced_wall(&self.path("synced")))
    }

    /// Takes the shared lock of the store for this process, so that prune beside it removes nothing that it may look
    /// at.
    ///
    /// Does nothing where no store exists yet.
    pub(super) fn share(&self) -> StoreResult<()> {
        if self.0.shared.get().is_some() {
            return Ok(());
        }
        let _starting = self.0.starting.lock().unwrap_or_else(PoisonError::into_inner);
        self.share_locked()
    }

    fn share_locked(&self) -> StoreResult<()> {
        if self.0.shared.get().is_some() {
            return Ok(());
        }
        let path = self.path("store.lock");
        let file = match File::open(&path) {
            // Nothing was ever kept here: there is nothing to hold.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(StoreError::io("open", &path))?,
        };
        flock_retry(&file, FlockOperation::LockShared).map_err(StoreError::lock(&path))?;
        drop(self.0.shared.set(file));
        Ok(())
    }

    /// Makes the root and the temporary directory of this run, and takes the locks that say that it uses and makes
    /// things.
    pub(super) fn begin(&self) -> StoreResult<&StoreRun> {
        if let Some(run) = self.0.run.get()
            && self.0.shared.get().is_some()
        {
            return Ok(run);
        }
        let _starting = self.0.starting.lock().unwrap_or_else(PoisonError::into_inner);
        self.make_root()?;
        self.share_locked()?;
        self.start_run()
    }

    /// As [`Self::begin`], for a caller that only reads: a read-only file system, where nothing can be pruned either, is
    /// no error.
    pub(super) fn begin_reading(&self) -> StoreResult<()> {
        match self.begin() {
            Err(error) if !error.is_read_only() => Err(error),
            _ => self.share(),
        }
    }

    fn start_run(&self) -> StoreResult<&StoreRun> {
        if let Some(run) = self.0.run.get() {
            return Ok(run);
        }
        let tmp = self.path("tmp");
        let before = fs::metadata(&tmp).ok();
        let run = StoreRun::start(&tmp)?;
        if before.and_then(|meta| meta.modified().ok()).is_some_and(|time| self.should_sync_now(time))
            && let Some(mark) = self.mark()?
        {
            drop(std::thread::Builder::new().name("sync".to_owned()).spawn(move || drop(mark.sync())));
        }
        Ok(self.0.run.get_or_init(|| run))
    }

    /// Whether earlier runs of this boot, the last of which ended at `ended`, wrote what was not synced, and the kernel has
    /// had the time to write it back, so that it costs nothing to make sure.
    fn should_sync_now(&self, ended: std::time::SystemTime) -> bool {
        const WRITTEN_BACK: std::time::Duration = std::time::Duration::from_secs(60);
        let old = ended.elapsed().is_ok_and(|age| age > WRITTEN_BACK);
        let nanoseconds = ended.duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_nanos());
        let boot = self.boot();
        let synced = boot::synced(&self.path("synced"), &boot.id).map_or(i64::MIN, |synced| synced.wall);
        let ended = i64::try_from(nanoseconds).unwrap_or(i64::MAX);
        old && ended > boot.started && ended > synced && boot::dirty_bytes().is_some_and(|dirty| dirty < 16 << 20)
    }

    fn make_root(&self) -> StoreResult<()> {
        let path = self.path("store.lock");
        if self.0.root.parent().is_some_and(home::is_shared_by_all) {
            make_dir(&self.0.root)?;
            home::check_own_root(&self.0.root)?;
        }
        match OpenOptions::new().read(true).open(&path) {
            Ok(_) => Ok(()),
            Err(_) => {
                make_dir(&self.0.root)?;
                format::write(&self.0.root)?;
                drop(lock_file(&path, FlockOperation::Unlock)?);
                Ok(())
            }
        }
    }

    /// A new path in the directory of this run; nothing is made there.
    pub(super) fn fresh(&self) -> StoreResult<PathBuf> {
        Ok(self.begin()?.fresh())
    }

    /// Whether this run has put something into the store.
    pub(super) fn has_written(&self) -> bool {
        self.0.wrote.load(Ordering::SeqCst)
    }

    /// Gives a complete file its final name, replacing a file or directory that has it.
    pub(super) fn publish(&self, from: &Path, to: &Path) -> StoreResult<()> {
        self.0.wrote.store(true, Ordering::SeqCst);
        self.0.unsynced.store(true, Ordering::SeqCst);
        match fs::rename(from, to) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => make_dir(to.parent().unwrap_or(to))?,
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                remove_tree(to).map_err(StoreError::io("remove", to))?;
            }
            Err(error) => return Err(StoreError::io("write", to)(error)),
        }
        fs::rename(from, to).map_err(StoreError::io("write", to))
    }

    /// As [`Self::publish`], for a blob or snapshot: [`Self::discard`] of the same name in another process waits, or is
    /// over.
    pub(super) fn publish_guarded(&self, from: &Path, to: &Path) -> StoreResult<()> {
        let _gate = self.shared_gate();
        self.publish(from, to)
    }

    /// Removes the file or tree at `path`, unless it is another one than was examined; `Ok` in both cases.
    ///
    /// The check may have taken long, and another process may have put a sound thing there meanwhile. In a lower store nothing
    /// is removed.
    pub(super) fn discard(&self, path: &Path, examined: FileIdentity) -> StoreResult<()> {
        if self.0.is_lower {
            return Ok(());
        }
        let to = self.fresh()?;
        {
            let _gate = self.exclusive_gate()?;
            if FileIdentity::at(path) != Some(examined) {
                return Ok(());
            }
            fs::rename(path, &to).map_err(StoreError::io("remove", path))?;
        }
        remove_tree(&to).map_err(StoreError::io("remove", path))
    }

    /// The lock held while a use is renewed or a blob or snapshot gets its name; `None` where nothing can be written.
    pub(super) fn shared_gate(&self) -> Option<File> {
        lock_file(&self.path("touch.lock"), FlockOperation::LockShared).ok()
    }

    /// The lock held while a blob or snapshot is taken away.
    pub(super) fn exclusive_gate(&self) -> StoreResult<File> {
        lock_file(&self.path("touch.lock"), FlockOperation::LockExclusive)
    }
}

impl Drop for StoreInner {
    fn drop(&mut self) {
        // It writes into the directory of the run.
        drop(self.digests.get_mut().unwrap_or_else(PoisonError::into_inner).take());
        // Before the shared lock, so that prune never sees us unlocked with things half made.
        drop(self.run.take());
    }
}

/// Whether the time of last use `used` (nanoseconds of the wall clock) is old enough to be renewed.
pub(super) fn is_stale(used: i64) -> bool {
    let now = boot::wall_clock();
    now.saturating_sub(used) > STALE || used.saturating_sub(now) > STALE
}

/// The modification time of a file, in nanoseconds since 1970.
pub(super) fn mtime(meta: &fs::Metadata) -> i64 {
    meta.mtime().saturating_mul(1_000_000_000).saturating_add(meta.mtime_nsec())
}

/// The time of the last change of any kind (`st_ctime`), which no program can set, in nanoseconds since 1970.
pub(super) fn ctime(meta: &fs::Metadata) -> i64 {
    meta.ctime().saturating_mul(1_000_000_000).saturating_add(meta.ctime_nsec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{SnapshotId, Table};

    #[test]
    fn opening_and_looking_write_nothing() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(&home.path().join("state")).unwrap();
        let key = crate::oci::Digest::of(b"x");
        assert!(store.blob_size(&key).is_none());
        assert!(store.get::<String>(Table::Build, &key).is_none());
        assert!(!store.has_snapshot(&SnapshotId(key)));
        store.finish_digests();
        drop(store);
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_state_directory_is_private_whatever_the_umask() {
        use std::os::unix::fs::PermissionsExt as _;
        let home = tempfile::tempdir().unwrap();
        let state = home.path().join("state");
        let store = Store::open(&state).unwrap();
        store.put_blob(b"x").unwrap();
        for path in [&state, &state.join("v1")] {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o700);
        }
    }

    #[test]
    fn nothing_of_a_run_is_left_in_tmp() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let dir = store.tmp_dir().unwrap();
        fs::write(dir.join("half"), "x").unwrap();
        drop(store);
        let left: Vec<_> =
            fs::read_dir(home.path().join("v1/tmp")).unwrap().flatten().map(|it| it.file_name()).collect();
        assert_eq!(left, ["lock"]);
    }

    #[test]
    fn a_sync_is_remembered() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        store.put_blob(b"x").unwrap();
        let before = boot::wall_clock();
        store.sync().unwrap();
        assert!(store.last_synced() >= before);
    }
}
