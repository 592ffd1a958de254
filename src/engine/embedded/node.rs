//! The embedded engine as `dispatch` sees it.

use std::{collections::HashMap, sync::Arc};

use petgraph::graph::NodeIndex;

use crate::{
    dockerfile::options::Lowered,
    engine::{
        boundary::{CancelMode, Engine, NodeFailure},
        cache::Caches,
    },
    export::{BuiltImage, ExportReceipt, PreparedExport, Provenance},
    grant::Allowed,
    oci::Platform,
    registry,
    report::{Diagnostic, event::Sink},
    solve::solver::Solver,
    store::StoreError,
};

/// The embedded engine, prepared for one plan: every Dockerfile was read, every output checked.
pub(crate) struct EmbeddedEngine {
    pub(super) solver: Solver,
    /// By build of the plan, as are `platforms` and `facts`.
    pub(super) builds: HashMap<NodeIndex, Arc<Lowered>>,
    pub(super) platforms: HashMap<NodeIndex, Platform>,
    pub(super) exports: HashMap<NodeIndex, PreparedExport>,
    /// Only of builds whose exports carry provenance.
    pub(super) facts: HashMap<NodeIndex, Provenance>,
    pub(super) caches: Caches,
    pub(super) client: registry::Client,
    pub(super) sink: Sink,
    pub(super) n_vertices: u32,
    /// Seconds from 1970 to the start of the run.
    pub(super) epoch_now: i64,
    /// What the plan may write on this machine.
    pub(super) writable: Allowed,
}

impl Engine for EmbeddedEngine {
    type Built = BuiltImage;

    fn publishes(&self, export: NodeIndex) -> bool {
        self.exports[&export].publishes()
    }

    async fn build(&self, build: NodeIndex) -> Result<BuiltImage, NodeFailure> {
        Ok(self.build_node(build).await?)
    }

    async fn export(&self, export: NodeIndex, builds: &[BuiltImage]) -> Result<ExportReceipt, NodeFailure> {
        Ok(self.export_node(export, builds).await?)
    }

    fn cancel(&self, mode: CancelMode) {
        let cancel = &self.solver.world().cancel;
        match mode {
            CancelMode::Ask => cancel.ask(),
            CancelMode::Kill => cancel.cancel(),
        }
    }

    fn finish(&self) -> Result<(), Diagnostic> {
        let save = || -> Result<(), StoreError> {
            self.solver.world().locals.save()?;
            self.solver.world().store.finish_run()
        };
        save().map_err(|error| {
            Diagnostic::warning("bake::store::failed", "the state folder could not be brought up to date").cause(&error)
        })
    }
}
