//! Locks between processes: on files, dropped by the kernel when their process ends, however it ends.

use std::{
    fs::{self, File},
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::FlockOperation;

use super::{Result, Store, failed};
use crate::oci::Digest;

/// The lock of a key; dropping it frees the key.
#[derive(Debug)]
pub(crate) struct KeyLock(#[expect(dead_code, reason = "holds the lock")] File);

/// The folder of a living run.
#[derive(Debug)]
pub(super) struct Alive {
    pub(super) folder: PathBuf,
    _file: File,
}

impl Alive {
    pub(super) fn make(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).map_err(failed("make the folder", folder))?;
        let path = folder.join("alive");
        let file = open(&path)?;
        // The name is ours alone; a second thread of this process opens the file anew and need not lock it.
        drop(rustix::fs::flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive));
        Ok(Self { folder: folder.to_owned(), _file: file })
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.folder));
    }
}

/// Removes the folders of runs that have ended.
pub(super) fn sweep(tmp: &Path) {
    let Ok(entries) = fs::read_dir(tmp) else { return };
    for entry in entries.flatten() {
        let folder = entry.path();
        let Ok(file) = File::open(folder.join("alive")) else {
            // Made this moment, or left between two steps of its making: old ones only are rubbish.
            let old = entry.metadata().ok().and_then(|it| it.modified().ok()?.elapsed().ok());
            if old.is_some_and(|age| age.as_secs() > 60) {
                drop(fs::remove_dir_all(&folder));
            }
            continue;
        };
        if rustix::fs::flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive).is_ok() {
            // Files in it may be of other owners and without permissions; what cannot be removed stays for the next.
            drop(fs::remove_dir_all(&folder));
        }
    }
}

fn open(path: &Path) -> Result<File> {
    File::options().read(true).write(true).create(true).truncate(false).open(path).map_err(failed("open", path))
}

/// A shared lock, waited for.
pub(super) fn shared(path: &Path) -> Result<File> {
    let file = open(path)?;
    rustix::fs::flock(file.as_fd(), FlockOperation::LockShared).map_err(|e| failed("lock", path)(e.into()))?;
    Ok(file)
}

/// An exclusive lock, if nobody holds one.
pub(super) fn exclusive(path: &Path) -> Result<Option<File>> {
    let file = open(path)?;
    match rustix::fs::flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(failed("lock", path)(error.into())),
    }
}

/// Locks a file that may be removed while we wait: then it is not the one others lock.
pub(super) fn lock_path(path: &Path, operation: FlockOperation) -> Result<Option<File>> {
    loop {
        let file = open(path)?;
        match rustix::fs::flock(file.as_fd(), operation) {
            Ok(()) => (),
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(failed("lock", path)(error.into())),
        }
        let ours = file.metadata().map_err(failed("look at", path))?;
        if fs::metadata(path).is_ok_and(|named| named.ino() == ours.ino() && named.dev() == ours.dev()) {
            return Ok(Some(file));
        }
    }
}

impl Store {
    /// Waits until nobody else, in this process or another, works on `key`. Blocks the thread.
    pub(crate) fn lock(&self, key: &Digest) -> Result<KeyLock> {
        let path = self.path(&["locks", &key.hex()]);
        let file = lock_path(&path, FlockOperation::LockExclusive)?;
        Ok(KeyLock(file.expect("a lock that waits is given in the end")))
    }

    /// The lock of `key`, if nobody has it.
    pub(crate) fn try_lock(&self, key: &Digest) -> Result<Option<KeyLock>> {
        let path = self.path(&["locks", &key.hex()]);
        Ok(lock_path(&path, FlockOperation::NonBlockingLockExclusive)?.map(KeyLock))
    }
}
