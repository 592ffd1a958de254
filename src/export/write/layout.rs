//! OCI layout folders (OCI image spec, "Image Layout"), written: blobs first, `index.json` last, under a lock.
//!
//! What is there stays: an image with the same name is replaced in the index, others are kept, so that exports add up.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, flock},
    io::Errno,
};
use serde_json::{Value, json};

use super::{
    dest::{ExportDest, WriteFault},
    member::MemberContent,
};
use crate::{
    export::{assemble::DocumentDescriptor, remember::FileStamp},
    grant::GrantedWrite,
    layer::view::at,
    oci::{Digest, media},
};

/// The content of the file `oci-layout` (OCI image spec, image-layout.md).
pub(super) const VERSION: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
const VERSION_FILE: &str = "oci-layout";
pub(crate) const INDEX_FILE: &str = "index.json";
/// The annotation of an entry that is its tag (OCI image spec, annotations.md).
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";
pub(super) const LOCK_FILE: &str = "index.json.lock";
/// The annotation of an image with its full name.
pub(super) const IMAGE_NAME: &str = "io.containerd.image.name";
/// Longest `index.json` that is read, in bytes.
const LONGEST: u64 = 8 << 20;

/// What becomes of the blobs of images that are replaced in a layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LayoutJoin {
    /// They stay, as those that other tools write do.
    KeepBlobs,
    /// They go, unless another image of the layout has them.
    Sweep,
}

/// Adds images to an OCI layout folder. Blobs that are there are not written again. Returns the stamp of
/// `index.json`.
///
/// # Errors
/// The path and the error of the system. Links below the folder are not followed, and what must be a regular file never
/// blocks.
pub(super) fn write<'a>(
    folder: &GrantedWrite,
    blobs: &BTreeMap<Digest, u64>,
    mut open: impl FnMut(&Digest) -> io::Result<MemberContent<'a>>,
    names: &[DocumentDescriptor],
    join: LayoutJoin,
    mut moved: impl FnMut(u64),
) -> Result<Option<FileStamp>, WriteFault> {
    let root = folder.make_dir(0o777).map_err(|error| (folder.path().to_owned(), error))?;
    write_blobs(&root, folder.path(), None, blobs, &mut open, &mut moved)?;
    let at_path = |path: &str| {
        let path = folder.path().join(path);
        move |e: io::Error| (path, e)
    };
    let _lock = IndexLock::take(&root).map_err(at_path(LOCK_FILE))?;
    // Another process may have taken away blobs that were there and that no image had any more.
    write_blobs(&root, folder.path(), None, blobs, &mut open, |_| ())?;
    join_index(&root, values(names), join).map_err(at_path(INDEX_FILE))
}

fn values(names: &[DocumentDescriptor]) -> Vec<Value> {
    names.iter().map(|name| serde_json::to_value(name).expect("descriptors are plain data")).collect()
}

/// Writes into the empty directory `root` what the layout `folder` is to get: the blobs that it lacks, and an index of the
/// new names alone. Where blobs are swept it gets all of them: those that are there may be gone when it is released.
pub(super) fn stage<'a>(
    root: &OwnedFd,
    folder: &GrantedWrite,
    blobs: &BTreeMap<Digest, u64>,
    open: impl FnMut(&Digest) -> io::Result<MemberContent<'a>>,
    names: &[DocumentDescriptor],
    join: LayoutJoin,
    moved: impl FnMut(u64),
) -> Result<(), WriteFault> {
    let there = || folder.open_dir().and_then(|root| at::dir(root.as_fd(), Path::new("blobs/sha256"))).ok();
    let there = if join == LayoutJoin::Sweep { None } else { there() };
    write_blobs(root, folder.path(), there.as_ref(), blobs, open, moved)?;
    write_index(root, &values(names)).map_err(|error| (folder.path().join(INDEX_FILE), error))
}

/// Merges a staged layout into the layout `root`: `move_blobs`, then the index, under one lock.
pub(crate) fn merge_layout(
    staged: &OwnedFd,
    root: &OwnedFd,
    sweeps: bool,
    move_blobs: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    let names = manifests(staged)?;
    let _lock = IndexLock::take(root)?;
    move_blobs()?;
    join_index(root, names, if sweeps { LayoutJoin::Sweep } else { LayoutJoin::KeepBlobs }).map(drop)
}

