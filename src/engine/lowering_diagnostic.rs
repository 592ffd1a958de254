//! What lowering a plan reports, by what it is about, so that callers decide on variants and not on codes.
//!
//! How the reports are shown, and which of them fail a run, is the callers' business.

use std::{collections::HashMap, sync::Arc};

use indexmap::IndexSet;

use super::host_gateway;
use crate::{
    dockerfile::{
        check::report::CheckFinding,
        options::{LowerFaults, Lowered},
    },
    plan::{Build, build::StageOption},
    report::{Diagnostic, Span},
};

/// An error or warning of lowering, with the targets that have it.
pub(crate) struct LoweringDiagnostic {
    pub(crate) what: LoweringReport,
    pub(crate) targets: IndexSet<Arc<str>>,
}

/// An error or warning of lowering, by what it is about.
pub(crate) enum LoweringReport {
    /// A check rule that a Dockerfile violates.
    Finding(CheckFinding),
    /// The error that sums up the findings of a Dockerfile which declares that they are errors.
    ChecksFailed(Diagnostic),
    /// The Dockerfile, or how it fits its build.
    Dockerfile(Diagnostic),
    /// An image that the Dockerfile names and that cannot be read.
    Image(Diagnostic),
    /// What the Dockerfile needs: contexts, the Dockerfile as a file.
    Surroundings(Diagnostic),
}

impl LoweringReport {
    /// The report about a build.
    pub(crate) fn about(self, build: &Build) -> LoweringDiagnostic {
        LoweringDiagnostic { what: self, targets: names(build).collect() }
    }

    /// What two messages about one fault have in common.
    fn identity(&self) -> (&'static str, String, Option<Span>) {
        match self {
            Self::Finding(finding) => (finding.rule.code, finding.detail.clone(), Some(finding.at)),
            Self::ChecksFailed(fault) | Self::Dockerfile(fault) | Self::Image(fault) | Self::Surroundings(fault) => {
                (fault.code, fault.message.clone(), fault.labels.first().map(|label| label.at))
            }
        }
    }
}

impl LoweringDiagnostic {
    /// The violation of a check rule, if it is one.
    pub(super) const fn finding(&self) -> Option<&CheckFinding> {
        match &self.what {
            LoweringReport::Finding(finding) => Some(finding),
            _ => None,
        }
    }

    /// What the user is shown.
    pub(crate) fn into_diagnostic(self) -> Diagnostic {
        use LoweringReport::{ChecksFailed, Dockerfile, Finding, Image, Surroundings};
        let diagnostic = match self.what {
            Finding(finding) => finding.diagnostic(),
            ChecksFailed(fault) | Dockerfile(fault) | Image(fault) | Surroundings(fault) => fault,
        };
        diagnostic.of(self.targets)
    }

    /// All errors and warnings of a build that could not be lowered; those without a place get that of an attribute.
    pub(super) fn of_failed(failed: LowerFaults, build: &Build, attribute: &str) -> Vec<Self> {
        use LoweringReport::{ChecksFailed, Dockerfile, Finding, Image};
        let LowerFaults { findings, faults, unread, checks_failed } = failed;
        let placed = |fault| at_attribute(fault, build, attribute);
        let findings = findings.into_iter().map(Finding);
        let faults = faults.into_iter().map(|fault| Dockerfile(placed(fault)));
        let unread = unread.into_iter().map(|fault| Image(placed(fault)));
        let summary = checks_failed.map(|fault| ChecksFailed(placed(fault)));
        findings.chain(faults).chain(unread).chain(summary).map(|it| it.about(build)).collect()
    }
}

/// What lowering found about the options of a build, each at its attribute.
pub(super) fn about_options(lowered: &Lowered, build: &Build) -> Vec<Diagnostic> {
    let at = |all: &[Diagnostic], attribute: &str, text: &str| -> Vec<Diagnostic> {
        all.iter().map(|it| it.clone().at(build.at(attribute), text)).collect()
    };
    let Lowered { unused_args, unknown_stages, own_contexts, .. } = lowered;
    let gateway: Vec<Diagnostic> = host_gateway::without_address(build).into_iter().collect();
    let parts = [
        at(&gateway, "extra-hosts", "given here"),
        at(unused_args, "args", "given here"),
        at(unknown_stages, "no-cache-filter", "named here"),
        at(own_contexts, "contexts", "named here"),
    ];
    parts.concat()
}

/// The names of the targets that a build is for.
pub(super) fn names(build: &Build) -> impl Iterator<Item = Arc<str>> + '_ {
    build.wanted_by.iter().map(|name| name.0.clone())
}

/// A fault of what a build needs, at an attribute of its target.
pub(super) fn surroundings(fault: Diagnostic, build: &Build, attribute: &str) -> LoweringDiagnostic {
    LoweringReport::Surroundings(at_attribute(fault, build, attribute)).about(build)
}

/// Gives a diagnostic without a place that of an attribute of the build's target.
pub(super) fn at_attribute(diagnostic: Diagnostic, build: &Build, attribute: &str) -> Diagnostic {
    if !diagnostic.labels.is_empty() {
        return diagnostic;
    }
    let target = build.wanted_by.first().map(ToString::to_string).unwrap_or_default();
    let text = format!("for target `{target}`");
    match &build.stage_option {
        Some(StageOption { at, part }) if attribute == "target" => diagnostic.at_part(*at, part, text),
        _ => diagnostic.at(build.at(attribute), text),
    }
}

/// Makes one report of those about one fault: a fault of a file that several targets read is reported once, for all of them.
pub(super) fn dedup(all: &mut Vec<LoweringDiagnostic>) {
    let mut seen: HashMap<_, usize> = HashMap::new();
    let mut kept: Vec<LoweringDiagnostic> = Vec::with_capacity(all.len());
    for it in all.drain(..) {
        let ix = *seen.entry(it.what.identity()).or_insert(kept.len());
        match kept.get_mut(ix) {
            Some(first) => first.targets.extend(it.targets),
            None => kept.push(it),
        }
    }
    *all = kept;
}
