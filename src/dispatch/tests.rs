//! Scripted runs: events go into the dispatcher, or come from an engine that a test ends node by node. Nothing sleeps.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use petgraph::graph::NodeIndex;

use super::{
    dispatcher::{DispatchAnswer, DispatchEvent, DispatchUnit, Dispatcher},
    interrupt::{Interrupts, interrupts},
    outcome::{RunEnd, RunOutcome, unstarted},
    run::run,
};
use crate::{
    engine::{BuildWork, CancelMode, Engine, ExportGate, ExportReceipt, NodeFailure, PreparedEngine, PublishedExport},
    plan::{Plan, PlanNode, TargetName, make::tests::plan_of},
    report::{
        Diagnostic,
        event::{Event, Sink},
        result::{ResultEnd, TargetResult},
    },
    spec::ExecutionMode,
};

/// Two targets: `a` is written to a file, `b` is pushed.
const FILE_AND_PUSH: &str = r#"
    target "a" {
      output = ["type=oci,dest=a.tar"]
    }
    target "b" {
      args = { X = "1" }
      tags = ["registry.test/b"]
      output = ["type=registry"]
    }"#;

fn two() -> Plan {
    plan_of(FILE_AND_PUSH, &["a", "b"])
}

/// The build or the export of a target.
fn node(plan: &Plan, target: &str, is_build: bool) -> NodeIndex {
    let wanted = |node: &NodeIndex| {
        let node = &plan.graph[*node];
        node.wanted_by().iter().any(|name| &*name.0 == target) && matches!(node, PlanNode::Build(_)) == is_build
    };
    plan.graph.node_indices().find(wanted).expect("the target has such a node")
}

fn failure(text: &str) -> NodeFailure {
    NodeFailure::Failed(Arc::new(Diagnostic::error("bake::test", text)))
}

fn lost(text: &str) -> NodeFailure {
    NodeFailure::EngineLost(Arc::new(Diagnostic::error("bake::test", text)))
}

/// A dispatcher whose answers are texts; `b`'s export is the one that publishes.
struct Script<'a> {
    plan: &'a Plan,
    dispatcher: Dispatcher<'a, String, String>,
}

impl<'a> Script<'a> {
    fn new(plan: &'a Plan, gate: &'a dyn Fn(NodeIndex) -> ExportGate) -> (Self, Vec<String>) {
        Self::in_mode(ExecutionMode::FailFast, plan, gate)
    }

    fn in_mode(mode: ExecutionMode, plan: &'a Plan, gate: &'a dyn Fn(NodeIndex) -> ExportGate) -> (Self, Vec<String>) {
        let mut dispatcher = Dispatcher::new(plan, mode, gate);
        let first = dispatcher.start();
        let script = Self { plan, dispatcher };
        let first = script.texts(first);
        (script, first)
    }

    fn texts(&self, answers: Vec<DispatchAnswer<String, String>>) -> Vec<String> {
        let name = |node: NodeIndex| &*self.plan.graph[node].wanted_by()[0].0;
        let text = |answer| match answer {
            DispatchAnswer::Start(DispatchUnit::Build(node)) => format!("build {}", name(node)),
            DispatchAnswer::Start(DispatchUnit::Export { node, builds }) => {
                format!("export {} of {}", name(node), builds.join(" "))
            }
            DispatchAnswer::Start(DispatchUnit::Stage { node, builds }) => {
                format!("stage {} of {}", name(node), builds.join(" "))
            }
            DispatchAnswer::Start(DispatchUnit::Publish(staged)) => {
                let staged: Vec<String> = staged.iter().map(|(node, it)| format!("{}: {it}", name(*node))).collect();
                format!("publish {}", staged.join(", "))
            }
            DispatchAnswer::Cancel(CancelMode::Ask) => "ask steps to end".to_owned(),
            DispatchAnswer::Cancel(CancelMode::Kill) => "kill".to_owned(),
            DispatchAnswer::StartGrace => "grace".to_owned(),
            DispatchAnswer::Abandon => "abandon".to_owned(),
        };
        answers.into_iter().map(text).collect()
    }

