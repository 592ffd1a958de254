//! The stat cache: which digest the content of a file of a context directory has, as long as the file was not touched.
//!
//! The key is what the system knows of the file: path, device, inode, size, times. It is trusted only if the file was
//! last changed well before the walk that remembered it: a change within the same tick of the clock would not show.
//!
//! ```text
//! stat/HEX (of the folder's path), little endian, replaced as a whole
//!   0  "bakestat"   8  format u32   12  crc32 of all that follows u32   16  entries u64
//!   24 entries of 88 bytes, ordered by the first field:
//!      path hash u64, inode u64, device u64, size u64, mtime s i64, mtime ns u32, ctime ns u32, ctime s i64, digest [32]
//!   .. one byte per entry: how many saves ago the file was last seen
//! ```

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
};

use super::{
    boot,
    error::{StoreError, StoreResult},
    state::Store,
};
use crate::oci::Digest;

/// The `stat` data that identify the state of a file; from `lstat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StatKey {
    pub(crate) size: u64,
    /// Seconds and nanoseconds.
    pub(crate) mtime: (i64, u32),
    pub(crate) ctime: (i64, u32),
    pub(crate) inode: u64,
    pub(crate) device: u64,
}

/// The known digests of the files of one folder, by their `stat` data. May be used by many threads at once.
pub(crate) struct StatCache {
    store: Store,
    path: PathBuf,
    /// When the walk began, wall clock nanoseconds.
    began: i64,
    /// The file as read; empty if there was none.
    old: Vec<u8>,
    /// `first[h]` is the first entry whose hash begins with the bits `h`; about as many as there are entries.
    first: Vec<u32>,
    bits: u32,
    seen: Vec<AtomicU8>,
    new: Mutex<HashMap<u64, [u8; ENTRY]>>,
    changed: AtomicBool,
}

const HEAD: usize = 24;
const ENTRY: usize = 88;
const MAGIC: &[u8; 8] = b"bakestat";
const FORMAT: u32 = 1;
/// Entries of files not seen in so many saves are dropped.
const FORGET_AFTER: u8 = 8;
/// Changes younger than this at the start of the walk are not trusted: the coarsest clock of a file system (FAT).
const SETTLED: i64 = 2_000_000_000;

impl Store {
    /// Opens the stat cache of `folder`, an absolute path. Call it before the walk begins.
    pub(crate) fn stat_cache(&self, folder: &Path) -> StatCache {
        let began = boot::wall_clock();
        let name = Digest::of(folder.as_os_str().as_encoded_bytes()).hex();
        let path = self.path("stat").join(name);
        let old = fs::read(&path).ok().filter(|bytes| is_whole(bytes)).unwrap_or_default();
        let n = old.len().saturating_sub(HEAD) / (ENTRY + 1);
        let bits = n.max(1).ilog2().min(16);
        let mut first = vec![0_u32; (1 << bits) + 1];
        for entry in 0..n {
            first[prefix(hash_at(&old, entry), bits) + 1] += 1;
        }
        for i in 1..first.len() {
            first[i] += first[i - 1];
        }
        let mut seen = Vec::new();
        seen.resize_with(n, || AtomicU8::new(0));
        StatCache {
            store: self.clone(),
            path,
            began,
            old,
            first,
            bits,
            seen,
            new: Mutex::new(HashMap::new()),
            changed: AtomicBool::new(false),
        }
    }
}

impl StatCache {
    /// The digest of the file at `path` (relative to the folder, as bytes), if it is unchanged since it was hashed.
    pub(crate) fn get(&self, path: &[u8], stat: &StatKey) -> Option<Digest> {
        let hash = hash(path);
        let bucket = prefix(hash, self.bits);
        let wanted = encode(hash, stat, &Digest::from_raw([0; 32]));
        let mut entry = self.first[bucket] as usize;
        let end = self.first[bucket + 1] as usize;
        while entry < end {
            let at = HEAD + entry * ENTRY;
            let found = &self.old[at..at + ENTRY];
            if found[..ENTRY - 32] == wanted[..ENTRY - 32] {
                self.seen[entry].store(1, Ordering::Relaxed);
                let raw: [u8; 32] = found[ENTRY - 32..].try_into().expect("the slice has 32 bytes");
                return Some(Digest::from_raw(raw));
            }
            entry += 1;
        }
        None
    }

