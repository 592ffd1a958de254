//! The plan as a graph: its nodes, its edges, and which nodes belong to a target.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use indexmap::IndexMap;
use petgraph::{
    Direction,
    graph::{DiGraph, NodeIndex},
    visit::{EdgeRef as _, Reversed},
};

use super::{build::Build, export::Export, key::PlanKey};
use crate::{eval::target::typed::TargetName, spec::ImageTag};

/// All builds and exports of a run, with the links between them.
///
/// *Invariant:* acyclic; each key occurs once; an export has one build per platform, in the order of the platforms.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) graph: DiGraph<PlanNode, PlanLink>,
    /// The nodes of each target.
    pub(crate) targets: IndexMap<TargetName, TargetNodes>,
    /// Exports with `append` that write to one destination, each group in the order of the names of targets: what they write becomes
    /// visible together or not at all. One that is alone is a group too.
    pub(crate) joint: Vec<Vec<NodeIndex>>,
}

/// The nodes that one target became. Targets that differ only in tags or outputs share builds.
#[derive(Clone, Debug, Default)]
pub(crate) struct TargetNodes {
    /// One per platform, in the order of `platforms`; never empty. Builds of the stage that the target names, or, if nobody
    /// wants that, of the stage of its first output.
    pub(crate) builds: Vec<NodeIndex>,
    /// One per output that writes something.
    pub(crate) exports: Vec<NodeIndex>,
    /// The names of its image.
    pub(crate) tags: Vec<ImageTag>,
    /// Nobody asked for it but another target's context.
    pub(crate) is_linked: bool,
    /// Something is written, or `cacheonly` says that nothing is to be.
    pub(crate) has_output: bool,
}

/// One piece of work that an engine can take over whole: a build or an export.
#[derive(Clone, Debug)]
pub(crate) enum PlanNode {
    Build(Box<Build>),
    Export(Box<Export>),
}

/// Why one piece of work needs another: an edge from what is needed to who needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PlanLink {
    /// Build ─► build that reads it as the named context.
    Context { name: String },
    /// Build ─► export of it; `platform` is its place among the export's platforms.
    Result { platform: usize },
}

impl PlanNode {
    /// The key of the build or export.
    pub(crate) fn key(&self) -> PlanKey {
        match self {
            Self::Build(it) => it.key,
            Self::Export(it) => it.key,
        }
    }

    /// The targets that asked for this build or export; never empty.
    pub(crate) fn wanted_by(&self) -> &[TargetName] {
        match self {
            Self::Build(it) => &it.wanted_by,
            Self::Export(it) => &it.wanted_by,
        }
    }
}

impl Plan {
    /// The part of the plan that these targets need, as a plan of its own.
    pub(crate) fn only(&self, targets: &[&TargetName]) -> Self {
        let wanted = self.targets.iter().filter(|(name, _)| targets.contains(name));
        let mut open: Vec<NodeIndex> =
            wanted.clone().flat_map(|(_, it)| it.builds.iter().chain(&it.exports)).copied().collect();
        let mut needed = BTreeSet::new();
        while let Some(node) = open.pop() {
            if needed.insert(node) {
                open.extend(self.graph.neighbors_directed(node, Direction::Incoming));
            }
        }
        let mut part = Self::default();
        let new: BTreeMap<NodeIndex, NodeIndex> =
            needed.into_iter().map(|node| (node, part.graph.add_node(self.graph[node].clone()))).collect();
        for edge in self.graph.edge_references() {
            if let (Some(from), Some(to)) = (new.get(&edge.source()), new.get(&edge.target())) {
                part.graph.add_edge(*from, *to, edge.weight().clone());
            }
        }
        let moved = |all: &[NodeIndex]| all.iter().map(|node| new[node]).collect();
        for (name, nodes) in wanted {
            let nodes = TargetNodes { builds: moved(&nodes.builds), exports: moved(&nodes.exports), ..nodes.clone() };
            part.targets.insert(name.clone(), nodes);
        }
        let kept = |group: &Vec<NodeIndex>| group.iter().filter_map(|node| new.get(node).copied()).collect::<Vec<_>>();
        part.joint = self.joint.iter().map(kept).filter(|group| !group.is_empty()).collect();
        part
    }

    /// The exports that start at the same time: those of one group together, each other one for itself.
    pub(crate) fn export_groups(&self) -> Vec<Vec<NodeIndex>> {
        let in_group: HashSet<NodeIndex> = self.joint.iter().flatten().copied().collect();
        let is_alone = |node: &NodeIndex| matches!(self.graph[*node], PlanNode::Export(_)) && !in_group.contains(node);
        let alone = self.graph.node_indices().filter(is_alone).map(|node| vec![node]);
        alone.chain(self.joint.iter().cloned()).collect()
    }

    /// All builds, those that others read before these, else in the order in which the plan was made.
    pub(crate) fn builds_in_order(&self) -> impl Iterator<Item = (NodeIndex, &Build)> {
        let mut order = petgraph::algo::toposort(Reversed(&self.graph), None).expect("plans are acyclic");
        order.reverse();
        order.into_iter().filter_map(|node| match &self.graph[node] {
            PlanNode::Build(build) => Some((node, &**build)),
            PlanNode::Export(_) => None,
        })
    }

    /// The build at an index.
    ///
    /// # Panics
    /// When the node is an export.
    pub(crate) fn build(&self, ix: NodeIndex) -> &Build {
        match &self.graph[ix] {
            PlanNode::Build(it) => it,
            PlanNode::Export(_) => unreachable!("the plan keeps builds and exports apart"),
        }
    }

    /// The export at an index.
    ///
    /// # Panics
    /// When the node is a build.
    pub(crate) fn export(&self, ix: NodeIndex) -> &Export {
        match &self.graph[ix] {
            PlanNode::Export(it) => it,
            PlanNode::Build(_) => unreachable!("the plan keeps builds and exports apart"),
        }
    }
}
