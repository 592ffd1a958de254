//! Directories of `RUN --mount=type=cache`: they outlive runs and are no part of any result.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use rustix::fs::FlockOperation;

use super::{Result, Store, failed, lock::lock_path};
use crate::oci::{Digest, digest::FieldHasher};

/// Who may use a directory at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    Shared,
    /// A second user gets a directory of its own.
    Private,
    /// A second user waits.
    Locked,
}

/// A directory in use.
#[derive(Debug)]
pub(crate) struct CacheDir {
    pub(crate) path: PathBuf,
    /// Whether this is its first use.
    pub(crate) is_new: bool,
    _lock: Option<File>,
}

/// More private copies of one directory than this are never made: the next user waits.
const MAX_PRIVATE: u64 = 64;

impl Store {
    /// The directory of `key`. Blocks the thread while a locked one is in use.
    pub(crate) fn cache_dir(&self, key: &Digest, sharing: Sharing) -> Result<CacheDir> {
        let place =
            |key: &Digest| (self.path(&["cachemounts", &key.hex()]), self.path(&["locks", &format!("c{}", key.hex())]));
        let (path, lock) = place(key);
        match sharing {
            Sharing::Shared => open(&path, None),
            Sharing::Locked => open(&path, lock_path(&lock, FlockOperation::LockExclusive)?),
            Sharing::Private => {
                for n in 0..MAX_PRIVATE {
                    let mut hasher = FieldHasher::new("cachemount/private/1");
                    hasher.digest(key).number(n);
                    let (path, lock) = if n == 0 { place(key) } else { place(&hasher.finish()) };
                    if let Some(held) = lock_path(&lock, FlockOperation::NonBlockingLockExclusive)? {
                        return open(&path, Some(held));
                    }
                }
                open(&path, lock_path(&lock, FlockOperation::LockExclusive)?)
            }
        }
    }
}

fn open(path: &Path, lock: Option<File>) -> Result<CacheDir> {
    let is_new = match fs::create_dir(path) {
        Ok(()) => true,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => false,
        Err(error) => return Err(failed("make the folder", path)(error)),
    };
    Ok(CacheDir { path: path.to_owned(), is_new, _lock: lock })
}