    /// Records the digest of a file. `stat` must be that of the file both before and after it was read.
    pub(crate) fn put(&self, path: &[u8], stat: &StatKey, digest: &Digest) {
        let nanoseconds = |(s, ns): (i64, u32)| s.saturating_mul(1_000_000_000).saturating_add(i64::from(ns));
        let settled = self.began - SETTLED;
        let (mtime, ctime) = (nanoseconds(stat.mtime), nanoseconds(stat.ctime));
        // A modification time far in the future was set by hand and says nothing; the change time cannot be set.
        let recent = mtime >= settled && mtime <= boot::wall_clock() + SETTLED;
        if ctime >= settled || recent {
            return;
        }
        let hash = hash(path);
        let mut new = self.new.lock().unwrap_or_else(PoisonError::into_inner);
        new.insert(hash, encode(hash, stat, digest));
        self.changed.store(true, Ordering::Relaxed);
    }

    /// Writes the cache to disk if something was recorded.
    pub(crate) fn save(&self) -> StoreResult<()> {
        if !self.changed.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let new = self.new.lock().unwrap_or_else(PoisonError::into_inner);
        let ages = &self.old[self.old.len() - self.seen.len()..];
        let mut entries: Vec<(u8, &[u8])> = Vec::with_capacity(new.len() + self.seen.len());
        for (entry, seen) in self.seen.iter().enumerate() {
            let age = if seen.load(Ordering::Relaxed) == 1 { 0 } else { ages[entry].saturating_add(1) };
            if age <= FORGET_AFTER && !new.contains_key(&hash_at(&self.old, entry)) {
                let at = HEAD + entry * ENTRY;
                entries.push((age, &self.old[at..at + ENTRY]));
            }
        }
        entries.extend(new.values().map(|entry| (0, entry.as_slice())));
        entries.sort_unstable_by_key(|(_, entry)| u64_at(entry, 0));
        let mut bytes = Vec::with_capacity(HEAD + entries.len() * (ENTRY + 1));
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&(entries.len() as u64).to_le_bytes());
        entries.iter().for_each(|(_, entry)| bytes.extend_from_slice(entry));
        bytes.extend(entries.iter().map(|(age, _)| age));
        let crc = libdeflater::crc32(&bytes[16..]);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        let fresh = self.store.fresh()?;
        fs::write(&fresh, &bytes).map_err(StoreError::io("write", &self.path))?;
        self.store.publish(&fresh, &self.path)
    }
}

/// Whether the bytes are a complete stat cache of this format, by its checksum.
pub(super) fn is_whole(bytes: &[u8]) -> bool {
    bytes.len() >= HEAD
        && bytes.starts_with(MAGIC)
        && bytes[8..12] == FORMAT.to_le_bytes()
        && bytes[12..16] == libdeflater::crc32(&bytes[16..]).to_le_bytes()
        && u64_at(bytes, 16).checked_mul(ENTRY as u64 + 1) == Some((bytes.len() - HEAD) as u64)
        && u64_at(bytes, 16) < u64::from(u32::MAX)
}

