//! Layers of base images for exporters: pulled when one of them needs the bytes.

use std::path::PathBuf;

use crate::{
    export::{BaseLayer, BaseLayers, BlobOrigin, ExportFuture, LayerRef},
    graph,
    report::Diagnostic,
    solve::{
        op::source,
        solver::{Failure, Solver},
        tree::{LayerTree, TreeBase, TreeLayer},
    },
    store::SnapshotId,
};

/// Pulls through the sources of the solver.
pub(crate) struct Pulled(pub(crate) Solver);

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
            let fetched = source::fetch_blob(self.0.world(), &base).await;
            fetched.map(|_| ()).map_err(|failure| diagnostic(self.0.blame_image(failure)))
        })
    }

    fn unpack<'a>(&'a self, layers: &'a [LayerRef]) -> ExportFuture<'a, Result<(), Diagnostic>> {
        Box::pin(async move {
            let tree = LayerTree { id: crate::oci::Digest::of(b""), layers: layers.iter().map(tree_layer).collect() };
            self.0.materialise(&tree).await.map(|_: Vec<PathBuf>| ()).map_err(diagnostic)
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

/// A layer of a result, as exporters know it.
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

fn diagnostic(failure: Failure) -> Diagnostic {
    match failure {
        Failure::Failed(diagnostic) => (*diagnostic).clone(),
        Failure::Cancelled => Diagnostic::error("bake::solve::cancelled", "cancelled"),
    }
}
