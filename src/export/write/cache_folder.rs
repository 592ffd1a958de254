//! Shared caches in an OCI layout folder: records of this build are joined with those under the tag, and blobs that only
//! the replaced documents needed are removed.
//!
//! Everything from reading what is there to the new `index.json` is done under the lock of the index, so that no writer
//! loses records of another. Other images of the folder, and other tags, stay as they are.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rustix::fs::AtFlags;
use serde_json::Value;

use super::{
    cache::{CacheWrite, content_of, told},
    dest::WriteFault,
    job,
    layout::{self, IMAGE_NAME, INDEX_FILE, IndexLock, LOCK_FILE, REF_NAME},
    member::MemberContent,
};
use crate::{
    export::{
        assemble::{BlobContent, CacheContent, CacheDocuments, descriptor},
        cache::CacheEmptying,
        context::ExportContext,
    },
    grant::{self, GrantedWrite},
    layer::view::at,
    oci::{Digest, media},
    registry::Document,
    store::Store,
};

/// How old a blob that nothing names must be before `reset` removes it: another export may be about to name it.
const LEFT_BEHIND: Duration = Duration::from_secs(60 * 60);
/// How deep documents may name each other.
const DEEPEST: usize = 8;

/// Writes the records of a build, and those that are there, under a tag of a folder. With `emptying`, the first write of
/// the run drops what is there.
///
/// # Errors
/// The text names the path and the error of the system.
pub(super) async fn write(
    context: &ExportContext,
    folder: &Path,
    tag: &str,
    emptying: Option<CacheEmptying>,
    write: CacheWrite<'_>,
) -> Result<(), String> {
    job::fetch(context, &write.blobs).await.map_err(|e| e.to_string())?;
    let place =
        grant::resolve(folder, Path::new("/")).map_err(|e| format!("cannot find `{}`: {e}", folder.display()))?;
    let place = context.writable.write(place).map_err(|grant::Denied(path)| {
        let path = path.display();
        format!("the destination leads to `{path}`, where it may not write; --allow=fs.write={path} allows it")
    })?;
    let CacheWrite { document, made, blobs, now } = write;
    let sizes = blobs.iter().filter(|it| !matches!(it.from, BlobContent::Bytes(_))).map(|it| (it.digest, it.size));
    let work = FolderWrite {
        place,
        tag: tag.to_owned(),
        emptying,
        layers: sizes.collect(),
        store: context.store.clone(),
        documents: Box::new({
            let document = document.clone();
            move |there| {
                let mine = made.clone().with_times_of(&there);
                CacheDocuments::of(&there.joined(mine).trimmed(now), &document)
            }
        }),
        now,
    };
    let written = tokio::task::spawn_blocking(move || work.run());
    let written = written.await.map_err(|e| told(&e))?;
    written.map_err(|(path, e)| format!("cannot write `{}`: {e}", path.display()))
}

/// One write into a folder.
struct FolderWrite {
    place: GrantedWrite,
    tag: String,
    emptying: Option<CacheEmptying>,
    /// The layers of this build, with their sizes; the store has them.
    layers: BTreeMap<Digest, u64>,
    store: Store,
    /// Makes the documents from the content that is there.
    documents: Box<dyn Fn(CacheContent) -> CacheDocuments + Send>,
    now: i64,
}

impl FolderWrite {
    fn run(self) -> Result<(), WriteFault> {
        let folder = self.place.path();
        let root = self.place.make_dir(0o777).map_err(|error| (folder.to_owned(), error))?;
        let open = |digest: &Digest| self.store.open_blob(digest).map(MemberContent::File).map_err(io::Error::other);
        // Layers are written before the lock is taken, as they may be long.
        layout::write_blobs(&root, folder, None, &self.layers, open, |_| ())?;
        let at_path = |path: &str| fault(folder, path);
        let _lock = IndexLock::take(&root).map_err(at_path(LOCK_FILE))?;
        // Another writer may have removed one of them meanwhile, with the last document that named it.
        let blobs = layout::write_blobs(&root, folder, None, &self.layers, open, |_| ())?;
        let entries = layout::manifests(&root).map_err(at_path(INDEX_FILE))?;
        let (mine, others): (Vec<Value>, Vec<Value>) = entries.into_iter().partition(|it| self.is_mine(it));
        let empties = self.emptying.as_ref().is_some_and(CacheEmptying::take);
        let there = if empties { CacheContent::default() } else { self.content(&blobs, &mine) };
        let CacheDocuments { root: document, config } = (self.documents)(there);
        let mut named = descriptor(&document.media_type, document.digest, document.bytes.len() as u64);
        named.annotations.insert(REF_NAME.to_owned(), self.tag.clone());
        let named = serde_json::to_value(named).expect("descriptors are plain data");
        let is_unchanged = mine == [named.clone()];
        let both = BTreeMap::from([(document.digest, document.bytes), (config.digest, config.bytes)]);
        let sizes = both.iter().map(|(digest, bytes)| (*digest, bytes.len() as u64)).collect();
        layout::write_blobs(&root, folder, None, &sizes, |digest| Ok(MemberContent::Bytes(&both[digest])), |_| ())?;
        if is_unchanged && !empties {
            return Ok(());
        }
        let kept: Vec<Value> = others.into_iter().chain([named]).collect();
        layout::write_index(&root, &kept).map_err(at_path(INDEX_FILE))?;
        self.sweep(&blobs, &mine, &kept, empties).map_err(at_path("blobs/sha256"))
    }