    fn built(&mut self, target: &str) -> Vec<String> {
        self.build_ends(target, Ok(format!("result of {target}")))
    }

    fn build_ends(&mut self, target: &str, result: Result<String, NodeFailure>) -> Vec<String> {
        let node = node(self.plan, target, true);
        self.handle(DispatchEvent::Built { node, result })
    }

    fn export_ends(&mut self, target: &str, result: Result<ExportReceipt, NodeFailure>) -> Vec<String> {
        let node = node(self.plan, target, false);
        self.handle(DispatchEvent::Exported { node, result })
    }

    fn stage_ends(&mut self, target: &str, result: Result<&str, NodeFailure>) -> Vec<String> {
        let node = node(self.plan, target, false);
        self.handle(DispatchEvent::Staged { node, result: result.map(str::to_owned) })
    }

    fn handle(&mut self, event: DispatchEvent<String, String>) -> Vec<String> {
        let answers = self.dispatcher.handle(event);
        self.texts(answers)
    }
}

#[test]
fn an_export_starts_when_its_builds_are_done() {
    let plan = two();
    let (mut script, first) = Script::new(&plan, &|_| ExportGate::None);
    assert_eq!(first, ["build a", "build b"]);
    assert_eq!(script.built("b"), ["export b of result of b"]);
    assert!(script.export_ends("b", Ok(ExportReceipt::default())).is_empty());
    assert!(!script.dispatcher.is_finished());
    assert_eq!(script.built("a"), ["export a of result of a"]);
    assert!(!script.dispatcher.is_finished());
    assert!(script.export_ends("a", Ok(ExportReceipt::default())).is_empty());
    assert!(script.dispatcher.is_finished());
    assert_eq!(script.dispatcher.into_result().receipts.len(), 2);
}

#[test]
fn what_others_see_is_published_after_the_last_build() {
    let plan = two();
    let push = node(&plan, "b", false);
    let gate = move |export| if export == push { ExportGate::BeforeExport } else { ExportGate::None };
    let (mut script, _) = Script::new(&plan, &gate);
    assert!(script.built("b").is_empty());
    assert_eq!(script.built("a"), ["export a of result of a", "export b of result of b"]);
}

#[test]
fn nothing_is_published_when_another_build_fails() {
    let plan = two();
    let push = node(&plan, "b", false);
    let gate = move |export| if export == push { ExportGate::BeforeExport } else { ExportGate::None };
    let (mut script, _) = Script::new(&plan, &gate);
    assert!(script.built("b").is_empty());
    assert_eq!(script.build_ends("a", Err(failure("exit code 1"))), ["kill"]);
    assert!(script.dispatcher.is_finished());
    assert!(script.dispatcher.into_result().receipts.is_empty());
}

#[test]
fn what_is_gated_always_is_not_even_staged_before_the_last_build() {
    let plan = two();
    let (mut script, _) = Script::in_mode(ExecutionMode::DeferOutput, &plan, &|_| ExportGate::Always);
    assert!(script.built("b").is_empty());
    assert_eq!(script.built("a"), ["stage a of result of a", "stage b of result of b"]);
}

#[test]
fn exports_that_append_to_one_archive_start_together_or_not_at_all() {
    let text =
        FILE_AND_PUSH.replace("a.tar", "x.tar,append=true").replace("type=registry", "type=oci,dest=x.tar,append=true");
    let plan = plan_of(&text, &["a", "b"]);
    let nothing = |_| ExportGate::None;
    for mode in [ExecutionMode::FailFast, ExecutionMode::DeferError] {
        let (mut script, _) = Script::in_mode(mode, &plan, &nothing);
        assert_eq!(script.built("a"), Vec::<String>::new());
        assert_eq!(script.built("b"), ["export a of result of a", "export b of result of b"]);
        let (mut script, _) = Script::in_mode(mode, &plan, &nothing);
        let failed = Err(NodeFailure::Failed(Arc::new(Diagnostic::error("bake::test", "bad"))));
        script.build_ends("b", failed);
        assert_eq!(script.built("a"), Vec::<String>::new(), "{mode:?}");
        assert!(script.dispatcher.is_finished());
    }
    let (mut script, _) = Script::in_mode(ExecutionMode::DeferOutput, &plan, &nothing);
    script.built("a");
    assert_eq!(script.built("b"), ["stage a of result of a", "stage b of result of b"]);
}

