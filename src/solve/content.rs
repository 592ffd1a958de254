//! Content hashes: what the part of a tree that something reads is, whatever history made it (spec/dockerfile.md §15.2).
//!
//! A hash covers type, mode, owner, data, link target, device number and extended attributes, recursively by name; never
//! times, and never the header of the selected directory itself. Copying is `solve::op::file`.

mod local;
#[cfg(test)]
mod tests;

use std::{
    cell::RefCell,
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read},
    os::{fd::AsFd, unix::ffi::OsStrExt},
    path::Path,
    sync::Arc,
};

use rayon::prelude::*;
use sha2::{Digest as _, Sha256};

pub(crate) use local::{Dir, LocalNode, LocalTree, unchanged};

use crate::{
    graph,
    layer::view::{self, EntryKind, Follow, LayerView, LocateWalk, ViewEntry, at, locate::locate},
    oci::{Digest, digest::FieldHasher},
    solve::op::{
        file::FileError,
        select::{CopySelection, Filter, FilterState, select},
    },
};

/// Deeper directories are an error: recursion is bounded by this.
pub(crate) const MAX_DEPTH: usize = 512;
/// Below this depth one thread does it all.
pub(crate) const PARALLEL_DEPTH: usize = 24;
/// Fewer entries are looked at one after the other: waking another thread costs more than they do.
const PARALLEL_ENTRIES: usize = 48;

/// Calls `step` for the directories at this depth: on a new thread every so often, so that the depth of a tree needs
/// many stacks instead of a large one.
pub(crate) fn descend<T: Send>(depth: usize, step: impl FnOnce() -> T + Send) -> T {
    if depth == 0 || !depth.is_multiple_of(32) {
        return step();
    }
    std::thread::scope(|scope| match scope.spawn(step).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// Digests of files that are known from an earlier run, by their stat data; `store`'s stat cache.
pub(crate) trait FileDigests: Send + Sync {
    /// The digest of the file at this path of the folder (relative, with `/`), if it is the same file as then.
    fn get(&self, path: &Path, entry: &ViewEntry) -> Option<Digest>;
    fn put(&self, path: &Path, entry: &ViewEntry, digest: Digest);
}

/// Remembers nothing.
#[cfg(test)]
pub(crate) struct NoDigests;

#[cfg(test)]
impl FileDigests for NoDigests {
    fn get(&self, _: &Path, _: &ViewEntry) -> Option<Digest> {
        None
    }
    fn put(&self, _: &Path, _: &ViewEntry, _: Digest) {}
}

/// A tree that something is read from.
#[derive(Clone)]
pub(crate) struct ContentSource {
    /// What to call it in messages: `the build context`, `stage `build``, `image alpine:3`.
    pub(crate) name: String,
    pub(crate) tree: ContentTree,
}

/// The content of a [`ContentSource`].
#[derive(Clone)]
pub(crate) enum ContentTree {
    /// A directory of the host.
    Local(Arc<LocalTree>),
    /// Snapshots.
    View(Arc<LayerView>),
}

/// A directory of a [`ContentTree`].
#[derive(Clone)]
pub(crate) enum ContentFolder {
    Local(Arc<Dir>),
    View(view::ViewFolder),
}

impl ContentFolder {
    /// From the root of the source, without a leading slash.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Local(dir) => dir.path(),
            Self::View(folder) => folder.path(),
        }
    }
}

/// The content that a COPY or ADD selects. Do not call it on a rayon thread.
pub(crate) fn of_copy(source: &ContentSource, copy: &graph::CopyAction) -> Result<Digest, FileError> {
    let selection = select(source, copy)?;
    let mut hasher = FieldHasher::new("copy/1");
    hasher.number(u64::from(selection.wildcard));
    for found in &selection.matches {
        // The name that it gets; of a directory only the content is copied.
        if selection.wildcard && !found.is_dir() {
            hasher.bytes(found.name.as_bytes());
        }
        of_match(source, &selection, &mut hasher, found)?;
    }
    Ok(hasher.finish())
}

