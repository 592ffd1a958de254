//! Where a step reads from: a build context on the host, or stacked layers, behind one interface.
//!
//! Lists, opens and follows; what of it counts is `select`, its hash is `hash`.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::fd::AsFd,
    path::Path,
    sync::Arc,
};

use super::{
    entry_hash::file_digest,
    error::ContentError,
    local::{LocalDir, LocalNode, LocalTree},
};
use crate::{
    layer::view::{self, EntryKind, LayerView, LocateWalk, ViewEntry, at},
    oci::Digest,
};

/// A tree that a COPY, ADD or mount reads, with its name for messages.
#[derive(Clone)]
pub(crate) struct ContentSource {
    /// What to call it in messages: `the build context`, `stage `build``, `image alpine:3`.
    pub(crate) name: String,
    pub(crate) tree: ContentTree,
}

/// The tree of a [`ContentSource`]: a local context or stacked layers.
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
    Local(Arc<LocalDir>),
    View(view::ViewFolder),
}

impl ContentFolder {
    /// The path from the root of the source, without a leading slash.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Local(dir) => dir.path(),
            Self::View(folder) => folder.path(),
        }
    }
}

impl From<view::ViewFolder> for ContentFolder {
    fn from(folder: view::ViewFolder) -> Self {
        Self::View(folder)
    }
}

impl ContentSource {
    /// Lists a directory, sorted by the bytes of the names.
    pub(crate) fn children(&self, folder: &ContentFolder) -> Result<Vec<(OsString, ViewEntry)>, ContentError> {
        let found = match (&self.tree, folder) {
            (ContentTree::Local(tree), ContentFolder::Local(dir)) => tree
                .nodes(dir)
                .map(|nodes| nodes.iter().map(|node| (node.name.clone(), node.entry().clone())).collect()),
            (ContentTree::View(tree), ContentFolder::View(folder)) => tree.list(folder),
            _ => Err(foreign()),
        };
        found.map_err(|cause| self.unreadable_in(folder, cause))
    }

    /// Opens a regular file for reading; `folder`, `name` and `entry` are as [`children`](Self::children) gave them.
    ///
    /// # Errors
    /// Those of the system; also when the file has become something else, or `folder` is of another source. No link is
    /// followed.
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

    /// The parts of an entry that is not a directory, for hashing: its metadata, the digest of its data, the text of a
    /// link.
    pub(super) fn leaf(
        &self,
        folder: &ContentFolder,
        name: &OsStr,
        entry: &ViewEntry,
    ) -> Result<(ViewEntry, Option<Digest>, Option<OsString>), ContentError> {
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

    /// The error for a failed read at a path of the source.
    pub(crate) fn unreadable(&self, path: &str, cause: io::Error) -> ContentError {
        ContentError::Read { path: format!("/{}", path.trim_start_matches('/')), of: self.name.clone(), cause }
    }

    /// The error for a failed read in a directory of the source.
    pub(crate) fn unreadable_in(&self, folder: &ContentFolder, cause: io::Error) -> ContentError {
        self.unreadable(&folder.path().to_string_lossy(), cause)
    }

    /// The error for a directory below [`MAX_DEPTH`](super::walk::MAX_DEPTH) others.
    pub(crate) fn too_deep(&self, folder: &ContentFolder) -> ContentError {
        let path: std::path::PathBuf = folder.path().components().take(4).collect();
        ContentError::TooDeep { path: format!("/{}", path.display()), of: self.name.clone() }
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
