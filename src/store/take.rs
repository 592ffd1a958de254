//! Taking things out of the state directory while other processes may be using it. Why this is safe is argued in `mod.rs`.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use rustix::fs::FlockOperation;

use super::{
    boot,
    entries::{UsageKind, last_used},
    error::{StoreError, StoreResult},
    lock,
    remove::{FileIdentity, remove_tree},
    run::{flock_retry, lock_file, oldest_live},
    state::{STALE, Store},
};

/// One thing that prune or verify wants to take away.
pub(super) struct TakeRequest<'a> {
    pub(super) kind: UsageKind,
    pub(super) path: &'a Path,
    /// When it was last used as far as is known, wall clock nanoseconds.
    pub(super) used: i64,
    /// What was examined, if the thing is to go because of what it contains.
    pub(super) examined: Option<FileIdentity>,
}

/// The right to take things out of the store, with the locks that it needs.
pub(super) struct Taking<'a> {
    store: &'a Store,
    /// What was used at this time (wall clock nanoseconds) or later may be in use by a running build.
    safe_before: i64,
    trash: PathBuf,
}

impl Store {
    /// Runs `work` with the right to take things away, and removes what it took after the locks are released.
    pub(super) fn with_taking<T>(&self, work: impl FnOnce(&Taking<'_>) -> StoreResult<T>) -> StoreResult<T> {
        let trash = self.tmp_dir()?;
        let shared = self.0.shared.get();
        // Our own shared lock becomes exclusive if no one else holds one.
        let is_alone = shared.is_none_or(|file| flock_retry(file, FlockOperation::NonBlockingLockExclusive).is_ok());
        if !is_alone {
            // A failed conversion may have lost the lock.
            self.lock_shared_again(shared)?;
        }
        let safe_before = if is_alone { i64::MAX } else { self.unused_by_runs()? };
        let done = work(&Taking { store: self, safe_before, trash: trash.clone() });
        if is_alone {
            lock::sweep(&self.path("locks"));
            self.lock_shared_again(shared)?;
        }
        let done = done?;
        remove_tree(&trash).map_err(StoreError::io("remove", &trash))?;
        Ok(done)
    }

    fn lock_shared_again(&self, shared: Option<&File>) -> StoreResult<()> {
        let lock = |file| flock_retry(file, FlockOperation::LockShared);
        shared.map_or(Ok(()), lock).map_err(StoreError::io("lock", &self.path("store.lock")))
    }

    /// Everything last used before this cannot be in use by a run that lives, unless the use is renewed.
    fn unused_by_runs(&self) -> StoreResult<i64> {
        let now = boot::wall_clock();
        let oldest = oldest_live(&self.path("tmp"), self.begin()?).unwrap_or(now);
        Ok(oldest.min(now) - 2 * STALE)
    }
}

impl Taking<'_> {
    /// Takes one thing out of the store; `false` if it may be in use, or was used since it was listed, and so stays.
    pub(super) fn take(&self, request: &TakeRequest<'_>) -> StoreResult<bool> {
        let TakeRequest { kind, path, used, examined } = *request;
        // Records may go at any time: then they are misses.
        if kind != UsageKind::Record && used >= self.safe_before {
            return Ok(false);
        }
        let _gate = self.store.exclusive_gate()?;
        if last_used(kind, path).is_some_and(|now| now > used) {
            return Ok(false);
        }
        if examined.is_some() && FileIdentity::at(path) != examined {
            // Another process has replaced or removed it: what was examined is gone.
            return Ok(true);
        }
        let _mount = if kind == UsageKind::CacheMount {
            match lock_file(&path.with_extension("lock"), FlockOperation::NonBlockingLockExclusive) {
                Ok(lock) => Some(lock),
                Err(error) if lock::would_block(&error) => return Ok(false),
                Err(error) => return Err(error),
            }
        } else {
            None
        };
        // Names of different tables and kinds may be equal, and so may those of parts of a table.
        let to = self.trash.join(self.store.fresh()?.file_name().unwrap_or_default());
        match fs::rename(path, &to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", path)(error)),
            _ => Ok(true),
        }
    }
}
