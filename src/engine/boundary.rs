//! What `dispatch` asks of an engine: to build a node of the plan, to export results, to stop.
//!
//! The boundary is the plan node and not the instruction, because a node is what another engine (a BuildKit, a fleet of
//! them) can take over whole. How an engine prepares itself is its own affair; that everything is checked before
//! anything runs is part of the contract.

use std::{sync::Arc, time::Duration};

use petgraph::graph::NodeIndex;

use crate::{
    dockerfile::check::report::CheckFinding, export::ExportReceipt, report::Diagnostic, solve::failure::SolveFailure,
};

/// Runs the nodes of one plan. The engine was prepared for this plan: each index is one of its graph.
///
/// The set of engines is closed and each call is dispatched statically. Dropping a future that an engine returned is
/// allowed at any time and leaves nothing half written under a final name.
pub(crate) trait Engine {
    /// Result of a build as the exports of this engine want it. Clones share their content.
    type Built: Clone;

    /// An output that lies ready and is not visible yet. Dropping it takes away what was made for it.
    type Staged;

    /// Whether an export has to wait until every build of the plan has succeeded.
    fn gate(&self, export: NodeIndex) -> ExportGate;

    /// Builds one node. Builds that it reads as contexts are waited for inside the engine, so all builds may be asked
    /// for at once.
    ///
    /// # Errors
    /// The fault of the first step that failed; [`NodeFailure::Cancelled`] after [`Engine::cancel`].
    async fn build(&self, build: NodeIndex) -> Result<Self::Built, NodeFailure>;

    /// Hands results to one output. `builds` has one result for each platform of the export, in their order.
    ///
    /// # Errors
    /// Names the target, the exporter and the destination.
    async fn export(&self, export: NodeIndex, builds: &[Self::Built]) -> Result<ExportReceipt, NodeFailure>;

    /// Makes an output ready, as [`Engine::export`] would, but so that no old result changes and no new one is visible.
    ///
    /// # Errors
    /// Names the target, the exporter and the destination.
    async fn stage(&self, export: NodeIndex, builds: &[Self::Built]) -> Result<Self::Staged, NodeFailure>;

    /// Makes all staged outputs of the plan visible. Called at most once, when nothing else runs.
    ///
    /// There is no way back: an engine first records what is to become visible, so that a process that is killed
    /// meanwhile leaves enough for the next one to go on. An output that fails does not take the others back.
    async fn publish(&self, staged: Vec<(NodeIndex, Self::Staged)>) -> Vec<PublishedExport>;

    /// The work of a build in this run, as far as it got; also of one that failed.
    fn work(&self, build: NodeIndex) -> BuildWork;

    /// Stops what runs and lets nothing new begin. May be called again with the stronger mode.
    fn cancel(&self, mode: CancelMode);

    /// Saves what the next run can use; called once, after the last node has ended.
    ///
    /// # Errors
    /// A warning: the results of this run are not affected.
    fn finish(&self) -> Result<(), Diagnostic>;
}

/// What an export waits for, beside its own builds. Where errors are deferred it waits for nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExportGate {
    None,
    /// It changes something that others can see (a registry): all builds, unless it is only made ready.
    BeforeExport,
    /// All builds, before anything of it is made.
    Always,
}

/// An engine that has checked everything that can be checked before anything runs.
pub(crate) struct PreparedEngine<E> {
    pub(crate) engine: E,
    /// What was found while checking and does not stop the run.
    pub(crate) warnings: Vec<Diagnostic>,
    /// Those of the warnings that are violations of check rules, as data; a place may be there once for each build.
    pub(crate) findings: Vec<CheckFinding>,
}

/// The steps that ran for one build. Those that several builds share count for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BuildWork {
    pub(crate) n_steps: usize,
    /// The sum of their times, without what they waited for.
    pub(crate) took: Duration,
}

/// Outcome of one output of a release.
#[derive(Debug)]
pub(crate) struct PublishedExport {
    pub(crate) node: NodeIndex,
    pub(crate) result: Result<ExportReceipt, NodeFailure>,
}

/// The way in which an engine is to stop: gently or at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum CancelMode {
    /// Running steps get SIGTERM and may end in order.
    Ask,
    /// Running steps are killed.
    Kill,
}

/// Why a build or export has no result.
#[derive(Clone, Debug)]
pub(crate) enum NodeFailure {
    /// The node, or one that it needs, is at fault. Several nodes may fail with the same diagnostic.
    Failed(Arc<Diagnostic>),
    /// The engine has lost something that it relied on (a damaged layer of the cache, the connection to a node of a
    /// fleet) and has put that right: the same plan can succeed on an engine that is prepared anew.
    EngineLost(Arc<Diagnostic>),
    /// The engine was told to stop before the node was done.
    Cancelled,
}

impl From<SolveFailure> for NodeFailure {
    fn from(failure: SolveFailure) -> Self {
        match failure {
            SolveFailure::Failed(fault) => Self::Failed(fault),
            SolveFailure::SnapshotGone(fault) => Self::EngineLost(fault),
            SolveFailure::Cancelled => Self::Cancelled,
        }
    }
}
