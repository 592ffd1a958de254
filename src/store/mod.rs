//! What is kept between runs: blobs, snapshots, records, shared by any number of processes. No knowledge of builds.
//!
//! ```text
//! $BAKE_HOME/v1/                    0700; another format gets another folder
//!   blobs/sha256/HEX                complete and verified
//!   snapshots/HEX/fs                the tree of one layer, as the upper directory of an overlay
//!   snapshots/HEX/meta.json
//!   index/TABLE/HH/HEX              records: a line of heading, then JSON
//!   stat/HEX                        stat cache of one directory
//!   cachemounts/HEX/…               directories of RUN --mount=type=cache
//!   git/                            bare repositories, one for each remote
//!   locks/HEX                       locked by the process that works on the key
//!   runs/RUN                        the run RUN has been synced to disk
//!   tmp/RUN/…                       everything half made by the run RUN; `alive` in it is locked while it lives
//!   use                             locked, shared, by every run; exclusively by `prune`
//! ```
//!
//! What is on disk when the process dies, and who clears it away:
//!
//! | while | left behind | seen by others | cleared by |
//! |---|---|---|---|
//! | writing a blob or record | a file in `tmp/RUN` | nothing | the next run that writes: `alive` is not locked any more |
//! | making a snapshot | a folder in `tmp/RUN` | nothing | the same |
//! | between snapshot and record | a snapshot that no record names | nothing; the step runs again and finds the name taken by equal content | `prune` |
//! | holding a lock | an empty file in `locks` | a free lock: the kernel drops it with the process | `prune` |
//! | pruning | records first, then what they name | a miss | the next `prune` |
//! | writing the stat cache | the old one | the old one | – |
//!
//! After a loss of power a file may have its name but not its content. A record carries the boot and the run that wrote
//! it; under another boot it counts only if the run was synced at its end.

mod blob;
mod cachemount;
mod lock;
mod prune;
mod record;
mod snapshot;
mod stat;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

pub(crate) use blob::BlobWriter;
pub(crate) use cachemount::{CacheDir, Sharing};
pub(crate) use lock::KeyLock;
pub(crate) use prune::{Damage, PruneOptions, Pruned, Usage};
pub(crate) use record::Table;
pub(crate) use snapshot::{Active, SnapshotId, SnapshotMeta};
pub(crate) use stat::{StatCache, StatKey};

/// A fault of the state folder: what was done to which path, and the system's word.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("a blob has the digest {found} instead of {wanted}")]
    Digest { wanted: crate::oci::Digest, found: crate::oci::Digest },
}

pub(crate) type Result<T> = std::result::Result<T, StoreError>;

/// Makes an error of a system call on a path.
fn failed<'p>(action: &'static str, path: &'p Path) -> impl FnOnce(io::Error) -> StoreError + 'p {
    move |source| StoreError::Io { action, path: path.to_owned(), source }
}

/// The store. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Store(Arc<Inner>);

struct Inner {
    root: PathBuf,
    boot: String,
    run: String,
    /// Made when something is first written.
    tmp: OnceLock<lock::Alive>,
    in_use: OnceLock<fs::File>,
    wrote: AtomicBool,
    next: AtomicU64,
}

/// Folders of the store.
const FOLDERS: &[&str] = &["blobs/sha256", "snapshots", "index", "stat", "cachemounts", "git", "locks", "runs", "tmp"];

impl Store {
    /// Opens the store below `home`, making it if it is not there.
    ///
    /// *Cost:* a few system calls, whatever the store holds.
    pub(crate) fn open(home: &Path) -> Result<Self> {
        let root = home.join("v1");
        if !root.join("tmp").is_dir() {
            make_private(home)?;
            make_private(&root)?;
            for folder in FOLDERS {
                let path = root.join(folder);
                fs::create_dir_all(&path).map_err(failed("make the folder", &path))?;
            }
        }
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let run = format!("{:x}-{}", now.as_nanos(), std::process::id());
        Ok(Self(Arc::new(Inner {
            root,
            boot,
            run,
            tmp: OnceLock::new(),
            in_use: OnceLock::new(),
            wrote: AtomicBool::new(false),
            next: AtomicU64::new(0),
        })))
    }

    fn path(&self, parts: &[&str]) -> PathBuf {
        let mut path = self.0.root.clone();
        path.extend(parts);
        path
    }

    /// Where repositories are kept between runs.
    pub(crate) fn git_dir(&self) -> PathBuf {
        self.path(&["git"])
    }

