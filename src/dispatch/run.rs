//! The executor: carries out what the dispatcher answers, on any engine.
//!
//! Each unit (a build, an export, the release of all staged outputs) is a future that owns its state; this file selects
//! over units, interrupts and the grace period and hands what happened to the dispatcher. A run whose engine was lost is
//! repeated, once for each reason.

use std::{panic::AssertUnwindSafe, pin::Pin};

use futures_util::{
    FutureExt as _,
    stream::{FuturesUnordered, StreamExt as _},
};
use tokio::time::{Sleep, sleep};

use super::{
    dispatcher::{DispatchAnswer, DispatchEvent, DispatchResult, DispatchUnit, Dispatcher},
    interrupt::{GRACE, Interrupts},
    log::RunLog,
    outcome::{RunEnd, RunOutcome},
};
use crate::{
    engine::{Engine, NodeFailure, PreparedEngine, PublishedExport},
    plan::Plan,
    report::{
        Diagnostic,
        event::{Event, Sink},
    },
    spec::ExecutionMode,
};

/// How often a plan is run on an engine that is prepared anew after it was lost: each time for another reason, such as one
/// more layer of the cache that turns out to be damaged.
const MOST_REPEATS: usize = 32;

/// Runs a plan to its end, or until the user stops it, and says how it ended. It never fails: faults are in the
/// outcome.
///
/// `mode` says when results become visible and what a failure stops.
/// `prepare` makes the engine and checks everything that can be checked before anything runs; if it has errors, nothing
/// runs. Events that the engine sends to the sink given to `prepare` are counted and passed on to `view`. If the engine
/// is lost, `prepare` is called once more and the whole plan runs again.
///
/// The first interrupt asks running steps to end; after a grace period they are killed, and after another one what
/// still runs is left behind ([`RunEnd::Abandoned`]), as it is at once by a second interrupt.
pub(crate) async fn run<E: Engine>(
    plan: &Plan,
    mode: ExecutionMode,
    prepare: impl AsyncFn(Sink) -> Result<PreparedEngine<E>, Vec<Diagnostic>>,
    interrupts: &mut Interrupts,
    view: Sink,
) -> RunOutcome {
    let log = RunLog::new(view);
    let mut reasons: Vec<Diagnostic> = Vec::new();
    loop {
        interrupts.listen();
        let prepared = tokio::select! {
            biased;
            prepared = prepare(log.sink()) => prepared,
            () = interrupts.next() => return RunOutcome::unprepared(RunEnd::Interrupted, Vec::new()),
        };
        let PreparedEngine { engine, warnings, findings: _ } = match prepared {
            Ok(prepared) => prepared,
            Err(faults) => return RunOutcome::unprepared(RunEnd::Failed, faults),
        };
        let mut result = run_units(plan, mode, &engine, interrupts).await;
        let late = if result.was_abandoned { None } else { engine.finish().err() };
        result.was_interrupted |= interrupts.was_raised();
        if let Some(lost) = lost(&result)
            && reasons.len() < MOST_REPEATS
            && !reasons.contains(lost)
            && !result.was_interrupted
        {
            reasons.push(lost.clone());
            (log.sink())(Event::Restarted { reason: lost.message.as_str().into() });
            continue;
        }
        let work = |build| engine.work(build);
        return RunOutcome::new(plan, result, &work, warnings, late, log.summary());
    }
}

/// The fault with which the engine was lost.
fn lost(result: &DispatchResult) -> Option<&Diagnostic> {
    result.failures.values().find_map(|failure| match failure {
        NodeFailure::EngineLost(fault) => Some(&**fault),
        NodeFailure::Failed(_) | NodeFailure::Cancelled => None,
    })
}

/// Runs every node of the plan as the dispatcher says.
async fn run_units<E: Engine>(
    plan: &Plan,
    mode: ExecutionMode,
    engine: &E,
    interrupts: &mut Interrupts,
) -> DispatchResult {
    let gate = |export| engine.gate(export);
    let mut dispatcher = Dispatcher::new(plan, mode, &gate);
    let mut units = FuturesUnordered::new();
    let mut grace: Option<Pin<Box<Sleep>>> = None;
    let mut answers = dispatcher.start();
    loop {
        for answer in answers {
            match answer {
                DispatchAnswer::Start(unit) => units.push(run_unit(engine, unit)),
                DispatchAnswer::Cancel(mode) => engine.cancel(mode),
                DispatchAnswer::StartGrace => grace = Some(Box::pin(sleep(GRACE))),
                DispatchAnswer::Abandon => units.clear(),
            }
        }
        if dispatcher.is_finished() {
            return dispatcher.into_result();
        }
        let event = tokio::select! {
            Some(event) = units.next() => event,
            () = interrupts.next() => DispatchEvent::Interrupted,
            () = after(&mut grace) => {
                grace = None;
                DispatchEvent::GraceOver
            }
        };
        answers = dispatcher.handle(event);
    }
}

/// Runs one unit; a panic in it fails this unit and leaves the others alone.
async fn run_unit<E: Engine>(
    engine: &E,
    unit: DispatchUnit<E::Built, E::Staged>,
) -> DispatchEvent<E::Built, E::Staged> {
    match unit {
        DispatchUnit::Build(node) => {
            let work = AssertUnwindSafe(engine.build(node)).catch_unwind();
            DispatchEvent::Built { node, result: work.await.unwrap_or_else(|_| Err(bug("a build"))) }
        }
        DispatchUnit::Export { node, builds } => {
            let work = AssertUnwindSafe(engine.export(node, &builds)).catch_unwind();
            DispatchEvent::Exported { node, result: work.await.unwrap_or_else(|_| Err(bug("an export"))) }
        }
        DispatchUnit::Stage { node, builds } => {
            let work = AssertUnwindSafe(engine.stage(node, &builds)).catch_unwind();
            DispatchEvent::Staged { node, result: work.await.unwrap_or_else(|_| Err(bug("an export"))) }
        }
        DispatchUnit::Publish(staged) => {
            let nodes: Vec<_> = staged.iter().map(|(node, _)| *node).collect();
            let work = AssertUnwindSafe(engine.publish(staged)).catch_unwind();
            let all_failed = || {
                let failure = bug("the release");
                nodes.iter().map(|node| PublishedExport { node: *node, result: Err(failure.clone()) }).collect()
            };
            DispatchEvent::Published { results: work.await.unwrap_or_else(|_| all_failed()) }
        }
    }
}

fn bug(unit: &str) -> NodeFailure {
    let fault = Diagnostic::error("bake::dispatch::bug", format!("{unit} ended in a fault of `bake` itself"));
    NodeFailure::Failed(std::sync::Arc::new(fault.help("please report it, with the bake file and the Dockerfile")))
}

/// Returns when the grace period is over; never if there is none.
async fn after(grace: &mut Option<Pin<Box<Sleep>>>) {
    match grace {
        Some(sleep) => sleep.as_mut().await,
        None => std::future::pending().await,
    }
}
