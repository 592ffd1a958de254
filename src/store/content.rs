//! The digest of a snapshot's tree, and the thread that computes it for new snapshots.
//!
//! The digest is what tells a snapshot whose bytes changed silently (a failing disk, a program that put the time back, a
//! lost write) from a sound one. It is not computed when the snapshot is committed: that would make each step wait for a
//! read of what it has just written. One thread of low priority computes it while the run goes on, from the page cache;
//! the run waits at its end for what is left. A process that dies before leaves a snapshot without a digest, which
//! `verify` computes.
//!
//! Where `snapshots/HEX/digest` stands beside `meta`, and not in it, no file is replaced, and so no inode is freed: ext4
//! makes the next step pay for each inode that was freed a moment ago.

use std::{
    collections::HashMap,
    ffi::OsString,
    fs::{self, File},
    io::{self, Read as _},
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
};

use rustix::{
    fs::{AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, Stat},
    io::Errno,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    boot::{self, Boot},
    error::{StoreError, StoreResult},
    record::{encode, read_small},
    run::lock_file,
    state::Store,
};
use crate::oci::{Digest, digest::FieldHasher};

/// The stored digest of a snapshot's tree, kept beside the tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ContentRecord {
    /// When the snapshot was committed, wall clock nanoseconds: a record of another snapshot that had the name says nothing.
    pub(super) committed: i64,
    pub(super) content: Digest,
    /// When the tree last had this digest, wall clock nanoseconds.
    pub(super) checked: i64,
}

/// The file of the content record in the directory of a snapshot.
pub(super) fn record_path(dir: &Path) -> PathBuf {
    dir.join("digest")
}

/// The subject of the content record of the snapshot in `dir`, which its checksum covers.
pub(super) fn subject(dir: &Path) -> String {
    format!("content {}", dir.file_name().unwrap_or_default().to_string_lossy())
}

/// Digests that may wait; then commits of snapshots wait too.
const WAITING: usize = 1024;

/// The thread that computes the digests of one run's snapshots. Dropped, it skips those that wait.
pub(super) struct DigestQueue {
    sender: Option<SyncSender<DigestJob>>,
    thread: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

struct DigestJob {
    /// The directory of the snapshot.
    dir: PathBuf,
    committed: i64,
}

/// Where and how records of digests are written. Holds no [`Store`], whose end must not wait for this.
struct ContentWriter {
    /// `$BAKE_HOME/v1`.
    root: PathBuf,
    boot: Boot,
    /// Inside `tmp/RUN`.
    fresh: PathBuf,
}

impl Store {
    /// Has the digest of a new snapshot computed in the background, by a thread of low priority.
    pub(super) fn digest_later(&self, dir: PathBuf, committed: i64) -> StoreResult<()> {
        let sender = {
            let mut queue = self.0.digests.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if queue.is_none() {
                *queue = DigestQueue::start(self.content_writer()?);
            }
            queue.as_ref().and_then(|queue| queue.sender.clone())
        };
        if let Some(sender) = sender {
            // Without the thread the digest is left to `verify`.
            drop(sender.send(DigestJob { dir, committed }));
        }
        Ok(())
    }

    /// Waits until every new snapshot has its digest.
    pub(crate) fn finish_digests(&self) {
        let queue = self.0.digests.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(mut queue) = queue {
            queue.join();
        }
    }

    /// Reads the content record of the snapshot in `dir` that was committed at `committed`, and whether it is known to
    /// have been on disk; `None` if there is no such record.
    pub(super) fn content_record(&self, dir: &Path, committed: i64) -> Option<(ContentRecord, bool)> {
        let (text, _) = read_small(&record_path(dir)).ok()??;
        let decoded = self.decode(&text, &subject(dir))?;
        let record: ContentRecord = serde_json::from_slice(decoded.json).ok()?;
        (record.committed == committed).then_some((record, decoded.survived))
    }

    /// Writes the content record of the snapshot in `dir`: its tree has this digest now.
    pub(super) fn write_content_record(&self, dir: &Path, committed: i64, content: Digest) -> StoreResult<()> {
        self.content_writer()?.write(dir, &ContentRecord { committed, content, checked: boot::wall_clock() })
    }

    fn content_writer(&self) -> StoreResult<ContentWriter> {
        let boot = Boot { id: self.boot().id.clone(), started: self.boot().started };
        Ok(ContentWriter { root: self.0.root.clone(), boot, fresh: self.fresh()? })
    }
}

impl DigestQueue {
    /// `None` if no thread can be started.
    fn start(writer: ContentWriter) -> Option<Self> {
        let (sender, receiver) = sync_channel(WAITING);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("digests".to_owned());
        let thread = thread.spawn(move || compute_all(&writer, &receiver, &stopped)).ok()?;
        Some(Self { sender: Some(sender), thread: Some(thread), stop })
    }

