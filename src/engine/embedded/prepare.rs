//! Preparing: every output, cache and Dockerfile of a plan is read and checked before anything runs.
//!
//! Images and remote contexts are resolved here because Dockerfiles ask for them; no step runs and no layer is pulled.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::Arc,
};

use petgraph::graph::NodeIndex;

use super::{node::EmbeddedEngine, setup::EngineSetup};
use crate::{
    dockerfile::options::Lowered,
    engine::{
        boundary::PreparedEngine,
        cache::Caches,
        context::Contexts,
        lower::{PreparedBuild, lowering},
        provenance, secret,
    },
    export::{self, PreparedExport},
    plan::{Export, Plan, PlanNode},
    report::Diagnostic,
    solve::solver::Solver,
    spec::attest::ProvenanceMode,
};

/// Prepares the embedded engine for a plan.
///
/// # Errors
/// Every fault that was found; `contexts` has the Dockerfiles that their places point into.
pub(crate) async fn prepare(
    plan: &Plan,
    setup: EngineSetup,
    contexts: &Contexts,
) -> Result<PreparedEngine<EmbeddedEngine>, Vec<Diagnostic>> {
    let mut faults = Vec::new();
    let exports = prepare_exports(plan, &setup, &mut faults);
    let mut caches = Caches::of(plan, &setup.cwd);
    let mut world = setup.world();
    world.sources.git_secrets = secret::for_git(plan, &setup.env, |path| contexts.path(path));
    let EngineSetup { client, sink, epoch_now, now, writable, .. } = setup;
    // Dockerfiles are read even if an output is at fault: all faults are reported in one run.
    let lowered = lowering(&world, contexts, false, async |it| it.run(plan).await).await;
    let prepared = match lowered {
        Ok(prepared) if faults.is_empty() => prepared,
        Ok(_) => return Err(faults),
        Err(diagnostics) => {
            faults.extend(diagnostics);
            return Err(faults);
        }
    };
    let facts = provenance_facts(plan, &exports, &prepared, contexts, &now());
    let n_vertices = u32::try_from(prepared.graph.len()).expect("graphs have fewer than 2^32 vertices");
    let solver = Solver::new(prepared.graph, prepared.scopes, world);
    solver.import(caches.import(&client).await);
    let mut warnings = prepared.warnings;
    warnings.append(&mut caches.warnings);
    let engine = EmbeddedEngine {
        solver,
        platforms: prepared.builds.keys().map(|node| (*node, plan.build(*node).platform.clone())).collect(),
        builds: prepared.builds,
        exports,
        facts,
        caches,
        client,
        sink,
        n_vertices,
        epoch_now,
        writable,
    };
    Ok(PreparedEngine { engine, warnings })
}

/// Checks the destination of every output.
fn prepare_exports(
    plan: &Plan,
    setup: &EngineSetup,
    faults: &mut Vec<Diagnostic>,
) -> HashMap<NodeIndex, PreparedExport> {
    let mut prepared = HashMap::new();
    for node in plan.graph.node_indices() {
        let PlanNode::Export(export) = &plan.graph[node] else { continue };
        let (output, subject) = request(export, &setup.cwd, &setup.env);
        match export::prepare(&output, &subject, &setup.writable) {
            Ok(export) => {
                prepared.insert(node, export);
            }
            Err(diagnostic) => faults.push(*diagnostic),
        }
    }
    prepared
}

/// What provenance states about the builds of exports that carry it, all but when they ended. `started` is RFC 3339.
fn provenance_facts(
    plan: &Plan,
    exports: &HashMap<NodeIndex, PreparedExport>,
    prepared: &PreparedBuild,
    contexts: &Contexts,
    started: &str,
) -> HashMap<NodeIndex, export::Provenance> {
    let facts = |build: NodeIndex, lowered: &Arc<Lowered>| {
        provenance::facts(plan.build(build), lowered, &prepared.graph, contexts, started)
    };
    let mut all = HashMap::new();
    for (node, _) in exports.iter().filter(|(_, export)| export.states_provenance()) {
        for build in plan.graph.neighbors_directed(*node, petgraph::Direction::Incoming) {
            all.extend(prepared.builds.get(&build).map(|lowered| (build, facts(build, lowered))));
        }
    }
    all
}

/// An export of the plan as `export` wants it.
fn request(it: &Export, cwd: &Path, env: &BTreeMap<String, String>) -> (export::ExportedOutput, export::Subject) {
    let output = export::ExportedOutput { item: it.output.clone(), at: it.at };
    let subject = export::Subject {
        target: it.wanted_by.first().map(ToString::to_string).unwrap_or_default(),
        tags: it.tags.clone(),
        annotations: it.annotations.clone(),
        platforms: it.platforms.clone(),
        attestations: it.attestations.clone(),
        attest_at: it.attest_at,
        cwd: cwd.to_owned(),
        metadata_provenance: match env.get("BUILDX_METADATA_PROVENANCE").map(String::as_str) {
            Some("max") => Some(ProvenanceMode::Max),
            Some("disabled" | "false" | "0") => None,
            _ => Some(ProvenanceMode::Min),
        },
    };
    (output, subject)
}
