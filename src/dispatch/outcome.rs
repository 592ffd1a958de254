//! Outcome of one run: how it ended, what is to be reported, what the exporters answered.
//!
//! How it is shown and which exit code it means is decided in `cli`.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use indexmap::IndexSet;
use petgraph::{Direction, graph::NodeIndex};
use serde_json::{Map, Value};

use super::dispatcher::DispatchResult;
use crate::{
    engine::{BuildWork, NodeFailure},
    plan::{Plan, PlanNode, TargetName, TargetNodes},
    report::{
        Diagnostic,
        result::{BuildResult, OutputResult, ResultEnd, TargetResult},
        summary::RunSummary,
    },
};

/// The metadata of exports by target, as `--metadata-file` writes them.
pub(crate) type RunMetadata = BTreeMap<String, Map<String, Value>>;

/// The way in which a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunEnd {
    /// Every node was done.
    Succeeded,
    /// A node, or the preparation, was at fault.
    Failed,
    /// Stopped without a fault and without an interrupt.
    Cancelled,
    /// The user stopped it; nothing runs any more.
    Interrupted,
    /// The user stopped it and what still ran was left behind: it ends with this process.
    Abandoned,
}

/// Outcome of one run.
#[derive(Debug)]
pub(crate) struct RunOutcome {
    pub(crate) end: RunEnd,
    /// Warnings first, then faults in the order of the plan, each once.
    pub(crate) diagnostics: Vec<Diagnostic>,
    pub(crate) metadata: RunMetadata,
    pub(crate) summary: RunSummary,
    nodes: NodeResults,
}

/// What became of the nodes of a plan.
#[derive(Debug, Default)]
struct NodeResults {
    failures: BTreeMap<NodeIndex, NodeFailure>,
    /// The builds that succeeded, and the work of all builds for which something ran.
    built: HashSet<NodeIndex>,
    work: HashMap<NodeIndex, BuildWork>,
    /// The size of each export that succeeded.
    written: BTreeMap<NodeIndex, u64>,
}

impl RunOutcome {
    /// The outcome of a run that ended before anything ran.
    pub(super) fn unprepared(end: RunEnd, diagnostics: Vec<Diagnostic>) -> Self {
        Self {
            end,
            diagnostics,
            metadata: RunMetadata::new(),
            summary: RunSummary::default(),
            nodes: NodeResults::default(),
        }
    }

    /// Makes the outcome of a run from the results of its nodes. `work` tells what ran for a build; `warnings` are those of
    /// the preparation, `late` that of saving what the next run can use.
    pub(super) fn new(
        plan: &Plan,
        result: DispatchResult,
        work: &dyn Fn(NodeIndex) -> BuildWork,
        warnings: Vec<Diagnostic>,
        late: Option<Diagnostic>,
        mut summary: RunSummary,
    ) -> Self {
        let mut diagnostics = warnings;
        let mut metadata: RunMetadata = plan.targets.keys().map(|name| (name.to_string(), Map::new())).collect();
        let mut nodes = NodeResults { built: result.built, ..NodeResults::default() };
        let worked = plan.graph.node_indices().filter(|node| matches!(plan.graph[*node], PlanNode::Build(_)));
        nodes.work = worked.map(|node| (node, work(node))).filter(|(_, work)| work.n_steps > 0).collect();
        for (node, receipt) in result.receipts {
            nodes.written.insert(node, receipt.bytes);
            let named = |it: Diagnostic| it.of(plan.graph[node].wanted_by().iter().map(|name| name.0.clone()));
            diagnostics.extend(receipt.warnings.into_iter().map(named));
            for target in plan.graph[node].wanted_by() {
                metadata.entry(target.to_string()).or_default().extend(receipt.metadata.clone());
            }
        }
        diagnostics.extend(late);
        diagnostics.extend(summary.warnings.iter().map(|warning| (**warning).clone()));
        let (faults, is_cancelled) = faults(plan, &result.failures);
        nodes.failures = result.failures;
        let end = match (result.was_abandoned, result.was_interrupted, faults.is_empty()) {
            (true, ..) => RunEnd::Abandoned,
            (false, true, _) => RunEnd::Interrupted,
            (false, false, false) => RunEnd::Failed,
            (false, false, true) if is_cancelled => RunEnd::Cancelled,
            (false, false, true) => RunEnd::Succeeded,
        };
        diagnostics.extend(faults);
        summary.wrote.sort();
        Self { end, diagnostics, metadata, summary, nodes }
    }

