//! What a command tells, kept for its reports. Nothing is kept unless a report is wanted.
//!
//! The diagnostics of a command come from many places and pass through `ui::output`; so does a copy of each to here, and so it
//! does not matter where or how a command ends: what was told until then is in the reports.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Instant,
};

use indexmap::IndexMap;

use super::{
    finding::{Finding, FindingKey, Findings, ReportPaths},
    format::ReportFormat,
};
use crate::report::{Diagnostic, SourceMap, result::TargetResult};

static COLLECTED: OnceLock<Mutex<Collected>> = OnceLock::new();

struct Collected {
    paths: ReportPaths,
    begun: Instant,
    findings: Vec<Finding>,
    seen: HashMap<FindingKey, usize>,
    targets: IndexMap<Arc<str>, TargetResult>,
}

/// From now on what is told is kept. Only the first call has an effect.
pub(crate) fn begin(paths: ReportPaths) {
    let new = || {
        let (findings, seen, targets) = (Vec::new(), HashMap::new(), IndexMap::new());
        Mutex::new(Collected { paths, begun: Instant::now(), findings, seen, targets })
    };
    COLLECTED.get_or_init(new);
}

/// Keeps diagnostics; one that was told before adds its targets to that.
pub(crate) fn record<'d>(all: impl IntoIterator<Item = &'d Diagnostic>, sources: &SourceMap) {
    let Some(collected) = COLLECTED.get() else { return };
    let mut collected = collected.lock().unwrap_or_else(PoisonError::into_inner);
    let Collected { paths, findings, seen, .. } = &mut *collected;
    for diagnostic in all {
        let finding = Finding::new(diagnostic, sources, paths);
        let ix = *seen.entry(finding.key()).or_insert(findings.len());
        match findings.get_mut(ix) {
            Some(known) => known.targets.extend(finding.targets),
            None => findings.push(finding),
        }
    }
}

/// Says what became of the targets of a run, or that they are about to be built; a later call replaces those that an earlier
/// one named.
pub(crate) fn planned(targets: impl FnOnce() -> Vec<TargetResult>) {
    let Some(collected) = COLLECTED.get() else { return };
    let new = targets();
    let mut collected = collected.lock().unwrap_or_else(PoisonError::into_inner);
    collected.targets.extend(new.into_iter().map(|target| (target.name.clone(), target)));
}

/// Whether nothing was told and no target was built.
pub(crate) fn is_empty() -> bool {
    COLLECTED.get().is_none_or(|collected| {
        let collected = collected.lock().unwrap_or_else(PoisonError::into_inner);
        collected.findings.is_empty() && collected.targets.is_empty()
    })
}

/// The report in one format of what was kept until now; `None` if [`begin`] was not called.
pub(crate) fn text(format: ReportFormat) -> Option<String> {
    let collected = COLLECTED.get()?.lock().unwrap_or_else(PoisonError::into_inner);
    let Collected { paths: _, begun, findings, seen: _, targets } = &*collected;
    Some(format.write(&Findings::new(findings, targets.values().collect(), begun.elapsed())))
}
