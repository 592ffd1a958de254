//! What an op reads of its inputs beside its root: copy sources and bind mounts. It decides the slow key.

use std::{path::PathBuf, sync::Arc};

use super::file::FileError;
use crate::{
    graph::{CopyAction, FileAction, MountOpKind, Op},
    layer::view::LayerView,
    oci::{Digest, digest::FieldHasher},
    report::Diagnostic,
    solve::content::{self, ContentSource, LocalTree},
};

/// One thing that is read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum StepReads<'a> {
    /// The sources of a copy.
    Copy(&'a CopyAction),
    /// The path of a bind mount in input `input`.
    Path { input: usize, path: &'a str },
}

/// Where an input lies when an op runs: folders of layers, or a directory of the user's machine.
#[derive(Clone)]
pub(crate) enum ReadPlace {
    Layers(Vec<PathBuf>),
    Local(Arc<LocalTree>),
}

/// What an op that only owns its data reads: the same as [`StepReads`], to be sent to another thread.
#[derive(Clone)]
pub(crate) enum OwnedRead {
    Copy(Box<CopyAction>),
    Path(String),
}

/// The content of what is read.
///
/// # Errors
/// When it is not there or cannot be read.
pub(crate) fn content_of(read: &OwnedRead, source: &ContentSource) -> Result<Digest, Diagnostic> {
    match read {
        OwnedRead::Copy(copy) => content::of_copy(source, copy),
        OwnedRead::Path(path) => content::of_path(source, path),
    }
    .map_err(|e| fault(&e))
}

/// A file fault as the user sees it.
pub(crate) fn fault(error: &FileError) -> Diagnostic {
    let mut diagnostic = Diagnostic::error("bake::solve::file", error.to_string());
    diagnostic.help = error.hint();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        diagnostic.causes.push(cause.to_string());
        next = cause.source();
    }
    diagnostic
}

/// A view of stacked layers as a source, called `name` in messages.
pub(crate) fn layers(name: &str, dirs: &[PathBuf]) -> Result<ContentSource, Diagnostic> {
    let view = LayerView::open(dirs)
        .map_err(|e| Diagnostic::error("bake::solve::view", "the layers of a step cannot be looked at").cause(&e))?;
    Ok(ContentSource { name: name.to_owned(), tree: content::ContentTree::View(Arc::new(view)) })
}

impl StepReads<'_> {
    /// Index into the inputs of the vertex.
    pub(crate) fn input(&self) -> usize {
        match self {
            Self::Copy(copy) => copy.input,
            Self::Path { input, .. } => *input,
        }
    }

    pub(crate) fn into_owned(self) -> OwnedRead {
        match self {
            Self::Copy(copy) => OwnedRead::Copy(Box::new(copy.clone())),
            Self::Path { path, .. } => OwnedRead::Path(path.to_owned()),
        }
    }

    /// Stands for what is read when only the identity of the tree is known: tree and path.
    pub(crate) fn of_tree(&self, tree: &Digest) -> Digest {
        let mut hasher = FieldHasher::new("read/tree/1");
        hasher.digest(tree).text(match self {
            Self::Copy(copy) => &copy.source,
            Self::Path { path, .. } => path,
        });
        hasher.finish()
    }
}

/// What an op reads, in the order in which its key lists it.
pub(crate) fn reads(op: &Op) -> Vec<StepReads<'_>> {
    match op {
        Op::Exec(exec) => exec
            .mounts
            .iter()
            .filter_map(|mount| match &mount.kind {
                MountOpKind::Bind { input, source, .. } => Some(StepReads::Path { input: *input, path: source }),
                _ => None,
            })
            .collect(),
        Op::File(file) => file
            .actions
            .iter()
            .filter_map(|action| match action {
                FileAction::Copy(copy) => Some(StepReads::Copy(copy)),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// Runs file work on a blocking thread.
///
/// # Errors
/// Those of `work`, and a diagnostic when the runtime is shutting down.
pub(crate) async fn blocking<T: Send + 'static, E: From<Diagnostic> + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(Diagnostic::error("bake::solve::stopped", "the run is being stopped").into()),
    }
}
