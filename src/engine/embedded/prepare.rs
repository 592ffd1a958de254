//! Preparing: every output, cache and Dockerfile of a plan is read and checked before anything runs.
//!
//! First of all a release that an earlier process did not end is gone on with: what it left may be what this plan reads or
//! writes. Images and remote contexts are resolved here because Dockerfiles ask for them; no step runs and no layer is pulled.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use petgraph::graph::NodeIndex;
use tracing::Instrument as _;

use super::{
    named::{self, ImageNames},
    node::EmbeddedEngine,
    setup::EngineSetup,
};
use crate::{
    dockerfile::options::Lowered,
    engine::{
        boundary::PreparedEngine,
        build_info::PendingBuildInfo,
        cache::Caches,
        context::Contexts,
        lower::{PreparedBuild, lowering},
        lowering_diagnostic::LoweringDiagnostic,
        outputs::{OutputWorld, joint_exports, prepare_exports},
        own_input,
        provenance::PendingProvenance,
        sbom, secret,
    },
    export::{self, PreparedExport, ReleaseContext},
    plan::{Plan, PlanNode},
    report::Diagnostic,
    solve::solver::Solver,
    spec::{
        self,
        attest::SbomOptions,
        policy::{CANNOT_JUDGE, POLICY_HELP, UnnamedPolicies},
    },
};

/// Prepares the embedded engine for a plan.
///
/// # Errors
/// Every fault that was found, after what is told about an earlier release; `contexts` has the Dockerfiles that their
/// places point into.
pub(crate) async fn prepare(
    plan: &Plan,
    setup: EngineSetup,
    contexts: &Contexts,
) -> Result<PreparedEngine<EmbeddedEngine>, Vec<Diagnostic>> {
    let (client, store, sink) = (setup.client.clone(), setup.store.clone(), setup.sink.clone());
    let mut told = export::recover(&ReleaseContext { client, store, sink }).await;
    match prepare_plan(plan, setup, contexts).await {
        Ok(mut prepared) => {
            prepared.warnings.splice(0..0, told);
            Ok(prepared)
        }
        Err(faults) => {
            told.extend(faults);
            Err(told)
        }
    }
}

async fn prepare_plan(
    plan: &Plan,
    setup: EngineSetup,
    contexts: &Contexts,
) -> Result<PreparedEngine<EmbeddedEngine>, Vec<Diagnostic>> {
    let mut faults: Vec<Diagnostic> = policy_of_environment(plan, &setup.env).into_iter().collect();
    let world = OutputWorld { cwd: &setup.cwd, env: &setup.env, writable: &setup.writable };
    let (exports, mut warnings) = prepare_exports(plan, &world, &mut faults);
    let mut caches = Caches::of_plan(plan, &setup.cwd, &setup.env);
    faults.append(&mut caches.faults);
    let recorded = named::find_all(plan, &setup.store, &mut faults);
    let mut world = setup.world();
    world.sources.git_secrets = secret::for_git(plan, &setup.secret_env, |path| contexts.path(path));
    let EngineSetup { client, sink, epoch_now, now, writable, .. } = setup;
    // Dockerfiles are read even if an output is at fault: all faults are reported in one run.
    let span = tracing::debug_span!("Dockerfiles to graph");
    let lowered = lowering(&world, contexts, false, async |it| {
        let mut prepared = it.run(plan).await?;
        let scans = sbom::add(it, plan, &mut prepared, wanted_sboms(plan, &exports)).await?;
        Ok::<_, Vec<LoweringDiagnostic>>((prepared, scans))
    });
    let (prepared, scans) = match lowered.instrument(span).await {
        Ok(lowered) if faults.is_empty() => lowered,
        Ok(_) => return Err(faults),
        Err(found) => {
            faults.extend(found.into_iter().map(LoweringDiagnostic::into_diagnostic));
            return Err(faults);
        }
    };
    let started = now();
    let stating = |states: fn(&PreparedExport) -> bool| builds_of(plan, &exports, &prepared, states);
    let facts = stating(PreparedExport::states_provenance).map(|(node, lowered)| {
        let facts = PendingProvenance::of(plan.build(node), lowered, &prepared.graph, contexts, &started);
        (node, facts.with_scanners(scans.get(&node).into_iter().flatten().map(|scan| scan.image), &prepared.graph))
    });
    let facts = facts.collect();
    let build_info = stating(PreparedExport::states_build_info)
        .map(|(node, lowered)| (node, PendingBuildInfo::of(plan.build(node), lowered, &prepared.graph, contexts)));
    let build_info = build_info.collect();
    let written = exports.values().filter_map(|it| Some((it.written_path()?, it.output.at)));
    warnings.extend(own_input::read_back(&prepared.graph, written));
    let n_vertices = u32::try_from(prepared.graph.len()).expect("graphs have fewer than 2^32 vertices");
    let solver = Solver::new(prepared.graph, prepared.scopes, world);
    solver.import(caches.reading(
        client.clone(),
        solver.world().sources.objects.clone(),
        sink.clone(),
        solver.world().caches.clone(),
    ));
    let findings = prepared.warnings.iter().filter_map(LoweringDiagnostic::finding).cloned().collect();
    warnings.extend(prepared.warnings.into_iter().map(LoweringDiagnostic::into_diagnostic));
    warnings.append(&mut caches.warnings);
    let engine = EmbeddedEngine {
        solver,
        names: ImageNames::of(plan, &exports),
        recorded,
        platforms: prepared.builds.keys().map(|node| (*node, plan.build(*node).platform.clone())).collect(),
        builds: prepared.builds,
        exports,
        joint: joint_exports(plan),
        facts,
        build_info,
        scans,
        caches,
        client,
        sink,
        n_vertices,
        epoch_now,
        writable,
    };
    Ok(PreparedEngine { engine, warnings, findings })
}

