//! `COPY --link` above the layers that it is put on: directories on the way to its destination keep the mode and owner that
//! they have there (<https://docs.docker.com/reference/dockerfile/#copy---link>).
//!
//! The copy itself is made on an empty tree and does not depend on what is below. Where the modes and owners of the
//! directories on the way agree with those below, as they mostly do, its layer is used as it is. Where they do not, a second
//! layer is made of it that differs in these directories alone: its name follows from the copy and from those modes and
//! owners, so that bases which have the same share it. Times stay those of the copy.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
};

use super::{
    copy::{Copier, Looks},
    error::FileError,
    tree_writer::{MadeEntry, TreeWriter},
};
use crate::{
    graph::FileAction,
    layer::view::{EntryKind, LayerView, LocateWalk as _, ViewEntry},
    oci::{Digest, digest::FieldHasher},
    report::Diagnostic,
    solve::{
        content::{select::Filter, source::ContentTree},
        failure::{store_fault, view_fault},
        reads::layer_source,
    },
    store::{SnapshotId, SnapshotMeta, Store},
};

/// The directories on the way to the destinations of a copy, by their paths, with the mode and owner that they have below.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeptDirs(BTreeMap<PathBuf, MadeEntry>);

/// The paths of the directories that lead to the destinations of a copy, without a leading slash and without the root, which
/// stands in no layer. A destination that may be a file is among them.
pub(crate) fn on_the_way(actions: &[FileAction]) -> BTreeSet<PathBuf> {
    let mut paths = BTreeSet::new();
    for action in actions {
        let dest = match action {
            FileAction::Copy(copy) => &copy.dest,
            FileAction::Mkdir { path, .. } => path,
            FileAction::Mkfile { dest, .. } => dest,
        };
        let names = dest.split('/').filter(|name| !matches!(*name, "" | "."));
        let dest: PathBuf = names.collect();
        paths.extend(dest.ancestors().filter(|it| !it.as_os_str().is_empty()).map(Path::to_owned));
    }
    paths
}

impl KeptDirs {
    /// Finds which of the directories at `paths` have another mode or owner in the tree of `lower` than in the copy
    /// `upper` (folders of layers, lowest first). Links are not followed: a directory of the copy replaces them.
    ///
    /// # Errors
    /// When a layer cannot be read.
    pub(crate) fn find(lower: &[PathBuf], upper: &[PathBuf], paths: &BTreeSet<PathBuf>) -> Result<Self, Diagnostic> {
        Self::compare(lower, upper, paths).map_err(|error| view_fault(&error))
    }

    fn compare(lower: &[PathBuf], upper: &[PathBuf], paths: &BTreeSet<PathBuf>) -> io::Result<Self> {
        let (lower, upper) = (LayerView::open(lower)?, LayerView::open(upper)?);
        let mut kept = BTreeMap::new();
        for path in paths {
            if let (Some(below), Some(here)) = (directory(&lower, path)?, directory(&upper, path)?)
                && (below.mode, below.uid, below.gid) != (here.mode, here.uid, here.gid)
            {
                kept.insert(path.clone(), MadeEntry { mode: below.mode, owner: (below.uid, below.gid) });
            }
        }
        Ok(Self(kept))
    }

    /// Whether the copy can be used as it is.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The name of the snapshot that [`apply`](Self::apply) makes of the snapshot `copy`.
    pub(crate) fn snapshot(&self, copy: &SnapshotId) -> SnapshotId {
        let mut hasher = FieldHasher::new("snapshot/linked/1");
        hasher.digest(&copy.0).number(self.0.len() as u64);
        for (path, MadeEntry { mode, owner: (uid, gid) }) in &self.0 {
            // No two paths become one text: they are those of a Dockerfile, which is text.
            hasher.text(&path.to_string_lossy());
            for number in [mode, uid, gid] {
                hasher.number(u64::from(*number));
            }
        }
        SnapshotId(hasher.finish())
    }

    /// Makes the snapshot `id`: the copy in the folder `copy`, with these modes and owners. Its files are shared by hard
    /// links. *Blocks; not on a rayon thread.*
    ///
    /// # Errors
    /// When the state directory cannot be read or written.
    pub(crate) fn apply(
        &self,
        store: &Store,
        copy: &Path,
        id: &SnapshotId,
        meta: SnapshotMeta,
    ) -> Result<(), Diagnostic> {
        let active = store.prepare().map_err(|error| store_fault(&error))?;
        let empty = LayerView::open(&[]).map_err(|error| view_fault(&error))?;
        let writer = TreeWriter::new(&active.fs(), empty).map_err(|error| view_fault(&error))?;
        let source = layer_source("the files of COPY --link", &[copy.to_owned()])?;
        let ContentTree::View(view) = &source.tree else { unreachable!("it is made of layers") };
        let looks = Looks { owner: None, mode: None, reset_owner: false, default_file_mode: None };
        let filter = Filter::default();
        let root = writer.root_dest().map_err(|error| view_fault(&error))?;
        let write = || -> Result<(), FileError> {
            let copier = Copier::sharing(&writer, &source, &filter, &looks);
            copier.content(&view.root().into(), root)?;
            for (path, made) in &self.0 {
                let dest = writer.make_dirs(path, *made)?;
                writer.dress_dir(&dest, *made)?;
            }
            writer.finish()
        };
        write().map_err(FileError::into_diagnostic)?;
        active.commit(id, meta).map_err(|error| store_fault(&error))
    }
}

/// The directory at a path without links; `None` if something else is there or on the way.
fn directory(view: &LayerView, path: &Path) -> io::Result<Option<ViewEntry>> {
    let (mut folder, mut entry) = (view.root(), view.root_entry()?);
    for name in path {
        match view.child(&folder, name)? {
            Some(found) if found.kind == EntryKind::Dir => {
                folder = view.enter(&folder, name)?;
                entry = found;
            }
            _ => return Ok(None),
        }
    }
    Ok(Some(entry))
}

/// The identity of a copy that is put above a tree, as the key of the record of both together.
pub(crate) fn key(merged: &Digest) -> Digest {
    let mut hasher = FieldHasher::new("key/linked/1");
    hasher.digest(merged);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_directories_that_lead_to_a_destination_are_on_the_way() {
        let mkdir = |path: &str| FileAction::Mkdir { path: path.to_owned(), owner: None };
        let found = on_the_way(&[mkdir("/a/b/"), mkdir("/c/./d")]);
        let expected = ["a", "a/b", "c", "c/d"].map(PathBuf::from);
        assert_eq!(found.into_iter().collect::<Vec<_>>(), expected);
    }
}
