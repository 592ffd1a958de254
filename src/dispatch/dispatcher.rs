//! The dispatcher: decides which node of a plan starts when, and when the run stops.
//!
//! A state machine without I/O and without a clock: an event goes in, answers come out, so that tests script the events.
//! It does not run anything, and it does not decide how a fault is shown.

use std::collections::{BTreeMap, HashMap, HashSet};

use petgraph::{Direction, graph::NodeIndex, visit::EdgeRef as _};

use crate::{
    engine::{CancelMode, ExportGate, ExportReceipt, NodeFailure, PublishedExport},
    plan::{Plan, PlanLink, PlanNode},
    spec::ExecutionMode,
};

/// Something that happened in a run and that the dispatcher decides about.
#[derive(Debug)]
pub(super) enum DispatchEvent<B, S> {
    /// A build that was started has ended.
    Built { node: NodeIndex, result: Result<B, NodeFailure> },
    /// An export that was started has ended.
    Exported { node: NodeIndex, result: Result<ExportReceipt, NodeFailure> },
    /// The output of an export lies ready beside its destination, or could not be made ready.
    Staged { node: NodeIndex, result: Result<S, NodeFailure> },
    /// The staged outputs were made visible, each as far as that was possible.
    Published { results: Vec<PublishedExport> },
    /// The user wants the run to stop (SIGINT or SIGTERM).
    Interrupted,
    /// The time that [`DispatchAnswer::StartGrace`] asked for is over.
    GraceOver,
}

/// A piece of work that the executor runs as one future.
#[derive(Debug)]
pub(super) enum DispatchUnit<B, S> {
    Build(NodeIndex),
    /// `builds` has one result for each platform of the export.
    Export {
        node: NodeIndex,
        builds: Vec<B>,
    },
    /// As `Export`, but nothing becomes visible yet.
    Stage {
        node: NodeIndex,
        builds: Vec<B>,
    },
    /// Makes all staged outputs of the plan visible, in the order of the plan.
    Publish(Vec<(NodeIndex, S)>),
}

/// An instruction of the dispatcher to the executor.
#[derive(Debug)]
pub(super) enum DispatchAnswer<B, S> {
    Start(DispatchUnit<B, S>),
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

/// The state machine that decides which unit of a plan starts when, and how a run stops. No I/O, no clock.
///
/// With [`ExecutionMode::DeferOutput`] a run has two phases: exports are staged as their builds end, and when nothing is
/// left to build or to stage and nothing has failed, one unit publishes all of them. A failure or an interrupt before that
/// drops what was staged.
pub(super) struct Dispatcher<'a, B, S> {
    plan: &'a Plan,
    mode: ExecutionMode,
    gate: &'a dyn Fn(NodeIndex) -> ExportGate,
    built: HashMap<NodeIndex, B>,
    /// Exports that start together, and for how many builds they wait.
    groups: Vec<(Vec<NodeIndex>, usize)>,
    /// By build: the positions of the groups that wait for it.
    waiting: HashMap<NodeIndex, Vec<usize>>,
    /// Exports whose builds are done and that wait until all builds of the plan have succeeded.
    gated: Vec<NodeIndex>,
    /// Outputs that lie ready and are not visible yet.
    staged: Vec<(NodeIndex, S)>,
    n_open_builds: usize,
    n_running: usize,
    n_interrupts: usize,
    stop: StopState,
    failures: BTreeMap<NodeIndex, NodeFailure>,
    receipts: BTreeMap<NodeIndex, ExportReceipt>,
}

/// The results of all nodes when a run has ended.
pub(super) struct DispatchResult {
    pub(super) failures: BTreeMap<NodeIndex, NodeFailure>,
    pub(super) receipts: BTreeMap<NodeIndex, ExportReceipt>,
    /// The builds that succeeded.
    pub(super) built: HashSet<NodeIndex>,
    pub(super) was_interrupted: bool,
    /// What still ran was left behind.
    pub(super) was_abandoned: bool,
}

impl<'a, B: Clone, S> Dispatcher<'a, B, S> {
    /// A run in which nothing has started; `gate` says of an export whether it waits for all builds.
    pub(super) fn new(plan: &'a Plan, mode: ExecutionMode, gate: &'a dyn Fn(NodeIndex) -> ExportGate) -> Self {
        Self {
            plan,
            mode,
            gate,
            built: HashMap::new(),
            groups: Vec::new(),
            waiting: HashMap::new(),
            gated: Vec::new(),
            staged: Vec::new(),
            n_open_builds: 0,
            n_running: 0,
            n_interrupts: 0,
            stop: StopState::Running,
            failures: BTreeMap::new(),
            receipts: BTreeMap::new(),
        }
    }

    /// The first answers: every build starts at once.
    pub(super) fn start(&mut self) -> Vec<DispatchAnswer<B, S>> {
        let mut answers = Vec::with_capacity(self.plan.graph.node_count());
        for node in self.plan.graph.node_indices() {
            if matches!(self.plan.graph[node], PlanNode::Build(_)) {
                answers.push(DispatchAnswer::Start(DispatchUnit::Build(node)));
            }
        }
        for exports in self.plan.export_groups() {
            let inputs = |node: &NodeIndex| self.plan.graph.neighbors_directed(*node, Direction::Incoming);
            let builds: HashSet<NodeIndex> = exports.iter().flat_map(inputs).collect();
            for build in &builds {
                self.waiting.entry(*build).or_default().push(self.groups.len());
            }
            self.groups.push((exports, builds.len()));
        }
        self.n_open_builds = answers.len();
        self.n_running = answers.len();
        answers
    }