/// The fault of a policy that the environment asks for, which this engine cannot judge and does not build past.
fn policy_of_environment(plan: &Plan, env: &BTreeMap<String, String>) -> Option<Diagnostic> {
    let set = |name: &'static str| env.get(name).filter(|value| !value.is_empty());
    let is_on = set("BUILDX_DEFAULT_POLICY").is_some_and(|value| spec::boolean(value).unwrap_or(false));
    let counts = |node: &PlanNode| matches!(node, PlanNode::Build(it) if it.unnamed_policies != UnnamedPolicies::None);
    let (name, help) = match set("EXPERIMENTAL_BUILDKIT_SOURCE_POLICY") {
        Some(_) => ("EXPERIMENTAL_BUILDKIT_SOURCE_POLICY", "unset it to build without that policy"),
        None if is_on && plan.graph.node_weights().any(counts) => ("BUILDX_DEFAULT_POLICY", POLICY_HELP),
        None => return None,
    };
    let message = format!("{CANNOT_JUDGE}: that of the environment variable {name}");
    Some(Diagnostic::error("bake::engine::policy", message).help(help))
}

/// The builds of the exports that state something about them, each once.
fn builds_of<'a>(
    plan: &Plan,
    exports: &HashMap<NodeIndex, PreparedExport>,
    prepared: &'a PreparedBuild,
    states: fn(&PreparedExport) -> bool,
) -> impl Iterator<Item = (NodeIndex, &'a Arc<Lowered>)> {
    let stating = exports.iter().filter(|(_, export)| states(export));
    let builds = stating.flat_map(|(node, _)| plan.graph.neighbors_directed(*node, petgraph::Direction::Incoming));
    let builds: BTreeSet<NodeIndex> = builds.collect();
    builds.into_iter().filter_map(|node| Some((node, prepared.builds.get(&node)?)))
}

/// The SBOMs that exports write, each with the build that it is about.
fn wanted_sboms<'a>(plan: &Plan, exports: &'a HashMap<NodeIndex, PreparedExport>) -> Vec<(NodeIndex, &'a SbomOptions)> {
    let mut wanted: Vec<(NodeIndex, &SbomOptions)> = exports
        .iter()
        .filter_map(|(node, export)| Some((*node, export.sbom()?)))
        .flat_map(|(node, options)| {
            let builds = plan.graph.neighbors_directed(node, petgraph::Direction::Incoming);
            builds.map(move |build| (build, options))
        })
        .collect();
    // Which of equal vertices comes first is the same in every run.
    wanted.sort_by_key(|(node, options)| (*node, options.id()));
    wanted
}