/// A run of two targets with deferred outputs, both built; `a` is staged.
fn deferred(plan: &Plan) -> Script<'_> {
    let (mut script, first) = Script::in_mode(ExecutionMode::DeferOutput, plan, &|_| ExportGate::BeforeExport);
    assert_eq!(first, ["build a", "build b"]);
    assert_eq!(script.built("a"), ["stage a of result of a"]);
    assert!(script.stage_ends("a", Ok("a.tar")).is_empty(), "b is not built yet");
    assert_eq!(script.built("b"), ["stage b of result of b"]);
    script
}

#[test]
fn deferred_outputs_are_published_together_when_all_are_staged() {
    let plan = two();
    let mut script = deferred(&plan);
    assert_eq!(script.stage_ends("b", Ok("tags")), ["publish a: a.tar, b: tags"]);
    assert!(!script.dispatcher.is_finished());
    let published = |target: &str| PublishedExport { node: node(&plan, target, false), result: Ok(<_>::default()) };
    let results = vec![published("a"), published("b")];
    assert!(script.handle(DispatchEvent::Published { results }).is_empty());
    assert!(script.dispatcher.is_finished());
    assert_eq!(script.dispatcher.into_result().receipts.len(), 2);
}

#[test]
fn a_deferred_run_publishes_nothing_when_a_build_or_a_stage_fails() {
    let plan = two();
    let (mut script, _) = Script::in_mode(ExecutionMode::DeferOutput, &plan, &|_| ExportGate::None);
    script.built("a");
    assert_eq!(script.build_ends("b", Err(failure("exit code 1"))), ["kill"]);
    assert!(!script.dispatcher.is_finished(), "a is being staged");
    assert!(script.stage_ends("a", Ok("a.tar")).is_empty());
    assert!(script.dispatcher.is_finished());
    let mut script = deferred(&plan);
    assert_eq!(script.stage_ends("b", Err(failure("the registry is full"))), ["kill"]);
    assert!(script.dispatcher.is_finished());
    assert!(script.dispatcher.into_result().receipts.is_empty());
}

#[test]
fn an_interrupt_keeps_a_deferred_run_from_publishing_and_is_too_late_afterwards() {
    let plan = two();
    let mut script = deferred(&plan);
    assert_eq!(script.handle(DispatchEvent::Interrupted), ["ask steps to end", "grace"]);
    assert!(script.stage_ends("b", Ok("tags")).is_empty());
    assert!(script.dispatcher.is_finished());
    let mut script = deferred(&plan);
    assert_eq!(script.stage_ends("b", Ok("tags")), ["publish a: a.tar, b: tags"]);
    script.handle(DispatchEvent::Interrupted);
    assert!(!script.dispatcher.is_finished(), "what has begun to be published is waited for");
    let result = |target, result| PublishedExport { node: node(&plan, target, false), result };
    let results = vec![result("a", Ok(<_>::default())), result("b", Err(failure("the registry is gone")))];
    assert!(script.handle(DispatchEvent::Published { results }).is_empty());
    assert!(script.dispatcher.is_finished());
    let result = script.dispatcher.into_result();
    assert_eq!((result.receipts.len(), result.failures.len()), (1, 1));
}

#[test]
fn a_deferred_error_stops_only_what_needs_it() {
    let plan = two();
    let (mut script, _) = Script::in_mode(ExecutionMode::DeferError, &plan, &|_| ExportGate::BeforeExport);
    assert!(script.build_ends("a", Err(failure("exit code 1"))).is_empty());
    assert_eq!(script.built("b"), ["export b of result of b"]);
    assert!(script.export_ends("b", Err(failure("no such registry"))).is_empty());
    assert!(script.dispatcher.is_finished());
    assert_eq!(script.dispatcher.into_result().failures.len(), 2);
}

