//! Snapshots: the tree of one layer under a name, never changed once it has it.
//!
//! Whether it did change is asked before its tree is read ([`Store::usable`]), in two steps:
//!
//! 1. One `stat` for each entry. A modification time between the commit and the time of the last change of any kind (ctime)
//!    shows a file that was written to: the snapshot is damaged. A ctime alone that is later than the commit casts doubt:
//!    a hard link to the file was made, or the state directory was copied, or someone wrote to the file and put its
//!    modification time back (no program can put back the ctime). Doubtful too is a snapshot that is not known to have been
//!    on disk before the system was last started (`boot.rs`).
//! 2. A snapshot in doubt is compared with its digest (`content.rs`), and the record of the digest is written anew, so
//!    that the next run need not read it again. Without a digest it counts as damaged.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError, atomic::AtomicBool},
};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{
    boot,
    content::tree_digest,
    error::{StoreError, StoreResult},
    record::{encode, read_small, renew},
    remove::{FileIdentity, remove_tree},
    state::{Store, ctime, is_stale, mtime},
};
use crate::oci::Digest;

/// The name of a snapshot: for layers of base images the chain of their diff ids, for our own results the cache key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct SnapshotId(pub(crate) Digest);

/// The facts about a snapshot that are kept beside its tree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotMeta {
    /// RFC 3339; what history and config say about it.
    pub(crate) created: String,
}

