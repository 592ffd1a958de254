//! Layers of base images for exporters: pulled when one of them needs the bytes.

use std::path::PathBuf;

use crate::{
    export::{BaseLayer, BaseLayers, Boxed, LayerRef, Origin},
    graph,
    report::Diagnostic,
    solve::{
        op::source,
        solver::{Failure, Solver},
        tree::{Base, Tree, TreeLayer},
    },
    store::SnapshotId,
};

/// Pulls through the sources of the solver.
pub(crate) struct Pulled(pub(crate) Solver);

impl BaseLayers for Pulled {
    fn blob<'a>(&'a self, layer: &'a BaseLayer) -> Boxed<'a, Result<(), Diagnostic>> {
        Box::pin(async move {
            let base = Base {
                layer: graph::BaseLayer { diff_id: layer.diff_id, descriptor: layer.descriptor.clone() },
                origin: match &layer.origin {
                    Origin::Registry { domain, path } => {
                        graph::Origin::Registry { domain: domain.clone(), path: path.clone() }
                    }
                    Origin::Layout { folder } => graph::Origin::Layout { folder: folder.display().to_string() },
                },
            };
            let fetched = source::fetch_blob(self.0.world(), &base).await;
            fetched.map(|_| ()).map_err(|failure| diagnostic(self.0.blame_image(failure)))
        })
    }

    fn unpack<'a>(&'a self, layers: &'a [LayerRef]) -> Boxed<'a, Result<(), Diagnostic>> {
        Box::pin(async move {
            let tree = Tree { id: crate::oci::Digest::of(b""), layers: layers.iter().map(tree_layer).collect() };
            self.0.materialise(&tree).await.map(|_: Vec<PathBuf>| ()).map_err(diagnostic)
        })
    }
}

fn tree_layer(layer: &LayerRef) -> TreeLayer {
    TreeLayer {
        snapshot: SnapshotId(layer.snapshot),
        created: layer.created.clone(),
        base: layer.base.as_ref().map(|base| Base {
            layer: graph::BaseLayer { diff_id: base.diff_id, descriptor: base.descriptor.clone() },
            origin: match &base.origin {
                Origin::Registry { domain, path } => {
                    graph::Origin::Registry { domain: domain.clone(), path: path.clone() }
                }
                Origin::Layout { folder } => graph::Origin::Layout { folder: folder.display().to_string() },
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
                graph::Origin::Registry { domain, path } => Origin::Registry { domain, path },
                graph::Origin::Layout { folder } => Origin::Layout { folder: folder.into() },
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
