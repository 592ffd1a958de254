//! Outcome of one run: how it ended, what is to be reported, what the exporters answered.
//!
//! How it is shown and which exit code it means is decided in `cli`.

use std::{collections::BTreeMap, sync::Arc};

use indexmap::IndexSet;
use petgraph::{Direction, graph::NodeIndex};
use serde_json::{Map, Value};

use super::dispatcher::DispatchResult;
use crate::{
    engine::NodeFailure,
    plan::Plan,
    report::{Diagnostic, summary::RunSummary},
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
}

impl RunOutcome {
    /// The outcome of a run that ended before anything ran.
    pub(super) fn unprepared(end: RunEnd, diagnostics: Vec<Diagnostic>) -> Self {
        Self { end, diagnostics, metadata: RunMetadata::new(), summary: RunSummary::default() }
    }

    /// Makes the outcome of a run from the results of its nodes. `warnings` are those of the preparation, `late` that
    /// of saving what the next run can use.
    pub(super) fn new(
        plan: &Plan,
        result: DispatchResult,
        warnings: Vec<Diagnostic>,
        late: Option<Diagnostic>,
        mut summary: RunSummary,
    ) -> Self {
        let mut diagnostics = warnings;
        let mut metadata: RunMetadata = plan.targets.keys().map(|name| (name.to_string(), Map::new())).collect();
        for (node, receipt) in result.receipts {
            let named = |it: Diagnostic| it.of(plan.graph[node].wanted_by().iter().map(|name| name.0.clone()));
            diagnostics.extend(receipt.warnings.into_iter().map(named));
            for target in plan.graph[node].wanted_by() {
                metadata.entry(target.to_string()).or_default().extend(receipt.metadata.clone());
            }
        }
        diagnostics.extend(late);
        diagnostics.extend(summary.warnings.iter().map(|warning| (**warning).clone()));
        let (faults, is_cancelled) = faults(plan, result.failures);
        let end = match (result.was_abandoned, result.was_interrupted, faults.is_empty()) {
            (true, ..) => RunEnd::Abandoned,
            (false, true, _) => RunEnd::Interrupted,
            (false, false, false) => RunEnd::Failed,
            (false, false, true) if is_cancelled => RunEnd::Cancelled,
            (false, false, true) => RunEnd::Succeeded,
        };
        diagnostics.extend(faults);
        summary.wrote.sort();
        Self { end, diagnostics, metadata, summary }
    }
}

/// The faults of the failed nodes, each once with all targets that have it; and whether nodes were cancelled.
///
/// A build that reads the result of another one fails with the fault of that: it is not said to have it.
fn faults(plan: &Plan, failures: BTreeMap<NodeIndex, NodeFailure>) -> (Vec<Diagnostic>, bool) {
    let fault_of = |failure: &NodeFailure| match failure {
        NodeFailure::Failed(fault) | NodeFailure::EngineLost(fault) => Some(fault.clone()),
        NodeFailure::Cancelled => None,
    };
    let mut faults: Vec<(Arc<Diagnostic>, IndexSet<Arc<str>>)> = Vec::new();
    for (node, failure) in &failures {
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
