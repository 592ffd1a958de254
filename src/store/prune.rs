//! What takes room, and removing it: the least recently used first. How things are taken while builds run is in `take.rs`.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    boot,
    entries::{UsageKind, last_used, list, list_records, name_digest},
    error::StoreResult,
    failed,
    limits::SpaceLimits,
    state::Store,
    step_log,
    take::TakeRequest,
};
use crate::oci::Digest;

/// One thing in the store that takes room.
#[derive(Clone, Debug)]
pub(crate) struct UsedItem {
    pub(crate) kind: UsageKind,
    pub(crate) bytes: u64,
    /// Seconds since 1970, to about a day.
    pub(crate) last_used: i64,
    /// A record leads to it, so that it may be used again.
    pub(crate) named: bool,
    path: PathBuf,
    /// Nanoseconds; its own, not that of the record that leads to it.
    used: i64,
}

/// Everything in the store that takes room: what no record leads to first, then the least recently used.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) items: Vec<UsedItem>,
}

impl UsedItem {
    /// The name in its folder: the digits of a digest, or of a key.
    pub(crate) fn name(&self) -> &str {
        self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }
}

impl Usage {
    /// The sum of all sizes, in bytes.
    pub(crate) fn total(&self) -> u64 {
        self.items.iter().map(|item| item.bytes).sum()
    }

    /// What of it the options choose, whatever the limits.
    pub(crate) fn only(self, options: &PruneOptions) -> Self {
        Self { items: wanted(self, options, None) }
    }
}

/// The choice of what prune removes. Without any option: only what no record leads to.
#[derive(Clone, Debug, Default)]
pub(crate) struct PruneOptions {
    /// Everything, cache mounts too.
    pub(crate) all: bool,
    /// What was not used for so long.
    pub(crate) older_than: Option<Duration>,
    /// Only things of these kinds; empty: of all.
    pub(crate) kinds: Vec<UsageKind>,
    /// Only so much that these limits hold, the least recently used first.
    pub(crate) space: SpaceLimits,
}

/// The result of pruning: what was removed, and what stayed because a running build may use it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pruned {
    pub(crate) items: Vec<UsedItem>,
    pub(crate) bytes: u64,
    pub(crate) n_records: usize,
    /// Things that were asked for and stay because builds are running that may use them.
    pub(crate) in_use: usize,
    /// Because of such builds nothing was removed.
    pub(crate) busy: bool,
}

impl Store {
    /// Lists everything in the store that takes room. *Cost:* walks every tree.
    pub(crate) fn usage(&self) -> Usage {
        drop(self.share());
        let mut items = Vec::new();
        let records = list_records(&self.path("index"));
        let named = named(&records);
        items.extend(records.iter().filter_map(|path| item(UsageKind::Record, path)));
        for (kind, folder) in [
            (UsageKind::Record, "stat"),
            (UsageKind::Blob, "blobs/sha256"),
            (UsageKind::Snapshot, "snapshots"),
            (UsageKind::Git, "git"),
            (UsageKind::Log, step_log::FOLDER),
            (UsageKind::Failed, failed::FOLDER),
        ] {
            items.extend(list(&self.path(folder)).iter().filter_map(|path| item(kind, path)));
        }
        for key in list(&self.path("cachemounts")) {
            let mounts = list(&key).into_iter().filter(|path| path.extension().is_none());
            items.extend(mounts.filter_map(|path| item(UsageKind::CacheMount, &path)));
        }
        for item in &mut items {
            let by_record = name_digest(&item.path).and_then(|name| named.get(&name));
            item.named =
                by_record.is_some() || !matches!(item.kind, UsageKind::Snapshot | UsageKind::Blob | UsageKind::Failed);
            item.last_used = item.used.max(by_record.copied().unwrap_or(i64::MIN)) / 1_000_000_000;
        }
        // What a build has just kept for the user does not go before all else.
        let goes_late = |item: &UsedItem| item.named || item.kind == UsageKind::Failed;
        items.sort_by(|a, b| (goes_late(a), a.last_used, &a.path).cmp(&(goes_late(b), b.last_used, &b.path)));
        Usage { items }
    }

