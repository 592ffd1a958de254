//! The stat cache of one directory: what a file's digest was when its stat was what it is now.
//!
//! One file, read at once and replaced as a whole. A file that changed too close to the time of the look cannot be told
//! from one that changed right after it: such entries are not trusted, as in git's index.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use super::{Result, Store, failed};
use crate::oci::{Digest, digest::FieldHasher};

/// What a stat says of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StatKey {
    pub(crate) size: u64,
    pub(crate) mtime: (i64, u32),
    pub(crate) ctime: (i64, u32),
    pub(crate) inode: u64,
    pub(crate) device: u64,
}

/// Digests of the files of one directory, by path below it.
pub(crate) struct StatCache {
    store: Store,
    path: PathBuf,
    known: HashMap<Box<[u8]>, (StatKey, Digest)>,
    learnt: Mutex<HashMap<Box<[u8]>, (StatKey, Digest)>>,
    /// Seconds since 1970 at which this look began.
    now: i64,
}

const MAGIC: &[u8] = b"bakestat1\n";
/// Size, times, inode, device, digest.
const FIXED: usize = 8 * 7 + 32;
/// Files changed within so many seconds before the look may change again unseen.
const GRAIN: i64 = 2;

impl Store {
    /// The stat cache of `folder` (absolute). A damaged one is empty.
    pub(crate) fn stat_cache(&self, folder: &Path) -> StatCache {
        use std::os::unix::ffi::OsStrExt as _;
        let mut hasher = FieldHasher::new("stat/1");
        hasher.bytes(folder.as_os_str().as_bytes());
        let path = self.path(&["stat", &hasher.finish().hex()]);
        let known = fs::read(&path).ok().and_then(|bytes| decode(&bytes)).unwrap_or_default();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |it| i64::try_from(it.as_secs()).unwrap_or(0));
        StatCache { store: self.clone(), path, known, learnt: Mutex::default(), now }
    }
}

impl StatCache {
    /// The digest of a file whose stat is still the same.
    pub(crate) fn get(&self, path: &[u8], stat: &StatKey) -> Option<Digest> {
        self.known.get(path).filter(|(known, _)| known == stat).map(|(_, digest)| *digest)
    }

    /// Learns the digest of a file. `stat` is from before the file was read.
    pub(crate) fn put(&self, path: &[u8], stat: &StatKey, digest: &Digest) {
        let newest = stat.mtime.0.max(stat.ctime.0);
        if newest < self.now - GRAIN {
            let mut learnt = self.learnt.lock().unwrap_or_else(PoisonError::into_inner);
            learnt.insert(path.into(), (*stat, *digest));
        }
    }

    /// Writes the cache if something was learnt. Entries of files that are gone stay until they are looked for.
    pub(crate) fn save(&self) -> Result<()> {
        let learnt = std::mem::take(&mut *self.learnt.lock().unwrap_or_else(PoisonError::into_inner));
        if learnt.is_empty() {
            return Ok(());
        }
        let mut bytes = Vec::with_capacity((self.known.len() + learnt.len()) * 128);
        bytes.extend_from_slice(MAGIC);
        let kept = self.known.iter().filter(|(path, _)| !learnt.contains_key(*path));
        for (path, (stat, digest)) in kept.chain(learnt.iter()) {
            encode(&mut bytes, path, stat, digest);
        }
        let sum = Digest::of(&bytes);
        bytes.extend_from_slice(sum.raw());
        let fresh = self.store.fresh()?;
        fs::write(&fresh, bytes).map_err(failed("write", &fresh))?;
        fs::rename(&fresh, &self.path).map_err(failed("write", &self.path))
    }
}

fn encode(bytes: &mut Vec<u8>, path: &[u8], stat: &StatKey, digest: &Digest) {
    let length = u32::try_from(path.len()).expect("paths are short");
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(path);
    let times = [stat.mtime.0, i64::from(stat.mtime.1), stat.ctime.0, i64::from(stat.ctime.1)];
    bytes.extend_from_slice(&stat.size.to_le_bytes());
    for time in times {
        bytes.extend_from_slice(&time.to_le_bytes());
    }
    bytes.extend_from_slice(&stat.inode.to_le_bytes());
    bytes.extend_from_slice(&stat.device.to_le_bytes());
    bytes.extend_from_slice(digest.raw());
}

fn decode(bytes: &[u8]) -> Option<HashMap<Box<[u8]>, (StatKey, Digest)>> {
    let (content, sum) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
    let mut rest = content.strip_prefix(MAGIC)?;
    if Digest::of(content).raw() != sum {
        return None;
    }
    let mut known = HashMap::with_capacity(rest.len() / 128);
    while !rest.is_empty() {
        let length = u32::from_le_bytes(*rest.first_chunk()?) as usize;
        let path = rest.get(4..4 + length)?;
        let fixed = rest.get(4 + length..4 + length + FIXED)?;
        let number = |i: usize| u64::from_le_bytes(*fixed[8 * i..].first_chunk().expect("the length is checked"));
        let signed = |i: usize| i64::from_le_bytes(*fixed[8 * i..].first_chunk().expect("the length is checked"));
        let nanos = |i: usize| u32::try_from(signed(i)).unwrap_or(0);
        let stat = StatKey {
            size: number(0),
            mtime: (signed(1), nanos(2)),
            ctime: (signed(3), nanos(4)),
            inode: number(5),
            device: number(6),
        };
        let digest = Digest::from_raw(*fixed[56..].first_chunk()?);
        known.insert(path.into(), (stat, digest));
        rest = &rest[4 + length + FIXED..];
    }
    Some(known)
}