#[test]
fn the_first_failure_stops_what_runs_and_is_waited_for() {
    let plan = two();
    let (mut script, _) = Script::new(&plan, &|_| ExportGate::None);
    assert_eq!(script.build_ends("a", Err(failure("exit code 1"))), ["kill"]);
    assert!(!script.dispatcher.is_finished(), "b still runs");
    // Too late to be exported, and no second order to kill.
    assert!(script.built("b").is_empty());
    assert!(script.dispatcher.is_finished());
    let result = script.dispatcher.into_result();
    assert_eq!((result.failures.len(), result.was_interrupted), (1, false));
}

#[test]
fn the_first_interrupt_asks_and_the_grace_period_ends_in_a_kill() {
    let plan = two();
    let (mut script, _) = Script::new(&plan, &|_| ExportGate::None);
    assert_eq!(script.handle(DispatchEvent::Interrupted), ["ask steps to end", "grace"]);
    // One step ends in order, the other one does not react.
    assert!(script.build_ends("a", Err(NodeFailure::Cancelled)).is_empty());
    assert!(!script.dispatcher.is_finished());
    assert_eq!(script.handle(DispatchEvent::GraceOver), ["kill", "grace"]);
    assert!(!script.dispatcher.is_finished());
    assert_eq!(script.handle(DispatchEvent::GraceOver), ["abandon"]);
    assert!(script.dispatcher.is_finished());
    let result = script.dispatcher.into_result();
    assert!(result.was_interrupted && result.was_abandoned);
}

#[test]
fn an_interrupted_run_whose_steps_end_is_not_abandoned() {
    let plan = two();
    let (mut script, _) = Script::new(&plan, &|_| ExportGate::None);
    script.handle(DispatchEvent::Interrupted);
    script.build_ends("a", Err(NodeFailure::Cancelled));
    assert!(script.built("b").is_empty(), "no export starts any more");
    assert!(script.dispatcher.is_finished());
    let result = script.dispatcher.into_result();
    assert!(result.was_interrupted && !result.was_abandoned);
}

#[test]
fn the_second_interrupt_ends_at_once() {
    let plan = two();
    let (mut script, _) = Script::new(&plan, &|_| ExportGate::None);
    script.handle(DispatchEvent::Interrupted);
    assert_eq!(script.handle(DispatchEvent::Interrupted), ["kill", "abandon"]);
    assert!(script.dispatcher.is_finished());
}

#[test]
fn an_interrupt_after_a_failure_still_ends_the_run() {
    let plan = two();
    let (mut script, _) = Script::new(&plan, &|_| ExportGate::None);
    assert_eq!(script.build_ends("a", Err(failure("exit code 1"))), ["kill"]);
    assert_eq!(script.handle(DispatchEvent::Interrupted), ["grace"]);
    assert_eq!(script.handle(DispatchEvent::GraceOver), ["abandon"]);
}

#[test]
fn results_come_in_the_order_of_the_platforms() {
    let text = r#"target "a" {
        platforms = ["linux/arm64", "linux/amd64"]
        output = ["type=oci,dest=a.tar"]
    }"#;
    let plan = plan_of(text, &["a"]);
    let builds = plan.targets[&TargetName("a".into())].builds.clone();
    let (mut script, _) = Script::new(&plan, &|_| ExportGate::None);
    let platform = |node: NodeIndex| plan.build(node).platform.to_string();
    for build in builds.iter().rev() {
        let answers = script.handle(DispatchEvent::Built { node: *build, result: Ok(platform(*build)) });
        if *build == builds[0] {
            let expected = format!("export a of {} {}", platform(builds[0]), platform(builds[1]));
            assert_eq!(answers, [expected]);
        } else {
            assert!(answers.is_empty());
        }
    }
}

/// What one node of a scripted engine does.
#[derive(Clone)]
enum Play {
    Fail(NodeFailure),
    Panic,
    /// Never ends.
    Hang,
}

/// An engine whose nodes do what the test says; those that it says nothing about succeed.
struct ScriptedEngine {
    plays: BTreeMap<NodeIndex, Play>,
    cancelled: Arc<Mutex<Vec<CancelMode>>>,
    sink: Sink,
}

