//! Snapshots: the tree of one layer under a name, never changed once it has it.
//!
//! A file that was written to after its snapshot was made has a modification time between then and the time of its last
//! change of any kind, which no file of a snapshot has by itself; `Store::sound` looks for such files. (Links to the file
//! made or removed move the second time alone.)

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{
    Store, boot,
    error::{StoreError, StoreResult},
    is_stale, mtime,
    record::{read_small, renew},
    remove::remove_tree,
};
use crate::oci::Digest;

/// The name of a snapshot: for layers of base images the chain of their diff ids, for our own results the cache key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct SnapshotId(pub(crate) Digest);

/// What is known of a snapshot beside its tree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotMeta {
    /// RFC 3339; what history and config say about it.
    pub(crate) created: String,
}

/// What is kept beside the tree.
#[derive(Serialize, Deserialize)]
pub(super) struct KeptSnapshot {
    #[serde(flatten)]
    meta: SnapshotMeta,
    /// When it got its name: wall clock nanoseconds.
    pub(super) committed: i64,
}

/// A snapshot that is being made. Dropped without [`Self::commit`], nothing is kept.
pub(crate) struct Active {
    store: Store,
    dir: PathBuf,
}

impl Active {
    /// The tree, at first an empty directory of mode 0755.
    pub(crate) fn fs(&self) -> PathBuf {
        self.dir.join("fs")
    }

    /// An empty directory on the same file system, for the kernel's use (`workdir=` of an overlay mount).
    pub(crate) fn work(&self) -> PathBuf {
        self.dir.join("work")
    }

    /// Gives the tree its name. One that has the name already wins, and this one is dropped: both are right.
    pub(crate) fn commit(self, id: &SnapshotId, meta: SnapshotMeta) -> StoreResult<()> {
        if self.store.has_snapshot(id) {
            return Ok(());
        }
        let to = self.store.snapshot_dir(id);
        self.put_work_aside()?;
        let kept = KeptSnapshot { meta, committed: boot::wall_clock() };
        let path = self.dir.join("meta");
        let text = self.store.encode(&path, &subject(id), &kept)?;
        fs::write(&path, text).map_err(StoreError::io("write", &path))?;
        for _ in 0..3 {
            match self.store.publish(&self.dir, &to) {
                Ok(()) => {
                    self.store.known_sound(id);
                    return Ok(());
                }
                Err(StoreError::Io { source, .. }) if taken(&source) => {
                    if self.store.has_snapshot(id) {
                        return Ok(());
                    }
                    // What lies there is no snapshot.
                    self.store.drop_snapshot(id)?;
                }
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Damaged { path: to, what: "it comes back whenever it is removed" })
    }
}

impl Active {
    /// Takes the kernel's directory away. Removed at once, it costs the next step: ext4 looks first at inodes that were
    /// freed a moment ago, and passes over each. What is small goes with the run.
    fn put_work_aside(&self) -> StoreResult<()> {
        let work = self.work();
        let names = fs::read_dir(&work).map_err(StoreError::io("read", &work))?;
        let is_small = names.flatten().all(|it| it.file_name() == "work");
        if is_small {
            let aside = self.store.fresh()?;
            return fs::rename(&work, &aside).map_err(StoreError::io("move", &work));
        }
        remove_tree(&work).map_err(StoreError::io("remove", &work))
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        drop(remove_tree(&self.dir));
    }
}

impl Store {
    /// Where the tree of `id` is, or would be. Says to prune that it is used.
    pub(crate) fn snapshot_fs(&self, id: &SnapshotId) -> PathBuf {
        // Without a run directory only the second day of grace protects the snapshot; a failure to make one will be
        // reported by whatever this run tries to write next.
        drop(self.begin_reading());
        self.snapshot_dir(id).join("fs")
    }

    /// Whether the snapshot is there, complete, and has survived the last power loss.
    pub(crate) fn has_snapshot(&self, id: &SnapshotId) -> bool {
        self.snapshot_meta(id).is_some()
    }

    /// What is known of a snapshot; `None` if there is no such snapshot.
    pub(crate) fn snapshot_meta(&self, id: &SnapshotId) -> Option<SnapshotMeta> {
        self.kept(id).map(|kept| kept.meta)
    }

