//! Outcome of one run: how it ended, what is to be reported, what the exporters answered.
//!
//! How it is shown and which exit code it means is decided in `cli`.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Map, Value};

use super::dispatcher::DispatchResult;
use crate::{
    engine::NodeFailure,
    plan::Plan,
    report::{Diagnostic, summary::RunSummary},
};

/// Answers of the exporters by target, as `--metadata-file` writes them.
pub(crate) type RunMetadata = BTreeMap<String, Map<String, Value>>;

/// How a run ended.
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
    /// Outcome of a run that ended before anything ran.
    pub(super) fn unprepared(end: RunEnd, diagnostics: Vec<Diagnostic>) -> Self {
        Self { end, diagnostics, metadata: RunMetadata::new(), summary: RunSummary::default() }
    }

    /// Makes the outcome from what has come of the nodes. `warnings` are those of the preparation, `late` that of saving
    /// what the next run can use.
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
            diagnostics.extend(receipt.warnings);
            for target in plan.graph[node].wanted_by() {
                metadata.entry(target.to_string()).or_default().extend(receipt.metadata.clone());
            }
        }
        diagnostics.extend(late);
        diagnostics.extend(summary.warnings.iter().map(|warning| (**warning).clone()));
        let mut faults: Vec<Arc<Diagnostic>> = Vec::new();
        let mut is_cancelled = false;
        for failure in result.failures.into_values() {
            match failure {
                NodeFailure::Failed(fault) | NodeFailure::EngineLost(fault) if faults.contains(&fault) => (),
                NodeFailure::Failed(fault) | NodeFailure::EngineLost(fault) => faults.push(fault),
                NodeFailure::Cancelled => is_cancelled = true,
            }
        }
        let end = match (result.was_abandoned, result.was_interrupted, faults.is_empty()) {
            (true, ..) => RunEnd::Abandoned,
            (false, true, _) => RunEnd::Interrupted,
            (false, false, false) => RunEnd::Failed,
            (false, false, true) if is_cancelled => RunEnd::Cancelled,
            (false, false, true) => RunEnd::Succeeded,
        };
        diagnostics.extend(faults.into_iter().map(Arc::unwrap_or_clone));
        summary.wrote.sort();
        Self { end, diagnostics, metadata, summary }
    }
}