/// The content at a path, the last link followed (a bind mount's source). `/` is all. Do not call it on a rayon thread.
pub(crate) fn of_path(source: &ContentSource, path: &str) -> Result<Digest, FileError> {
    let place = locate(&source.tree, OsStr::new(path), Follow::Last).map_err(|cause| source.unreadable(path, cause))?;
    if place.entry.is_none() {
        return Err(crate::solve::op::select::not_found(source, path, path));
    }
    let found = crate::solve::op::select::Match::new(place, path);
    let selection = CopySelection::whole();
    let mut hasher = FieldHasher::new("path/1");
    of_match(source, &selection, &mut hasher, &found)?;
    Ok(hasher.finish())
}

fn of_match(
    source: &ContentSource,
    selection: &CopySelection,
    hasher: &mut FieldHasher,
    found: &crate::solve::op::select::Match,
) -> Result<(), FileError> {
    let Some(entry) = &found.place.entry else { return Ok(()) };
    let folder = found.place.folder(&source.tree).map_err(|cause| source.unreadable(&found.shown, cause))?;
    if let Some(folder) = folder {
        let digest = match (&source.tree, &folder) {
            (ContentTree::Local(tree), ContentFolder::Local(dir)) if selection.filter.is_empty() => {
                tree.dir_digest(dir)?
            }
            _ => {
                let walk = Hashing { source, filter: &selection.filter };
                walk.dir(&folder, "", &FilterState::default(), 0)?.digest
            }
        };
        hasher.text("dir").digest(&digest);
        return Ok(());
    }
    let (Some(parent), Some(name)) = (&found.place.parent, found.place.name()) else { return Ok(()) };
    let (entry, payload, link) = source.leaf(parent, name, entry)?;
    absorb(hasher, OsStr::new(""), &entry, payload.as_ref(), link.as_deref());
    Ok(())
}

/// A walk that hashes what a filter leaves.
struct Hashing<'a> {
    source: &'a ContentSource,
    filter: &'a Filter,
}

/// The digest of what is left of a directory, and whether that is anything.
struct HashedNode {
    digest: Digest,
    any: bool,
}

impl Hashing<'_> {
    fn dir(
        &self,
        folder: &ContentFolder,
        path: &str,
        state: &FilterState,
        depth: usize,
    ) -> Result<HashedNode, FileError> {
        if depth > MAX_DEPTH {
            return Err(self.source.too_deep(folder));
        }
        let children = self.source.children(folder)?;
        let one = |(name, entry): &(OsString, ViewEntry)| self.child(folder, path, state, depth, name, entry);
        let parts: Vec<Option<ContentPart>> = if depth < PARALLEL_DEPTH && children.len() >= PARALLEL_ENTRIES {
            children.par_iter().map(one).collect::<Result<_, _>>()?
        } else {
            children.iter().map(one).collect::<Result<_, _>>()?
        };
        let mut hasher = dir_hasher();
        let mut any = false;
        for ((name, _), part) in children.iter().zip(&parts) {
            let Some(part) = part else { continue };
            any = true;
            absorb(&mut hasher, name, &part.entry, part.payload.as_ref(), part.link.as_deref());
        }
        Ok(HashedNode { digest: hasher.finish(), any })
    }

    fn child(
        &self,
        folder: &ContentFolder,
        path: &str,
        state: &FilterState,
        depth: usize,
        name: &OsStr,
        entry: &ViewEntry,
    ) -> Result<Option<ContentPart>, FileError> {
        let path = self.filter.join(path, name);
        if entry.kind != EntryKind::Dir {
            if !self.filter.takes_file(state, &path) {
                return Ok(None);
            }
            let (entry, payload, link) = self.source.leaf(folder, name, entry)?;
            return Ok(Some(ContentPart { entry, payload, link }));
        }
        let verdict = self.filter.dir(state, &path);
        let mut payload = dir_hasher().finish();
        let mut any = false;
        if verdict.walk {
            let sub = self.source.tree.enter(folder, name).map_err(|cause| self.source.unreadable_in(folder, cause))?;
            let inner = descend(depth, || self.dir(&sub, &path, &verdict.state, depth + 1))?;
            (payload, any) = (inner.digest, inner.any);
        }
        if !(verdict.taken || any) {
            return Ok(None);
        }
        let xattrs =
            self.source.xattrs(folder, name, entry).map_err(|cause| self.source.unreadable_in(folder, cause))?;
        Ok(Some(ContentPart { entry: entry.clone(), payload: Some(with_xattrs(payload, &xattrs)), link: None }))
    }
}

/// What goes into a directory's hash for one name.
struct ContentPart {
    entry: ViewEntry,
    payload: Option<Digest>,
    link: Option<OsString>,
}