    fn kept(&self, id: &SnapshotId) -> Option<KeptSnapshot> {
        self.share().ok()?;
        let dir = self.snapshot_dir(id);
        let path = dir.join("meta");
        let (text, used) = read_small(&path).ok()??;
        let kept = serde_json::from_slice(self.decode(&text, &subject(id))?).ok()?;
        if is_stale(used)
            && let Some(_gate) = self.touch_gate()
        {
            renew(&path);
        }
        dir.join("fs").is_dir().then_some(kept)
    }

    /// Starts a new snapshot.
    pub(crate) fn prepare(&self) -> StoreResult<Active> {
        let active = Active { store: self.clone(), dir: self.tmp_dir()? };
        for path in [active.fs(), active.work()] {
            fs::DirBuilder::new().mode(0o755).create(&path).map_err(StoreError::io("make the directory", &path))?;
            // The umask has no say in what an image holds.
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(&path, mode).map_err(StoreError::io("set the mode of", &path))?;
        }
        Ok(active)
    }

    /// Whether nothing in the snapshot was changed since it was made. *Cost:* one `stat` for each of its files, once a run.
    pub(crate) fn sound(&self, id: &SnapshotId) -> bool {
        if self.0.sound.lock().unwrap_or_else(std::sync::PoisonError::into_inner).contains(id) {
            return true;
        }
        let Some(kept) = self.kept(id) else { return false };
        let sound = matches!(changed_since(&self.snapshot_dir(id).join("fs"), kept.committed), Ok(None));
        if sound {
            self.known_sound(id);
        }
        sound
    }

    /// Whether the snapshot is there and [sound](Self::sound). A damaged one is removed, so that it is made again.
    ///
    /// To be asked before the tree is read or run on; [`Self::has_snapshot`] is for those who only need to know its name.
    pub(crate) fn usable(&self, id: &SnapshotId) -> bool {
        if !self.has_snapshot(id) {
            return false;
        }
        let sound = self.sound(id);
        if !sound {
            // What cannot be removed is found damaged again.
            drop(self.drop_snapshot(id));
        }
        sound
    }

    /// Removes a snapshot, at once for all others that look for it.
    pub(crate) fn drop_snapshot(&self, id: &SnapshotId) -> StoreResult<()> {
        self.0.sound.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(id);
        let (from, to) = (self.snapshot_dir(id), self.fresh()?);
        match fs::rename(&from, &to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => {
                other.map_err(StoreError::io("remove", &from))?;
                remove_tree(&to).map_err(StoreError::io("remove", &from))
            }
        }
    }

    pub(super) fn snapshot_dir(&self, id: &SnapshotId) -> PathBuf {
        self.0.root.join("snapshots").join(id.0.hex())
    }