/// Puts descriptors into the index of a layout, whose lock the caller has. An index that would stay the same is not written.
/// The result is the stamp of the index.
fn join_index(root: &OwnedFd, descriptors: Vec<Value>, join: LayoutJoin) -> io::Result<Option<FileStamp>> {
    let before = manifests(root)?;
    let text = merged(before.clone(), descriptors).to_string();
    if read(root.as_fd(), INDEX_FILE).is_ok_and(|there| there == text.as_bytes()) {
        return FileStamp::of_file(&at::file(root.as_fd(), Path::new(INDEX_FILE))?).map(Some);
    }
    let stamp = write_file(root, INDEX_FILE, text.as_bytes())?;
    if join == LayoutJoin::Sweep {
        sweep(root, &before, &manifests(root)?);
    }
    Ok(stamp)
}

/// Removes the blobs of images that were in the index and are not any more, unless one that is in it has them. If it cannot be
/// seen what an image has, nothing is removed; a fault is none of the export: what is not removed takes room only.
fn sweep(root: &OwnedFd, before: &[Value], now: &[Value]) {
    let Ok(store) = at::dir(root.as_fd(), Path::new("blobs/sha256")) else { return };
    let Some(used) = reachable(&store, now) else { return };
    let is_in = |descriptor: &&Value| !now.iter().any(|it| it.get("digest") == descriptor.get("digest"));
    let gone: Vec<Value> = before.iter().filter(is_in).cloned().collect();
    for digest in reachable(&store, &gone).unwrap_or_default().difference(&used) {
        rustix::fs::unlinkat(&store, digest.hex(), AtFlags::empty()).ok();
    }
}

/// The digests of descriptors and of all that the documents which they name refer to. `None` if a document cannot be read.
fn reachable(store: &OwnedFd, descriptors: &[Value]) -> Option<BTreeSet<Digest>> {
    /// Media types of documents end with these; all others are not looked into.
    const DOCUMENTS: [&str; 4] = [".index.v1+json", ".manifest.v1+json", ".manifest.list.v2+json", ".manifest.v2+json"];
    let mut found = BTreeSet::new();
    let mut open: Vec<Value> = descriptors.to_vec();
    while let Some(value) = open.pop() {
        match value {
            Value::Array(all) => open.extend(all),
            Value::Object(members) => {
                let text = |key: &str| members.get(key).and_then(Value::as_str);
                let digest = text("digest").and_then(|digest| digest.parse::<Digest>().ok());
                let is_document =
                    text("mediaType").is_some_and(|media_type| DOCUMENTS.iter().any(|end| media_type.ends_with(end)));
                if let Some(digest) = digest
                    && found.insert(digest)
                    && is_document
                {
                    open.push(serde_json::from_slice(&read(store.as_fd(), &digest.hex()).ok()?).ok()?);
                }
                open.extend(members.into_iter().map(|(_, value)| value).filter(|it| it.is_object() || it.is_array()));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => (),
        }
    }
    Some(found)
}

/// Writes the blobs that a layout lacks, and the file that makes a folder a layout. Returns the folder of the blobs.
/// `folder` is the path in messages. Blobs that lie in `there` are left out.
pub(super) fn write_blobs<'a>(
    root: &OwnedFd,
    folder: &Path,
    there: Option<&OwnedFd>,
    blobs: &BTreeMap<Digest, u64>,
    mut open: impl FnMut(&Digest) -> io::Result<MemberContent<'a>>,
    mut moved: impl FnMut(u64),
) -> Result<OwnedFd, WriteFault> {
    let at_path = |path: &str| {
        let path = folder.join(path);
        move |e: io::Error| (path, e)
    };
    let store =
        make_dir(root, "blobs").and_then(|blobs| make_dir(&blobs, "sha256")).map_err(at_path("blobs/sha256"))?;
    let mut written = 0;
    for (digest, size) in blobs {
        let name = digest.hex();
        let is_held = |dir: &OwnedFd| has_blob(dir.as_fd(), &name, *size);
        if is_held(&store) || there.is_some_and(is_held) {
            continue;
        }
        let at_blob = || at_path(&format!("blobs/sha256/{name}"));
        let dir = store.try_clone().map_err(at_blob())?;
        let mut place = ExportDest::open_at(dir, OsStr::new(&name)).map_err(at_blob())?;
        match open(digest).map_err(at_blob())? {
            MemberContent::Bytes(bytes) => place.write_all(bytes).map_err(at_blob())?,
            MemberContent::File(mut file) => {
                place.copy(&mut file).map_err(at_blob())?;
            }
        }
        if place.written() != *size {
            return Err(at_blob()(io::Error::other("the blob has another length than it should")));
        }
        written += place.written();
        place.finish().map_err(at_blob())?;
        moved(written);
    }
    if read(root.as_fd(), VERSION_FILE).ok().as_deref() != Some(VERSION) {
        write_file(root, VERSION_FILE, VERSION).map_err(at_path(VERSION_FILE))?;
    }
    Ok(store)
}