    fn join(&mut self) {
        drop(self.sender.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has cost a digest, which `verify` makes.
            drop(thread.join());
        }
    }
}

impl Drop for DigestQueue {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.join();
    }
}

fn compute_all(writer: &ContentWriter, jobs: &Receiver<DigestJob>, stop: &AtomicBool) {
    // On Linux this is about the calling thread alone. It steps back for those that someone waits for.
    rustix::process::nice(10).ok();
    for DigestJob { dir, committed } in jobs {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        if let Ok(Some(content)) = tree_digest(&dir.join("fs"), stop) {
            // A digest that cannot be kept is left to `verify`.
            drop(writer.write(&dir, &ContentRecord { committed, content, checked: boot::wall_clock() }));
        }
    }
}

impl ContentWriter {
    fn write(&self, dir: &Path, record: &ContentRecord) -> StoreResult<()> {
        let path = record_path(dir);
        let text = encode(&self.boot, &path, &subject(dir), record)?;
        fs::write(&self.fresh, text).map_err(StoreError::io("write", &path))?;
        // So that the snapshot is not taken away meanwhile. Another one of its name would have another time of commit.
        let _gate = lock_file(&self.root.join("touch.lock"), FlockOperation::LockShared)?;
        match fs::rename(&self.fresh, &path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(StoreError::io("write", &path)),
        }
    }
}

/// A directory that is still to be read, and the path to it from the root of the tree.
type PendingDir = Vec<OsString>;

/// Hashes a snapshot's tree, to find silent damage: two trees of equal digest have the same names, metadata and
/// content.
///
/// It covers the root itself, and for each name: kind, mode, owner, modification time in whole seconds, and the data of
/// a file, the text of a link or the number of a device; of directories and files also the extended attributes
/// `user.*`, `security.capability` and `trusted.overlay.opaque`. Not covered: nanoseconds, which archives that move
/// caches between machines often drop, and whether two names are hard links of one file. Returns `None` as soon as
/// `stop` is set.
///
/// *Cost:* a read of every file (of one with several names once).
pub(super) fn tree_digest(root: &Path, stop: &AtomicBool) -> io::Result<Option<Digest>> {
    let root = rustix::fs::open(root, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut hasher = FieldHasher::new("tree-content/1");
    let mut buffer = vec![0; 256 << 10];
    // Files with several names are read once: an image may have hundreds of hard links to one large program.
    let mut linked: HashMap<(u64, u64), Digest> = HashMap::new();
    let mut pending: Vec<PendingDir> = vec![Vec::new()];
    while let Some(path) = pending.pop() {
        let dir = open_below(&root, &path)?;
        hasher.number(path.len() as u64);
        hasher.bytes(path.last().map_or(b"", |name| name.as_bytes()));
        add_metadata(&mut hasher, &rustix::fs::fstat(&dir)?);
        add_xattrs(&mut hasher, &dir)?;
        let mut dirs = Vec::new();
        for name in sorted_names(&dir)? {
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let stat = rustix::fs::statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW)?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    let mut inner = path.clone();
                    inner.push(name);
                    dirs.push(inner);
                    continue;
                }
                FileType::RegularFile => {
                    add_entry(&mut hasher, &name, &stat);
                    let inode = (stat.st_dev, stat.st_ino);
                    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                    let file = rustix::fs::openat(&dir, &name, flags, Mode::empty())?;
                    add_xattrs(&mut hasher, &file)?;
                    let content = match linked.get(&inode) {
                        Some(content) => *content,
                        None => content_digest(&mut File::from(file), &mut buffer)?,
                    };
                    if stat.st_nlink > 1 {
                        linked.insert(inode, content);
                    }
                    hasher.digest(&content);
                }
                FileType::Symlink => {
                    add_entry(&mut hasher, &name, &stat);
                    hasher.bytes(rustix::fs::readlinkat(&dir, &name, Vec::new())?.as_bytes());
                }
                _ => {
                    add_entry(&mut hasher, &name, &stat);
                    hasher.number(stat.st_rdev);
                }
            }
        }
        dirs.reverse();
        pending.append(&mut dirs);
    }
    Ok(Some(hasher.finish()))
}

/// Opens a directory by names from `root`; no link is followed and no path is too long.
fn open_below(root: &OwnedFd, names: &[OsString]) -> io::Result<OwnedFd> {
    /// So many names fit into a path that the kernel takes.
    const AT_ONCE: usize = 15;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut at = rustix::fs::openat(root, ".", flags, Mode::empty())?;
    for part in names.chunks(AT_ONCE) {
        at = rustix::fs::openat(&at, part.iter().collect::<PathBuf>(), flags, Mode::empty())?;
    }
    Ok(at)
}