    fn known_sound(&self, id: &SnapshotId) {
        self.0.sound.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(id.clone());
    }
}

/// What the record beside the tree is about.
pub(super) fn subject(id: &SnapshotId) -> String {
    format!("snapshot {}", id.0.hex())
}

/// Whether a rename failed because something has the name.
fn taken(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(error.kind(), K::DirectoryNotEmpty | K::AlreadyExists | K::NotADirectory | K::IsADirectory)
}

/// The first thing below `dir` whose content was changed after `made` (wall clock nanoseconds).
pub(super) fn changed_since(dir: &Path, made: i64) -> io::Result<Option<PathBuf>> {
    let mut level = vec![dir.to_owned()];
    while !level.is_empty() {
        let looked: Vec<SnapshotLook> = level.par_iter().map(|dir| look(dir, made)).collect::<io::Result<_>>()?;
        level.clear();
        for look in looked {
            match look {
                SnapshotLook::Changed(path) => return Ok(Some(path)),
                SnapshotLook::Same(dirs) => level.extend(dirs),
            }
        }
    }
    Ok(None)
}

/// What one directory shows.
enum SnapshotLook {
    Changed(PathBuf),
    /// Nothing; these are the directories in it.
    Same(Vec<PathBuf>),
}

fn look(dir: &Path, made: i64) -> io::Result<SnapshotLook> {
    use std::os::unix::fs::MetadataExt as _;
    let changed = |meta: &fs::Metadata| {
        let ctime = meta.ctime().saturating_mul(1_000_000_000).saturating_add(meta.ctime_nsec());
        made < mtime(meta) && mtime(meta) <= ctime
    };
    let too_long = |error: &io::Error| error.raw_os_error() == Some(libc::ENAMETOOLONG);
    let entries = match fs::symlink_metadata(dir) {
        Ok(meta) if changed(&meta) => return Ok(SnapshotLook::Changed(dir.to_owned())),
        // Deeper than paths can say: only a step can have made it, and no one gets there by accident.
        Err(error) if too_long(&error) => return Ok(SnapshotLook::Same(Vec::new())),
        other => other.and_then(|_| fs::read_dir(dir))?,
    };
    let mut dirs = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            dirs.push(entry.path());
            continue;
        }
        match entry.metadata() {
            Ok(meta) if changed(&meta) => return Ok(SnapshotLook::Changed(entry.path())),
            Err(error) if !too_long(&error) => return Err(error),
            _ => (),
        }
    }
    Ok(SnapshotLook::Same(dirs))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        (home, store)
    }

    fn id(name: &str) -> SnapshotId {
        SnapshotId(Digest::of(name.as_bytes()))
    }

    fn make(store: &Store, name: &str, content: &str) {
        let active = store.prepare().unwrap();
        fs::write(active.fs().join("f"), content).unwrap();
        let meta = SnapshotMeta { created: "2026-01-01T00:00:00Z".to_owned() };
        active.commit(&id(name), meta).unwrap();
    }

    /// Waits until the file system's clock, which is coarser than ours, has passed this moment.
    fn tick(dir: &Path) {
        let now = boot::wall_clock();
        while mtime(&fs::metadata(dir).unwrap()) <= now {
            fs::write(dir.join("tick"), "").unwrap();
            fs::remove_file(dir.join("tick")).unwrap();
        }
    }

    #[test]
    fn the_first_commit_of_a_name_wins() {
        let (_home, store) = store();
        assert!(!store.has_snapshot(&id("a")));
        make(&store, "a", "first");
        make(&store, "a", "second");
        assert_eq!(fs::read_to_string(store.snapshot_fs(&id("a")).join("f")).unwrap(), "first");
        assert_eq!(store.snapshot_meta(&id("a")).unwrap().created, "2026-01-01T00:00:00Z");
        assert!(!store.snapshot_dir(&id("a")).join("work").exists());
    }

    #[test]
    fn many_threads_committing_one_name_all_succeed() {
        let (home, _store) = store();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let store = Store::open(home.path()).unwrap();
                    for name in ["a", "b", "c"] {
                        make(&store, name, "x");
                        assert!(store.has_snapshot(&id(name)));
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(home.path().join("v1/snapshots")).unwrap().count(), 3);
    }

    #[test]
    fn a_dropped_snapshot_leaves_nothing() {
        let (_home, store) = store();
        let active = store.prepare().unwrap();
        let dir = active.dir.clone();
        fs::write(active.fs().join("f"), "x").unwrap();
        drop(active);
        assert!(!dir.exists());
    }

    #[test]
    fn changes_inside_a_snapshot_are_noticed_and_links_are_not_changes() {
        use std::io::Write as _;
        let (home, store) = store();
        make(&store, "a", "content");
        let fresh = || Store::open(home.path()).unwrap();
        let file = store.snapshot_fs(&id("a")).join("f");
        fs::hard_link(&file, home.path().join("link")).unwrap();
        assert!(fresh().sound(&id("a")));
        tick(home.path());
        fs::OpenOptions::new().write(true).open(&file).unwrap().write_all(b"X").unwrap();
        assert!(!fresh().sound(&id("a")) && !fresh().usable(&id("a")));
        assert!(!store.has_snapshot(&id("a")));
        make(&store, "a", "content");
        tick(home.path());
        fs::remove_file(&file).unwrap();
        assert!(!fresh().sound(&id("a")));
    }

    #[test]
    fn a_snapshot_without_its_record_is_made_again() {
        let (_home, store) = store();
        make(&store, "a", "first");
        fs::write(store.snapshot_dir(&id("a")).join("meta"), "garbage").unwrap();
        assert!(!store.has_snapshot(&id("a")));
        make(&store, "a", "second");
        assert_eq!(fs::read_to_string(store.snapshot_fs(&id("a")).join("f")).unwrap(), "second");
    }
}
