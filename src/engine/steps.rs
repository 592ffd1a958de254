//! The steps of the targets of a plan and how long each takes, for `bake matrix`: Dockerfiles are read and lowered without a
//! network. Nothing is built, and what is divided among runners is decided by `shard`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use petgraph::{Direction, graph::NodeIndex, visit::EdgeRef as _};

use super::{context::Contexts, provenance::needed, reading::read_builds};
use crate::{
    graph::{Graph, Op, Vertex, VertexIx},
    plan::{Plan, PlanLink, PlanNode, TargetName},
    shard::ShardTarget,
    solve::explain::memory::recorded_time,
    store::Store,
};

/// The targets of a plan, those that others are linked to before these, and the time of each step in milliseconds.
pub(crate) struct TargetSteps {
    pub(crate) targets: Vec<ShardTarget>,
    pub(crate) weights: Vec<u64>,
    /// How many of the times were recorded by earlier runs; the others are guessed: processes are taken for as long as the
    /// recorded ones are on average, else all of a kind for equally long.
    pub(crate) n_recorded: usize,
}

/// What a step is taken to need when nothing is recorded, in milliseconds: a process, a change of files, a download.
const RUN: u64 = 10_000;
const COPY: u64 = 100;
const FETCH: u64 = 2_000;

/// Finds the steps of every target. `store` has the times of earlier runs; without it all are guessed, so that every machine
/// has the same answer. A build whose Dockerfile would have to be fetched counts as one step.
pub(crate) async fn target_steps(plan: &Plan, contexts: &Contexts, store: Option<&Store>) -> TargetSteps {
    let mut graph = Graph::default();
    let readings = read_builds(plan, contexts, &mut graph).await;
    let (unknown, recorded) = (Vec::new(), Vec::new());
    let (places, weights) = (HashMap::new(), Vec::new());
    let mut found = StepWeights { graph: &graph, store, places, weights, unknown, recorded, n_recorded: 0 };
    let mut of_builds: BTreeMap<NodeIndex, BTreeSet<usize>> = BTreeMap::new();
    for (node, build) in plan.builds_in_order() {
        let target = build.wanted_by.first().map_or("", |name| &*name.0);
        let steps = match &readings[&node] {
            Ok(reading) => needed(&graph, reading.result).into_iter().filter_map(|ix| found.of(ix, target)).collect(),
            Err(_) => BTreeSet::from([found.unknown()]),
        };
        of_builds.insert(node, steps);
    }
    let links = links(plan);
    let order = in_order(plan, &links);
    let place: HashMap<&TargetName, usize> = order.iter().enumerate().map(|(ix, name)| (*name, ix)).collect();
    let targets = order.iter().map(|name| {
        let nodes = &plan.targets[*name];
        ShardTarget {
            name: name.to_string(),
            steps: builds_of(plan, name).iter().flat_map(|build| of_builds[build].iter().copied()).collect(),
            links: links[*name].iter().map(|of| place[of]).collect(),
            is_linked: nodes.is_linked,
        }
    });
    let targets = targets.collect();
    found.guess();
    TargetSteps { targets, weights: found.weights, n_recorded: found.n_recorded }
}

struct StepWeights<'a> {
    graph: &'a Graph,
    store: Option<&'a Store>,
    /// The index of each step that was met.
    places: HashMap<VertexIx, usize>,
    weights: Vec<u64>,
    /// The processes whose times are not recorded, and the times of the others.
    unknown: Vec<usize>,
    recorded: Vec<u64>,
    n_recorded: usize,
}

impl StepWeights<'_> {
    /// The index of a step; `None` for what is no work: images, contexts.
    fn of(&mut self, ix: VertexIx, target: &str) -> Option<usize> {
        let vertex = self.graph.get(ix);
        let guess = match &vertex.op {
            Op::Exec(_) => RUN,
            Op::File(_) | Op::Merge => COPY,
            Op::Git(_) | Op::Http(_) => FETCH,
            Op::Scratch | Op::Image(_) | Op::Local(_) => return None,
        };
        if let Some(known) = self.places.get(&ix) {
            return Some(*known);
        }
        let recorded = self.time_of(vertex, target);
        self.n_recorded += usize::from(recorded.is_some());
        let place = self.weights.len();
        match (recorded, &vertex.op) {
            (Some(time), Op::Exec(_)) => self.recorded.push(time),
            (None, Op::Exec(_)) => self.unknown.push(place),
            _ => (),
        }
        self.weights.push(recorded.unwrap_or(guess));
        self.places.insert(ix, place);
        Some(place)
    }

    /// Takes the processes whose times are not recorded for as long as the others are on average.
    fn guess(&mut self) {
        if self.recorded.is_empty() {
            return;
        }
        let mean = self.recorded.iter().sum::<u64>() / self.recorded.len() as u64;
        self.unknown.iter().for_each(|place| self.weights[*place] = mean.max(1));
    }

    fn time_of(&self, vertex: &Vertex, target: &str) -> Option<u64> {
        recorded_time(self.store?, vertex.meta.place.as_ref()?, target)
    }

    /// A build of which nothing is known, as one step.
    fn unknown(&mut self) -> usize {
        self.unknown.push(self.weights.len());
        self.weights.push(RUN);
        self.weights.len() - 1
    }
}

/// All builds of a target: those of its stage and those of the stages that its outputs name.
fn builds_of(plan: &Plan, name: &TargetName) -> BTreeSet<NodeIndex> {
    let nodes = &plan.targets[name];
    let of_exports =
        nodes.exports.iter().flat_map(|export| plan.graph.neighbors_directed(*export, Direction::Incoming));
    nodes.builds.iter().copied().chain(of_exports).collect()
}

/// The targets that each target reads the results of.
fn links(plan: &Plan) -> HashMap<&TargetName, BTreeSet<&TargetName>> {
    let read_by = |build: NodeIndex| {
        let edges = plan.graph.edges_directed(build, Direction::Incoming);
        let linked = edges.filter(|edge| matches!(edge.weight(), PlanLink::Context { .. }));
        linked.map(|edge| edge.source()).collect::<Vec<_>>()
    };
    let names = |build: NodeIndex| match &plan.graph[build] {
        PlanNode::Build(build) => build.wanted_by.iter().find(|name| plan.targets.contains_key(*name)),
        PlanNode::Export(_) => None,
    };
    let of_target = |name: &TargetName| {
        let read = builds_of(plan, name).into_iter().flat_map(read_by);
        read.filter_map(names).filter(|of| *of != name).collect()
    };
    plan.targets.keys().map(|name| (name, of_target(name))).collect()
}

/// The targets in the order of the plan, but those that others are linked to before these.
fn in_order<'a>(plan: &'a Plan, links: &HashMap<&'a TargetName, BTreeSet<&'a TargetName>>) -> Vec<&'a TargetName> {
    let mut order: Vec<&TargetName> = Vec::new();
    let mut met: BTreeSet<&TargetName> = BTreeSet::new();
    for name in plan.targets.keys() {
        // Depth first, with a stack of its own: chains of links may be long.
        let mut open = vec![(name, false)];
        while let Some((name, is_done)) = open.pop() {
            if is_done {
                order.push(name);
            } else if met.insert(name) {
                open.push((name, true));
                open.extend(links[name].iter().rev().map(|of| (*of, false)));
            }
        }
    }
    order
}