fn sorted_names(dir: &OwnedFd) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let name = entry?.file_name().to_bytes().to_owned();
        if !matches!(name.as_slice(), b"." | b"..") {
            names.push(OsString::from_vec(name));
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The name and metadata of what is no directory.
fn add_entry(hasher: &mut FieldHasher, name: &OsString, stat: &Stat) {
    hasher.bytes(name.as_bytes());
    add_metadata(hasher, stat);
}

fn add_metadata(hasher: &mut FieldHasher, stat: &Stat) {
    // The mode has the kind in it.
    hasher.number(stat.st_mode.into()).number(stat.st_uid.into()).number(stat.st_gid.into());
    #[expect(clippy::useless_conversion, reason = "the type of the field depends on the architecture")]
    hasher.number(i64::from(stat.st_mtime).cast_unsigned());
}

/// The attributes that are packed into layers, and those with which overlayfs marks directories.
fn add_xattrs(hasher: &mut FieldHasher, file: &impl AsFd) -> io::Result<()> {
    // An empty buffer would be answered with 0, not with the length: most lists fit into this one.
    let mut list = vec![0_u8; 512];
    let length = match grow(&mut list, |list| rustix::fs::flistxattr(file, list)) {
        Err(Errno::NOTSUP) => 0,
        other => other?,
    };
    let mut names: Vec<&[u8]> = list[..length].split(|byte| *byte == 0).filter(|name| is_hashed(name)).collect();
    names.sort_unstable();
    hasher.number(names.len() as u64);
    let mut value = vec![0_u8; 64];
    for name in names {
        let size = grow(&mut value, |value| rustix::fs::fgetxattr(file, std::ffi::OsStr::from_bytes(name), value))?;
        hasher.bytes(name).bytes(&value[..size]);
    }
    Ok(())
}

/// Reads into a buffer, which becomes as large as Linux lets lists and values of attributes be (xattr(7)) if it is too small.
fn grow(
    buffer: &mut Vec<u8>,
    mut read: impl FnMut(&mut [u8]) -> rustix::io::Result<usize>,
) -> rustix::io::Result<usize> {
    const LARGEST: usize = 64 << 10;
    match read(buffer) {
        Err(Errno::RANGE) if buffer.len() < LARGEST => {
            buffer.resize(LARGEST, 0);
            read(buffer)
        }
        other => other,
    }
}

fn is_hashed(name: &[u8]) -> bool {
    name == b"security.capability" || name.starts_with(b"user.") || name == b"trusted.overlay.opaque"
}

/// Hashes what is left to read of a file.
pub(super) fn content_digest(file: &mut File, buffer: &mut [u8]) -> io::Result<Digest> {
    let mut hasher = Sha256::new();
    loop {
        match file.read(buffer) {
            Ok(0) => return Ok(Digest::from_raw(hasher.finalize().into())),
            Ok(n) => hasher.update(&buffer[..n]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn digest(root: &Path) -> Digest {
        tree_digest(root, &AtomicBool::new(false)).unwrap().unwrap()
    }

    /// A tree whose times do not depend on the clock.
    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        fs::write(dir.path().join("a/f"), "content").unwrap();
        fs::write(dir.path().join("b"), "").unwrap();
        symlink("b", dir.path().join("link")).unwrap();
        dir
    }

    #[test]
    fn everything_that_a_layer_takes_changes_the_digest() {
        let dir = tree();
        let (file, before) = (dir.path().join("a/f"), digest(dir.path()));
        let time = fs::metadata(&file).unwrap().modified().unwrap();
        assert_eq!(digest(dir.path()), before);
        fs::write(&file, "cOntent").unwrap();
        File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
        let changed = digest(dir.path());
        assert_ne!(changed, before);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let mode = digest(dir.path());
        assert_ne!(mode, changed);
        File::options()
            .write(true)
            .open(&file)
            .unwrap()
            .set_modified(time - std::time::Duration::from_secs(9))
            .unwrap();
        assert_ne!(digest(dir.path()), mode);
    }

    #[test]
    fn names_do_not_run_together_with_the_folders_they_are_in() {
        let digests: Vec<Digest> = ["a/b/c", "a/bc", "ab/c"]
            .iter()
            .map(|path| {
                let dir = tempfile::tempdir().unwrap();
                fs::create_dir_all(dir.path().join(path)).unwrap();
                digest(dir.path())
            })
            .collect();
        assert!(digests[0] != digests[1] && digests[1] != digests[2] && digests[0] != digests[2]);
    }

    #[test]
    fn trees_deeper_than_any_path_have_a_digest() {
        let dir = tempfile::tempdir().unwrap();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let mut at = rustix::fs::open(dir.path(), flags, Mode::empty()).unwrap();
        for _ in 0..600 {
            rustix::fs::mkdirat(&at, "a-long-name-of-a-directory", Mode::RWXU).unwrap();
            at = rustix::fs::openat(&at, "a-long-name-of-a-directory", flags, Mode::empty()).unwrap();
        }
        let before = digest(dir.path());
        drop(rustix::fs::openat(&at, "f", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap());
        assert_ne!(digest(dir.path()), before);
        // `TempDir` cannot remove it.
        crate::store::remove::remove_tree(dir.path()).unwrap();
    }
}