/// Opens a folder of the layout, made where missing. A link of this name is an error.
fn make_dir(dir: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    match rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o777)) {
        Ok(()) | Err(Errno::EXIST) => at::dir(dir.as_fd(), Path::new(name)),
        Err(error) => Err(error.into()),
    }
}

/// Whether a folder of blobs has one of this length.
pub(super) fn has_blob(store: BorrowedFd<'_>, name: &str, size: u64) -> bool {
    at::stat(store, OsStr::new(name)).ok().flatten().is_some_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && u64::try_from(stat.st_size) == Ok(size)
    })
}

/// A small regular file of a folder.
pub(super) fn read(dir: BorrowedFd<'_>, name: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    at::file(dir, Path::new(name))?.take(LONGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST { Err(io::Error::other("it is too long to be read")) } else { Ok(bytes) }
}

fn write_file(dir: &OwnedFd, name: &str, bytes: &[u8]) -> io::Result<Option<FileStamp>> {
    let mut place = ExportDest::open_at(dir.try_clone()?, OsStr::new(name))?;
    place.write_all(bytes)?;
    place.finish()
}

/// The lock of an index, which other tools know as well. Its file is removed when it is given up.
pub(super) struct IndexLock<'a> {
    dir: &'a OwnedFd,
    _file: File,
}

impl<'a> IndexLock<'a> {
    /// Waits until no other process has it.
    pub(super) fn take(dir: &'a OwnedFd) -> io::Result<Self> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        loop {
            let file = match rustix::fs::openat(dir, LOCK_FILE, flags, Mode::from_raw_mode(0o666)) {
                Err(Errno::NXIO) => return Err(io::Error::other("it is not a file")),
                opened => File::from(opened?),
            };
            let ours = rustix::fs::fstat(&file)?;
            if FileType::from_raw_mode(ours.st_mode) != FileType::RegularFile {
                return Err(io::Error::other("it is not a file"));
            }
            flock(&file, FlockOperation::LockExclusive)?;
            // Its last holder may have removed the file meanwhile: then the lock is of no use.
            let there = at::stat(dir.as_fd(), OsStr::new(LOCK_FILE))?;
            if there.is_some_and(|it| it.st_ino == ours.st_ino) {
                return Ok(Self { dir, _file: file });
            }
        }
    }
}

impl Drop for IndexLock<'_> {
    fn drop(&mut self) {
        rustix::fs::unlinkat(self.dir, LOCK_FILE, AtFlags::empty()).ok();
    }
}

/// Whether a layout folder has all of these blobs, by their lengths.
pub(super) fn holds(folder: &GrantedWrite, blobs: &BTreeMap<Digest, u64>) -> bool {
    let store = folder.open_dir().and_then(|root| at::dir(root.as_fd(), Path::new("blobs/sha256")));
    store.is_ok_and(|store| blobs.iter().all(|(digest, size)| has_blob(store.as_fd(), &digest.hex(), *size)))
}

/// The descriptors in the index that is there.
pub(super) fn manifests(root: &OwnedFd) -> io::Result<Vec<Value>> {
    match read(root.as_fd(), INDEX_FILE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
        Ok(bytes) => {
            let index: Value = serde_json::from_slice(&bytes)
                .map_err(|e| io::Error::other(format!("what is there is no index ({e})")))?;
            Ok(index.get("manifests").and_then(Value::as_array).cloned().unwrap_or_default())
        }
    }
}

/// An index of `manifests`, with `descriptors` in place of what had the same names; without a name, of the same content.
fn merged(mut manifests: Vec<Value>, descriptors: Vec<Value>) -> Value {
    let name_of = |descriptor: &Value| descriptor.get("annotations").and_then(|all| all.get(IMAGE_NAME)).cloned();
    for descriptor in descriptors {
        let name = name_of(&descriptor);
        let same = |there: &Value| match (&name, name_of(there)) {
            (Some(name), Some(there)) => *name == there,
            (None, None) => there.get("digest") == descriptor.get("digest"),
            _ => false,
        };
        match manifests.iter().position(same) {
            Some(found) => manifests[found] = descriptor,
            None => manifests.push(descriptor),
        }
    }
    index_of(&manifests)
}

fn index_of(manifests: &[Value]) -> Value {
    json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": manifests})
}