    /// What became of each target of the plan that was run.
    pub(crate) fn targets(&self, plan: &Plan) -> Vec<TargetResult> {
        self.nodes.targets(plan, &self.metadata)
    }
}

/// The targets of a plan of which nothing has run.
pub(crate) fn unstarted(plan: &Plan) -> Vec<TargetResult> {
    NodeResults::default().targets(plan, &RunMetadata::new())
}

impl NodeResults {
    fn targets(&self, plan: &Plan, metadata: &RunMetadata) -> Vec<TargetResult> {
        let target = |(name, nodes): (&TargetName, &TargetNodes)| {
            let answers = metadata.get(&*name.0);
            let digest = answers.and_then(|it| it.get("containerimage.digest")).and_then(Value::as_str);
            TargetResult {
                name: name.0.clone(),
                tags: nodes.tags.iter().map(|tag| tag.reference.familiar()).collect(),
                digest: digest.map(str::to_owned),
                builds: nodes.builds.iter().map(|node| self.build(plan, *node)).collect(),
                outputs: nodes.exports.iter().map(|node| self.output(plan, *node)).collect(),
            }
        };
        plan.targets.iter().map(target).collect()
    }

    fn build(&self, plan: &Plan, node: NodeIndex) -> BuildResult {
        let work = self.work.get(&node).copied().unwrap_or_default();
        let end = match self.failures.get(&node) {
            Some(failure) => self.failed(plan, node, failure),
            None if !self.built.contains(&node) => ResultEnd::NotRun,
            None if work.n_steps == 0 => ResultEnd::Cached,
            None => ResultEnd::Done,
        };
        BuildResult { platform: plan.build(node).platform.to_string(), end, took: work.took }
    }

    fn output(&self, plan: &Plan, node: NodeIndex) -> OutputResult {
        let (bytes, end) = match (self.written.get(&node), self.failures.get(&node)) {
            (Some(bytes), _) => (*bytes, ResultEnd::Done),
            (None, Some(failure)) => (0, self.failed(plan, node, failure)),
            (None, None) => (0, ResultEnd::NotRun),
        };
        OutputResult { end, bytes }
    }

    /// How a node ended that has no result: what fails with the fault of another build that it reads has not run itself.
    fn failed(&self, plan: &Plan, node: NodeIndex, failure: &NodeFailure) -> ResultEnd {
        let Some(fault) = fault_of(failure) else { return ResultEnd::NotRun };
        let mut inputs = plan.graph.neighbors_directed(node, Direction::Incoming);
        let is_of_input =
            inputs.any(|input| self.failures.get(&input).and_then(fault_of).is_some_and(|it| it == fault));
        if is_of_input { ResultEnd::NotRun } else { ResultEnd::Failed(fault) }
    }
}

fn fault_of(failure: &NodeFailure) -> Option<Arc<Diagnostic>> {
    match failure {
        NodeFailure::Failed(fault) | NodeFailure::EngineLost(fault) => Some(fault.clone()),
        NodeFailure::Cancelled => None,
    }
}

/// The faults of the failed nodes, each once with all targets that have it; and whether nodes were cancelled.
///
/// A build that reads the result of another one fails with the fault of that: it is not said to have it.
fn faults(plan: &Plan, failures: &BTreeMap<NodeIndex, NodeFailure>) -> (Vec<Diagnostic>, bool) {
    let mut faults: Vec<(Arc<Diagnostic>, IndexSet<Arc<str>>)> = Vec::new();
    for (node, failure) in failures {
        let Some(fault) = fault_of(failure) else { continue };
        let ix = faults.iter().position(|(it, _)| *it == fault).unwrap_or_else(|| {
            faults.push((fault.clone(), IndexSet::new()));
            faults.len() - 1
        });
        let mut inputs = plan.graph.neighbors_directed(*node, Direction::Incoming);
        let is_of_input = inputs.any(|input| failures.get(&input).and_then(fault_of).is_some_and(|it| it == fault));
        if !is_of_input {
            faults[ix].1.extend(plan.graph[*node].wanted_by().iter().map(|name| name.0.clone()));
        }
    }
    let is_cancelled = failures.values().any(|it| matches!(it, NodeFailure::Cancelled));
    let named = |(fault, targets): (Arc<Diagnostic>, _)| Diagnostic { targets, ..Arc::unwrap_or_clone(fault) };
    (faults.into_iter().map(named).collect(), is_cancelled)
}
