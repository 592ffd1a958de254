//! What a build reads: the steps that it is lowered to, and what these read of folders of this machine.

use std::sync::Arc;

use super::answer::UnpinnedKind;
use crate::{dockerfile::options::HistoryStep, graph::VertexIx, oci::ImageConfig, report::Span};

/// A lowered build.
#[derive(Debug)]
pub(crate) struct BuildReading {
    /// The steps: builds of both states are lowered into one graph, where equal steps are one vertex.
    pub(crate) result: VertexIx,
    pub(crate) config: ImageConfig,
    pub(crate) history: Vec<HistoryStep>,
    /// Vertices beside the result that count, such as those that a scanner sees.
    pub(crate) beside: Vec<VertexIx>,
    pub(crate) dockerfile: DockerfileText,
    pub(crate) reads: Vec<ContextRead>,
    pub(crate) unpinned: Vec<(UnpinnedKind, String)>,
}

/// The Dockerfile of a build.
#[derive(Clone, Debug)]
pub(crate) struct DockerfileText {
    /// Absolute and without links; `None` for one that is no file of this machine.
    pub(crate) path: Option<String>,
    pub(crate) text: Arc<str>,
}

/// What a step reads of a folder of this machine.
#[derive(Clone, Debug)]
pub(crate) struct ContextRead {
    /// Absolute and without links.
    pub(crate) folder: String,
    /// What the folder is to the build.
    pub(crate) origin: FolderOrigin,
    pub(crate) selection: ReadSelection,
    /// The instruction as written, and where it stands.
    pub(crate) instruction: Option<(String, Option<Span>)>,
}

/// What a folder that is read is to a build.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum FolderOrigin {
    /// A context, with the patterns of its ignore file and the name of that.
    Context { ignore: Vec<String>, ignore_file: Option<String> },
    /// An OCI layout.
    Layout,
}

/// Which part of a folder is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReadSelection {
    /// All of it.
    Whole,
    /// A source of COPY or ADD.
    Copy { source: String, parents: bool, exclude: Vec<String> },
    /// A path, the last link followed.
    Path(String),
}
