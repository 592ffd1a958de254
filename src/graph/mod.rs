//! The work of a run as a graph of vertices: what LLB is to BuildKit.
//!
//! One [`Graph`] holds the vertices of every build of the plan. A vertex is its op, the vertices whose results it reads,
//! and its platform; vertices that are equal in all of these are one vertex, whatever target asked for them.
//! Pure data: cache keys and running are decided in `solve`.

mod digest;
mod op;
pub(crate) mod pattern;

use std::collections::{HashMap, HashSet};

pub(crate) use op::*;

use crate::{
    oci::{Digest, Platform},
    report::Span,
};

/// Index of a vertex in its [`Graph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct VertexIx(u32);

impl VertexIx {
    /// As an index into a list with one entry for each vertex.
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

/// An op with its inputs.
///
/// *Invariant:* inputs have lower indices, hence the graph is acyclic. `digest` covers op, inputs and platform, never `meta`.
#[derive(Clone, Debug)]
pub(crate) struct Vertex {
    pub(crate) op: Op,
    pub(crate) inputs: Vec<VertexIx>,
    pub(crate) platform: Platform,
    pub(crate) digest: Digest,
    pub(crate) meta: Meta,
}

/// What a vertex is called and where it was written; of equal vertices the first one's is kept.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meta {
    /// `[web build 2/5] RUN make`; the part in brackets names targets and stage.
    pub(crate) name: String,
    pub(crate) at: Option<Span>,
    /// Run it even if a result is known (`no-cache`). Of equal vertices one that asks so is enough.
    pub(crate) ignore_cache: bool,
}

/// All vertices of a run, inputs before users.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    vertices: Vec<Vertex>,
    by_digest: HashMap<Digest, VertexIx>,
}

impl Graph {
    /// Adds a vertex, or finds the equal one that is there.
    ///
    /// # Panics
    /// When an input is not of this graph.
    pub(crate) fn add(&mut self, op: Op, inputs: Vec<VertexIx>, platform: Platform, meta: Meta) -> VertexIx {
        let digest = digest::of_vertex(&op, &platform, inputs.iter().map(|input| &self.vertices[input.index()].digest));
        if let Some(found) = self.by_digest.get(&digest) {
            self.vertices[found.index()].meta.ignore_cache |= meta.ignore_cache;
            return *found;
        }
        let ix = VertexIx(u32::try_from(self.vertices.len()).expect("a run has fewer than 2^32 vertices"));
        self.vertices.push(Vertex { op, inputs, platform, digest, meta });
        self.by_digest.insert(digest, ix);
        ix
    }

    /// The vertex at an index of this graph.
    pub(crate) fn get(&self, ix: VertexIx) -> &Vertex {
        &self.vertices[ix.index()]
    }

    /// All vertices, inputs before users.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (VertexIx, &Vertex)> {
        (0..).map(VertexIx).zip(&self.vertices)
    }

    /// The ids of secrets and agents that builds of this run take from different sources. Steps that use them differ
    /// although their ids are equal.
    pub(crate) fn ambiguous(&self) -> HashSet<&str> {
        let (mut known, mut found): (HashMap<&str, &str>, _) = (HashMap::new(), HashSet::new());
        for vertex in &self.vertices {
            let Op::Exec(exec) = &vertex.op else { continue };
            for (id, source) in &exec.sources {
                if known.entry(id).or_insert(source) != source {
                    found.insert(id.as_str());
                }
            }
        }
        found
    }

    /// The number of vertices.
    pub(crate) fn len(&self) -> usize {
        self.vertices.len()
    }
}