    /// Updates the state with an event; the answers are to be carried out in their order.
    pub(super) fn handle(&mut self, event: DispatchEvent<B, S>) -> Vec<DispatchAnswer<B, S>> {
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
                self.export_ended(node, result, &mut answers);
            }
            DispatchEvent::Staged { node, result } => {
                self.n_running -= 1;
                match result {
                    Ok(staged) => self.staged.push((node, staged)),
                    Err(failure) => self.failed(node, failure, &mut answers),
                }
            }
            DispatchEvent::Published { results } => {
                self.n_running -= 1;
                for PublishedExport { node, result } in results {
                    self.export_ended(node, result, &mut answers);
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
        if self.is_ready_to_publish() {
            self.n_running += 1;
            self.staged.sort_unstable_by_key(|(node, _)| *node);
            answers.push(DispatchAnswer::Start(DispatchUnit::Publish(std::mem::take(&mut self.staged))));
        }
        answers
    }

    /// Whether every build has succeeded and every output lies ready.
    fn is_ready_to_publish(&self) -> bool {
        // An export starts to be staged with the event of its last build: when nothing runs, nothing is missing.
        let is_complete = self.n_running == 0 && self.failures.is_empty() && self.stop == StopState::Running;
        is_complete && !self.staged.is_empty()
    }

    /// Whether nothing runs and nothing more will start.
    pub(super) fn is_finished(&self) -> bool {
        self.n_running == 0 || self.stop == StopState::Abandoned
    }

    /// The results of the nodes, when the run has ended.
    pub(super) fn into_result(self) -> DispatchResult {
        DispatchResult {
            failures: self.failures,
            receipts: self.receipts,
            built: self.built.into_keys().collect(),
            was_interrupted: self.n_interrupts > 0,
            was_abandoned: self.stop == StopState::Abandoned,
        }
    }

    fn build_succeeded(&mut self, node: NodeIndex, built: B, answers: &mut Vec<DispatchAnswer<B, S>>) {
        self.built.insert(node, built);
        if self.stop != StopState::Running {
            return;
        }
        for group in self.waiting.remove(&node).unwrap_or_default() {
            let (exports, n_missing) = &mut self.groups[group];
            *n_missing -= 1;
            if *n_missing > 0 {
                continue;
            }
            for export in std::mem::take(exports) {
                let waits = match (self.gate)(export) {
                    ExportGate::None => false,
                    ExportGate::BeforeExport => self.mode == ExecutionMode::FailFast,
                    ExportGate::Always => self.mode != ExecutionMode::DeferError,
                };
                if waits {
                    self.gated.push(export);
                } else {
                    answers.push(self.start_output(export));
                }
            }
        }
        if self.n_open_builds == 0 {
            self.gated.sort_unstable();
            for export in std::mem::take(&mut self.gated) {
                answers.push(self.start_output(export));
            }
        }
    }

    /// Starts an output as the mode has it: it is written, or only made ready.
    fn start_output(&mut self, node: NodeIndex) -> DispatchAnswer<B, S> {
        match self.mode {
            ExecutionMode::FailFast | ExecutionMode::DeferError => self.start_export(node),
            ExecutionMode::DeferOutput => {
                let builds = self.results_for(node);
                DispatchAnswer::Start(DispatchUnit::Stage { node, builds })
            }
        }
    }

    fn export_ended(
        &mut self,
        node: NodeIndex,
        result: Result<ExportReceipt, NodeFailure>,
        answers: &mut Vec<DispatchAnswer<B, S>>,
    ) {
        match result {
            Ok(receipt) => drop(self.receipts.insert(node, receipt)),
            Err(failure) => self.failed(node, failure, answers),
        }
    }

    fn start_export(&mut self, node: NodeIndex) -> DispatchAnswer<B, S> {
        let builds = self.results_for(node);
        DispatchAnswer::Start(DispatchUnit::Export { node, builds })
    }

    /// Results of the builds of an export that is about to run, in the order of its platforms.
    fn results_for(&mut self, export: NodeIndex) -> Vec<B> {
        self.n_running += 1;
        self.inputs(export).iter().filter_map(|build| self.built.get(build)).cloned().collect()
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

    /// The first failure stops everything: what has not begun does not begin, what runs is killed. Where errors are
    /// deferred it stops only what needs the failed node.
    fn failed(&mut self, node: NodeIndex, failure: NodeFailure, answers: &mut Vec<DispatchAnswer<B, S>>) {
        self.failures.insert(node, failure);
        // Steps that were asked to end because of an interrupt keep their grace period.
        if self.stop == StopState::Running && self.mode != ExecutionMode::DeferError {
            self.stop_at_least(StopState::Killed, answers);
        }
    }

    fn stop_at_least(&mut self, wanted: StopState, answers: &mut Vec<DispatchAnswer<B, S>>) {
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
