//! Which steps of a plan would run, and why: Dockerfiles are read and lowered as for a build, and looked up instead of built.
//!
//! Nothing is recorded and nothing is exported. Registries are asked what tags mean, and shared caches are read, as a build
//! would do.

use std::{collections::BTreeSet, path::Path};

use petgraph::graph::NodeIndex;

use super::{
    cache::Caches,
    context::Contexts,
    image::Images,
    lower::{PreparedBuild, lowering_with},
    lowering_diagnostic::LoweringDiagnostic,
    secret,
};
use crate::{
    oci::Platform,
    plan::{Plan, TargetName},
    registry::Client,
    report::{Diagnostic, Span},
    solve::{
        explain::look::{StepLook, StepOutlook},
        failure::SolveFailure,
        schedule::order,
        solver::Solver,
        world::SolveWorld,
    },
};

pub(crate) use crate::solve::explain::difference::Explanation;

/// What would become of a step; the words are those of the JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExplainedState {
    Image,
    Fetched,
    Cached,
    Runs,
    Depends,
}

/// One step of the plan.
pub(crate) struct ExplainedStep {
    /// As progress names it: `[web build 2/5] RUN make`.
    pub(crate) name: String,
    /// The targets that need it, in the order of the plan.
    pub(crate) targets: Vec<TargetName>,
    pub(crate) platform: Platform,
    /// Its instruction.
    pub(crate) at: Option<Span>,
    pub(crate) state: ExplainedState,
    /// Why it would run.
    pub(crate) why: Explanation,
    /// When it last ran, RFC 3339, and why.
    pub(crate) last: Option<(String, Explanation)>,
}

/// The answer for a plan.
pub(crate) struct ExplainedPlan {
    /// Inputs before the steps that read them.
    pub(crate) steps: Vec<ExplainedStep>,
    pub(crate) warnings: Vec<Diagnostic>,
}

/// Looks at all steps of a plan. Relative paths of caches start at `cwd`.
///
/// # Errors
/// Every fault of the Dockerfiles and contexts; `contexts` has the texts that their places point into.
pub(crate) async fn explain(
    plan: &Plan,
    mut world: SolveWorld,
    client: &Client,
    contexts: &Contexts,
    cwd: &Path,
) -> Result<ExplainedPlan, Vec<Diagnostic>> {
    world.sources.git_secrets = secret::for_git(plan, &world.secret_env, |path| contexts.path(path));
    let images = Images::not_kept(world.sources.client.clone(), world.store.clone());
    let lowered = lowering_with(images, &world, contexts, false, async |it| it.run(plan).await).await;
    let PreparedBuild { graph, scopes, builds, warnings } =
        lowered.map_err(|faults| faults.into_iter().map(LoweringDiagnostic::into_diagnostic).collect::<Vec<_>>())?;
    let mut warnings: Vec<Diagnostic> = warnings.into_iter().map(LoweringDiagnostic::into_diagnostic).collect();
    let needs: Vec<(NodeIndex, BTreeSet<usize>)> = plan
        .builds_in_order()
        .filter_map(|(node, _)| Some((node, builds.get(&node)?.result)))
        .map(|(node, result)| (node, order::reachable(&graph, result).into_iter().map(|ix| ix.index()).collect()))
        .collect();
    let results: Vec<_> = plan.builds_in_order().filter_map(|(node, _)| Some(builds.get(&node)?.result)).collect();
    let solver = Solver::new(graph, scopes, world);
    let mut caches = Caches::of_plan(plan, cwd, &solver.world().env);
    let (sink, admitted) = (solver.world().sink.clone(), solver.world().caches.clone());
    solver.import(caches.reading(client.clone(), solver.world().sources.objects.clone(), sink, admitted));
    warnings.append(&mut caches.warnings);
    let looks = solver.look(&results).await.map_err(|failure| vec![SolveFailure::into_diagnostic(failure)])?;
    let steps = solver.shown(looks).into_iter().map(|shown| {
        let StepLook { ix, outlook, why, last } = shown.look;
        let mut targets: Vec<TargetName> = Vec::new();
        for (node, _) in needs.iter().filter(|(_, needed)| needed.contains(&ix.index())) {
            let new = plan.build(*node).wanted_by.iter().filter(|name| !targets.contains(name)).cloned();
            targets.extend(new.collect::<Vec<_>>());
        }
        ExplainedStep {
            name: shown.vertex.meta.name.clone(),
            targets,
            platform: shown.vertex.platform.clone(),
            at: shown.vertex.meta.origin.at,
            state: match outlook {
                StepOutlook::Image => ExplainedState::Image,
                StepOutlook::Fetched => ExplainedState::Fetched,
                StepOutlook::Cached => ExplainedState::Cached,
                StepOutlook::Runs => ExplainedState::Runs,
                StepOutlook::Depends => ExplainedState::Depends,
            },
            why,
            last,
        }
    });
    Ok(ExplainedPlan { steps: steps.collect(), warnings })
}
