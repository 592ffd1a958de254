//! The dispatcher: decides which node of a plan starts when, and when the run stops.
//!
//! A state machine without I/O and without a clock: an event goes in, answers come out, so that tests script the events.
//! It does not run anything, and it does not decide how a fault is shown.

use std::collections::{BTreeMap, HashMap};

use petgraph::{Direction, graph::NodeIndex, visit::EdgeRef as _};

use crate::{
    engine::{CancelMode, ExportReceipt, NodeFailure},
    plan::{Plan, PlanLink, PlanNode},
};

/// Something that happened and that the dispatcher decides about.
#[derive(Debug)]
pub(super) enum DispatchEvent<B> {
    /// A build that was started has ended.
    Built { node: NodeIndex, result: Result<B, NodeFailure> },
    /// An export that was started has ended.
    Exported { node: NodeIndex, result: Result<ExportReceipt, NodeFailure> },
    /// The user wants the run to stop (SIGINT or SIGTERM).
    Interrupted,
    /// The time that [`DispatchAnswer::StartGrace`] asked for is over.
    GraceOver,
}

/// A piece of work that the executor runs as one future.
#[derive(Debug)]
pub(super) enum DispatchUnit<B> {
    Build(NodeIndex),
    /// `builds` has one result for each platform of the export.
    Export {
        node: NodeIndex,
        builds: Vec<B>,
    },
}

/// What the executor is to do.
#[derive(Debug)]
pub(super) enum DispatchAnswer<B> {
    Start(DispatchUnit<B>),
    Cancel(CancelMode),
    /// Report [`DispatchEvent::GraceOver`] after the grace period.
    StartGrace,
    /// Do not wait for what still runs.
    Abandon,
}

/// How far the run has been stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum StopState {
    Running,
    /// Steps were asked to end.
    Asked,
    /// Steps were killed.
    Killed,
    /// Nobody waits for what still runs.
    Abandoned,
}

/// The state of one run of a plan.
pub(super) struct Dispatcher<'a, B> {
    plan: &'a Plan,
    publishes: &'a dyn Fn(NodeIndex) -> bool,
    built: HashMap<NodeIndex, B>,
    /// Exports that wait for builds, and for how many.
    missing: HashMap<NodeIndex, usize>,
    /// Exports whose builds are done and that wait until all builds of the plan have succeeded.
    gated: Vec<NodeIndex>,
    n_open_builds: usize,
    n_running: usize,
    n_interrupts: usize,
    stop: StopState,
    failures: BTreeMap<NodeIndex, NodeFailure>,
    receipts: BTreeMap<NodeIndex, ExportReceipt>,
}

/// What has come of each node when the run has ended.
pub(super) struct DispatchResult {
    pub(super) failures: BTreeMap<NodeIndex, NodeFailure>,
    pub(super) receipts: BTreeMap<NodeIndex, ExportReceipt>,
    pub(super) was_interrupted: bool,
    /// What still ran was left behind.
    pub(super) was_abandoned: bool,
}

impl<'a, B: Clone> Dispatcher<'a, B> {
    /// A run in which nothing has started; `publishes` says of an export whether it waits for all builds.
    pub(super) fn new(plan: &'a Plan, publishes: &'a dyn Fn(NodeIndex) -> bool) -> Self {
        Self {
            plan,
            publishes,
            built: HashMap::new(),
            missing: HashMap::new(),
            gated: Vec::new(),
            n_open_builds: 0,
            n_running: 0,
            n_interrupts: 0,
            stop: StopState::Running,
            failures: BTreeMap::new(),
            receipts: BTreeMap::new(),
        }
    }

    /// The first answers: every build starts at once.
    pub(super) fn start(&mut self) -> Vec<DispatchAnswer<B>> {
        let mut answers = Vec::with_capacity(self.plan.graph.node_count());
        for node in self.plan.graph.node_indices() {
            match &self.plan.graph[node] {
                PlanNode::Build(_) => answers.push(DispatchAnswer::Start(DispatchUnit::Build(node))),
                PlanNode::Export(_) => {
                    let n_builds = self.inputs(node).len();
                    self.missing.insert(node, n_builds);
                }
            }
        }
        self.n_open_builds = answers.len();
        self.n_running = answers.len();
        answers
    }

