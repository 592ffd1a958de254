//! `bake debug`: a target is built up to one of its RUN steps, and a shell is opened in front of that.

use std::sync::Arc;

use super::{
    build::{on_runtime, progress_mode, setup},
    shell,
};
use crate::{
    cli::{
        definition::{self, Planned},
        exit::{FAILED, INTERRUPTED, USAGE},
        settings::Settings,
    },
    dispatch::{self, RunEnd, interrupt::Interrupts},
    engine::{
        HeldSlot, SharedCaches,
        context::Contexts,
        embedded::{EngineSetup, prepare_debug},
    },
    plan::{Plan, TargetNodes},
    report::{Diagnostic, event::Sink},
    spec::ExecutionMode,
    ui::{output, progress::ProgressView},
};

/// Builds up to `step`, or the last RUN step, and runs `command` or a shell there; its exit code.
pub(crate) fn run(
    mut settings: Settings,
    step: Option<String>,
    command: Option<Vec<String>>,
    interrupts: &mut Interrupts,
) -> u8 {
    settings.overrides.push(("bake debug".to_owned(), "*.output=type=cacheonly".to_owned()));
    let planned = match definition::allowed(&settings) {
        Ok(planned) => planned,
        Err(code) => return code,
    };
    on_runtime(&settings, debug(&settings, planned, step, command, interrupts))
}

async fn debug(
    settings: &Settings,
    planned: Planned,
    step: Option<String>,
    command: Option<Vec<String>>,
    interrupts: &mut Interrupts,
) -> u8 {
    let hidden = Arc::new(planned.evaluated.hidden.clone());
    let Planned { plan, sources, paths, writable, secret_env, .. } = planned;
    let target = match only_target(&plan) {
        Ok(target) => target,
        Err(fault) => {
            output::diagnostics(&[fault], &sources, settings.color);
            return USAGE;
        }
    };
    let view = ProgressView::start(progress_mode(settings));
    let contexts = Contexts::new(settings.cwd.clone(), paths, sources);
    let (caches, slot) = (SharedCaches::default(), HeldSlot::default());
    let prepare = async |sink: Sink| {
        // Of an engine that was lost nothing is held.
        drop(slot.take());
        let setup = setup(settings, writable.clone(), &secret_env, sink).map_err(|fault| vec![*fault])?;
        let setup = EngineSetup { caches: caches.clone(), hidden: hidden.clone(), ..setup };
        prepare_debug(&plan, target, step.as_deref(), setup, &contexts, slot.clone()).await
    };
    let outcome = dispatch::run(&plan, ExecutionMode::FailFast, prepare, interrupts, view.sink()).await;
    if outcome.end == RunEnd::Abandoned {
        view.abandon();
    } else {
        view.finish();
    }
    let told = definition::check(settings, outcome.diagnostics, &contexts.sources());
    if matches!(outcome.end, RunEnd::Interrupted | RunEnd::Abandoned) {
        output::words("interrupted\n");
        return INTERRUPTED;
    }
    let Some(held) = slot.take() else { return told.err().unwrap_or(FAILED) };
    // One that failed before the step that was asked for is shown as it was before it ran, too.
    let held = if outcome.end == RunEnd::Failed { held.unrun() } else { Ok(held) };
    match held {
        Ok(held) => shell::in_unrun(settings, held, command, interrupts).await,
        Err(fault) => {
            output::diagnostics(&[fault], &contexts.sources(), settings.color);
            FAILED
        }
    }
}

/// The target that was asked for.
fn only_target(plan: &Plan) -> Result<&TargetNodes, Diagnostic> {
    let asked: Vec<_> = plan.targets.iter().filter(|(_, nodes)| !nodes.is_linked).collect();
    match asked.as_slice() {
        [(_, nodes)] => Ok(nodes),
        several => {
            let names: Vec<String> = several.iter().map(|(name, _)| format!("`{name}`")).collect();
            let message = format!("a shell is opened in one target, not in {}", names.len());
            let fault = Diagnostic::error("bake::cli::debug_targets", message);
            Err(fault.help(format!("name one: {}", names.join(", "))))
        }
    }
}
