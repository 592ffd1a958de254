//! Looks at everything that is kept, says what is damaged, and takes that away so that it is made again.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rayon::prelude::*;

use super::{
    Store,
    blob::hash_file,
    record::parse,
    remove::remove_tree,
    snapshot::{KeptSnapshot, SnapshotId, changed_since, subject},
    stat,
};
use crate::oci::Digest;

/// One damaged thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    /// The file or directory.
    pub(crate) path: PathBuf,
    /// What is wrong with it.
    pub(crate) why: String,
}

impl Store {
    /// Everything that is damaged, ordered by path; it is removed. Hashes every blob.
    pub(crate) fn verify(&self) -> Vec<Damage> {
        let found = self.damages();
        for damage in &found {
            // What cannot be removed is found again.
            drop(remove_tree(&damage.path));
        }
        found
    }

    /// Everything that is damaged, ordered by path.
    fn damages(&self) -> Vec<Damage> {
        drop(self.share());
        let mut found: Vec<Damage> = Vec::new();
        found.par_extend(list(&self.path("blobs/sha256")).into_par_iter().filter_map(|path| blob_damage(&path)));
        found.par_extend(list(&self.path("snapshots")).into_par_iter().filter_map(|path| snapshot_damage(&path)));
        let tables = list(&self.path("index"));
        let records = tables.iter().flat_map(|table| list(table)).flat_map(|part| list(&part)).collect::<Vec<_>>();
        found.par_extend(records.into_par_iter().filter_map(|path| record_damage(&path)));
        found.extend(list(&self.path("stat")).into_iter().filter_map(|path| {
            let whole = fs::read(&path).is_ok_and(|bytes| stat::is_whole(&bytes));
            damage(&path, (!whole).then_some("the stat cache has another checksum"))
        }));
        found.sort_by(|a, b| a.path.cmp(&b.path));
        found
    }
}

/// A damage, unless the thing has gone meanwhile.
fn damage(path: &Path, why: Option<impl Into<String>>) -> Option<Damage> {
    let why = why?.into();
    fs::symlink_metadata(path).is_ok().then(|| Damage { path: path.to_owned(), why })
}

fn blob_damage(path: &Path) -> Option<Damage> {
    let Some(digest) = name_digest(path) else {
        return damage(path, Some("the name is no digest"));
    };
    match hash_file(path) {
        Ok(actual) if actual == digest => None,
        Ok(actual) => damage(path, Some(format!("the content has another digest: {actual}"))),
        Err(error) => damage(path, Some(format!("cannot be read: {error}"))),
    }
}

fn snapshot_damage(dir: &Path) -> Option<Damage> {
    let Some(id) = name_digest(dir).map(SnapshotId) else {
        return damage(dir, Some("the name is no digest"));
    };
    let kept = fs::read(dir.join("meta")).ok().and_then(|text| {
        let (_, _, json) = parse(&text, &subject(&id))?;
        serde_json::from_slice::<KeptSnapshot>(json).ok()
    });
    let Some(kept) = kept else {
        return damage(dir, Some("the record of the snapshot is damaged or absent"));
    };
    match changed_since(&dir.join("fs"), kept.committed) {
        Ok(None) => None,
        Ok(Some(path)) => damage(dir, Some(format!("changed since it was made: {}", path.display()))),
        Err(error) => damage(dir, Some(format!("cannot be read: {error}"))),
    }
}

fn record_damage(path: &Path) -> Option<Damage> {
    let table = path.ancestors().nth(2).and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    let subject = format!("{} {}", table.unwrap_or_default(), path.file_name()?.to_string_lossy());
    match fs::read(path) {
        Ok(text) => damage(path, parse(&text, &subject).is_none().then_some("the record has another checksum")),
        Err(error) => damage(path, Some(format!("cannot be read: {error}"))),
    }
}

/// The digest that names a file.
pub(super) fn name_digest(path: &Path) -> Option<Digest> {
    Digest::from_hex(path.file_name()?.to_str()?).ok()
}

/// The paths in a directory; none if there is no such directory.
pub(super) fn list(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{SnapshotMeta, Table};

    #[test]
    fn finds_each_kind_of_damage_once_and_nothing_in_a_sound_store() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let key = Digest::of(b"key");
        let blob = store.put_blob(b"blob").unwrap();
        store.put(Table::Vertex, &key, &"value").unwrap();
        let active = store.prepare().unwrap();
        fs::write(active.fs().join("f"), "x").unwrap();
        active.commit(&SnapshotId(key), SnapshotMeta::default()).unwrap();
        assert_eq!(store.verify(), []);
        fs::write(store.blob_path(&blob), "blub").unwrap();
        fs::write(store.record_path(Table::Vertex, &key), "x").unwrap();
        fs::write(home.path().join("v1/snapshots").join(key.hex()).join("meta"), "x").unwrap();
        let found = store.verify();
        assert_eq!(found.len(), 3, "{found:?}");
        assert_eq!(store.verify(), []);
    }
}
