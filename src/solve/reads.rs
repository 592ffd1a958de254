//! What an op reads of its inputs beside its root: the sources of copies and of bind mounts. It decides the slow key.

use std::{path::PathBuf, sync::Arc};

use super::{
    content::{
        error::ContentError,
        files::FileList,
        hash,
        local::LocalTree,
        source::{ContentSource, ContentTree},
    },
    failure::view_fault,
};
use crate::{
    graph::{CopyAction, Exec, File, FileAction, MountOpKind, Op},
    layer::view::LayerView,
    oci::{Digest, digest::FieldHasher},
    report::Diagnostic,
};

/// One read of an input by an op: what a copy selects, or a path.
#[derive(Clone, Copy, Debug)]
pub(crate) enum StepReads<'a> {
    /// The sources of a COPY or ADD.
    Copy(&'a CopyAction),
    /// The path of a bind mount in input `input`.
    Path { input: usize, path: &'a str },
}

/// A [`StepReads`] that can be sent to another thread.
#[derive(Clone)]
pub(crate) enum OwnedRead {
    Copy(Box<CopyAction>),
    Path(String),
}

/// The place of an input while an op runs.
#[derive(Clone)]
pub(crate) enum ReadPlace {
    /// The folders of stacked layers, lowest first.
    Layers(Vec<PathBuf>),
    /// A directory of the user's machine.
    Local(Arc<LocalTree>),
}

impl StepReads<'_> {
    /// The index of the input among those of the vertex.
    pub(crate) fn input(&self) -> usize {
        match self {
            Self::Copy(copy) => copy.input,
            Self::Path { input, .. } => *input,
        }
    }

    /// Clones the data of the read, so that it can be sent to another thread.
    pub(crate) fn into_owned(self) -> OwnedRead {
        match self {
            Self::Copy(copy) => OwnedRead::Copy(Box::new(copy.clone())),
            Self::Path { path, .. } => OwnedRead::Path(path.to_owned()),
        }
    }

    /// The path that is read, as the instruction has it.
    pub(crate) fn path(&self) -> &str {
        match self {
            Self::Copy(copy) => &copy.source,
            Self::Path { path, .. } => path,
        }
    }

    /// The digest that stands for the read in the fast key: of the identity of the tree, and the path.
    pub(crate) fn of_tree(&self, tree: &Digest) -> Digest {
        let mut hasher = FieldHasher::new("read/tree/1");
        hasher.digest(tree).text(self.path());
        hasher.finish()
    }
}

impl OwnedRead {
    /// Hashes the content that is read. *Blocks; not on a rayon thread.*
    ///
    /// # Errors
    /// When it is not there or cannot be read.
    pub(crate) fn content(&self, source: &ContentSource) -> Result<Digest, ContentError> {
        match self {
            Self::Copy(copy) => hash::of_copy(source, copy),
            Self::Path(path) => hash::of_path(source, path),
        }
    }

    /// As [`Self::content`], and lists what is read.
    ///
    /// # Errors
    /// When it is not there or cannot be read.
    pub(crate) fn content_listed(&self, source: &ContentSource) -> Result<(Digest, FileList), ContentError> {
        match self {
            Self::Copy(copy) => hash::of_copy_listed(source, copy),
            Self::Path(path) => hash::of_path_listed(source, path),
        }
    }
}

/// Lists what an op reads, in the order in which its key lists it.
pub(crate) fn reads(op: &Op) -> Vec<StepReads<'_>> {
    match op {
        Op::Exec(exec) => bind_mounts(exec).collect(),
        Op::File(file) => copies(file).collect(),
        Op::Scratch | Op::Image(_) | Op::Local(_) | Op::Git(_) | Op::Http(_) | Op::Merge => Vec::new(),
    }
}

fn bind_mounts(exec: &Exec) -> impl Iterator<Item = StepReads<'_>> {
    exec.mounts.iter().filter_map(|mount| match &mount.kind {
        MountOpKind::Bind { input, source, .. } => Some(StepReads::Path { input: *input, path: source }),
        MountOpKind::Cache { .. }
        | MountOpKind::Tmpfs { .. }
        | MountOpKind::Secret { .. }
        | MountOpKind::Ssh { .. }
        | MountOpKind::Text { .. } => None,
    })
}

fn copies(file: &File) -> impl Iterator<Item = StepReads<'_>> {
    file.actions.iter().filter_map(|action| match action {
        FileAction::Copy(copy) => Some(StepReads::Copy(copy)),
        FileAction::Mkdir { .. } | FileAction::Mkfile { .. } => None,
    })
}

/// Opens stacked layers, lowest first, as a source called `name` in messages.
///
/// # Errors
/// When a folder cannot be opened.
pub(crate) fn layer_source(name: &str, folders: &[PathBuf]) -> Result<ContentSource, Diagnostic> {
    let view = LayerView::open(folders).map_err(|error| view_fault(&error))?;
    Ok(ContentSource { name: name.to_owned(), tree: ContentTree::View(Arc::new(view)) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::MountOp;

    #[test]
    fn reads_are_listed_in_the_order_of_the_op_and_only_those_with_content() {
        let mkdir = FileAction::Mkdir { path: "/d".to_owned(), owner: None };
        let copy = |input: usize, source: &str| {
            FileAction::Copy(Box::new(CopyAction { input, ..CopyAction::of_paths(source, "/") }))
        };
        let op = Op::File(File { actions: vec![copy(2, "b"), mkdir, copy(1, "a")] });
        let inputs: Vec<usize> = reads(&op).iter().map(StepReads::input).collect();
        assert_eq!(inputs, [2, 1]);
        let bind = MountOpKind::Bind { input: 3, source: "/s".to_owned(), writable: false };
        let mounts = [MountOpKind::Tmpfs { size: None }, bind];
        let mounts: Vec<MountOp> = mounts.map(|kind| MountOp { target: "/t".to_owned(), kind }).into();
        let exec = Exec { mounts, ..Exec::of_args(&["true"]) };
        assert!(matches!(reads(&Op::Exec(Box::new(exec)))[..], [StepReads::Path { input: 3, path: "/s" }]));
        assert!(reads(&Op::Merge).is_empty());
    }

    #[test]
    fn the_path_counts_as_long_as_the_content_is_not_known() {
        let tree = Digest::of(b"tree");
        let read = |path: &'static str| StepReads::Path { input: 0, path };
        assert_ne!(read("/a").of_tree(&tree), read("/b").of_tree(&tree));
        assert_ne!(read("/a").of_tree(&tree), read("/a").of_tree(&Digest::of(b"other")));
    }
}
