//! Why a vertex has no result, and how faults of lower modules become diagnostics that name the instruction.
//!
//! What the caller decides on is a variant here; nobody looks at the text or the code of a diagnostic.

use std::sync::Arc;

use crate::{
    graph::Vertex,
    report::{Diagnostic, Span},
    store::StoreError,
};

/// Why there is no result.
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
    /// The failure as a diagnostic, for callers that report and do not decide.
    pub(crate) fn into_diagnostic(self) -> Diagnostic {
        match self {
            Self::Failed(diagnostic) | Self::SnapshotGone(diagnostic) => Arc::unwrap_or_clone(diagnostic),
            Self::Cancelled => Diagnostic::error("bake::solve::cancelled", "cancelled"),
        }
    }

    /// The same failure with the place of an instruction, unless the diagnostic has a place already.
    pub(crate) fn at(self, at: Span) -> Self {
        let place = |diagnostic: Arc<Diagnostic>| match diagnostic.labels.is_empty() {
            true => Arc::new(Arc::unwrap_or_clone(diagnostic).at(at, "asked for here")),
            false => diagnostic,
        };
        match self {
            Self::Failed(diagnostic) => Self::Failed(place(diagnostic)),
            Self::SnapshotGone(diagnostic) => Self::SnapshotGone(place(diagnostic)),
            Self::Cancelled => Self::Cancelled,
        }
    }

    /// The same failure with the place of the instruction of `vertex`, unless the diagnostic has a place already.
    pub(crate) fn at_instruction(self, vertex: &Vertex) -> Self {
        match vertex.meta.at {
            Some(at) => self.at(at),
            None => self,
        }
    }
}

/// A fault of the state folder as a diagnostic.
pub(crate) fn store_fault(error: &StoreError) -> Diagnostic {
    Diagnostic::error("bake::store::failed", error.to_string())
        .cause(error)
        .help("the state folder is $BAKE_HOME, by default `bake` in the XDG cache folder")
}

/// A fault of reading or writing files of contexts and images as a diagnostic, with the errors beneath it.
pub(crate) fn file_fault(error: &dyn std::error::Error, help: Option<String>) -> Diagnostic {
    let mut diagnostic = Diagnostic::error("bake::solve::file", error.to_string());
    if let Some(cause) = error.source() {
        diagnostic = diagnostic.cause(cause);
    }
    diagnostic.help = help;
    diagnostic
}

/// A fault of opening a stack of layers as a diagnostic.
pub(crate) fn view_fault(error: &std::io::Error) -> Diagnostic {
    Diagnostic::error("bake::solve::view", "the layers of a step cannot be opened").cause(error)
}

/// A fault of the state folder as a failure.
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
