//! Walks the plan: builds start at once and wait for each other inside the engine, an export starts when its builds are
//! done, and whatever others can see is published only when every build of the plan has succeeded.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use futures_util::future::join_all;
use petgraph::{Direction, graph::NodeIndex, visit::EdgeRef as _};
use serde_json::{Map, Value};
use tokio::sync::SetOnce;

use crate::{
    engine::{BuiltImage, ExportReceipt, SolveFailure, embedded::Ready},
    plan::{Plan, PlanLink, PlanNode},
    report::Diagnostic,
};

/// What a run came to.
#[derive(Debug, Default)]
pub(crate) struct RunOutcome {
    /// Each fault once, in the order of the plan.
    pub(crate) faults: Vec<Arc<Diagnostic>>,
    pub(crate) warnings: Vec<Diagnostic>,
    /// Answers of the exporters by target.
    pub(crate) metadata: BTreeMap<String, Map<String, Value>>,
    /// Stopped by the user.
    pub(crate) cancelled: bool,
    /// A snapshot of the cache was damaged and has been removed: the same run once more makes it anew.
    pub(crate) snapshot_gone: bool,
}

impl RunOutcome {
    /// Adds a failure; its diagnostic only if no other failure has the same.
    fn add(&mut self, failure: &SolveFailure) {
        let fault = match failure {
            SolveFailure::Failed(fault) => fault,
            SolveFailure::SnapshotGone(fault) => {
                self.snapshot_gone = true;
                fault
            }
            SolveFailure::Cancelled => {
                self.cancelled = true;
                return;
            }
        };
        if !self.faults.contains(fault) {
            self.faults.push(fault.clone());
        }
    }
}

type BuildResult = Result<BuiltImage, SolveFailure>;

/// Runs a plan to its end. The first fault stops what has not begun; what runs is stopped too.
pub(crate) async fn run(plan: &Plan, ready: &Ready) -> RunOutcome {
    let builds: HashMap<NodeIndex, SetOnce<BuildResult>> = plan
        .graph
        .node_indices()
        .filter(|node| matches!(plan.graph[*node], PlanNode::Build(_)))
        .map(|node| (node, SetOnce::new()))
        .collect();
    let run = DispatchRun { plan, ready, builds };
    let building = join_all(run.builds.keys().map(|node| run.build(*node)));
    let exports = plan.graph.node_indices().filter(|node| matches!(plan.graph[*node], PlanNode::Export(_)));
    let exporting = join_all(exports.map(|node| run.export(node)));
    let (_, exported) = tokio::join!(building, exporting);
    run.outcome(exported)
}

struct DispatchRun<'a> {
    plan: &'a Plan,
    ready: &'a Ready,
    builds: HashMap<NodeIndex, SetOnce<BuildResult>>,
}

/// `None` when its builds failed.
type Exported = (NodeIndex, Option<Result<ExportReceipt, SolveFailure>>);

impl DispatchRun<'_> {
    async fn build(&self, node: NodeIndex) {
        let result = self.ready.build(node).await;
        if result.is_err() {
            self.ready.cancel();
        }
        // Each build is run once, so its cell is empty.
        drop(self.builds[&node].set(result));
    }

    async fn export(&self, node: NodeIndex) -> Exported {
        let mut inputs: Vec<(usize, NodeIndex)> = self
            .plan
            .graph
            .edges_directed(node, Direction::Incoming)
            .filter_map(|edge| match edge.weight() {
                PlanLink::Result { platform } => Some((*platform, edge.source())),
                PlanLink::Context { .. } => None,
            })
            .collect();
        inputs.sort_unstable();
        let mut built = Vec::with_capacity(inputs.len());
        for (_, input) in inputs {
            match self.builds[&input].wait().await {
                Ok(it) => built.push(it.clone()),
                Err(_) => return (node, None),
            }
        }
        if self.ready.publishes(node) {
            for build in self.builds.values() {
                if build.wait().await.is_err() {
                    return (node, None);
                }
            }
        }
        if self.ready.is_cancelled() {
            return (node, None);
        }
        let receipt = self.ready.export(node, &built).await;
        if receipt.is_err() {
            self.ready.cancel();
        }
        (node, Some(receipt))
    }

    fn outcome(&self, exported: Vec<Exported>) -> RunOutcome {
        let mut outcome = RunOutcome::default();
        for node in self.plan.graph.node_indices() {
            match self.builds.get(&node).and_then(SetOnce::get) {
                Some(Err(failure)) => outcome.add(failure),
                _ => (),
            }
        }
        for name in self.plan.targets.keys() {
            outcome.metadata.insert(name.to_string(), Map::new());
        }
        for (node, receipt) in exported {
            match receipt {
                Some(Ok(receipt)) => {
                    outcome.warnings.extend(receipt.warnings);
                    for target in self.plan.graph[node].wanted_by() {
                        let entry = outcome.metadata.entry(target.to_string()).or_default();
                        entry.extend(receipt.metadata.clone());
                    }
                }
                Some(Err(failure)) => outcome.add(&failure),
                None => (),
            }
        }
        outcome
    }
}