    /// Holds everything against `prune` as long as this process lives.
    pub(crate) fn hold(&self) -> Result<()> {
        if self.0.in_use.get().is_none() {
            let file = lock::shared(&self.path(&["use"]))?;
            drop(self.0.in_use.set(file));
        }
        Ok(())
    }

    /// The folder of what this run is making; dead runs' folders are swept when it is made.
    pub(crate) fn tmp_dir(&self) -> Result<PathBuf> {
        if let Some(alive) = self.0.tmp.get() {
            return Ok(alive.folder.clone());
        }
        self.0.wrote.store(true, Ordering::Relaxed);
        lock::sweep(&self.path(&["tmp"]));
        let alive = lock::Alive::make(&self.path(&["tmp", &self.0.run]))?;
        let folder = alive.folder.clone();
        // Another thread may have been faster: its folder has the same name and is as good.
        drop(self.0.tmp.set(alive));
        Ok(folder)
    }

    /// A path in the folder of this run that nothing has yet.
    fn fresh(&self) -> Result<PathBuf> {
        let n = self.0.next.fetch_add(1, Ordering::Relaxed);
        Ok(self.tmp_dir()?.join(n.to_string()))
    }

    /// Syncs what this run wrote, so that it counts after a loss of power. Nothing to do when nothing was written.
    pub(crate) fn finish_run(&self) -> Result<()> {
        if !self.0.wrote.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let root = fs::File::open(&self.0.root).map_err(failed("open", &self.0.root))?;
        rustix::fs::syncfs(&root).map_err(|e| failed("sync", &self.0.root)(e.into()))?;
        let marker = self.path(&["runs", &self.0.run]);
        let file = fs::File::create(&marker).map_err(failed("write", &marker))?;
        file.sync_all().map_err(failed("sync", &marker))
    }
}

/// Makes a folder that only its owner can look into.
fn make_private(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed("make the folder", parent))?;
    }
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failed("make the folder", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Digest;

    #[test]
    fn what_is_stored_is_found_by_another_process() {
        let home = tempfile::tempdir().expect("test");
        let store = Store::open(home.path()).expect("opens");
        let digest = store.put_blob(b"content").expect("stored");
        store.put(Table::Vertex, &digest, &vec![1, 2, 3]).expect("stored");
        let other = Store::open(home.path()).expect("opens");
        assert_eq!(other.blob_size(&digest), Some(7));
        assert_eq!(other.get::<Vec<i32>>(Table::Vertex, &digest), Some(vec![1, 2, 3]));
        assert_eq!(other.get::<Vec<i32>>(Table::Build, &digest), None);
    }

    #[test]
    fn a_damaged_record_is_a_miss() {
        let home = tempfile::tempdir().expect("test");
        let store = Store::open(home.path()).expect("opens");
        let key = Digest::of(b"key");
        store.put(Table::Vertex, &key, &"value").expect("stored");
        let path = store.record_path(Table::Vertex, &key);
        let text = fs::read_to_string(&path).expect("there");
        fs::write(&path, text.replace("value", "vaule")).expect("written");
        assert_eq!(store.get::<String>(Table::Vertex, &key), None);
        fs::write(&path, "").expect("written");
        assert_eq!(store.get::<String>(Table::Vertex, &key), None);
    }

    #[test]
    fn a_snapshot_has_no_name_before_it_is_whole() {
        let home = tempfile::tempdir().expect("test");
        let store = Store::open(home.path()).expect("opens");
        let id = SnapshotId(Digest::of(b"snapshot"));
        let active = store.prepare().expect("made");
        fs::write(active.fs().join("file"), "x").expect("written");
        assert!(!store.has_snapshot(&id));
        active.commit(&id, SnapshotMeta { created: "now".to_owned() }).expect("named");
        assert!(store.has_snapshot(&id));
        let second = store.prepare().expect("made");
        second.commit(&id, SnapshotMeta { created: "later".to_owned() }).expect("the first one wins");
        assert_eq!(fs::read_to_string(store.snapshot_fs(&id).join("file")).expect("kept"), "x");
    }

    #[test]
    fn what_a_dead_run_left_is_swept() {
        let home = tempfile::tempdir().expect("test");
        let dead = home.path().join("v1/tmp/dead");
        let store = Store::open(home.path()).expect("opens");
        fs::create_dir_all(dead.join("1/fs")).expect("made");
        fs::write(dead.join("alive"), "").expect("written");
        let living = Store::open(home.path()).expect("opens");
        let kept = living.tmp_dir().expect("made");
        store.put_blob(b"x").expect("stored");
        assert!(!dead.exists() && kept.exists());
    }
}
