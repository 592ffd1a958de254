//! The graph itself: vertices, each once, inputs before users.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt,
    sync::Arc,
};

use super::{
    digest,
    op::{Op, StepSource, StepSourceKind},
};
use crate::{
    oci::{Digest, Platform},
    report::{Diagnostic, Span},
};

/// The index of a vertex in its [`Graph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct VertexIx(u32);

impl VertexIx {
    /// The index as a `usize`, for lists with one entry for each vertex.
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

/// One operation of the graph with its inputs.
///
/// *Invariant:* inputs have lower indices, hence the graph is acyclic. `digest` covers op, inputs and platform, never
/// `meta`.
#[derive(Clone, Debug)]
pub(crate) struct Vertex {
    pub(crate) op: Op,
    pub(crate) inputs: Vec<VertexIx>,
    pub(crate) platform: Platform,
    pub(crate) digest: Digest,
    pub(crate) meta: Meta,
}

/// Where a vertex comes from, for messages about it.
#[derive(Clone, Debug, Default)]
pub(crate) struct StepOrigin {
    /// Its instruction.
    pub(crate) at: Option<Span>,
    /// The target of the build that added it.
    pub(crate) target: Option<Arc<str>>,
    /// The stage that it is a step of, if the Dockerfile has several.
    pub(crate) stage: Option<Arc<str>>,
}

impl StepOrigin {
    /// Adds to a diagnostic the place, unless it has one, the target and the stage.
    pub(crate) fn tell(&self, diagnostic: Diagnostic) -> Diagnostic {
        let Self { at, target, stage } = self;
        let diagnostic = match at {
            Some(at) if diagnostic.labels.is_empty() => diagnostic.at(*at, "asked for here"),
            _ => diagnostic,
        };
        Diagnostic { stage: stage.clone(), ..diagnostic.of(target.clone()) }
    }
}

/// The instruction that a vertex is made of, for the records that say later why it ran. Part of no key and no digest.
#[derive(Clone, Debug)]
pub(crate) struct StepPlace {
    pub(crate) file: Arc<StepFile>,
    /// The label of its stage.
    pub(crate) stage: Arc<str>,
    /// It is the n-th step of its stage.
    pub(crate) number: usize,
    /// The instruction as its author wrote it: continuations joined, variables not expanded.
    pub(crate) text: String,
    /// The variables of the process that are build arguments and not variables of the image.
    pub(crate) arguments: BTreeSet<String>,
}

/// The Dockerfile of a build, as [`StepPlace`] has it.
#[derive(Clone, Default)]
pub(crate) struct StepFile {
    /// Tells the Dockerfile and its context from others. Shown to nobody and only kept as part of a digest.
    pub(crate) id: String,
    /// Texts that no record may hold: the values of sensitive variables.
    pub(crate) hidden: Vec<String>,
}

impl fmt::Debug for StepFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StepFile").field("id", &self.id).field("hidden", &self.hidden.len()).finish()
    }
}

/// The name, origin and cache setting of a vertex; of equal vertices those of the first are kept.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meta {
    /// `[web build 2/5] RUN make`; the part in brackets names targets and stage.
    pub(crate) name: String,
    pub(crate) origin: StepOrigin,
    /// Run it even if a result is known (`no-cache`). Of equal vertices one that asks so is enough.
    pub(crate) ignore_cache: bool,
    /// `None` for what is no instruction.
    pub(crate) place: Option<Arc<StepPlace>>,
}

/// The vertices of all builds of a run, equal ones once, inputs before users.
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

    /// Iterates over all vertices, inputs before users.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (VertexIx, &Vertex)> {
        (0..).map(VertexIx).zip(&self.vertices)
    }

    /// The ids of secrets and agents that builds of this run take from different sources. Steps that use them differ
    /// although their ids are equal.
    pub(crate) fn ambiguous(&self) -> HashSet<(StepSourceKind, &str)> {
        let (mut known, mut found) = (HashMap::new(), HashSet::new());
        for vertex in &self.vertices {
            let Op::Exec(exec) = &vertex.op else { continue };
            for StepSource { kind, id, origin } in &exec.sources {
                let name = (*kind, id.as_str());
                if *known.entry(name).or_insert(origin) != origin {
                    found.insert(name);
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