fn encode(hash: u64, stat: &StatKey, digest: &Digest) -> [u8; ENTRY] {
    let mut entry = [0; ENTRY];
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        entry[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    for word in [hash, stat.inode, stat.device, stat.size] {
        put(&word.to_le_bytes());
    }
    put(&stat.mtime.0.to_le_bytes());
    put(&stat.mtime.1.to_le_bytes());
    put(&stat.ctime.1.to_le_bytes());
    put(&stat.ctime.0.to_le_bytes());
    put(digest.raw());
    entry
}

/// FNV-1a with a final mix. Two paths with one hash do no harm: all else must be equal too.
fn hash(path: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in path {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash ^ hash >> 29
}

fn prefix(hash: u64, bits: u32) -> usize {
    if bits == 0 { 0 } else { usize::try_from(hash >> (64 - bits)).expect("at most 16 bits") }
}

fn hash_at(bytes: &[u8], entry: usize) -> u64 {
    u64_at(bytes, HEAD + entry * ENTRY)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("the slice has 8 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(inode: u64) -> StatKey {
        StatKey { device: 1, inode, size: 10, mtime: (1000, 5), ctime: (1000, 6) }
    }

    fn store() -> (tempfile::TempDir, Store) {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        (home, store)
    }

    #[test]
    fn remembers_over_runs_until_the_file_changes() {
        let (_home, store) = store();
        let folder = Path::new("/context");
        let cache = store.stat_cache(folder);
        let name = |i: u64| format!("d{}/f{i}", i % 7).into_bytes();
        for i in 0..5000 {
            cache.put(&name(i), &stat(i), &Digest::of(&name(i)));
        }
        cache.save().unwrap();
        let cache = store.stat_cache(folder);
        for i in 0..5000 {
            assert_eq!(cache.get(&name(i), &stat(i)), Some(Digest::of(&name(i))));
        }
        assert_eq!(cache.get(&name(1), &stat(2)), None);
        assert_eq!(cache.get(&name(1), &StatKey { ctime: (1000, 7), ..stat(1) }), None);
        assert_eq!(cache.get(b"other", &stat(1)), None);
        assert_eq!(store.stat_cache(Path::new("/other")).get(&name(1), &stat(1)), None);
        let written = fs::metadata(&cache.path).unwrap().modified().unwrap();
        cache.save().unwrap();
        assert_eq!(fs::metadata(&cache.path).unwrap().modified().unwrap(), written);
    }

    #[test]
    fn what_changed_just_now_is_not_trusted() {
        let (_home, store) = store();
        let cache = store.stat_cache(Path::new("/context"));
        let now = boot::wall_clock() / 1_000_000_000;
        let digest = Digest::of(b"x");
        cache.put(b"ctime", &StatKey { ctime: (now, 0), ..stat(1) }, &digest);
        cache.put(b"mtime", &StatKey { mtime: (now - 1, 0), ..stat(2) }, &digest);
        cache.put(b"future", &StatKey { mtime: (now + 1000, 0), ..stat(3) }, &digest);
        cache.save().unwrap();
        let cache = store.stat_cache(Path::new("/context"));
        assert_eq!(cache.get(b"ctime", &StatKey { ctime: (now, 0), ..stat(1) }), None);
        assert_eq!(cache.get(b"mtime", &StatKey { mtime: (now - 1, 0), ..stat(2) }), None);
        assert_eq!(cache.get(b"future", &StatKey { mtime: (now + 1000, 0), ..stat(3) }), Some(digest));
    }

    #[test]
    fn a_damaged_cache_is_empty() {
        let (_home, store) = store();
        let folder = Path::new("/context");
        let cache = store.stat_cache(folder);
        (0..100).for_each(|i| cache.put(format!("f{i}").as_bytes(), &stat(i), &Digest::of(b"x")));
        cache.save().unwrap();
        let whole = fs::read(&cache.path).unwrap();
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        for damaged in [&flipped[..], &whole[..whole.len() / 2], &[], &[0xff; 9000]] {
            fs::write(&cache.path, damaged).unwrap();
            assert_eq!(store.stat_cache(folder).get(b"f1", &stat(1)), None);
        }
        fs::write(&cache.path, &whole).unwrap();
        assert!(store.stat_cache(folder).get(b"f1", &stat(1)).is_some());
    }

    #[test]
    fn files_not_seen_for_long_are_forgotten() {
        let (_home, store) = store();
        let folder = Path::new("/context");
        let cache = store.stat_cache(folder);
        (0..100).for_each(|i| cache.put(format!("f{i}").as_bytes(), &stat(i), &Digest::of(b"x")));
        cache.save().unwrap();
        for round in 0..=u64::from(FORGET_AFTER) {
            let cache = store.stat_cache(folder);
            assert!(cache.get(b"f1", &stat(1)).is_some());
            cache.put(b"new", &stat(1000 + round), &Digest::of(b"y"));
            cache.save().unwrap();
        }
        let cache = store.stat_cache(folder);
        assert!(cache.get(b"f1", &stat(1)).is_some());
        assert!(cache.get(b"f2", &stat(2)).is_none());
    }
}