/// The record `meta` beside the tree.
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
    /// The directory with the tree, at first empty and of mode 0755.
    pub(crate) fn fs(&self) -> PathBuf {
        self.dir.join("fs")
    }

    /// An empty directory on the same file system, for the kernel's use (`workdir=` of an overlay mount).
    pub(crate) fn work(&self) -> PathBuf {
        self.dir.join("work")
    }

    /// Gives the snapshot its name. A usable one that has the name already wins, and this one is dropped: both are
    /// right.
    pub(crate) fn commit(self, id: &SnapshotId, meta: SnapshotMeta) -> StoreResult<()> {
        if self.store.usable(id) {
            return Ok(());
        }
        let to = self.store.snapshot_dir(id);
        self.put_work_aside()?;
        let kept = KeptSnapshot { meta, committed: boot::wall_clock() };
        let path = self.dir.join("meta");
        let text = encode(self.store.boot(), &path, &subject(id), &kept)?;
        fs::write(&path, text).map_err(StoreError::io("write", &path))?;
        for _ in 0..3 {
            match self.store.publish_guarded(&self.dir, &to) {
                Ok(()) => {
                    self.store.known_sound(id);
                    tracing::debug!(id = %id.0, "snapshot committed");
                    return self.store.digest_later(to, kept.committed);
                }
                Err(StoreError::Io { source, .. }) if taken(&source) => {
                    // If what lies there is no snapshot, this takes it away.
                    if self.store.usable(id) {
                        return Ok(());
                    }
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

/// Damaged snapshots of lower stores. They cannot be removed, so they count as not there until the process ends: a build that
/// begins again because of one opens its stores anew.
static LOWER_DAMAGED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

impl Store {
    /// The directory with the tree of snapshot `id`, which need not exist; in a lower store if only that has it. Notes that it
    /// is used, so that prune leaves it.
    pub(crate) fn snapshot_fs(&self, id: &SnapshotId) -> PathBuf {
        // Without a run directory only the second day of grace protects the snapshot; a failure to make one will be
        // reported by whatever this run tries to write next.
        drop(self.begin_reading());
        let is_here = || fs::symlink_metadata(self.snapshot_dir(id)).is_ok();
        let holder = match &*self.0.lower {
            [] => self,
            _ if is_here() => self,
            lower => lower.iter().find(|store| store.kept(id).is_some()).unwrap_or(self),
        };
        holder.snapshot_dir(id).join("fs")
    }

    /// Whether the store, or a lower one, has a snapshot of this name. Notes that it was used, for prune.
    ///
    /// Its tree may be damaged: call [`Self::usable`] before reading it. False also when the store cannot be locked.
    ///
    /// *Cost:* one small file and one `stat`; about once a day also a change of that file's modification time.
    pub(crate) fn has_snapshot(&self, id: &SnapshotId) -> bool {
        self.kept_anywhere(id).is_some()
    }

    /// What is known of a snapshot; `None` if there is no such snapshot.
    pub(crate) fn snapshot_meta(&self, id: &SnapshotId) -> Option<SnapshotMeta> {
        self.kept_anywhere(id).map(|(kept, _)| kept.meta)
    }

    /// As [`Self::kept`], also of the lower stores.
    fn kept_anywhere(&self, id: &SnapshotId) -> Option<(KeptSnapshot, bool)> {
        self.kept(id).or_else(|| self.0.lower.iter().find_map(|store| store.kept(id)))
    }

    /// The record of a snapshot, and whether it is known to have been on disk before the system was last started.
    fn kept(&self, id: &SnapshotId) -> Option<(KeptSnapshot, bool)> {
        self.share().ok()?;
        let dir = self.snapshot_dir(id);
        if self.0.is_lower && LOWER_DAMAGED.lock().unwrap_or_else(PoisonError::into_inner).contains(&dir) {
            return None;
        }
        let path = dir.join("meta");
        let (text, used) = read_small(&path).ok()??;
        let decoded = self.decode(&text, &subject(id))?;
        let kept = serde_json::from_slice(decoded.json).ok()?;
        if is_stale(used)
            && !self.0.is_lower
            && let Some(_gate) = self.shared_gate()
        {
            renew(&path);
        }
        dir.join("fs").is_dir().then_some((kept, decoded.survived))
    }

    /// Starts a new snapshot: an empty tree in a temporary directory, which gets its name by [`Active::commit`].
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

    /// Whether a snapshot exists and its tree is as it was committed. Call it before the tree is read or mounted.
    ///
    /// A damaged snapshot is removed, so that it is made again; one of a lower store counts as not there.
    ///
    /// *Cost:* one `stat` for each of its files, once a run; a read of the tree if there is doubt (see the head of this
    /// file).
    pub(crate) fn usable(&self, id: &SnapshotId) -> bool {
        // What is damaged here and cannot be removed hides what lies in a lower store.
        let is_hidden = || fs::symlink_metadata(self.snapshot_dir(id)).is_ok();
        self.own_usable(id) || self.0.lower.iter().any(|store| store.own_usable(id)) && !is_hidden()
    }

    fn own_usable(&self, id: &SnapshotId) -> bool {
        let Some(examined) = FileIdentity::at(&self.snapshot_dir(id)) else { return false };
        let is_known_sound = self.0.sound.lock().unwrap_or_else(PoisonError::into_inner).contains(&id.0);
        // It may have been taken away since.
        if is_known_sound && self.kept(id).is_some() {
            return true;
        }
        let is_sound = self.is_sound(id);
        if is_sound {
            self.known_sound(id);
        } else {
            // What cannot be removed is found damaged again.
            drop(self.drop_snapshot(id, examined));
        }
        is_sound
    }

    fn is_sound(&self, id: &SnapshotId) -> bool {
        let Some((kept, survived)) = self.kept(id) else { return false };
        let dir = self.snapshot_dir(id);
        let record = self.content_record(&dir, kept.committed);
        let checked = record.as_ref().map_or(kept.committed, |(record, _)| record.checked);
        let survived = survived || record.as_ref().is_some_and(|(_, survived)| *survived);
        match changes(&dir.join("fs"), kept.committed, checked) {
            Ok(SnapshotChange::None) if survived => true,
            Ok(SnapshotChange::None | SnapshotChange::Touched(_)) => {
                let Some((record, _)) = record else { return false };
                let found = tree_digest(&dir.join("fs"), &AtomicBool::new(false));
                let is_equal = matches!(found, Ok(Some(content)) if content == record.content);
                if is_equal && !self.0.is_lower {
                    // Where it cannot be written, the next run compares again.
                    drop(self.write_content_record(&dir, kept.committed, record.content));
                }
                is_equal
            }
            Ok(SnapshotChange::Written(_)) | Err(_) => false,
        }
    }

    /// Removes the snapshot that was examined, at once for all others that look for it.
    fn drop_snapshot(&self, id: &SnapshotId, examined: FileIdentity) -> StoreResult<()> {
        self.0.sound.lock().unwrap_or_else(PoisonError::into_inner).remove(&id.0);
        if self.0.is_lower {
            LOWER_DAMAGED.lock().unwrap_or_else(PoisonError::into_inner).insert(self.snapshot_dir(id));
        }
        self.discard(&self.snapshot_dir(id), examined)
    }

    /// The directory of a snapshot, which holds its tree and its record.
    pub(super) fn snapshot_dir(&self, id: &SnapshotId) -> PathBuf {
        self.0.root.join("snapshots").join(id.0.hex())
    }

    fn known_sound(&self, id: &SnapshotId) {
        self.0.sound.lock().unwrap_or_else(PoisonError::into_inner).insert(id.0);
    }
}

/// The subject of the record of a snapshot, which its checksum covers.
pub(super) fn subject(id: &SnapshotId) -> String {
    format!("snapshot {}", id.0.hex())
}

/// Whether a rename failed because something has the name.
fn taken(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(error.kind(), K::DirectoryNotEmpty | K::AlreadyExists | K::NotADirectory | K::IsADirectory)
}

/// What the file times in a tree say about changes since it was committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SnapshotChange {
    None,
    /// The path of an entry that was changed in some way after the tree was last compared with its digest.
    Touched(PathBuf),
    /// The path of an entry whose content was written to after the commit.
    Written(PathBuf),
}

/// Compares the times of the tree at `dir` with those of its commit and of its last comparison with its digest (wall clock
/// nanoseconds).
pub(super) fn changes(dir: &Path, committed: i64, checked: i64) -> io::Result<SnapshotChange> {
    let mut touched = None;
    let mut level = vec![dir.to_owned()];
    while !level.is_empty() {
        let looks: Vec<_> = level.par_iter().map(|dir| look(dir, committed, checked)).collect::<io::Result<_>>()?;
        level.clear();
        for (change, dirs) in looks {
            match change {
                SnapshotChange::None => (),
                SnapshotChange::Touched(path) => touched = touched.or(Some(path)),
                SnapshotChange::Written(_) => return Ok(change),
            }
            level.extend(dirs);
        }
    }
    Ok(touched.map_or(SnapshotChange::None, SnapshotChange::Touched))
}

/// What the times in one directory say, and the directories in it.
fn look(dir: &Path, committed: i64, checked: i64) -> io::Result<(SnapshotChange, Vec<PathBuf>)> {
    let is_written = |meta: &fs::Metadata| committed < mtime(meta) && mtime(meta) <= ctime(meta);
    let too_long = |error: &io::Error| error.raw_os_error() == Some(libc::ENAMETOOLONG);
    let (entries, mut touched) = match fs::symlink_metadata(dir) {
        Ok(meta) if is_written(&meta) => return Ok((SnapshotChange::Written(dir.to_owned()), Vec::new())),
        Ok(meta) => (fs::read_dir(dir)?, (ctime(&meta) > checked).then(|| dir.to_owned())),
        // Deeper than a path can lead: only a step can have made it, and no one gets there by accident.
        Err(error) if too_long(&error) => return Ok((SnapshotChange::None, Vec::new())),
        Err(error) => return Err(error),
    };
    let mut dirs = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            dirs.push(entry.path());
            continue;
        }
        match entry.metadata() {
            Ok(meta) if is_written(&meta) => return Ok((SnapshotChange::Written(entry.path()), Vec::new())),
            Ok(meta) if touched.is_none() && ctime(&meta) > checked => touched = Some(entry.path()),
            Err(error) if !too_long(&error) => return Err(error),
            _ => (),
        }
    }
    Ok((touched.map_or(SnapshotChange::None, SnapshotChange::Touched), dirs))
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
        store.finish_digests();
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
        assert!(fresh().usable(&id("a")));
        tick(home.path());
        fs::OpenOptions::new().write(true).open(&file).unwrap().write_all(b"X").unwrap();
        assert!(!fresh().usable(&id("a")));
        assert!(!store.has_snapshot(&id("a")));
        let again = fresh();
        make(&again, "a", "content");
        tick(home.path());
        fs::remove_file(&file).unwrap();
        assert!(!fresh().usable(&id("a")));
    }

    #[test]
    fn a_change_whose_time_was_put_back_is_noticed_before_the_tree_is_used() {
        let (home, store) = store();
        make(&store, "a", "content");
        tick(home.path());
        let file = store.snapshot_fs(&id("a")).join("f");
        let time = fs::metadata(&file).unwrap().modified().unwrap();
        fs::write(&file, "cOntent").unwrap();
        fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
        let fresh = Store::open(home.path()).unwrap();
        assert!(fresh.has_snapshot(&id("a")));
        assert!(!fresh.usable(&id("a")));
        assert!(!fresh.has_snapshot(&id("a")));
    }

    #[test]
    fn doubt_is_removed_once_by_the_digest_and_without_one_the_snapshot_is_made_again() {
        let (home, store) = store();
        make(&store, "a", "content");
        let dir = store.snapshot_dir(&id("a"));
        tick(home.path());
        fs::hard_link(dir.join("fs/f"), home.path().join("link")).unwrap();
        let record = |store: &Store| {
            let (kept, _) = store.kept(&id("a")).unwrap();
            store.content_record(&dir, kept.committed).unwrap().0
        };
        let before = record(&store);
        assert!(Store::open(home.path()).unwrap().usable(&id("a")));
        let after = record(&store);
        assert!(after.checked > before.checked && after.content == before.content);
        tick(home.path());
        fs::remove_file(home.path().join("link")).unwrap();
        fs::remove_file(crate::store::content::record_path(&dir)).unwrap();
        assert!(!Store::open(home.path()).unwrap().usable(&id("a")));
    }

    #[test]
    fn a_snapshot_of_an_unsynced_boot_is_compared_with_its_digest() {
        for digest in [true, false] {
            let (home, store) = store();
            make(&store, "a", "content");
            let dir = store.snapshot_dir(&id("a"));
            let (kept, _) = store.kept(&id("a")).unwrap();
            let earlier = boot::Boot { id: "0123-ab".to_owned(), started: 0 };
            let path = dir.join("meta");
            fs::write(&path, encode(&earlier, &path, &subject(&id("a")), &kept).unwrap()).unwrap();
            let path = crate::store::content::record_path(&dir);
            let (record, _) = store.content_record(&dir, kept.committed).unwrap();
            if digest {
                let subject = crate::store::content::subject(&dir);
                fs::write(&path, encode(&earlier, &path, &subject, &record).unwrap()).unwrap();
            } else {
                fs::remove_file(&path).unwrap();
            }
            let fresh = Store::open(home.path()).unwrap();
            assert!(fresh.has_snapshot(&id("a")));
            assert_eq!(fresh.usable(&id("a")), digest);
            // What was found sound is known to be of this boot now.
            if digest {
                assert!(fresh.content_record(&dir, kept.committed).unwrap().1);
            }
        }
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
