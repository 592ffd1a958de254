//! The plan: builds and exports as a graph, each kind of work once, made of the targets that were asked for.
//!
//! ```text
//! eval::Evaluated ─ make ─► Plan { graph of Build and Export } ─► engine
//!                               └─ need: privileges       └─ explain: as text, JSON, dot
//! ```

pub(crate) mod build;
pub(crate) mod explain;
pub(crate) mod export;
pub(crate) mod make;
pub(crate) mod need;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use indexmap::IndexMap;
use petgraph::{
    Direction,
    graph::{DiGraph, NodeIndex},
    visit::EdgeRef as _,
};

pub(crate) use crate::eval::target::typed::TargetName;
pub(crate) use build::Build;
pub(crate) use export::Export;

use crate::oci::Digest;

/// All that is to be done.
///
/// *Invariant:* acyclic; each key occurs once; an export has one build per platform, in the order of the platforms.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) graph: DiGraph<PlanNode, PlanLink>,
    /// The nodes of each target.
    pub(crate) targets: IndexMap<TargetName, TargetNodes>,
}

/// What a target became. Targets that differ only in tags or outputs share builds.
#[derive(Clone, Debug, Default)]
pub(crate) struct TargetNodes {
    /// One per platform, in the order of `platforms`; never empty.
    pub(crate) builds: Vec<NodeIndex>,
    /// One per output that writes something.
    pub(crate) exports: Vec<NodeIndex>,
    /// Nobody asked for it but another target's context.
    pub(crate) is_linked: bool,
    /// Something is written, or `cacheonly` says that nothing is to be.
    pub(crate) has_output: bool,
}

/// One piece of work.
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

/// Identifies a node within a run: equal keys, equal work. Means nothing in another run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PlanKey(pub(crate) Digest);

/// The first digits.
impl fmt::Display for PlanKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.hex()[..12])
    }
}

impl PlanNode {
    pub(crate) fn key(&self) -> PlanKey {
        match self {
            Self::Build(it) => it.key,
            Self::Export(it) => it.key,
        }
    }

    pub(crate) fn wanted_by(&self) -> &[TargetName] {
        match self {
            Self::Build(it) => &it.wanted_by,
            Self::Export(it) => &it.wanted_by,
        }
    }
}

impl Plan {
    /// The part of the plan that these targets need.
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
        part
    }

    /// The build at an index that is one's.
    pub(crate) fn build(&self, ix: NodeIndex) -> &Build {
        match &self.graph[ix] {
            PlanNode::Build(it) => it,
            PlanNode::Export(_) => unreachable!("the plan keeps builds and exports apart"),
        }
    }

    /// The export at an index that is one's.
    pub(crate) fn export(&self, ix: NodeIndex) -> &Export {
        match &self.graph[ix] {
            PlanNode::Export(it) => it,
            PlanNode::Build(_) => unreachable!("the plan keeps builds and exports apart"),
        }
    }
}