    /// Removes what `options` choose, except what a running build can be using.
    pub(crate) fn prune(&self, options: &PruneOptions) -> StoreResult<Pruned> {
        if !self.0.root.is_dir() {
            return Ok(Pruned::default());
        }
        // Sizes take long to find; builds need not wait for that.
        let usage = self.usage();
        let excess = options
            .space
            .keep(usage.total(), self.disk_space()?.free)
            .map(|keep| usage.total() - keep.min(usage.total()));
        let wanted = wanted(usage, options, excess);
        let mut pruned = self.with_taking(|taking| {
            let mut pruned = Pruned::default();
            for item in wanted {
                if excess.is_some_and(|excess| pruned.bytes >= excess) {
                    break;
                }
                let request = TakeRequest { kind: item.kind, path: &item.path, used: item.used, examined: None };
                if taking.take(&request)? {
                    pruned.bytes += item.bytes;
                    pruned.n_records += usize::from(item.kind == UsageKind::Record);
                    pruned.items.push(item);
                } else {
                    pruned.in_use += 1;
                }
            }
            Ok(pruned)
        })?;
        pruned.busy = pruned.in_use > 0 && pruned.items.is_empty();
        Ok(pruned)
    }
}

/// What may go, in this order. With an `excess` in bytes, only as much of it as that will.
fn wanted(usage: Usage, options: &PruneOptions, excess: Option<u64>) -> Vec<UsedItem> {
    let age = options.older_than.map_or(0, |age| i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
    let old_before = boot::wall_clock().saturating_div(1_000_000_000).saturating_sub(age);
    let named_too = options.all || options.older_than.is_some() || excess.is_some() || !options.kinds.is_empty();
    let mut wanted = usage.items;
    wanted.retain(|item| {
        let is_kind = options.kinds.is_empty() || options.kinds.contains(&item.kind);
        is_kind && (named_too || !item.named) && (age == 0 || item.last_used <= old_before)
    });
    wanted
}

/// Every digest that a record mentions, and when such a record was last used.
fn named(records: &[PathBuf]) -> HashMap<Digest, i64> {
    let mut named = HashMap::new();
    for path in records {
        let (Ok(text), Some(used)) = (fs::read(path), last_used(UsageKind::Record, path)) else { continue };
        let text = String::from_utf8_lossy(&text);
        for rest in text.split("sha256:").skip(1) {
            if let Some(digest) = rest.get(..64).and_then(|hex| Digest::from_hex(hex).ok()) {
                let last = named.entry(digest).or_insert(used);
                *last = used.max(*last);
            }
        }
    }
    named
}

/// What is known of one thing without the records; `None` if it is gone.
fn item(kind: UsageKind, path: &Path) -> Option<UsedItem> {
    let used = last_used(kind, path)?;
    let (named, last_used) = (false, used / 1_000_000_000);
    Some(UsedItem { kind, bytes: disk_use(path), last_used, named, path: path.to_owned(), used })
}

/// Bytes of disk below `path`.
fn disk_use(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let mut total = 0;
    let mut paths = vec![path.to_owned()];
    while let Some(path) = paths.pop() {
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        total += meta.blocks() * 512;
        if meta.is_dir() {
            paths.extend(list(&path));
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::store::{MountSharing, SnapshotId, SnapshotMeta, Table};

    fn age(path: &Path, days: u64) {
        let time = SystemTime::now() - Duration::from_secs(days * 24 * 3600);
        fs::File::open(path).unwrap().set_modified(time).unwrap();
    }

    fn all() -> PruneOptions {
        PruneOptions { all: true, ..PruneOptions::default() }
    }

    fn fill(store: &Store, name: &str) -> SnapshotId {
        let id = SnapshotId(Digest::of(name.as_bytes()));
        let active = store.prepare().unwrap();
        fs::write(active.fs().join("f"), name).unwrap();
        active.commit(&id, SnapshotMeta::default()).unwrap();
        id
    }

    #[test]
    fn what_records_lead_to_stays_unless_more_is_asked_for() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let (kept, lost) = (fill(&store, "kept"), fill(&store, "lost"));
        store.put_blob(b"blob").unwrap();
        store.put(Table::Build, &Digest::of(b"key"), &vec![kept.clone()]).unwrap();
        drop(store.cache_dir(&kept.0, MountSharing::Shared).unwrap());
        let pruned = store.prune(&PruneOptions::default()).unwrap();
        assert_eq!((pruned.items.len(), pruned.in_use, pruned.busy), (2, 0, false));
        assert!(store.has_snapshot(&kept) && !store.has_snapshot(&lost));
        store.prune(&all()).unwrap();
        assert_eq!(store.usage().items.len(), 0);
        assert_eq!(store.usage().total(), 0);
    }

    #[test]
    fn what_a_running_build_may_use_stays_and_what_it_cannot_use_goes() {
        let home = tempfile::tempdir().unwrap();
        let running = Store::open(home.path()).unwrap();
        let (old, new) = (fill(&running, "old"), fill(&running, "new"));
        age(&running.snapshot_dir(&old).join("meta"), 10);
        let mount = running.cache_dir(&old.0, MountSharing::Shared).unwrap();
        let other = Store::open(home.path()).unwrap();
        let pruned = other.prune(&all()).unwrap();
        assert_eq!((pruned.items.len(), pruned.in_use), (1, 2));
        assert!(!running.has_snapshot(&old) && running.has_snapshot(&new));
        assert!(mount.path.is_dir());
        drop((mount, running));
        assert_eq!(other.prune(&all()).unwrap().items.len(), 2);
    }

    #[test]
    fn a_look_renews_the_use_so_that_prune_keeps_it() {
        let home = tempfile::tempdir().unwrap();
        let running = Store::open(home.path()).unwrap();
        let id = fill(&running, "old");
        age(&running.snapshot_dir(&id).join("meta"), 10);
        assert!(running.has_snapshot(&id));
        let other = Store::open(home.path()).unwrap();
        other.prune(&all()).unwrap();
        assert!(running.has_snapshot(&id));
    }

    #[test]
    fn only_what_was_not_used_for_so_long_goes() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let blobs: Vec<_> = (0..4_u8).map(|i| store.put_blob(&[i; 100_000]).unwrap()).collect();
        for (i, blob) in blobs.iter().enumerate() {
            age(&store.blob_path(blob), 10 - i as u64);
        }
        let older =
            PruneOptions { older_than: Some(Duration::from_secs(8 * 24 * 3600 - 60)), ..PruneOptions::default() };
        assert_eq!(store.prune(&older).unwrap().items.len(), 3);
        let left: Vec<_> = blobs.iter().map(|blob| store.blob_path(blob).exists()).collect();
        assert_eq!(left, [false, false, false, true]);
    }

    #[test]
    fn the_least_recently_used_goes_until_the_limits_hold() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let blobs: Vec<_> = (0..4_u8).map(|i| store.put_blob(&[i; 100_000]).unwrap()).collect();
        for (i, blob) in blobs.iter().enumerate() {
            age(&store.blob_path(blob), 10 - i as u64);
        }
        let left = || blobs.iter().map(|blob| store.blob_path(blob).exists()).collect::<Vec<_>>();
        let within = |max_used| SpaceLimits { max_used: Some(max_used), ..SpaceLimits::default() };
        let prune = |space| store.prune(&PruneOptions { space, ..PruneOptions::default() }).unwrap().items.len();
        assert_eq!((prune(within(10 << 20)), left()), (0, vec![true; 4]));
        assert_eq!((prune(within(250_000)), left()), (2, vec![false, false, true, true]));
        assert!(store.usage().total() <= 250_000);
        // A run that wrote keeps the limit by itself; what it wrote is the newest.
        assert_eq!(store.keep_within(within(110_000)).unwrap().map(|pruned| pruned.items.len()), Some(1));
        assert_eq!(left(), [false, false, false, true]);
        let quiet = Store::open(home.path()).unwrap();
        assert!(quiet.keep_within(within(0)).unwrap().is_none(), "it has written nothing");
    }

    #[test]
    fn builds_and_prunes_at_once_never_lose_what_is_in_use() {
        let home = tempfile::tempdir().unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let builders: Vec<_> = (0..3)
                .map(|n| {
                    let home = home.path();
                    scope.spawn(move || {
                        for round in 0..30 {
                            let store = Store::open(home).unwrap();
                            let id = fill(&store, &format!("{n}-{round}"));
                            let blob = store.put_blob(format!("{n}-{round}").as_bytes()).unwrap();
                            assert!(store.snapshot_fs(&id).join("f").exists());
                            assert!(store.has_snapshot(&id));
                            assert!(store.open_blob(&blob).is_ok());
                        }
                    })
                })
                .collect();
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::SeqCst) {
                    let store = Store::open(home.path()).unwrap();
                    store.prune(&all()).unwrap();
                }
            });
            let results: Vec<_> = builders.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
            done.store(true, std::sync::atomic::Ordering::SeqCst);
            assert!(results.iter().all(|it| it.is_ok()));
        });
    }
}
