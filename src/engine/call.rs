//! Calls (`--call`): questions about the Dockerfile of a target instead of a build. Configs of base images are read;
//! nothing runs.
//!
//! How an answer is shown is not decided here.

use std::collections::HashSet;

use futures_util::future::join_all;

use super::{
    context::Contexts,
    lower::{Lowering, lowering},
    lowering_diagnostic::{LoweringDiagnostic, LoweringReport},
};
use crate::{
    dockerfile::{
        check::report::CheckFinding,
        outline::{self, Outline, Targets},
    },
    plan::{Plan, TargetName},
    report::Diagnostic,
    solve::world::SolveWorld,
    spec::call::Method,
};

/// Answer to the call of one target.
pub(crate) enum CallAnswer {
    Check(CheckedDockerfile),
    Outline(Outline),
    Targets(Targets),
}

/// The findings of the checks of one Dockerfile.
#[derive(Default)]
pub(crate) struct CheckedDockerfile {
    /// Findings of check rules; each place once for all platforms.
    pub(crate) findings: Vec<CheckFinding>,
    /// Why the Dockerfile cannot be built.
    pub(crate) faults: Vec<Diagnostic>,
    /// Warnings that do not come from check rules.
    pub(crate) notes: Vec<Diagnostic>,
}

/// Answers the calls of all targets that are not to be built; the answers come in the order of the names.
pub(crate) async fn answer<'a>(
    plan: &'a Plan,
    world: &SolveWorld,
    contexts: &Contexts,
) -> Vec<(&'a TargetName, Result<CallAnswer, Vec<Diagnostic>>)> {
    let mut names: Vec<&TargetName> =
        plan.targets.iter().filter(|(_, it)| method(plan, it) != Method::Build).map(|(name, _)| name).collect();
    names.sort_unstable();
    lowering(world, contexts, true, async |lowering| {
        join_all(names.into_iter().map(async |name| (name, one(lowering, plan, name).await))).await
    })
    .await
}

/// The call method of a target.
pub(crate) fn method(plan: &Plan, nodes: &crate::plan::TargetNodes) -> Method {
    nodes.builds.first().map_or(Method::Build, |node| plan.build(*node).call.method)
}

async fn one(lowering: &Lowering<'_>, plan: &Plan, name: &TargetName) -> Result<CallAnswer, Vec<Diagnostic>> {
    let nodes = &plan.targets[name];
    let Some(first) = nodes.builds.first().copied() else {
        return Ok(CallAnswer::Check(CheckedDockerfile::default()));
    };
    match method(plan, nodes) {
        Method::Build | Method::Check => check(lowering, &plan.only(&[name]), name).await.map(CallAnswer::Check),
        Method::Outline => {
            let (file, options) = lowering.look(plan, first).await.map_err(diagnostics)?;
            outline::outline(&file.file, &options).map(CallAnswer::Outline)
        }
        Method::Targets => {
            let (file, _) = lowering.look(plan, first).await.map_err(diagnostics)?;
            Ok(CallAnswer::Targets(outline::targets(&file.file)))
        }
    }
}

/// Lowers the target. Faults of the Dockerfile and of the images that it names are the answer; any other fault means that there is no answer.
async fn check(lowering: &Lowering<'_>, part: &Plan, name: &TargetName) -> Result<CheckedDockerfile, Vec<Diagnostic>> {
    let mut checked = CheckedDockerfile::default();
    match lowering.run(part).await {
        Ok(prepared) => {
            let builds = part.targets[name].builds.iter().filter_map(|node| prepared.builds.get(node));
            checked.findings = builds.flat_map(|lowered| lowered.findings.iter().cloned()).collect();
            let other = |warning: LoweringDiagnostic| match warning.what {
                LoweringReport::Finding(_) => None,
                _ => Some(warning.into_diagnostic()),
            };
            checked.notes = prepared.warnings.into_iter().filter_map(other).collect();
        }
        Err(all) if all.iter().any(|fault| matches!(fault.what, LoweringReport::Surroundings(_))) => {
            return Err(all
                .into_iter()
                .map(LoweringDiagnostic::into_diagnostic)
                .filter(Diagnostic::is_error)
                .collect());
        }
        Err(all) => {
            for fault in all {
                match fault.what {
                    LoweringReport::Finding(finding) => checked.findings.push(finding),
                    // `check=error=true` adds one error that sums the findings up: here each is reported by itself.
                    LoweringReport::ChecksFailed(_) => (),
                    LoweringReport::Dockerfile(_) | LoweringReport::Image(_) | LoweringReport::Surroundings(_) => {
                        checked.faults.push(fault.into_diagnostic());
                    }
                }
            }
        }
    }
    let mut seen = HashSet::new();
    checked.findings.retain(|finding| seen.insert((finding.rule.name, finding.detail.clone(), finding.at)));
    Ok(checked)
}

fn diagnostics(all: Vec<LoweringDiagnostic>) -> Vec<Diagnostic> {
    all.into_iter().map(LoweringDiagnostic::into_diagnostic).collect()
}
