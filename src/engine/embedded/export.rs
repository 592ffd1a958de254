//! Exporting: results of builds are handed to the exporter of one output, at once or staged for the release of all.

use std::sync::Arc;

use petgraph::graph::NodeIndex;
use tracing::Instrument as _;

use super::node::EmbeddedEngine;
use crate::{
    engine::{
        base::Pulled,
        boundary::{NodeFailure, PublishedExport},
    },
    export::{self, BuiltImage, ExportContext, ExportReceipt, ReleaseContext, StagedExport},
    report::event::StepId,
    solve::failure::SolveFailure,
};

impl EmbeddedEngine {
    /// Runs the exporter of one export node on the results of its builds.
    ///
    /// `node` is an export of the plan; `builds` has one result for each of its platforms, in their order. The receipt
    /// has the exporter's part of the metadata file and its warnings.
    ///
    /// # Errors
    /// When the exporter fails: the diagnostic names target, exporter and destination. [`SolveFailure::SnapshotGone`]
    /// when a layer that it needed was damaged or pruned: solving again makes it anew.
    pub(super) async fn export_node(
        &self,
        node: NodeIndex,
        builds: &[BuiltImage],
    ) -> Result<ExportReceipt, SolveFailure> {
        let base = Arc::new(Pulled::new(self.solver.clone()));
        let (prepared, context) = (&self.exports[&node], self.export_context(node, base.clone()));
        let span = tracing::debug_span!("export", node = node.index(), target = %prepared.subject.target);
        let exported = export::export(prepared, self.joint.get(&node), builds, &context).instrument(span).await;
        exported.map_err(|diagnostic| base.failure(diagnostic))
    }

    /// Makes an output ready, without changing what is visible.
    ///
    /// # Errors
    /// As [`Self::export_node`].
    pub(super) async fn stage_node(
        &self,
        node: NodeIndex,
        builds: &[BuiltImage],
    ) -> Result<StagedExport, SolveFailure> {
        let base = Arc::new(Pulled::new(self.solver.clone()));
        let (prepared, context) = (&self.exports[&node], self.export_context(node, base.clone()));
        let span = tracing::debug_span!("stage", node = node.index(), target = %prepared.subject.target);
        let staged = export::stage(prepared, self.joint.get(&node), builds, &context).instrument(span).await;
        staged.map_err(|diagnostic| base.failure(diagnostic))
    }

    /// Makes all staged outputs visible.
    pub(super) async fn publish_nodes(&self, staged: Vec<(NodeIndex, StagedExport)>) -> Vec<PublishedExport> {
        let (nodes, staged): (Vec<_>, Vec<_>) = staged.into_iter().unzip();
        let store = self.solver.world().store.clone();
        let context = ReleaseContext { client: self.client.clone(), store, sink: self.sink.clone() };
        let span = tracing::debug_span!("release", outputs = nodes.len());
        let released = export::publish(staged, &context).instrument(span).await;
        let results = nodes.into_iter().zip(released);
        results.map(|(node, result)| PublishedExport { node, result: result.map_err(NodeFailure::Failed) }).collect()
    }

    /// The resources of one export: client, store, sink for progress, and what may be written. Exports are numbered
    /// after the vertices in progress.
    pub(super) fn export_context(&self, node: NodeIndex, base: Arc<Pulled>) -> ExportContext {
        let index = u32::try_from(node.index()).expect("plans have fewer than 2^32 nodes");
        ExportContext {
            client: self.client.clone(),
            objects: self.solver.world().sources.objects.clone(),
            store: self.solver.world().store.clone(),
            base,
            sink: self.sink.clone(),
            step: StepId(self.n_vertices + index),
            now: self.epoch_now,
            writable: self.writable.clone(),
        }
    }
}
