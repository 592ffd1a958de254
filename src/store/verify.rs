//! Reads everything that is kept and compares it with its digests; to repair is to take away what is damaged, so that it is
//! made again.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

use rayon::prelude::*;

use super::{
    blob::hash_file,
    content::tree_digest,
    entries::{UsageKind, last_used, list, list_records, name_digest},
    record::parse,
    remove::FileIdentity,
    snapshot::{KeptSnapshot, SnapshotChange, SnapshotId, changes, subject},
    stat,
    state::Store,
    take::TakeRequest,
};

/// One damaged thing that `cache verify` found, and what happened to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    /// The file or directory.
    pub(crate) path: PathBuf,
    /// What is wrong with it.
    pub(crate) why: String,
    pub(crate) fate: DamageFate,
}

/// What happened to a damaged thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DamageFate {
    /// Nothing: it was only looked at.
    Found,
    Removed,
    /// A running build may be using it.
    InUse,
    /// The system refused to remove it.
    Stuck,
}

/// One damaged thing that is to be taken away.
struct FoundDamage {
    kind: UsageKind,
    path: PathBuf,
    why: String,
    /// Of the file or directory, before it was examined.
    identity: FileIdentity,
    /// When it was last used, before it was examined.
    used: i64,
}

impl Store {
    /// Reads every blob and snapshot and returns what is damaged, ordered by path.
    ///
    /// A snapshot without a digest, whose run was killed before, gets one.
    pub(crate) fn verify(&self) -> Vec<Damage> {
        let found = self.damages();
        found.into_iter().map(|FoundDamage { path, why, .. }| Damage { path, why, fate: DamageFate::Found }).collect()
    }

    /// As [`Self::verify`], and removes what is damaged, unless a running build may be using it.
    pub(crate) fn repair(&self) -> Vec<Damage> {
        let found = self.damages();
        if found.is_empty() {
            return Vec::new();
        }
        let taken = self.with_taking(|taking| {
            let fate = |damage: &FoundDamage| {
                let FoundDamage { kind, path, used, identity, .. } = damage;
                let request = TakeRequest { kind: *kind, path, used: *used, examined: Some(*identity) };
                match taking.take(&request) {
                    Ok(true) => DamageFate::Removed,
                    Ok(false) => DamageFate::InUse,
                    Err(_) => DamageFate::Stuck,
                }
            };
            Ok(found.iter().map(fate).collect())
        });
        let fates: Vec<DamageFate> = taken.unwrap_or_else(|_| vec![DamageFate::Stuck; found.len()]);
        let damages = found.into_iter().zip(fates);
        damages.map(|(FoundDamage { path, why, .. }, fate)| Damage { path, why, fate }).collect()
    }

    fn damages(&self) -> Vec<FoundDamage> {
        drop(self.share());
        let mut things: Vec<(UsageKind, PathBuf)> = Vec::new();
        let mut add = |kind, paths: Vec<PathBuf>| things.extend(paths.into_iter().map(|path| (kind, path)));
        add(UsageKind::Blob, list(&self.path("blobs/sha256")));
        add(UsageKind::Snapshot, list(&self.path("snapshots")));
        add(UsageKind::Record, list_records(&self.path("index")));
        let records = things.len();
        things.extend(list(&self.path("stat")).into_iter().map(|path| (UsageKind::Record, path)));
        let examine = |(ix, (kind, path)): (usize, (UsageKind, PathBuf))| {
            let (identity, used) = (FileIdentity::at(&path)?, last_used(kind, &path)?);
            let why = match kind {
                UsageKind::Blob => blob_damage(&path),
                UsageKind::Snapshot => self.snapshot_damage(&path),
                _ if ix < records => record_damage(&path),
                _ => stat_cache_damage(&path),
            };
            // It may have gone meanwhile.
            let why = why.filter(|_| fs::symlink_metadata(&path).is_ok())?;
            Some(FoundDamage { kind, path, why, identity, used })
        };
        let mut found: Vec<FoundDamage> = things.into_par_iter().enumerate().filter_map(examine).collect();
        found.sort_by(|a, b| a.path.cmp(&b.path));
        found
    }

