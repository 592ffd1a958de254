//! OCI layout folders (OCI image spec, "Image Layout"), written: blobs first, `index.json` last, under a lock.
//!
//! What is there stays: an image with the same name is replaced in the index, others are kept, so that exports add up.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};

use super::{
    dest::{ExportDest, WriteFault},
    member::MemberContent,
};
use crate::{
    export::{assemble::DocumentDescriptor, options::ArchiveDest, remember::FileStamp},
    oci::{Digest, media},
};

/// The file `oci-layout`.
pub(super) const VERSION: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
const NAME: &str = "io.containerd.image.name";
/// Longest `index.json` that is read.
const LONGEST: u64 = 8 << 20;

/// Adds an image to a layout folder. Blobs that are there are not written again. Returns the stamp of `index.json`.
pub(super) fn write<'a>(
    folder: &Path,
    blobs: &BTreeMap<Digest, u64>,
    mut open: impl FnMut(&Digest) -> io::Result<MemberContent<'a>>,
    names: &[DocumentDescriptor],
    mut moved: impl FnMut(u64),
) -> Result<Option<FileStamp>, WriteFault> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |e| (path, e)
    };
    let store = folder.join("blobs/sha256");
    fs::create_dir_all(&store).map_err(at(&store))?;
    let mut written = 0;
    for (digest, size) in blobs {
        let path = store.join(digest.hex());
        if fs::metadata(&path).is_ok_and(|meta| meta.is_file() && meta.len() == *size) {
            continue;
        }
        let mut place = ExportDest::open(&ArchiveDest::File(path.clone())).map_err(at(&path))?;
        match open(digest).map_err(at(&path))? {
            MemberContent::Bytes(bytes) => place.write_all(bytes).map_err(at(&path))?,
            MemberContent::File(mut file) => {
                place.copy(&mut file).map_err(at(&path))?;
            }
        }
        if place.written() != *size {
            return Err((path, io::Error::other("the blob has another length than it should")));
        }
        written += place.written();
        place.finish().map_err(at(&path))?;
        moved(written);
    }
    let version = folder.join("oci-layout");
    if fs::read(&version).ok().as_deref() != Some(VERSION) {
        file(&version, VERSION)?;
    }
    let _lock = lock(&folder.join("index.json.lock"))?;
    let path = folder.join("index.json");
    let index = merged(&path, names).map_err(at(&path))?;
    file(&path, index.to_string().as_bytes())
}

/// The lock of an index, which other tools know as well. Its file is removed when it is given up.
struct IndexLock {
    path: PathBuf,
    _file: File,
}

fn lock(path: &Path) -> Result<IndexLock, WriteFault> {
    let take = || loop {
        let file = File::options().create(true).truncate(false).write(true).open(path)?;
        flock(&file, FlockOperation::LockExclusive)?;
        // Its last holder may have removed the file meanwhile: then the lock is of no use.
        let (ours, there) = (file.metadata()?, fs::metadata(path));
        if there.is_ok_and(|it| it.ino() == ours.ino()) {
            return Ok(IndexLock { path: path.to_owned(), _file: file });
        }
    };
    take().map_err(|e: io::Error| (path.to_owned(), e))
}

impl Drop for IndexLock {
    fn drop(&mut self) {
        fs::remove_file(&self.path).ok();
    }
}

/// Whether all blobs are there, by their lengths.
pub(super) fn holds(folder: &Path, blobs: &BTreeMap<Digest, u64>) -> bool {
    let store = folder.join("blobs/sha256");
    blobs.iter().all(|(digest, size)| {
        fs::metadata(store.join(digest.hex())).is_ok_and(|meta| meta.is_file() && meta.len() == *size)
    })
}

fn file(path: &Path, bytes: &[u8]) -> Result<Option<FileStamp>, WriteFault> {
    let write = || {
        let mut place = ExportDest::open(&ArchiveDest::File(path.to_owned()))?;
        place.write_all(bytes)?;
        place.finish()
    };
    write().map_err(|e| (path.to_owned(), e))
}

