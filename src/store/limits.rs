//! How much room the store may take, and keeping it so after a run that wrote. What goes first is for `prune.rs`.

use super::{
    error::{StoreError, StoreResult},
    prune::{PruneOptions, Pruned},
    state::Store,
};

/// Limits of room, in bytes, as `docker buildx prune` and `buildkitd.toml` have them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SpaceLimits {
    /// The store takes at most this much.
    pub(crate) max_used: Option<u64>,
    /// This much may always stay, whatever the other limits say.
    pub(crate) reserved: Option<u64>,
    /// This much of the file system is to be free.
    pub(crate) min_free: Option<u64>,
}

/// Room on a file system, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct DiskSpace {
    pub(super) size: u64,
    /// What this user may still write.
    pub(super) free: u64,
}

impl SpaceLimits {
    /// How much of `total` bytes may stay where `free` bytes are free; `None` if there is no limit.
    pub(super) fn keep(self, total: u64, free: u64) -> Option<u64> {
        let Self { max_used, reserved, min_free } = self;
        let most = match (max_used, min_free) {
            (None, None) => reserved?,
            (max_used, _) => max_used.unwrap_or(total),
        };
        let missing = min_free.unwrap_or(0).saturating_sub(free);
        Some(most.min(total.saturating_sub(missing)).max(reserved.unwrap_or(0)))
    }

    /// These limits, and where none is set those that keep a disk from filling up: a twentieth of it, at most 10 GiB, is to
    /// be free, and as much may stay in the store.
    fn or_default(self, disk: DiskSpace) -> Self {
        let share = (disk.size / 20).min(10 << 30);
        let is_set = self.max_used.is_some() || self.reserved.is_some();
        let free = self.min_free.or(if is_set { None } else { Some(share) });
        Self { min_free: free, reserved: self.reserved.or(Some(share).filter(|_| !is_set)), ..self }
    }
}

impl Store {
    /// Removes what was not used for the longest time until the limits hold; `None` if they do, or nothing was written by
    /// this run.
    ///
    /// *Cost:* one look at the file system; walks every tree if there is a limit of the store's own size, or the file system
    /// is too full.
    pub(crate) fn keep_within(&self, limits: SpaceLimits) -> StoreResult<Option<Pruned>> {
        if !self.has_written() {
            return Ok(None);
        }
        let disk = self.disk_space()?;
        let limits = limits.or_default(disk);
        let is_full = limits.min_free.is_some_and(|wanted| wanted > disk.free);
        if !is_full && limits.max_used.is_none() && (limits.min_free.is_some() || limits.reserved.is_none()) {
            return Ok(None);
        }
        let pruned = self.prune(&PruneOptions { space: limits, ..PruneOptions::default() })?;
        Ok(Some(pruned).filter(|pruned| !pruned.items.is_empty()))
    }

    /// The room on the file system of the store.
    pub(super) fn disk_space(&self) -> StoreResult<DiskSpace> {
        let root = &self.0.root;
        let found =
            rustix::fs::statvfs(root).map_err(|error| StoreError::io("look at", root)(std::io::Error::from(error)))?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        Ok(DiskSpace { size: bytes(found.f_blocks), free: bytes(found.f_bavail) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_say_how_much_stays() {
        let limits = |max_used, reserved, min_free| SpaceLimits { max_used, reserved, min_free };
        assert_eq!(limits(None, None, None).keep(100, 5), None);
        assert_eq!(limits(Some(40), None, None).keep(100, 5), Some(40));
        assert_eq!(limits(None, Some(30), None).keep(100, 5), Some(30));
        assert_eq!(limits(None, None, Some(25)).keep(100, 5), Some(80));
        assert_eq!(limits(None, None, Some(5)).keep(100, 5), Some(100));
        assert_eq!(limits(Some(90), Some(85), Some(25)).keep(100, 5), Some(85));
        assert_eq!(limits(Some(40), Some(85), None).keep(100, 5), Some(85));
        assert_eq!(limits(None, None, Some(500)).keep(100, 5), Some(0));
    }

    #[test]
    fn without_limits_only_a_full_disk_counts() {
        let disk = DiskSpace { size: 2000, free: 50 };
        let found = SpaceLimits::default().or_default(disk);
        assert_eq!(found, SpaceLimits { max_used: None, reserved: Some(100), min_free: Some(100) });
        let set = SpaceLimits { max_used: Some(7), ..SpaceLimits::default() };
        assert_eq!(set.or_default(disk), set);
        let off = SpaceLimits { min_free: Some(0), ..SpaceLimits::default() };
        assert_eq!(off.or_default(disk).min_free, Some(0));
    }
}