impl ScriptedEngine {
    async fn play(&self, node: NodeIndex) -> Result<(), NodeFailure> {
        match self.plays.get(&node) {
            None => Ok(()),
            Some(Play::Fail(failure)) => Err(failure.clone()),
            Some(Play::Panic) => panic!("a fault of the engine"),
            Some(Play::Hang) => std::future::pending().await,
        }
    }
}

impl Engine for ScriptedEngine {
    type Built = NodeIndex;
    type Staged = NodeIndex;

    fn gate(&self, _export: NodeIndex) -> ExportGate {
        ExportGate::None
    }

    async fn build(&self, build: NodeIndex) -> Result<NodeIndex, NodeFailure> {
        self.play(build).await.map(|()| build)
    }

    async fn export(&self, export: NodeIndex, builds: &[NodeIndex]) -> Result<ExportReceipt, NodeFailure> {
        self.play(export).await?;
        assert_eq!(builds.len(), 1);
        (self.sink)(Event::Wrote { what: "a.tar".into(), bytes: 7, reused: false });
        (self.sink)(Event::Warning(Arc::new(Diagnostic::warning("bake::test", "careful"))));
        Ok(ExportReceipt::default())
    }

    async fn stage(&self, export: NodeIndex, _builds: &[NodeIndex]) -> Result<NodeIndex, NodeFailure> {
        self.play(export).await.map(|()| export)
    }

    fn work(&self, _build: NodeIndex) -> BuildWork {
        BuildWork { n_steps: 1, took: Duration::from_secs(2) }
    }

    async fn publish(&self, staged: Vec<(NodeIndex, NodeIndex)>) -> Vec<PublishedExport> {
        let publish = |(node, _)| {
            (self.sink)(Event::Wrote { what: "a.tar".into(), bytes: 7, reused: false });
            PublishedExport { node, result: Ok(ExportReceipt::default()) }
        };
        staged.into_iter().map(publish).collect()
    }

    fn cancel(&self, mode: CancelMode) {
        self.cancelled.lock().unwrap().push(mode);
    }

    fn finish(&self) -> Result<(), Diagnostic> {
        Ok(())
    }
}

/// Runs `plan`; each entry of `attempts` scripts the engine of one preparation.
fn run_scripted(
    plan: &Plan,
    attempts: Vec<BTreeMap<NodeIndex, Play>>,
    interrupts: &mut Interrupts,
    view: Sink,
) -> (RunOutcome, Vec<CancelMode>) {
    run_scripted_in(ExecutionMode::FailFast, plan, attempts, interrupts, view)
}

fn run_scripted_in(
    mode: ExecutionMode,
    plan: &Plan,
    attempts: Vec<BTreeMap<NodeIndex, Play>>,
    interrupts: &mut Interrupts,
    view: Sink,
) -> (RunOutcome, Vec<CancelMode>) {
    let attempts = RefCell::new(attempts.into_iter());
    let cancelled = Arc::new(Mutex::new(Vec::new()));
    let prepare = async |sink: Sink| {
        let plays = attempts.borrow_mut().next().expect("the plan is not prepared more often than scripted");
        let engine = ScriptedEngine { plays, cancelled: Arc::clone(&cancelled), sink };
        Ok(PreparedEngine {
            engine,
            warnings: vec![Diagnostic::warning("bake::test", "found while preparing")],
            findings: Vec::new(),
        })
    };
    let outcome = block_on(run(plan, mode, prepare, interrupts, view));
    assert_eq!(attempts.borrow().len(), 0, "every scripted attempt was made");
    let cancelled = cancelled.lock().unwrap().clone();
    (outcome, cancelled)
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(work)
}

fn nobody() -> Sink {
    Arc::new(|_| ())
}

fn messages(outcome: &RunOutcome) -> Vec<&str> {
    outcome.diagnostics.iter().map(|diagnostic| diagnostic.message.as_str()).collect()
}

