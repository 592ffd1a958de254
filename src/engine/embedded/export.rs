//! Exporting: results of builds are handed to the exporter of one output.

use std::sync::Arc;

use petgraph::graph::NodeIndex;

use super::node::EmbeddedEngine;
use crate::{
    engine::base::Pulled,
    export::{self, BuiltImage, ExportContext, ExportReceipt},
    report::event::StepId,
    solve::failure::SolveFailure,
};

impl EmbeddedEngine {
    /// Hands results of builds to an output.
    ///
    /// # Errors
    /// Names the target, the exporter and the destination.
    pub(super) async fn export_node(
        &self,
        node: NodeIndex,
        builds: &[BuiltImage],
    ) -> Result<ExportReceipt, SolveFailure> {
        let base = Arc::new(Pulled::new(self.solver.clone()));
        let exported = export::export(&self.exports[&node], builds, &self.export_context(node, base.clone())).await;
        exported.map_err(|diagnostic| base.failure(diagnostic))
    }

    /// What an exporter may use. Progress of exports is numbered after that of the vertices.
    pub(super) fn export_context(&self, node: NodeIndex, base: Arc<Pulled>) -> ExportContext {
        let index = u32::try_from(node.index()).expect("plans have fewer than 2^32 nodes");
        ExportContext {
            client: self.client.clone(),
            store: self.solver.world().store.clone(),
            base,
            sink: self.sink.clone(),
            step: StepId(self.n_vertices + index),
            now: self.epoch_now,
            writable: self.writable.clone(),
        }
    }
}
