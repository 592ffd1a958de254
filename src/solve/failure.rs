//! Why a vertex has no result, and how faults of lower modules become diagnostics that name the instruction.
//!
//! What the caller decides on is a variant here; nobody looks at the text or the code of a diagnostic.

use std::sync::Arc;

use crate::{
    graph::{StepOrigin, Vertex},
    report::Diagnostic,
    store::StoreError,
};

/// Why a vertex or a build has no result.
#[derive(Clone, Debug)]
pub(crate) enum SolveFailure {
    /// This vertex, or one that it needs, is at fault. The same diagnostic reaches every build that needs the vertex:
    /// compare before reporting it.
    Failed(Arc<Diagnostic>),
    /// A snapshot that a cache record names was damaged or pruned. It has been removed from the store, so that solving
    /// the same graph once more makes it anew.
    SnapshotGone(Arc<Diagnostic>),
    /// The run was stopped before the vertex was done.
    Cancelled,
}

impl From<Diagnostic> for SolveFailure {
    fn from(diagnostic: Diagnostic) -> Self {
        Self::Failed(Arc::new(diagnostic))
    }
}

impl SolveFailure {
    /// Makes a diagnostic of the failure, for callers that report and do not decide.
    pub(crate) fn into_diagnostic(self) -> Diagnostic {
        match self {
            Self::Failed(diagnostic) | Self::SnapshotGone(diagnostic) => Arc::unwrap_or_clone(diagnostic),
            Self::Cancelled => Diagnostic::error("bake::solve::cancelled", "cancelled"),
        }
    }

    /// Adds the origin of `vertex` to the failure: the place of its instruction, unless there is a place already, its target
    /// and its stage.
    pub(crate) fn at_instruction(self, vertex: &Vertex) -> Self {
        self.of_step(&vertex.meta.origin)
    }

    /// Adds where the step at fault comes from, unless that is told already.
    pub(crate) fn of_step(self, origin: &StepOrigin) -> Self {
        let is_told = |it: &Diagnostic| it.stage.is_some() || !it.targets.is_empty();
        let tell = |it: Arc<Diagnostic>| match is_told(&it) {
            true => it,
            false => Arc::new(origin.tell(Arc::unwrap_or_clone(it))),
        };
        match self {
            Self::Failed(diagnostic) => Self::Failed(tell(diagnostic)),
            Self::SnapshotGone(diagnostic) => Self::SnapshotGone(tell(diagnostic)),
            Self::Cancelled => Self::Cancelled,
        }
    }
}

/// Makes a diagnostic of an error with the state directory: its text is the message, its sources are the cause.
pub(crate) fn store_fault(error: &StoreError) -> Diagnostic {
    Diagnostic::error("bake::store::failed", error.to_string())
        .cause(error)
        .help("the state directory is $BAKE_HOME, by default `bake` in the XDG cache folder")
}

/// Makes a diagnostic of an error with files of a context or image: its text is the message, its sources are the cause.
pub(crate) fn file_fault(error: &dyn std::error::Error, help: Option<String>) -> Diagnostic {
    let mut diagnostic = Diagnostic::error("bake::solve::file", error.to_string());
    if let Some(cause) = error.source() {
        diagnostic = diagnostic.cause(cause);
    }
    diagnostic.help = help;
    diagnostic
}

/// Makes a diagnostic of an error in opening a stack of layers.
pub(crate) fn view_fault(error: &std::io::Error) -> Diagnostic {
    Diagnostic::error("bake::solve::view", "the layers of a step cannot be opened").cause(error)
}

/// Makes a failure of an error with the state directory.
pub(crate) fn store_failure(error: &StoreError) -> SolveFailure {
    store_fault(error).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_a_failure_survives_adding_a_place() {
        let mut graph = crate::graph::Graph::default();
        let meta = crate::graph::Meta::default();
        let ix = graph.add(crate::graph::Op::Scratch, Vec::new(), crate::oci::Platform::host(), meta);
        let gone = SolveFailure::SnapshotGone(Arc::new(Diagnostic::error("bake::solve::snapshot_gone", "gone")));
        assert!(matches!(gone.at_instruction(graph.get(ix)), SolveFailure::SnapshotGone(it) if it.message == "gone"));
        assert!(matches!(SolveFailure::Cancelled.at_instruction(graph.get(ix)), SolveFailure::Cancelled));
    }
}