/// The index that is there, with `names` in place of what had the same names; without a name, of the same content.
fn merged(path: &Path, names: &[DocumentDescriptor]) -> io::Result<Value> {
    let mut manifests: Vec<Value> = match fs::metadata(path) {
        Err(_) => Vec::new(),
        Ok(meta) if meta.len() > LONGEST => return Err(io::Error::other("it is too long to be read")),
        Ok(_) => {
            let index: Value = serde_json::from_slice(&fs::read(path)?)
                .map_err(|e| io::Error::other(format!("what is there is no index ({e})")))?;
            index.get("manifests").and_then(Value::as_array).cloned().unwrap_or_default()
        }
    };
    for descriptor in names {
        let name = descriptor.annotations.get(NAME);
        let same = |it: &Value| match (name, it.pointer("/annotations").and_then(|it| it.get(NAME))) {
            (Some(name), Some(Value::String(there))) => name == there,
            (None, None) => it.get("digest").and_then(Value::as_str) == Some(&descriptor.digest.to_string()),
            _ => false,
        };
        let value = serde_json::to_value(descriptor).expect("descriptors are plain data");
        match manifests.iter().position(same) {
            Some(found) => manifests[found] = value,
            None => manifests.push(value),
        }
    }
    Ok(json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": manifests}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::assemble::descriptor;

    fn export(folder: &Path, name: Option<&str>, content: &'static [u8]) {
        let digest = Digest::of(content);
        let blobs = BTreeMap::from([(digest, content.len() as u64)]);
        let mut root = descriptor(media::OCI_MANIFEST, digest, content.len() as u64);
        root.annotations.extend(name.map(|it| (NAME.to_owned(), it.to_owned())));
        write(folder, &blobs, |_| Ok(MemberContent::Bytes(content)), &[root], |_| {}).expect("written");
    }

    fn index(folder: &Path) -> Vec<(Option<String>, String)> {
        let index: Value = serde_json::from_slice(&fs::read(folder.join("index.json")).expect("there")).expect("JSON");
        let text = |it: &Value| it.as_str().map(str::to_owned);
        let manifests = index["manifests"].as_array().expect("a list");
        manifests.iter().map(|it| (text(&it["annotations"][NAME]), text(&it["digest"]).expect("a digest"))).collect()
    }

    #[test]
    fn exports_add_up_and_equal_names_are_replaced() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = folder.path().join("layout");
        export(&at, Some("a:1"), b"one");
        export(&at, Some("a:2"), b"two");
        export(&at, Some("a:1"), b"three");
        let (two, three) = (Digest::of(b"two").to_string(), Digest::of(b"three").to_string());
        assert_eq!(index(&at), [(Some("a:1".into()), three), (Some("a:2".into()), two)]);
        export(&at, None, b"four");
        export(&at, None, b"four");
        assert_eq!(index(&at).len(), 3);
        let names: Vec<_> = fs::read_dir(&at).expect("there").map(|it| it.expect("readable").file_name()).collect();
        assert_eq!(names.len(), 3, "nothing temporary is left: {names:?}");
    }

    #[test]
    fn blobs_that_are_there_are_not_opened() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        export(folder.path(), Some("a:1"), b"one");
        let blobs = BTreeMap::from([(Digest::of(b"one"), 3)]);
        let never = |_: &Digest| -> io::Result<MemberContent<'_>> { Err(io::Error::other("asked for")) };
        write(folder.path(), &blobs, never, &[], |_| {}).expect("nothing to do");
        assert!(holds(folder.path(), &blobs));
    }

    #[test]
    fn a_foreign_index_is_not_overwritten() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("index.json"), "precious").expect("writable");
        let (path, _) = write(folder.path(), &BTreeMap::new(), |_| Err(io::ErrorKind::NotFound.into()), &[], |_| {})
            .expect_err("it is no index");
        assert!(path.ends_with("index.json"));
        assert_eq!(fs::read(folder.path().join("index.json")).expect("there"), b"precious");
    }
}
