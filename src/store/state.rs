//! What is kept on disk between runs: blobs, snapshots, records, the stat cache, cache mounts; and what keeps several
//! processes on one state directory from each other's way. Knows nothing of builds: what a record means is its owner's.
//!
//! ```text
//! $BAKE_HOME/v1/              0700, made by the first run that keeps something
//!   blobs/sha256/HEX          a complete blob under the digest of its content                     blob.rs
//!   snapshots/HEX/fs          the tree of one layer, as the upper directory of an overlayfs       snapshot.rs
//!   snapshots/HEX/meta        what is known of it, a record
//!   index/TABLE/ab/HEX        one small file per record                                           record.rs
//!   stat/HEX                  digests of the files of one context directory                       stat.rs
//!   cachemounts/HEX/N/fs      directories of `RUN --mount=type=cache`; N.lock beside them         cachemount.rs
//!   git/                      bare repositories, one for each remote; `fetch` keeps them
//!   locks/HEX                 held while someone makes the thing of this key                      lock.rs
//!   synced/BOOT               when the last syncfs of a boot began                                boot.rs
//!   tmp/RUN/                  everything half made by one process; `alive` in it is locked        run.rs
//!   tmp/lock, store.lock, touch.lock
//! ```
//!
//! # Dying at any moment
//! A thing is made in `tmp/RUN` and gets its final name by one `rename`, after its last byte. Nothing is updated in place.
//!
//! | killed while | what is on disk | who removes it |
//! | --- | --- | --- |
//! | writing a blob, record, stat cache, snapshot, new cache mount | a part below `tmp/RUN` | the next run that writes: it locks `tmp/lock`, takes each directory of `tmp` whose `alive` file is not locked |
//! | between `rename` and the record that names it | a whole, unnamed blob or snapshot | found again when it is made again; else `prune` |
//! | holding a lock of a key | an empty file in `locks`, unlocked by the kernel | its next holder, or `prune` |
//! | sweeping or pruning | what was taken lies below the `tmp/RUN` of the dead sweeper | the next sweep |
//! | in a cache mount | whatever the command had written there | no one: as with any such mount |
//! | during `syncfs` | an older mark in `synced` | – |
//!
//! After a power loss a record, snapshot or blob counts only if it was surely written back; see `boot.rs`.
//!
//! # Prune beside running builds
//! - A run that looks at a blob or snapshot holds `store.lock` shared until it ends; one that uses or makes something also
//!   has `tmp/RUN`, from whose `alive` file its start can be read.
//! - *Use* is the modification time of the blob, of the snapshot's `meta`, of the record. It is renewed when a use finds it
//!   more than a day old (so that a run where nothing changed writes nothing), under a shared lock of `touch.lock`, and
//!   then looked for again.
//! - Prune with `store.lock` exclusive may take anything. If runs hold it, prune takes only what was last used more than
//!   two days before the oldest of them began: what they have used since is at most one day older than their start, and
//!   what they may yet use has to be renewed first, for which prune's exclusive lock of `touch.lock` makes them wait. The
//!   second day is for a run that has looked at something without having made its `tmp/RUN`.
//! - Taking is one rename into prune's own `tmp/RUN`; removing happens after the locks are gone.

mod blob;
mod boot;
mod cachemount;
mod error;
mod lock;
mod prune;
mod record;
mod remove;
mod run;
mod snapshot;
mod stat;
mod verify;