    fn snapshot_damage(&self, dir: &Path) -> Option<String> {
        let Some(id) = name_digest(dir).map(SnapshotId) else {
            return Some("the name is no digest".to_owned());
        };
        let kept = fs::read(dir.join("meta")).ok().and_then(|text| {
            let (_, _, json) = parse(&text, &subject(&id))?;
            serde_json::from_slice::<KeptSnapshot>(json).ok()
        });
        let Some(kept) = kept else {
            return Some("the record of the snapshot is damaged or absent".to_owned());
        };
        let tree = dir.join("fs");
        let unreadable = |error: std::io::Error| format!("cannot be read: {error}");
        let record = self.content_record(dir, kept.committed).map(|(record, _)| record);
        let checked = record.as_ref().map_or(kept.committed, |record| record.checked);
        let changed = |path: &Path| format!("changed since it was made: {}", path.display());
        match changes(&tree, kept.committed, checked).map_err(unreadable) {
            Ok(SnapshotChange::Written(path)) => return Some(changed(&path)),
            Ok(SnapshotChange::Touched(path)) if record.is_none() => return Some(changed(&path)),
            Ok(_) => (),
            Err(why) => return Some(why),
        }
        let content = match tree_digest(&tree, &AtomicBool::new(false)).map_err(unreadable) {
            Ok(content) => content?,
            Err(why) => return Some(why),
        };
        match record {
            Some(record) if record.content == content => None,
            Some(_) => Some("the content has another digest".to_owned()),
            None => {
                // A digest that cannot be written is made by the next verification.
                drop(self.write_content_record(dir, kept.committed, content));
                None
            }
        }
    }
}

fn blob_damage(path: &Path) -> Option<String> {
    let Some(digest) = name_digest(path) else {
        return Some("the name is no digest".to_owned());
    };
    match hash_file(path) {
        Ok(actual) if actual == digest => None,
        Ok(actual) => Some(format!("the content has another digest: {actual}")),
        Err(error) => Some(format!("cannot be read: {error}")),
    }
}

fn record_damage(path: &Path) -> Option<String> {
    let table = path.ancestors().nth(2).and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    let subject = format!("{} {}", table.unwrap_or_default(), path.file_name()?.to_string_lossy());
    match fs::read(path) {
        Ok(text) => parse(&text, &subject).is_none().then(|| "the record has another checksum".to_owned()),
        Err(error) => Some(format!("cannot be read: {error}")),
    }
}

fn stat_cache_damage(path: &Path) -> Option<String> {
    let is_whole = fs::read(path).is_ok_and(|bytes| stat::is_whole(&bytes));
    (!is_whole).then(|| "the stat cache has another checksum".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        oci::Digest,
        store::{SnapshotMeta, Table},
    };

    fn snapshot(store: &Store, name: &str) -> PathBuf {
        let id = SnapshotId(Digest::of(name.as_bytes()));
        let active = store.prepare().unwrap();
        fs::write(active.fs().join("f"), "content").unwrap();
        active.commit(&id, SnapshotMeta::default()).unwrap();
        store.finish_digests();
        store.snapshot_dir(&id)
    }

    /// Changes a byte and puts the modification time back.
    fn damage_silently(file: &Path) {
        let time = fs::metadata(file).unwrap().modified().unwrap();
        fs::write(file, "cOntent").unwrap();
        fs::File::options().write(true).open(file).unwrap().set_modified(time).unwrap();
    }

    #[test]
    fn finds_each_kind_of_damage_once_and_nothing_in_a_sound_store() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let key = Digest::of(b"key");
        let blob = store.put_blob(b"content").unwrap();
        store.put(Table::Vertex, &key, &"value").unwrap();
        let (silent, unnamed) = (snapshot(&store, "silent"), snapshot(&store, "unnamed"));
        assert_eq!(store.verify(), []);
        damage_silently(&store.blob_path(&blob));
        damage_silently(&silent.join("fs/f"));
        fs::write(store.record_path(Table::Vertex, &key), "x").unwrap();
        fs::write(unnamed.join("meta"), "x").unwrap();
        let found = store.verify();
        assert_eq!(found.len(), 4, "{found:?}");
        assert!(found.iter().all(|damage| damage.fate == DamageFate::Found && damage.path.exists()), "{found:?}");
        let found = store.repair();
        assert_eq!(found.len(), 4, "{found:?}");
        assert!(found.iter().all(|damage| damage.fate == DamageFate::Removed && !damage.path.exists()), "{found:?}");
        assert_eq!(store.verify(), []);
    }

    #[test]
    fn what_a_running_build_may_use_stays() {
        let home = tempfile::tempdir().unwrap();
        let running = Store::open(home.path()).unwrap();
        let dir = snapshot(&running, "used");
        damage_silently(&dir.join("fs/f"));
        let other = Store::open(home.path()).unwrap();
        let found = other.repair();
        assert_eq!(found.iter().map(|damage| damage.fate).collect::<Vec<_>>(), [DamageFate::InUse]);
        assert!(dir.exists());
        drop(running);
        assert_eq!(other.repair()[0].fate, DamageFate::Removed);
        assert!(!dir.exists());
    }

    #[test]
    fn a_snapshot_without_a_digest_gets_one() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let dir = snapshot(&store, "killed");
        fs::remove_file(crate::store::content::record_path(&dir)).unwrap();
        assert_eq!(store.verify(), []);
        assert!(crate::store::content::record_path(&dir).exists());
        damage_silently(&dir.join("fs/f"));
        assert_eq!(store.verify().len(), 1);
    }
}
