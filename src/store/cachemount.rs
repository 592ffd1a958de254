//! The directories of `RUN --mount=type=cache`. One key has several of them where users that want one alone met.

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use rustix::fs::FlockOperation;

use super::{
    error::{StoreError, StoreResult},
    lock::would_block,
    record::renew,
    remove::remove_tree,
    run::{lock_file, make_dir},
    state::{Store, is_stale, mtime},
};
use crate::oci::Digest;

/// Who may use a cache mount at the same time (`sharing=` of `RUN --mount=type=cache`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MountSharing {
    /// Anyone.
    Shared,
    /// No one; a second user gets a directory of its own.
    Private,
    /// No one; a second user waits.
    Locked,
}

/// The directory of a cache mount in use; it is free for others when dropped.
#[derive(Debug)]
pub(crate) struct CacheDir {
    pub(crate) path: PathBuf,
    /// This is its first use.
    pub(crate) is_new: bool,
    _lock: File,
}

impl Store {
    /// The cache directory of `key`, empty when it is new.
    #[cfg(test)]
    pub(crate) fn cache_dir(&self, key: &Digest, sharing: MountSharing) -> StoreResult<CacheDir> {
        self.cache_dir_with(key, sharing, |_| Ok::<_, StoreError>(()))
    }

    /// Sets the directories of a cache mount aside, so that the next user starts with an empty one.
    ///
    /// Who uses one at this moment goes on with it; it is removed after this run.
    pub(crate) fn forget_cache_dir(&self, key: &Digest) -> StoreResult<()> {
        let dir = self.path("cachemounts").join(key.hex());
        if dir.is_dir() {
            self.begin()?;
            let aside = self.tmp_dir()?.join("old");
            fs::rename(&dir, aside).map_err(StoreError::io("set aside", &dir))?;
        }
        Ok(())
    }

    /// The cache directory of `key`; `seed` fills one that is new, before anyone else sees it. *Blocks the thread* while a
    /// locked one is in use.
    pub(crate) fn cache_dir_with<E: From<StoreError>>(
        &self,
        key: &Digest,
        sharing: MountSharing,
        seed: impl FnOnce(&Path) -> std::result::Result<(), E>,
    ) -> std::result::Result<CacheDir, E> {
        self.begin()?;
        let dir = self.path("cachemounts").join(key.hex());
        let (n, lock) = choose(&dir, sharing)?;
        let path = dir.join(n.to_string()).join("fs");
        let mut is_new = false;
        if !path.is_dir() {
            // Another shared user may be here too.
            let _seeding = lock_file(&dir.join(format!("{n}.seed")), FlockOperation::LockExclusive)?;
            if !path.is_dir() {
                is_new = true;
                let fresh = self.tmp_dir()?;
                let new = fresh.join("fs");
                make_dir(&new)?;
                let mode = fs::Permissions::from_mode(0o755);
                fs::set_permissions(&new, mode).map_err(StoreError::io("set the mode of", &new))?;
                let seeded = seed(&new);
                let published = seeded.and_then(|()| {
                    remove_tree(&dir.join(n.to_string())).map_err(StoreError::io("remove", &path))?;
                    Ok(self.publish(&fresh, &dir.join(n.to_string()))?)
                });
                if let Err(error) = published {
                    drop(remove_tree(&fresh));
                    return Err(error);
                }
            }
        }
        Ok(CacheDir { path, is_new, _lock: lock })
    }
}

/// The number and lock of the directory to use.
fn choose(dir: &Path, sharing: MountSharing) -> StoreResult<(u32, File)> {
    let take = |n: u32, how| -> StoreResult<File> {
        let path = dir.join(format!("{n}.lock"));
        let file = lock_file(&path, how)?;
        if file.metadata().is_ok_and(|meta| is_stale(mtime(&meta))) {
            renew(&path);
        }
        Ok(file)
    };
    let how = match sharing {
        MountSharing::Locked => return Ok((0, take(0, FlockOperation::LockExclusive)?)),
        MountSharing::Shared => FlockOperation::NonBlockingLockShared,
        MountSharing::Private => FlockOperation::NonBlockingLockExclusive,
    };
    let mut n = 0;
    loop {
        match take(n, how) {
            Err(error) if would_block(&error) && n < 10_000 => n += 1,
            other => return Ok((n, other?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        (home, store)
    }

    #[test]
    fn shared_users_get_one_directory_and_private_ones_their_own() {
        let (_home, store) = store();
        let key = Digest::of(b"cache");
        let a = store.cache_dir(&key, MountSharing::Shared).unwrap();
        let b = store.cache_dir(&key, MountSharing::Shared).unwrap();
        assert_eq!(a.path, b.path);
        let c = store.cache_dir(&key, MountSharing::Private).unwrap();
        assert_ne!(a.path, c.path);
        fs::write(c.path.join("x"), "kept").unwrap();
        let own = c.path.clone();
        drop(c);
        let again = store.cache_dir(&key, MountSharing::Private).unwrap();
        assert_eq!(again.path, own);
        assert_eq!(fs::read_to_string(again.path.join("x")).unwrap(), "kept");
    }

    #[test]
    fn a_locked_directory_is_used_by_one_at_a_time() {
        let (home, _store) = store();
        let key = Digest::of(b"cache");
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    let store = Store::open(home.path()).unwrap();
                    let dir = store.cache_dir(&key, MountSharing::Locked).unwrap();
                    fs::create_dir(dir.path.join("mine")).unwrap();
                    fs::remove_dir(dir.path.join("mine")).unwrap();
                });
            }
        });
    }

    #[test]
    fn a_new_directory_is_seeded_once_and_a_failed_seed_leaves_none() {
        let (_home, store) = store();
        let key = Digest::of(b"cache");
        let failed = |_: &Path| Err(StoreError::Missing { digest: key });
        assert!(store.cache_dir_with(&key, MountSharing::Shared, failed).is_err());
        let seed = |dir: &Path| fs::write(dir.join("seeded"), "x").map_err(StoreError::io("write", dir));
        let dir = store.cache_dir_with(&key, MountSharing::Shared, seed).unwrap();
        assert!(dir.path.join("seeded").exists());
        drop(dir);
        store.cache_dir_with(&key, MountSharing::Shared, failed).unwrap();
    }
}
