//! The embedded engine as `dispatch` sees it.

use std::{collections::HashMap, sync::Arc};

use petgraph::graph::NodeIndex;

use super::named::ImageNames;
use crate::{
    dockerfile::options::Lowered,
    engine::{
        boundary::{BuildWork, CancelMode, Engine, ExportGate, NodeFailure, PublishedExport},
        build_info::PendingBuildInfo,
        cache::Caches,
        provenance::PendingProvenance,
        sbom::SbomScan,
    },
    export::{BuiltImage, ExportReceipt, JointExport, PreparedExport, StagedExport},
    grant::Allowed,
    oci::Platform,
    registry,
    report::{
        Diagnostic,
        event::{Event, Sink},
    },
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
    /// Of those that write one archive or layout together.
    pub(super) joint: HashMap<NodeIndex, JointExport>,
    /// Only of builds whose exports carry provenance.
    pub(super) facts: HashMap<NodeIndex, PendingProvenance>,
    /// Only of builds whose exports write it into image configs.
    pub(super) build_info: HashMap<NodeIndex, PendingBuildInfo>,
    /// Only of builds whose exports write an SBOM.
    pub(super) scans: HashMap<NodeIndex, Vec<SbomScan>>,
    pub(super) caches: Caches,
    /// Builds that are not built: images that an earlier run recorded.
    pub(super) recorded: HashMap<NodeIndex, BuiltImage>,
    /// What this run records.
    pub(super) names: ImageNames,
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
    type Staged = StagedExport;

    fn gate(&self, export: NodeIndex) -> ExportGate {
        if self.exports[&export].publishes() { ExportGate::BeforeExport } else { ExportGate::None }
    }

    async fn build(&self, build: NodeIndex) -> Result<BuiltImage, NodeFailure> {
        Ok(self.build_node(build).await?)
    }

    async fn export(&self, export: NodeIndex, builds: &[BuiltImage]) -> Result<ExportReceipt, NodeFailure> {
        Ok(self.export_node(export, builds).await?)
    }

    async fn stage(&self, export: NodeIndex, builds: &[BuiltImage]) -> Result<StagedExport, NodeFailure> {
        Ok(self.stage_node(export, builds).await?)
    }

    async fn publish(&self, staged: Vec<(NodeIndex, StagedExport)>) -> Vec<PublishedExport> {
        self.publish_nodes(staged).await
    }

    fn work(&self, build: NodeIndex) -> BuildWork {
        let lowered = self.builds.get(&build);
        let (n_steps, took) = lowered.map(|lowered| self.solver.work(lowered.result)).unwrap_or_default();
        BuildWork { n_steps, took }
    }

    fn cancel(&self, mode: CancelMode) {
        let cancel = &self.solver.world().cancel;
        match mode {
            CancelMode::Ask => cancel.ask_to_end(),
            CancelMode::Kill => cancel.kill(),
        }
    }

    fn finish(&self) -> Result<(), Diagnostic> {
        let steps = self.solver.critical_path();
        if !steps.is_empty() {
            (self.sink)(Event::CriticalPath { steps: steps.into() });
        }
        let save = || -> Result<(), StoreError> {
            self.solver.world().locals.save()?;
            let world = self.solver.world();
            self.names.record(&world.store)?;
            world.store.finish_run(world.sources.command)
        };
        save().map_err(|error| {
            Diagnostic::warning("bake::store::failed", "the state directory could not be brought up to date")
                .cause(&error)
        })
    }
}