#[test]
fn the_outcome_tells_what_became_of_each_target() {
    let text = r#"
        target "a" { output = ["type=oci,dest=a.tar"] }
        target "dep" { args = { X = "1" } }
        target "user" { contexts = { dep = "target:dep" } }"#;
    let plan = plan_of(text, &["a", "dep", "user"]);
    let bad = NodeFailure::Failed(Arc::new(Diagnostic::error("bake::test", "bad")));
    let plays = ["dep", "user"].map(|name| (node(&plan, name, true), Play::Fail(bad.clone())));
    let (_sender, mut interrupts) = interrupts();
    let mode = ExecutionMode::DeferError;
    let (outcome, _) = run_scripted_in(mode, &plan, vec![BTreeMap::from(plays)], &mut interrupts, nobody());
    let told = |targets: Vec<TargetResult>| -> Vec<String> {
        let end = |target: &TargetResult| match (&target.builds[0].end, target.builds[0].took.as_secs()) {
            (ResultEnd::Done, took) => format!("{}: built in {took}", target.name),
            (ResultEnd::Cached, _) => format!("{}: cached", target.name),
            (ResultEnd::Failed(fault), _) => format!("{}: {}", target.name, fault.message),
            (ResultEnd::NotRun, _) => format!("{}: not run", target.name),
        };
        targets.iter().map(end).collect()
    };
    assert_eq!(told(outcome.targets(&plan)), ["a: built in 2", "dep: bad", "user: not run"]);
    assert!(matches!(outcome.targets(&plan)[0].outputs[0].end, ResultEnd::Done));
    assert_eq!(told(unstarted(&plan)), ["a: not run", "dep: not run", "user: not run"]);
}

#[test]
fn a_lost_engine_is_prepared_anew_once() {
    let plan = two();
    let build = node(&plan, "a", true);
    let again = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&again);
    let view: Sink = Arc::new(move |event| {
        if let Event::Restarted { reason } = event {
            seen.lock().unwrap().push(reason.to_string());
        }
    });
    let attempts = vec![BTreeMap::from([(build, Play::Fail(lost("a layer was damaged")))]), BTreeMap::new()];
    let (_sender, mut interrupts) = interrupts();
    let (outcome, cancelled) = run_scripted(&plan, attempts, &mut interrupts, view);
    assert_eq!(outcome.end, RunEnd::Succeeded);
    assert_eq!(*again.lock().unwrap(), ["a layer was damaged"]);
    assert_eq!(cancelled, [CancelMode::Kill]);
    // What the first attempt wrote is not counted twice.
    assert_eq!(outcome.summary.wrote.len(), 2);
    assert_eq!(messages(&outcome), ["found while preparing", "careful", "careful"]);
}

#[test]
fn each_reason_to_lose_an_engine_is_good_for_one_repeat() {
    let plan = two();
    let build = node(&plan, "a", true);
    let play = |reason: &str| BTreeMap::from([(build, Play::Fail(lost(reason)))]);
    let (_sender, mut interrupts) = interrupts();
    let attempts = vec![play("a layer was damaged"), play("another layer was damaged"), BTreeMap::new()];
    let (outcome, _) = run_scripted(&plan, attempts, &mut interrupts, nobody());
    assert_eq!(outcome.end, RunEnd::Succeeded);
}

#[test]
fn an_engine_that_is_lost_again_is_a_fault() {
    let plan = two();
    let play = BTreeMap::from([(node(&plan, "a", true), Play::Fail(lost("a layer was damaged")))]);
    let (_sender, mut interrupts) = interrupts();
    let (outcome, _) = run_scripted(&plan, vec![play.clone(), play], &mut interrupts, nobody());
    assert_eq!(outcome.end, RunEnd::Failed);
    assert!(messages(&outcome).contains(&"a layer was damaged"));
}

#[test]
fn one_fault_of_several_builds_is_reported_once() {
    let plan = two();
    let fail = || Play::Fail(failure("no such image"));
    let play = BTreeMap::from([(node(&plan, "a", true), fail()), (node(&plan, "b", true), fail())]);
    let (_sender, mut interrupts) = interrupts();
    let (outcome, _) = run_scripted(&plan, vec![play], &mut interrupts, nobody());
    assert_eq!((outcome.end, messages(&outcome)), (RunEnd::Failed, vec!["found while preparing", "no such image"]));
}