/// Starts the hash of a directory's content.
fn dir_hasher() -> FieldHasher {
    FieldHasher::new("dir/1")
}

/// Adds one name to the hash of a directory. `payload` is the digest of a file's data or a directory's content.
fn absorb(hasher: &mut FieldHasher, name: &OsStr, entry: &ViewEntry, payload: Option<&Digest>, link: Option<&OsStr>) {
    let mode = if entry.kind == EntryKind::Symlink { 0 } else { entry.mode };
    // One field for all the numbers: few bytes, and every one has its place.
    let mut header = [0_u8; 21];
    header[0] = match entry.kind {
        EntryKind::File => 0,
        EntryKind::Dir => 1,
        EntryKind::Symlink => 2,
        EntryKind::Fifo => 3,
        EntryKind::Socket => 4,
        EntryKind::CharDev => 5,
        EntryKind::BlockDev => 6,
    };
    for (to, number) in header[1..].chunks_exact_mut(4).zip([mode, entry.uid, entry.gid, entry.rdev.0, entry.rdev.1]) {
        to.copy_from_slice(&number.to_le_bytes());
    }
    hasher.bytes(name.as_bytes()).bytes(&header);
    match (payload, link) {
        (Some(digest), _) => hasher.digest(digest),
        (None, Some(link)) => hasher.bytes(link.as_bytes()),
        (None, None) => hasher.bytes(&[]),
    };
}

