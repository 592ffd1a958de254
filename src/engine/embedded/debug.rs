//! A build up to one RUN step, which is held for the user and not run. Nothing is exported, no cache is written.

use petgraph::graph::NodeIndex;

use super::{node::EmbeddedEngine, prepare::prepare, setup::EngineSetup};
use crate::{
    engine::{
        boundary::{BuildWork, CancelMode, Engine, ExportGate, NodeFailure, PreparedEngine, PublishedExport},
        context::Contexts,
    },
    export::ExportReceipt,
    graph::{Graph, Op, VertexIx},
    oci::Platform,
    plan::{Plan, TargetNodes},
    report::{Diagnostic, step_name, suggest},
    solve::{op::held::HeldSlot, schedule::order},
};

/// The embedded engine, which builds what one step needs and holds that step.
pub(crate) struct DebugEngine {
    inner: EmbeddedEngine,
    build: NodeIndex,
    step: VertexIx,
    slot: HeldSlot,
}

/// Prepares the embedded engine to hold a step of a target: the one that `wanted` means, without it its last RUN step. Of
/// several platforms it is that of this machine, or the first. `slot` receives the step, or the one that failed before it.
///
/// # Errors
/// As [`prepare`]; when the target has no such step, or several.
pub(crate) async fn prepare_debug(
    plan: &Plan,
    target: &TargetNodes,
    wanted: Option<&str>,
    setup: EngineSetup,
    contexts: &Contexts,
    slot: HeldSlot,
) -> Result<PreparedEngine<DebugEngine>, Vec<Diagnostic>> {
    let setup = EngineSetup { held: Some(slot.clone()), ..setup };
    let PreparedEngine { engine: inner, warnings, findings } = prepare(plan, setup, contexts).await?;
    let is_host = |node: &&NodeIndex| plan.build(**node).platform == Platform::host();
    let build = target.builds.iter().find(is_host).or(target.builds.first());
    let found = build.ok_or_else(no_run).and_then(|build| {
        let lowered = inner.builds.get(build).ok_or_else(no_run)?;
        Ok((*build, step(inner.solver.graph(), lowered.result, wanted)?))
    });
    let (build, step) = found.map_err(|fault| vec![fault])?;
    Ok(PreparedEngine { engine: DebugEngine { inner, build, step, slot }, warnings, findings })
}

/// The RUN step that a text means among those that `result` needs.
fn step(graph: &Graph, result: VertexIx, wanted: Option<&str>) -> Result<VertexIx, Diagnostic> {
    let is_run = |ix: &VertexIx| matches!(graph.get(*ix).op, Op::Exec(_));
    let steps: Vec<VertexIx> = order::reachable(graph, result).into_iter().filter(is_run).collect();
    let names: Vec<&str> = steps.iter().map(|ix| graph.get(*ix).meta.name.as_str()).collect();
    let Some(wanted) = wanted else {
        // The last one of the stage itself, else the last that it needs.
        let mut below = std::iter::successors(Some(result), |ix| graph.get(*ix).inputs.first().copied());
        return below.find(is_run).or(steps.last().copied()).ok_or_else(no_run);
    };
    match step_name::matching(&names, wanted).as_slice() {
        [ix] => Ok(steps[*ix]),
        [] => {
            let message = format!("no RUN step of the target has this in its name: {wanted}");
            let fault = Diagnostic::error("bake::engine::debug_no_step", message);
            let near = suggest::did_you_mean(wanted, names.iter().map(|name| step_name::place(name)));
            let help = near.or_else(|| (!names.is_empty()).then(|| step_name::name_one(&names)));
            Err(Diagnostic { help, ..fault })
        }
        several => {
            let message = format!("{} steps have this in their names: {wanted}", several.len());
            let fault = Diagnostic::error("bake::engine::debug_several_steps", message);
            let names: Vec<&str> = several.iter().map(|ix| names[*ix]).collect();
            Err(fault.help(step_name::name_one(&names)))
        }
    }
}

fn no_run() -> Diagnostic {
    Diagnostic::error(
        "bake::engine::debug_no_run",
        "the target has no RUN step, in front of which a shell could be opened",
    )
}

impl Engine for DebugEngine {
    type Built = ();
    type Staged = ();

    fn gate(&self, _: NodeIndex) -> ExportGate {
        ExportGate::None
    }

    /// Builds only what the step needs, whichever node asks.
    async fn build(&self, build: NodeIndex) -> Result<(), NodeFailure> {
        if build == self.build {
            self.inner.solver.hold(self.step, &self.slot).await?;
        }
        Ok(())
    }

    async fn export(&self, _: NodeIndex, _: &[()]) -> Result<ExportReceipt, NodeFailure> {
        Ok(ExportReceipt::default())
    }

    async fn stage(&self, _: NodeIndex, _: &[()]) -> Result<(), NodeFailure> {
        Ok(())
    }

    async fn publish(&self, staged: Vec<(NodeIndex, ())>) -> Vec<PublishedExport> {
        staged.into_iter().map(|(node, ())| PublishedExport { node, result: Ok(ExportReceipt::default()) }).collect()
    }

    fn work(&self, build: NodeIndex) -> BuildWork {
        self.inner.work(build)
    }

    fn cancel(&self, mode: CancelMode) {
        self.inner.cancel(mode);
    }

    fn finish(&self) -> Result<(), Diagnostic> {
        self.inner.finish()
    }
}
