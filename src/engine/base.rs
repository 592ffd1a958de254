//! Layers of base images for exporters: a layer is pulled when an exporter needs its bytes, not before.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::{
    export::{BaseLayer, BaseLayers, BlobOrigin, ExportFuture, LayerRef},
    graph,
    report::Diagnostic,
    solve::{
        failure::SolveFailure,
        solver::Solver,
        tree::{LayerTree, TreeBase, TreeLayer},
    },
    store::SnapshotId,
};

/// Pulls and unpacks base layers with the solver of the run.
pub(crate) struct Pulled {
    solver: Solver,
    /// A snapshot was damaged or pruned; see [`SolveFailure::SnapshotGone`].
    is_gone: AtomicBool,
}

impl Pulled {
    pub(crate) fn new(solver: Solver) -> Self {
        Self { solver, is_gone: AtomicBool::new(false) }
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
        Box::pin(async move {
            let base = TreeBase {
                layer: graph::ImageLayer { diff_id: layer.diff_id, descriptor: layer.descriptor.clone() },
                origin: match &layer.origin {
                    BlobOrigin::Registry { domain, path } => {
                        graph::LayerOrigin::Registry { domain: domain.clone(), path: path.clone() }
                    }
                    BlobOrigin::Layout { folder } => {
                        graph::LayerOrigin::Layout { folder: folder.display().to_string() }
                    }
                },
            };
            self.solver.base_blob(&base).await.map(|_| ()).map_err(SolveFailure::into_diagnostic)
        })
    }

    fn unpack<'a>(&'a self, layers: &'a [LayerRef]) -> ExportFuture<'a, Result<(), Diagnostic>> {
        Box::pin(async move {
            let tree = LayerTree { id: crate::oci::Digest::of(b""), layers: layers.iter().map(tree_layer).collect() };
            self.solver.materialise(&tree).await.map(|_: Vec<PathBuf>| ()).map_err(|failure| {
                if matches!(failure, SolveFailure::SnapshotGone(_)) {
                    self.is_gone.store(true, Ordering::Relaxed);
                }
                failure.into_diagnostic()
            })
        })
    }
}

fn tree_layer(layer: &LayerRef) -> TreeLayer {
    TreeLayer {
        snapshot: SnapshotId(layer.snapshot),
        created: layer.created.clone(),
        base: layer.base.as_ref().map(|base| TreeBase {
            layer: graph::ImageLayer { diff_id: base.diff_id, descriptor: base.descriptor.clone() },
            origin: match &base.origin {
                BlobOrigin::Registry { domain, path } => {
                    graph::LayerOrigin::Registry { domain: domain.clone(), path: path.clone() }
                }
                BlobOrigin::Layout { folder } => graph::LayerOrigin::Layout { folder: folder.display().to_string() },
            },
        }),
    }
}

/// Converts a layer of a result into the form that exporters take.
pub(crate) fn layer_ref(layer: TreeLayer) -> LayerRef {
    LayerRef {
        snapshot: layer.snapshot.0,
        created: layer.created,
        base: layer.base.map(|base| BaseLayer {
            diff_id: base.layer.diff_id,
            descriptor: base.layer.descriptor,
            origin: match base.origin {
                graph::LayerOrigin::Registry { domain, path } => BlobOrigin::Registry { domain, path },
                graph::LayerOrigin::Layout { folder } => BlobOrigin::Layout { folder: folder.into() },
            },
        }),
    }
}