#[test]
fn a_view_that_is_gone_changes_nothing_about_the_outcome() {
    let plan = two();
    let (sender, receiver) = mpsc::channel();
    drop(receiver);
    let sender = Mutex::new(sender);
    let n_lost = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&n_lost);
    let view: Sink = Arc::new(move |event| {
        if sender.lock().unwrap().send(event).is_err() {
            *counted.lock().unwrap() += 1;
        }
    });
    let (_sender, mut interrupts) = interrupts();
    let (outcome, _) = run_scripted(&plan, vec![BTreeMap::new()], &mut interrupts, view);
    assert_eq!(*n_lost.lock().unwrap(), 4, "nobody received the events");
    assert_eq!((outcome.end, outcome.summary.wrote.len()), (RunEnd::Succeeded, 2));
    assert_eq!(messages(&outcome), ["found while preparing", "careful", "careful"]);
}

#[test]
fn a_unit_that_panics_fails_alone() {
    let plan = two();
    let play = BTreeMap::from([(node(&plan, "a", false), Play::Panic)]);
    let (_sender, mut interrupts) = interrupts();
    let (outcome, _) = run_scripted(&plan, vec![play], &mut interrupts, nobody());
    assert_eq!(outcome.end, RunEnd::Failed);
    assert_eq!(outcome.diagnostics.last().map(|fault| fault.code), Some("bake::dispatch::bug"));
}

#[test]
fn deferred_outputs_are_written_by_one_unit() {
    let plan = two();
    let (_sender, mut interrupts) = interrupts();
    let mode = ExecutionMode::DeferOutput;
    let (outcome, _) = run_scripted_in(mode, &plan, vec![BTreeMap::new()], &mut interrupts, nobody());
    assert_eq!((outcome.end, outcome.summary.wrote.len()), (RunEnd::Succeeded, 2));
    let play = BTreeMap::from([(node(&plan, "a", false), Play::Panic)]);
    let (outcome, _) = run_scripted_in(mode, &plan, vec![play], &mut interrupts, nobody());
    assert_eq!((outcome.end, outcome.summary.wrote.len()), (RunEnd::Failed, 0));
}

#[test]
fn two_interrupts_end_a_run_whose_builds_hang() {
    let plan = two();
    let (sender, mut interrupts) = interrupts();
    let cancelled = Arc::new(Mutex::new(Vec::new()));
    let prepare = async |sink: Sink| {
        // From here on the run selects over its units: both interrupts are for them.
        assert!(sender.send() && sender.send());
        let plays = BTreeMap::from([(node(&plan, "a", true), Play::Hang)]);
        let engine = ScriptedEngine { plays, cancelled: Arc::clone(&cancelled), sink };
        Ok::<_, Vec<Diagnostic>>(PreparedEngine { engine, warnings: Vec::new(), findings: Vec::new() })
    };
    let outcome = block_on(run(&plan, ExecutionMode::FailFast, prepare, &mut interrupts, nobody()));
    assert_eq!(outcome.end, RunEnd::Abandoned);
    assert_eq!(*cancelled.lock().unwrap(), [CancelMode::Ask, CancelMode::Kill]);
}

#[test]
fn an_interrupt_ends_the_preparation() {
    let plan = two();
    let (sender, mut interrupts) = interrupts();
    interrupts.listen();
    assert!(sender.send());
    let prepare =
        async |_: Sink| std::future::pending::<Result<PreparedEngine<ScriptedEngine>, Vec<Diagnostic>>>().await;
    let outcome = block_on(run(&plan, ExecutionMode::FailFast, prepare, &mut interrupts, nobody()));
    assert_eq!(outcome.end, RunEnd::Interrupted);
}

#[test]
fn faults_of_the_preparation_are_the_outcome() {
    let plan = two();
    let (_sender, mut interrupts) = interrupts();
    let prepare = async |_: Sink| {
        let fault = Diagnostic::error("bake::test", "no such output");
        Err::<PreparedEngine<ScriptedEngine>, _>(vec![fault])
    };
    let outcome = block_on(run(&plan, ExecutionMode::FailFast, prepare, &mut interrupts, nobody()));
    assert_eq!((outcome.end, messages(&outcome)), (RunEnd::Failed, vec!["no such output"]));
}