/// The digest of a file's data; with its extended attributes, if it has some.
fn file_digest(file: &File, size: u64) -> io::Result<Digest> {
    thread_local! {
        static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    let data = BUFFER.with_borrow_mut(|buffer| -> io::Result<Digest> {
        buffer.resize(256 * 1024, 0);
        let mut hasher = Sha256::new();
        let mut left = size;
        loop {
            let n = match (&*file).read(buffer) {
                Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
                n => n?,
            };
            hasher.update(&buffer[..n]);
            left = left.saturating_sub(n as u64);
            // The size is checked again by whoever cares; a file that grows would never end.
            if n == 0 || left == 0 && size > 0 {
                return Ok(Digest::from_raw(hasher.finalize().into()));
            }
        }
    })?;
    Ok(with_xattrs(data, &at::xattrs(file)?))
}

/// The digest of content together with extended attributes; that of the content alone, if there are none.
fn with_xattrs(content: Digest, xattrs: &[(OsString, Vec<u8>)]) -> Digest {
    if xattrs.is_empty() {
        return content;
    }
    let mut hasher = FieldHasher::new("attributes/1");
    hasher.digest(&content);
    for (name, value) in xattrs {
        hasher.bytes(name.as_bytes()).bytes(value);
    }
    hasher.finish()
}

impl ContentSource {
    /// The names in a directory, sorted by their bytes.
    pub(crate) fn children(&self, folder: &ContentFolder) -> Result<Vec<(OsString, ViewEntry)>, FileError> {
        let found = match (&self.tree, folder) {
            (ContentTree::Local(tree), ContentFolder::Local(dir)) => tree
                .nodes(dir)
                .map(|nodes| nodes.iter().map(|node| (node.name.clone(), node.entry().clone())).collect()),
            (ContentTree::View(tree), ContentFolder::View(folder)) => tree.list(folder),
            _ => Err(foreign()),
        };
        found.map_err(|cause| self.unreadable_in(folder, cause))
    }

    /// Opens a regular file that `children` found.
    pub(crate) fn open(&self, folder: &ContentFolder, name: &OsStr, entry: &ViewEntry) -> io::Result<File> {
        match (&self.tree, folder) {
            (ContentTree::Local(tree), ContentFolder::Local(dir)) => tree.open_file(dir, name),
            (ContentTree::View(tree), ContentFolder::View(folder)) => tree.file(folder, name, entry),
            _ => Err(foreign()),
        }
    }

    /// The extended attributes of a directory that `children` found.
    pub(crate) fn xattrs(
        &self,
        folder: &ContentFolder,
        name: &OsStr,
        entry: &ViewEntry,
    ) -> io::Result<Vec<(OsString, Vec<u8>)>> {
        match (&self.tree, folder) {
            (ContentTree::Local(tree), ContentFolder::Local(dir)) => {
                match tree.node(dir, name)?.and_then(LocalNode::dir) {
                    Some(dir) => tree.xattrs(dir).map(<[_]>::to_vec),
                    None => Ok(Vec::new()),
                }
            }
            (ContentTree::View(tree), ContentFolder::View(folder)) => tree.xattrs_of(folder, name, entry),
            _ => Err(foreign()),
        }
    }

    /// What is not a directory, for hashing: its metadata, the digest of its data, the text of a link.
    fn leaf(
        &self,
        folder: &ContentFolder,
        name: &OsStr,
        entry: &ViewEntry,
    ) -> Result<(ViewEntry, Option<Digest>, Option<OsString>), FileError> {
        let unreadable = |cause| self.unreadable(&folder.path().join(name).to_string_lossy(), cause);
        match (entry.kind, &self.tree, folder) {
            (EntryKind::Symlink, ..) => {
                let link = self.tree.link_text(folder, name, entry).map_err(unreadable)?;
                Ok((entry.clone(), None, Some(link)))
            }
            (EntryKind::File, ContentTree::Local(tree), ContentFolder::Local(dir)) => {
                let node = tree.node(dir, name).map_err(unreadable)?;
                let node = node.ok_or_else(|| unreadable(io::ErrorKind::NotFound.into()))?;
                let digest = tree.file_digest(dir, node)?;
                Ok((node.entry().clone(), Some(digest), None))
            }
            (EntryKind::File, ..) => {
                let file = self.open(folder, name, entry).map_err(unreadable)?;
                let digest = file_digest(&file, entry.size).map_err(unreadable)?;
                Ok((entry.clone(), Some(digest), None))
            }
            _ => Ok((entry.clone(), None, None)),
        }
    }

    pub(crate) fn unreadable(&self, path: &str, cause: io::Error) -> FileError {
        FileError::Read { path: format!("/{}", path.trim_start_matches('/')), of: self.name.clone(), cause }
    }

    pub(crate) fn unreadable_in(&self, folder: &ContentFolder, cause: io::Error) -> FileError {
        self.unreadable(&folder.path().to_string_lossy(), cause)
    }

    pub(crate) fn too_deep(&self, folder: &ContentFolder) -> FileError {
        let path: std::path::PathBuf = folder.path().components().take(4).collect();
        FileError::TooDeep { path: format!("/{}", path.display()), of: self.name.clone() }
    }
}

/// A folder of another tree was given.
fn foreign() -> io::Error {
    io::ErrorKind::InvalidInput.into()
}

impl LocateWalk for ContentTree {
    type Folder = ContentFolder;

    fn root(&self) -> ContentFolder {
        match self {
            Self::Local(tree) => ContentFolder::Local(tree.top().clone()),
            Self::View(tree) => ContentFolder::View(tree.root()),
        }
    }

    fn root_entry(&self) -> io::Result<ViewEntry> {
        match self {
            Self::Local(tree) => tree.root_entry(),
            Self::View(tree) => tree.root_entry(),
        }
    }

    fn child(&self, folder: &ContentFolder, name: &OsStr) -> io::Result<Option<ViewEntry>> {
        match (self, folder) {
            (Self::Local(tree), ContentFolder::Local(dir)) => Ok(tree.node(dir, name)?.map(|it| it.entry().clone())),
            (Self::View(tree), ContentFolder::View(folder)) => tree.child(folder, name),
            _ => Err(foreign()),
        }
    }

    fn enter(&self, folder: &ContentFolder, name: &OsStr) -> io::Result<ContentFolder> {
        match (self, folder) {
            (Self::Local(tree), ContentFolder::Local(dir)) => {
                let sub = tree.node(dir, name)?.and_then(|it| it.dir().cloned());
                sub.map(ContentFolder::Local).ok_or_else(|| io::ErrorKind::NotADirectory.into())
            }
            (Self::View(tree), ContentFolder::View(folder)) => tree.enter(folder, name).map(ContentFolder::View),
            _ => Err(foreign()),
        }
    }

    fn link_text(&self, folder: &ContentFolder, name: &OsStr, entry: &ViewEntry) -> io::Result<OsString> {
        match (self, folder) {
            (Self::Local(tree), ContentFolder::Local(dir)) => at::read_link(tree.open_dir(dir)?.as_fd(), name),
            (Self::View(tree), ContentFolder::View(folder)) => tree.link_text(folder, name, entry),
            _ => Err(foreign()),
        }
    }
}
