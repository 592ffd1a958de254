//! Layers of base images for exporters: a layer is pulled when an exporter needs its bytes, not before.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crate::{
    export::{BaseLayers, ExportFuture, LayerRef},
    oci::BaseLayer,
    report::Diagnostic,
    solve::{
        failure::SolveFailure,
        solver::Solver,
        tree::{LayerTree, TreeLayer},
    },
    store::SnapshotId,
};

/// Pulls and unpacks base layers for one export, with the solver of the run.
pub(crate) struct Pulled {
    solver: Solver,
    /// A snapshot was damaged or pruned; see [`SolveFailure::SnapshotGone`].
    is_gone: AtomicBool,
}

impl Pulled {
    /// Nothing is pulled yet.
    pub(crate) fn new(solver: Solver) -> Self {
        Self { solver, is_gone: AtomicBool::new(false) }
    }

    /// The diagnostic of a failure, whose kind is kept for the whole export.
    fn note(&self, failure: SolveFailure) -> Diagnostic {
        if matches!(failure, SolveFailure::SnapshotGone(_)) {
            self.is_gone.store(true, Ordering::Relaxed);
        }
        failure.into_diagnostic()
    }

    /// Makes the failure of an export that used these layers from its diagnostic.
    pub(crate) fn failure(&self, diagnostic: Diagnostic) -> SolveFailure {
        if self.is_gone.load(Ordering::Relaxed) {
            SolveFailure::SnapshotGone(Arc::new(diagnostic))
        } else {
            diagnostic.into()
        }
    }
}

impl BaseLayers for Pulled {
    fn blob<'a>(&'a self, layer: &'a BaseLayer) -> ExportFuture<'a, Result<(), Diagnostic>> {
        Box::pin(async move { self.solver.base_blob(layer).await.map(drop).map_err(|failure| self.note(failure)) })
    }

    fn unpack<'a>(&'a self, layers: &'a [LayerRef]) -> ExportFuture<'a, Result<(), Diagnostic>> {
        Box::pin(async move {
            let layers = layers.iter().map(tree_layer).collect();
            let tree = LayerTree { id: crate::oci::Digest::of(b""), layers, claimed: None };
            self.solver.materialise(&tree).await.map(drop).map_err(|failure| self.note(failure))
        })
    }
}

/// Converts a layer of a result into the form that the solver takes.
pub(crate) fn tree_layer(layer: &LayerRef) -> TreeLayer {
    TreeLayer { snapshot: SnapshotId(layer.snapshot), created: layer.created.clone(), base: layer.base.clone() }
}

/// Converts a layer of a result into the form that exporters take.
pub(crate) fn layer_ref(layer: TreeLayer) -> LayerRef {
    LayerRef { snapshot: layer.snapshot.0, created: layer.created, base: layer.base }
}