use std::{
    collections::HashSet,
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use rustix::fs::FlockOperation;

use self::{
    boot::Boot,
    remove::remove_tree,
    run::{StoreRun, flock_retry, lock_file, make_dir},
};
pub(crate) use self::{
    cachemount::{CacheDir, MountSharing},
    error::{StoreError, StoreResult},
    lock::KeyLock,
    prune::{PruneOptions, Usage},
    record::Table,
    snapshot::{SnapshotId, SnapshotMeta},
    stat::{StatCache, StatKey},
    verify::Damage,
};

/// The state directory. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Store(Arc<StoreInner>);

struct StoreInner {
    /// `$BAKE_HOME/v1`.
    root: PathBuf,
    boot: OnceLock<Boot>,
    last_synced: OnceLock<i64>,
    began: Instant,
    /// The shared lock of `store.lock`; absent as long as there is no such file.
    shared: OnceLock<File>,
    run: OnceLock<StoreRun>,
    /// Held while `shared` and `run` are set.
    starting: Mutex<()>,
    /// Something was published by this run.
    wrote: AtomicBool,
    /// Snapshots made or examined by this run.
    sound: Mutex<HashSet<SnapshotId>>,
}

/// Uses are renewed when they are older than this, in nanoseconds.
const STALE: i64 = 24 * 3600 * 1_000_000_000;

impl Store {
    /// The store below `home`. *Cost:* none; nothing is made before something is kept.
    pub(crate) fn open(home: &Path) -> StoreResult<Self> {
        let home = std::path::absolute(home).map_err(StoreError::io("find", home))?;
        Ok(Self(Arc::new(StoreInner {
            root: home.join("v1"),
            boot: OnceLock::new(),
            last_synced: OnceLock::new(),
            began: Instant::now(),
            shared: OnceLock::new(),
            run: OnceLock::new(),
            starting: Mutex::new(()),
            wrote: AtomicBool::new(false),
            sound: Mutex::new(HashSet::new()),
        })))
    }

    /// A fresh empty directory for this run, gone with it. On the file system of the snapshots.
    pub(crate) fn tmp_dir(&self) -> StoreResult<PathBuf> {
        let path = self.fresh()?;
        make_dir(&path)?;
        Ok(path)
    }

    /// To be called when all work of the run is done: makes sure, where that is cheap, that what was written survives a
    /// power loss. See `boot.rs`.
    pub(crate) fn finish_run(&self) -> StoreResult<()> {
        if !self.0.wrote.swap(false, Ordering::SeqCst) {
            return Ok(());
        }
        match boot::dirty_bytes() {
            Some(dirty) if boot::sync_cost(dirty) < self.0.began.elapsed() / 10 => self.sync(),
            _ => Ok(()),
        }
    }

    /// Announces that this process is a run that looks at things, before it looks: prune takes care of it.
    pub(crate) fn hold(&self) -> StoreResult<()> {
        self.share()
    }

    /// Where repositories are kept between runs.
    pub(crate) fn git_dir(&self) -> PathBuf {
        let path = self.path("git");
        // If it cannot be made, whoever clones into it says so.
        drop(self.begin().and_then(|_| make_dir(&path)));
        path
    }

    /// One `syncfs`, and the mark that says so.
    fn sync(&self) -> StoreResult<()> {
        let boot = self.boot();
        let (since_boot, wall) = (boot::since_boot(), boot::wall_clock());
        let root = File::open(&self.0.root).map_err(StoreError::io("open", &self.0.root))?;
        rustix::fs::syncfs(&root).map_err(StoreError::io("sync", &self.0.root))?;
        if boot.id.is_empty() {
            return Ok(());
        }
        let path = self.fresh()?;
        fs::write(&path, format!("{since_boot} {wall}\n")).map_err(StoreError::io("write", &path))?;
        self.publish_mark(&path, &self.path("synced").join(&boot.id))
    }

    fn path(&self, sub: &str) -> PathBuf {
        self.0.root.join(sub)
    }

    fn boot(&self) -> &Boot {
        self.0.boot.get_or_init(Boot::now)
    }

    /// Whether something written at `written` (wall clock nanoseconds) has surely survived, or no power was lost since.
    fn survived(&self, written: i64) -> bool {
        // The clock may have been set since the boot; a second of doubt costs one hash.
        written >= self.boot().started + 1_000_000_000 || written <= self.last_synced()
    }

    fn last_synced(&self) -> i64 {
        *self.0.last_synced.get_or_init(|| boot::last_synced_wall(&self.path("synced")))
    }

    /// Announces that this process looks at things: prune must not take all.
    fn share(&self) -> StoreResult<()> {
        if self.0.shared.get().is_some() {
            return Ok(());
        }
        let _starting = self.0.starting.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
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
        flock_retry(&file, FlockOperation::LockShared).map_err(StoreError::io("lock", &path))?;
        drop(self.0.shared.set(file));
        Ok(())
    }

    /// Announces that this process uses or makes things.
    fn begin(&self) -> StoreResult<&StoreRun> {
        if let Some(run) = self.0.run.get()
            && self.0.shared.get().is_some()
        {
            return Ok(run);
        }
        let _starting = self.0.starting.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.make_root()?;
        self.share_locked()?;
        self.start_run()
    }

    /// As [`Self::begin`], for one who only reads: a read-only file system, where nothing can be pruned either, is fine.
    fn begin_reading(&self) -> StoreResult<()> {
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
        if before.and_then(|meta| meta.modified().ok()).is_some_and(|time| self.should_sync_now(time)) {
            let store = Self(Arc::clone(&self.0));
            drop(std::thread::Builder::new().name("sync".to_owned()).spawn(move || drop(store.sync())));
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
        let synced = boot::synced(&self.path("synced"), &boot.id).map_or(i64::MIN, |it| it.wall);
        let ended = i64::try_from(nanoseconds).unwrap_or(i64::MAX);
        old && ended > boot.started && ended > synced && boot::dirty_bytes().is_some_and(|it| it < 16 << 20)
    }

    fn make_root(&self) -> StoreResult<()> {
        let path = self.path("store.lock");
        match OpenOptions::new().read(true).open(&path) {
            Ok(_) => Ok(()),
            Err(_) => {
                make_dir(&self.0.root)?;
                drop(lock_file(&path, FlockOperation::Unlock)?);
                Ok(())
            }
        }
    }

    /// A fresh path in the directory of this run.
    fn fresh(&self) -> StoreResult<PathBuf> {
        Ok(self.begin()?.fresh())
    }

    /// Gives a complete file or directory its final name, replacing a file. A directory in the way of a file goes.
    fn publish(&self, from: &Path, to: &Path) -> StoreResult<()> {
        self.0.wrote.store(true, Ordering::SeqCst);
        self.publish_mark(from, to)
    }

    fn publish_mark(&self, from: &Path, to: &Path) -> StoreResult<()> {
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

    /// Held while a use is renewed; `None` where nothing can be written.
    fn touch_gate(&self) -> Option<File> {
        lock_file(&self.path("touch.lock"), FlockOperation::LockShared).ok()
    }
}

impl Drop for StoreInner {
    fn drop(&mut self) {
        // Before the shared lock, so that prune never sees us unlocked with things half made.
        drop(self.run.take());
    }
}

/// Whether a use at `used` (wall clock nanoseconds) is to be renewed.
fn is_stale(used: i64) -> bool {
    let now = boot::wall_clock();
    now.saturating_sub(used) > STALE || used.saturating_sub(now) > STALE
}

/// The modification time in nanoseconds.
fn mtime(meta: &fs::Metadata) -> i64 {
    use std::os::unix::fs::MetadataExt as _;
    meta.mtime().saturating_mul(1_000_000_000).saturating_add(meta.mtime_nsec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opening_and_looking_write_nothing() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(&home.path().join("state")).unwrap();
        let key = crate::oci::Digest::of(b"x");
        assert!(store.blob_size(&key).is_none());
        assert!(store.get::<String>(Table::Build, &key).is_none());
        assert!(!store.has_snapshot(&SnapshotId(key)));
        store.finish_run().unwrap();
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