    /// Whether a descriptor of the index is a cache under this tag. Images have a name beside it.
    fn is_mine(&self, descriptor: &Value) -> bool {
        let annotation = |key: &str| descriptor.get("annotations").and_then(|all| all.get(key));
        annotation(IMAGE_NAME).is_none() && annotation(REF_NAME).and_then(Value::as_str) == Some(&self.tag)
    }

    /// The records under this tag whose layers are all there.
    fn content(&self, blobs: &OwnedFd, mine: &[Value]) -> CacheContent {
        let Some((digest, media_type)) = mine.last().and_then(named) else { return CacheContent::default() };
        let Some(bytes) = document(blobs.as_fd(), &digest) else { return CacheContent::default() };
        let root = Document { digest, media_type: media_type.to_owned(), bytes };
        let about = crate::export::assemble::parts(&root).ok();
        let config = about.and_then(|(config, _)| config.digest().to_string().parse().ok());
        let config: Option<Vec<u8>> = config.and_then(|digest: Digest| document(blobs.as_fd(), &digest));
        let content = content_of(&root, config.as_deref(), self.now);
        content.present(|layer| layout::has_blob(blobs.as_fd(), &layer.blob.hex(), layer.size))
    }

    /// Removes the blobs that the replaced documents named and nothing does any more; if the folder was emptied, also what
    /// nothing has named for long.
    fn sweep(&self, blobs: &OwnedFd, replaced: &[Value], kept: &[Value], empties: bool) -> io::Result<()> {
        let mut needed = BTreeSet::new();
        if !reach(blobs.as_fd(), kept, DEEPEST, &mut needed) {
            tracing::debug!("a document of the folder cannot be read: nothing is removed");
            return Ok(());
        }
        let mut dropped = BTreeSet::new();
        reach(blobs.as_fd(), replaced, DEEPEST, &mut dropped);
        for name in at::names(blobs.as_fd())? {
            let Some(digest) = name.to_str().and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok()) else {
                continue;
            };
            let goes = dropped.contains(&digest) || empties && is_left_behind(blobs.as_fd(), &name)?;
            if goes && !needed.contains(&digest) {
                rustix::fs::unlinkat(blobs, &name, AtFlags::empty())?;
            }
        }
        Ok(())
    }
}

fn fault(folder: &Path, path: &str) -> impl FnOnce(io::Error) -> (PathBuf, io::Error) + use<> {
    let path = folder.join(path);
    move |error| (path, error)
}

/// Digest and media type of a descriptor.
fn named(descriptor: &Value) -> Option<(Digest, &str)> {
    let text = |key: &str| descriptor.get(key).and_then(Value::as_str);
    Some((text("digest")?.parse().ok()?, text("mediaType").unwrap_or_default()))
}

/// A document of the folder; `None` if it is missing, too long or not what its digest says.
fn document(blobs: BorrowedFd<'_>, digest: &Digest) -> Option<Vec<u8>> {
    let bytes = layout::read(blobs, &digest.hex()).ok()?;
    (Digest::of(&bytes) == *digest).then_some(bytes)
}

/// Collects everything that descriptors lead to; `false` if a document among them cannot be read.
fn reach(blobs: BorrowedFd<'_>, descriptors: &[Value], depth: usize, into: &mut BTreeSet<Digest>) -> bool {
    let mut is_whole = true;
    for descriptor in descriptors {
        let Some((digest, media_type)) = named(descriptor) else { continue };
        if !into.insert(digest) || !(media::is_index(media_type) || media::is_manifest(media_type)) {
            continue;
        }
        let value = document(blobs, &digest).and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
        let Some(value) = value.filter(|_| depth > 0) else {
            is_whole = false;
            continue;
        };
        let lists = ["layers", "manifests"].into_iter().filter_map(|key| value.get(key).and_then(Value::as_array));
        let inner: Vec<Value> = lists.flatten().chain(value.get("config")).cloned().collect();
        is_whole &= reach(blobs, &inner, depth - 1, into);
    }
    is_whole
}

fn is_left_behind(blobs: BorrowedFd<'_>, name: &OsStr) -> io::Result<bool> {
    let Some(stat) = at::stat(blobs, name)? else { return Ok(false) };
    let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(stat.st_ctime).unwrap_or(0));
    Ok(changed.elapsed().is_ok_and(|age| age > LEFT_BEHIND))
}