/// The descriptor that has this tag in the index of a layout; of an index with one entry that one.
pub(crate) fn tagged(root: &OwnedFd, tag: &str) -> Option<Value> {
    let mut all = manifests(root).ok()?;
    let found = all.iter().rposition(|entry| entry["annotations"][REF_NAME].as_str() == Some(tag));
    found.or((all.len() == 1).then_some(0)).map(|at| all.swap_remove(at))
}

/// Gives a tag in the index of a layout to a descriptor, whose blobs are there.
///
/// # Errors
/// Those of the system.
pub(crate) fn set_tag(root: &OwnedFd, tag: &str, descriptor: Value) -> io::Result<()> {
    let _lock = IndexLock::take(root)?;
    write_file(root, VERSION_FILE, VERSION)?;
    let mut all = manifests(root)?;
    all.retain(|entry| entry["annotations"][REF_NAME].as_str() != Some(tag));
    let mut tagged = descriptor;
    tagged["annotations"][REF_NAME] = tag.into();
    all.push(tagged);
    write_index(root, &all)
}

/// Replaces the index. The caller has its lock.
pub(super) fn write_index(root: &OwnedFd, manifests: &[Value]) -> io::Result<()> {
    write_file(root, INDEX_FILE, index_of(manifests).to_string().as_bytes()).map(drop)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;
    use crate::{
        export::assemble::descriptor,
        grant::{Allowed, resolve},
    };

    fn granted(path: &Path) -> GrantedWrite {
        let mut allowed = Allowed::default();
        allowed.allow(Path::new("*"), Path::new("/"));
        allowed.write(resolve(path, Path::new("/")).expect("a path")).expect("all is allowed")
    }

    fn export(folder: &Path, name: Option<&str>, content: &'static [u8]) {
        let digest = Digest::of(content);
        let blobs = BTreeMap::from([(digest, content.len() as u64)]);
        let mut root = descriptor(media::OCI_MANIFEST, digest, content.len() as u64);
        root.annotations.extend(name.map(|it| (IMAGE_NAME.to_owned(), it.to_owned())));
        write(&granted(folder), &blobs, |_| Ok(MemberContent::Bytes(content)), &[root], LayoutJoin::KeepBlobs, |_| {})
            .expect("written");
    }

    fn index(folder: &Path) -> Vec<(Option<String>, String)> {
        let index: Value = serde_json::from_slice(&fs::read(folder.join("index.json")).expect("there")).expect("JSON");
        let text = |it: &Value| it.as_str().map(str::to_owned);
        let manifests = index["manifests"].as_array().expect("a list");
        manifests
            .iter()
            .map(|it| (text(&it["annotations"][IMAGE_NAME]), text(&it["digest"]).expect("a digest")))
            .collect()
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
        write(&granted(folder.path()), &blobs, never, &[], LayoutJoin::KeepBlobs, |_| {}).expect("nothing to do");
        assert!(holds(&granted(folder.path()), &blobs));
    }

    #[test]
    fn a_foreign_index_is_not_overwritten() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("index.json"), "precious").expect("writable");
        let (path, _) = write(
            &granted(folder.path()),
            &BTreeMap::new(),
            |_| Err(io::ErrorKind::NotFound.into()),
            &[],
            LayoutJoin::KeepBlobs,
            |_| {},
        )
        .expect_err("it is no index");
        assert!(path.ends_with("index.json"));
        assert_eq!(fs::read(folder.path().join("index.json")).expect("there"), b"precious");
    }

    #[test]
    fn links_and_pipes_in_a_layout_are_not_followed_and_do_not_block() {
        let (folder, outside) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let blobs = BTreeMap::from([(Digest::of(b"one"), 3)]);
        let try_it = |at: &Path| {
            write(&granted(at), &blobs, |_| Ok(MemberContent::Bytes(b"one")), &[], LayoutJoin::KeepBlobs, |_| {})
                .map_err(|(path, _)| path)
        };
        let at = folder.path().join("a");
        fs::create_dir(&at).expect("writable");
        symlink(outside.path(), at.join("blobs")).expect("writable");
        assert!(try_it(&at).expect_err("a link").ends_with("blobs/sha256"));
        assert_eq!(fs::read_dir(outside.path()).expect("there").count(), 0);
        for name in [INDEX_FILE, LOCK_FILE] {
            let at = folder.path().join(name);
            fs::create_dir(&at).expect("writable");
            let root = at::host_dir(&at).expect("there");
            rustix::fs::mknodat(&root, name, FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("writable");
            assert!(try_it(&at).expect_err("a pipe").ends_with(name));
        }
    }
}
