//! One worker per key over all processes: `locks/HEX`, held while a thing is made. The loser waits, then finds the result.
//!
//! The file is removed by who releases it, still holding the lock; who got the lock of a removed file sees that the name
//! leads elsewhere and tries again.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::fs::FlockOperation;

use super::{
    error::{StoreError, StoreResult},
    run::{flock_retry, lock_file},
    state::Store,
};
use crate::oci::Digest;

/// The lock of one key, held until it is dropped or the process ends.
#[derive(Debug)]
pub(crate) struct KeyLock {
    path: PathBuf,
    _file: File,
}

impl Drop for KeyLock {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.path));
    }
}

impl Store {
    /// Locks a key, waiting until no other holder is left, in this process or another. *Blocks the thread.*
    pub(crate) fn lock(&self, key: &Digest) -> StoreResult<KeyLock> {
        self.begin()?;
        let path = self.path("locks").join(key.hex());
        loop {
            let file = lock_file(&path, FlockOperation::LockExclusive)?;
            if still_named(&file, &path) {
                return Ok(KeyLock { path, _file: file });
            }
        }
    }

    /// Locks a key if it is free; `None` at once if another holds it.
    pub(crate) fn try_lock(&self, key: &Digest) -> StoreResult<Option<KeyLock>> {
        self.begin()?;
        let path = self.path("locks").join(key.hex());
        loop {
            match lock_file(&path, FlockOperation::NonBlockingLockExclusive) {
                Ok(file) if still_named(&file, &path) => return Ok(Some(KeyLock { path, _file: file })),
                Ok(_) => (),
                Err(error) if would_block(&error) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Whether an error of [`lock_file`] says that another holds the lock.
pub(super) fn would_block(error: &StoreError) -> bool {
    matches!(error, StoreError::Io { source, .. } if source.kind() == io::ErrorKind::WouldBlock)
}

/// Removes lock files that no one holds: those of killed processes.
pub(super) fn sweep(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(file) = File::open(entry.path()) else { continue };
        if flock_retry(&file, FlockOperation::NonBlockingLockExclusive).is_ok() && still_named(&file, &entry.path()) {
            drop(fs::remove_file(entry.path()));
        }
    }
}

/// Whether `path` still leads to the open file.
pub(super) fn still_named(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(ours), Ok(named)) => ours.dev() == named.dev() && ours.ino() == named.ino(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn only_one_holder_at_a_time_over_many_stores_on_one_directory() {
        let home = tempfile::tempdir().unwrap();
        let key = Digest::of(b"key");
        let inside = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let store = Store::open(home.path()).unwrap();
                    for _ in 0..50 {
                        let held = store.lock(&key).unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(held);
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(home.path().join("v1/locks")).unwrap().count(), 0);
    }

    #[test]
    fn try_lock_gives_none_while_held() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let key = Digest::of(b"key");
        let held = store.lock(&key).unwrap();
        assert!(store.try_lock(&key).unwrap().is_none());
        drop(held);
        assert!(store.try_lock(&key).unwrap().is_some());
    }

    #[test]
    fn a_directory_in_place_of_a_lock_file_is_no_obstacle() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let key = Digest::of(b"key");
        fs::create_dir_all(home.path().join("v1/locks").join(key.hex())).unwrap();
        drop(store.lock(&key).unwrap());
    }
}
