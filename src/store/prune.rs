//! How much is kept, making room, and checking that everything is what its name says.
//!
//! `prune` works while no run uses the store: it holds `use` exclusively, which every run holds shared. Records go before
//! what they name, so that a prune that is killed leaves misses, never records of what is gone.

use std::{
    collections::HashSet,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{Result, Store, Table, failed, lock, snapshot::remove_tree};
use crate::oci::Digest;

/// What is kept, in bytes on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) blobs: u64,
    pub(crate) n_blobs: usize,
    pub(crate) snapshots: u64,
    pub(crate) n_snapshots: usize,
    pub(crate) cache_mounts: u64,
    pub(crate) n_cache_mounts: usize,
    pub(crate) n_records: usize,
}

impl Usage {
    pub(crate) const fn total(&self) -> u64 {
        self.blobs + self.snapshots + self.cache_mounts
    }
}

/// What to remove.
#[derive(Clone, Debug, Default)]
pub(crate) struct PruneOptions {
    /// Everything, cache mounts too.
    pub(crate) all: bool,
    /// What was not used for so long; `None`: whatever is not needed any more.
    pub(crate) older_than: Option<Duration>,
}

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pruned {
    pub(crate) bytes: u64,
    pub(crate) n_records: usize,
    /// Runs are using the store: nothing was removed.
    pub(crate) busy: bool,
}

/// A file that is not what its name says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    pub(crate) path: PathBuf,
    pub(crate) why: String,
}

impl Store {
    /// What is kept. *Cost:* a walk of everything.
    pub(crate) fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        for path in entries(&self.path(&["blobs", "sha256"])) {
            usage.n_blobs += 1;
            usage.blobs += size_of(&path);
        }
        for path in entries(&self.path(&["snapshots"])) {
            usage.n_snapshots += 1;
            usage.snapshots += size_of(&path);
        }
        for path in entries(&self.path(&["cachemounts"])) {
            usage.n_cache_mounts += 1;
            usage.cache_mounts += size_of(&path);
        }
        usage.n_records = Table::ALL.iter().map(|table| self.records(*table).len()).sum();
        usage
    }

    fn records(&self, table: Table) -> Vec<PathBuf> {
        entries(&self.path(&["index", table.folder()])).iter().flat_map(|folder| entries(folder)).collect()
    }

    /// Removes records that were not used lately, then what no record names any more.
    pub(crate) fn prune(&self, options: &PruneOptions) -> Result<Pruned> {
        let Some(_alone) = lock::exclusive(&self.path(&["use"]))? else {
            return Ok(Pruned { busy: true, ..Pruned::default() });
        };
        lock::sweep(&self.path(&["tmp"]));
        let before = self.usage().total();
        let mut pruned = Pruned::default();
        let limit = options.older_than.unwrap_or_default();
        let is_old = |path: &Path| {
            let age = fs::metadata(path).ok().and_then(|it| it.modified().ok()?.elapsed().ok());
            options.all || age.is_some_and(|age| age >= limit)
        };
        let mut named = HashSet::new();
        for table in Table::ALL {
            for path in self.records(table) {
                if is_old(&path) {
                    fs::remove_file(&path).map_err(failed("remove", &path))?;
                    pruned.n_records += 1;
                } else if let Ok(text) = fs::read_to_string(&path) {
                    named.extend(digests(&text));
                }
            }
        }
        let is_named = |path: &Path| {
            let name = path.file_name().and_then(|it| it.to_str()).and_then(|it| Digest::from_hex(it).ok());
            name.is_some_and(|it| named.contains(&it))
        };
        for path in entries(&self.path(&["blobs", "sha256"])) {
            if !is_named(&path) {
                fs::remove_file(&path).map_err(failed("remove", &path))?;
            }
        }
        for path in entries(&self.path(&["snapshots"])) {
            if !is_named(&path) {
                self.discard(&path)?;
            }
        }
        if options.all {
            for folder in ["cachemounts", "stat", "locks", "runs"] {
                for path in entries(&self.path(&[folder])) {
                    self.discard(&path)?;
                }
            }
        }
        pruned.bytes = before.saturating_sub(self.usage().total());
        Ok(pruned)
    }

    /// Takes a thing its name away, then removes it: a half removed snapshot must not be found.
    fn discard(&self, path: &Path) -> Result<()> {
        let aside = self.fresh()?;
        fs::rename(path, &aside).map_err(failed("remove", path))?;
        if aside.is_dir() {
            remove_tree(&aside);
        } else {
            fs::remove_file(&aside).map_err(failed("remove", &aside))?;
        }
        Ok(())
    }

    /// Hashes every blob and reads every record. What is damaged is told, and taken away so that it is made again.
    pub(crate) fn verify(&self) -> Vec<Damage> {
        let mut damages = Vec::new();
        for path in entries(&self.path(&["blobs", "sha256"])) {
            let wanted = path.file_name().and_then(|it| it.to_str()).and_then(|it| Digest::from_hex(it).ok());
            match (hash_file(&path), wanted) {
                (Ok(found), Some(wanted)) if found == wanted => continue,
                (Ok(found), _) => {
                    damages.push(Damage { path: path.clone(), why: format!("its content has the digest {found}") })
                }
                (Err(error), _) => damages.push(Damage { path: path.clone(), why: error.to_string() }),
            }
            drop(fs::remove_file(&path));
        }
        for table in Table::ALL {
            for path in self.records(table) {
                let sound = fs::read_to_string(&path).ok().is_some_and(|text| {
                    text.split_once('\n').is_some_and(|(head, body)| head.ends_with(&Digest::of(body.as_bytes()).hex()))
                });
                if !sound {
                    damages.push(Damage { path: path.clone(), why: "the record is damaged".to_owned() });
                    drop(fs::remove_file(&path));
                }
            }
        }
        damages
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).into_iter().flatten().flatten().map(|it| it.path()).collect();
    paths.sort();
    paths
}

/// Bytes on disk of a file or tree; what cannot be read counts as nothing.
fn size_of(path: &Path) -> u64 {
    let mut total = 0;
    let mut stack = vec![path.to_owned()];
    while let Some(path) = stack.pop() {
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        total += meta.blocks() * 512;
        if meta.is_dir() {
            stack.extend(entries(&path));
        }
    }
    total
}

/// Every digest that a text mentions.
fn digests(text: &str) -> Vec<Digest> {
    text.split("sha256:").skip(1).filter_map(|rest| Digest::from_hex(rest.get(..64)?).ok()).collect()
}

fn hash_file(path: &Path) -> io::Result<Digest> {
    use sha2::Digest as _;
    let mut hasher = sha2::Sha256::new();
    let mut file = fs::File::open(path)?;
    let mut buffer = vec![0; 1 << 17];
    loop {
        match io::Read::read(&mut file, &mut buffer)? {
            0 => return Ok(Digest::from_raw(hasher.finalize().into())),
            n => hasher.update(&buffer[..n]),
        }
    }
}