    /// Takes in what happened; the answers are to be carried out in their order.
    pub(super) fn handle(&mut self, event: DispatchEvent<B>) -> Vec<DispatchAnswer<B>> {
        let mut answers = Vec::new();
        match event {
            DispatchEvent::Built { node, result } => {
                self.n_running -= 1;
                self.n_open_builds -= 1;
                match result {
                    Ok(built) => self.build_succeeded(node, built, &mut answers),
                    Err(failure) => self.failed(node, failure, &mut answers),
                }
            }
            DispatchEvent::Exported { node, result } => {
                self.n_running -= 1;
                match result {
                    Ok(receipt) => drop(self.receipts.insert(node, receipt)),
                    Err(failure) => self.failed(node, failure, &mut answers),
                }
            }
            DispatchEvent::Interrupted => {
                self.n_interrupts += 1;
                if self.n_interrupts == 1 {
                    self.stop_at_least(StopState::Asked, &mut answers);
                    answers.push(DispatchAnswer::StartGrace);
                } else {
                    self.stop_at_least(StopState::Abandoned, &mut answers);
                }
            }
            DispatchEvent::GraceOver if self.stop < StopState::Killed => {
                self.stop_at_least(StopState::Killed, &mut answers);
                answers.push(DispatchAnswer::StartGrace);
            }
            DispatchEvent::GraceOver => self.stop_at_least(StopState::Abandoned, &mut answers),
        }
        answers
    }

    /// Whether nothing runs and nothing more will start.
    pub(super) fn is_finished(&self) -> bool {
        self.n_running == 0 || self.stop == StopState::Abandoned
    }

    /// What has come of the nodes.
    pub(super) fn into_result(self) -> DispatchResult {
        DispatchResult {
            failures: self.failures,
            receipts: self.receipts,
            was_interrupted: self.n_interrupts > 0,
            was_abandoned: self.stop == StopState::Abandoned,
        }
    }

    fn build_succeeded(&mut self, node: NodeIndex, built: B, answers: &mut Vec<DispatchAnswer<B>>) {
        self.built.insert(node, built);
        if self.stop != StopState::Running {
            return;
        }
        let users = self.plan.graph.edges_directed(node, Direction::Outgoing);
        for edge in users.filter(|edge| matches!(edge.weight(), PlanLink::Result { .. })) {
            let export = edge.target();
            let Some(missing) = self.missing.get_mut(&export) else { continue };
            *missing -= 1;
            if *missing == 0 {
                if (self.publishes)(export) {
                    self.gated.push(export);
                } else {
                    answers.push(self.start_export(export));
                }
            }
        }
        if self.n_open_builds == 0 {
            self.gated.sort_unstable();
            for export in std::mem::take(&mut self.gated) {
                answers.push(self.start_export(export));
            }
        }
    }

    fn start_export(&mut self, node: NodeIndex) -> DispatchAnswer<B> {
        self.n_running += 1;
        let builds = self.inputs(node).iter().filter_map(|build| self.built.get(build)).cloned().collect();
        DispatchAnswer::Start(DispatchUnit::Export { node, builds })
    }

    /// The builds of an export, in the order of its platforms.
    fn inputs(&self, export: NodeIndex) -> Vec<NodeIndex> {
        let edges = self.plan.graph.edges_directed(export, Direction::Incoming);
        let mut inputs: Vec<(usize, NodeIndex)> = edges
            .filter_map(|edge| match edge.weight() {
                PlanLink::Result { platform } => Some((*platform, edge.source())),
                PlanLink::Context { .. } => None,
            })
            .collect();
        inputs.sort_unstable();
        inputs.into_iter().map(|(_, build)| build).collect()
    }

    /// The first failure stops everything: what has not begun does not begin, what runs is killed.
    fn failed(&mut self, node: NodeIndex, failure: NodeFailure, answers: &mut Vec<DispatchAnswer<B>>) {
        self.failures.insert(node, failure);
        // Steps that were asked to end because of an interrupt keep their grace period.
        if self.stop == StopState::Running {
            self.stop_at_least(StopState::Killed, answers);
        }
    }

    fn stop_at_least(&mut self, wanted: StopState, answers: &mut Vec<DispatchAnswer<B>>) {
        if self.stop >= wanted {
            return;
        }
        if wanted >= StopState::Killed && self.stop < StopState::Killed {
            answers.push(DispatchAnswer::Cancel(CancelMode::Kill));
        }
        match wanted {
            StopState::Asked => answers.push(DispatchAnswer::Cancel(CancelMode::Ask)),
            StopState::Abandoned => answers.push(DispatchAnswer::Abandon),
            StopState::Running | StopState::Killed => (),
        }
        self.stop = wanted;
    }
}
