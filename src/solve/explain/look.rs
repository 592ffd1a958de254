//! Which steps of a build would run, and why; what was found before runs of the steps that would not. No step is run, no
//! layer is pulled or unpacked, and no record is written.
//!
//! What a step would make is not known, but its identity is: that of its inputs. So the steps after it are looked up as
//! well, except where one reads files that are still to be made.

use std::collections::HashSet;

use super::difference::{DifferenceKind, Explanation};
use crate::{
    graph::{Op, Vertex, VertexIx},
    oci::{Digest, digest::FieldHasher},
    solve::{
        failure::SolveFailure,
        lookup::key::InputKind,
        reads::StepReads,
        schedule::order,
        solver::{Solver, claimed_like, linked_keys},
        tree::LayerTree,
    },
};

/// What would become of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StepOutlook {
    /// A base image: nothing runs.
    Image,
    /// A download or repository, which is asked for when it is built.
    Fetched,
    Cached,
    Runs,
    /// It depends on files that a step before it is still to make, or that are not unpacked.
    Depends,
}

/// One step of a build that was looked at.
#[derive(Clone, Debug)]
pub(crate) struct StepLook {
    pub(crate) ix: VertexIx,
    pub(crate) outlook: StepOutlook,
    /// Why it would run.
    pub(crate) why: Explanation,
    /// When it last ran, RFC 3339, and why it did.
    pub(crate) last: Option<(String, Explanation)>,
}

/// The result of a vertex, as far as it is known without running anything.
#[derive(Clone)]
enum LookedTree {
    /// It is in the store, or is a base image.
    Known(LayerTree),
    /// It is still to be made; its identity is known.
    Expected(LayerTree),
    /// Nothing is known of it.
    Open,
}

impl LookedTree {
    fn tree(&self) -> Option<&LayerTree> {
        match self {
            Self::Known(tree) | Self::Expected(tree) => Some(tree),
            Self::Open => None,
        }
    }
}

impl Solver {
    /// Looks at all steps that these results need, inputs first.
    ///
    /// # Errors
    /// When something that a step reads is not there or cannot be read.
    pub(crate) async fn look(&self, results: &[VertexIx]) -> Result<Vec<StepLook>, SolveFailure> {
        let graph = &self.0.graph;
        let mut needed = HashSet::new();
        let mut all = HashSet::new();
        for result in results {
            let reachable = order::reachable(graph, *result);
            all.extend(reachable.iter().copied());
            if !self.is_known_whole(*result, &reachable).await? {
                needed.extend(reachable);
            }
        }
        let mut trees = vec![LookedTree::Open; graph.len()];
        let mut looks = Vec::new();
        for (ix, vertex) in graph.iter().filter(|(ix, _)| all.contains(ix)) {
            let inputs: Vec<LookedTree> = vertex.inputs.iter().map(|input| trees[input.index()].clone()).collect();
            let outlook = match &vertex.op {
                Op::Scratch | Op::Local(_) => {
                    trees[ix.index()] = LookedTree::Known(LayerTree::scratch());
                    continue;
                }
                Op::Merge => {
                    trees[ix.index()] = self.look_at_merge(&inputs).await;
                    continue;
                }
                Op::Image(image) => {
                    trees[ix.index()] = LookedTree::Known(LayerTree::of_image(image));
                    StepOutlook::Image
                }
                Op::Git(_) | Op::Http(_) => StepOutlook::Fetched,
                Op::Exec(_) | Op::File(_) => {
                    let (outlook, tree) = self.look_at_step(ix, vertex, &inputs).await?;
                    trees[ix.index()] = tree;
                    if needed.contains(&ix) { outlook } else { StepOutlook::Cached }
                }
            };
            looks.push(self.explained(ix, vertex, &inputs, outlook).await?);
        }
        Ok(looks)
    }

    /// Whether the whole build is found by one look-up, so that no step of it is asked for.
    async fn is_known_whole(&self, result: VertexIx, needed: &[VertexIx]) -> Result<bool, SolveFailure> {
        let stops = |ix: &VertexIx| {
            let vertex = self.0.graph.get(*ix);
            // What is fetched is known only after that.
            vertex.meta.ignore_cache || matches!(vertex.op, Op::Git(_) | Op::Http(_))
        };
        if needed.iter().any(stops) {
            return Ok(false);
        }
        let key = self.build_key(result, needed).await?;
        Ok(self.0.records.build(&key).await.is_some())
    }

    async fn look_at_merge(&self, inputs: &[LookedTree]) -> LookedTree {
        let known: Option<Vec<&LayerTree>> = inputs.iter().map(LookedTree::tree).collect();
        let Some([below, uppers @ ..]) = known.as_deref() else { return LookedTree::Open };
        let merged = below.merged(uppers);
        match self.0.records.step(&linked_keys(&merged)).await {
            Some(known) => LookedTree::Known(claimed_like(&[(*below).clone()], known)),
            None if inputs.iter().all(|it| matches!(it, LookedTree::Known(_))) => LookedTree::Known(merged),
            None => LookedTree::Expected(merged),
        }
    }

    /// As the solver does it (`keyed`), up to where it would run the step.
    async fn look_at_step(
        &self,
        ix: VertexIx,
        vertex: &Vertex,
        inputs: &[LookedTree],
    ) -> Result<(StepOutlook, LookedTree), SolveFailure> {
        // A vertex of a build that is not needed may lack what it reads.
        let trees: Option<Vec<LayerTree>> = inputs.iter().map(|it| it.tree().cloned()).collect();
        let Some(trees) = trees else { return Ok((StepOutlook::Depends, LookedTree::Open)) };
        let reads = Self::reads_of(vertex);
        let fast = self.keys(ix, vertex, &trees, &reads, InputKind::Fast).await?;
        let expected = |key: &Digest| LookedTree::Expected(trees[0].with_layer(*key, String::new()));
        if vertex.meta.ignore_cache {
            let mut another = FieldHasher::new("look/fresh/1");
            another.digest(&fast.own);
            return Ok((StepOutlook::Runs, expected(&another.finish())));
        }
        if let Some(known) = self.0.records.step(&fast).await {
            return Ok((StepOutlook::Cached, LookedTree::Known(claimed_like(&trees, known))));
        }
        let from_trees: Vec<&StepReads<'_>> =
            reads.iter().filter(|read| !self.is_local(vertex, read.input())).collect();
        if from_trees.is_empty() {
            return Ok((StepOutlook::Runs, expected(&fast.own)));
        }
        if !from_trees.iter().all(|read| self.is_there(&inputs[read.input()])) {
            return Ok((StepOutlook::Depends, LookedTree::Open));
        }
        let slow = self.keys(ix, vertex, &trees, &reads, InputKind::Slow).await?;
        Ok(match self.0.records.step(&slow).await {
            Some(known) => (StepOutlook::Cached, LookedTree::Known(claimed_like(&trees, known))),
            None => (StepOutlook::Runs, expected(&slow.own)),
        })
    }

    /// Whether the files of a tree can be read without pulling or unpacking anything.
    fn is_there(&self, tree: &LookedTree) -> bool {
        let LookedTree::Known(tree) = tree else { return false };
        tree.layers.iter().all(|layer| self.0.world.store.has_snapshot(&layer.snapshot))
    }

    async fn explained(
        &self,
        ix: VertexIx,
        vertex: &Vertex,
        inputs: &[LookedTree],
        outlook: StepOutlook,
    ) -> Result<StepLook, SolveFailure> {
        let nothing = StepLook { ix, outlook, why: Explanation::default(), last: None };
        let Some(place) = vertex.meta.place.as_ref().filter(|_| matches!(vertex.op, Op::Exec(_) | Op::File(_))) else {
            return Ok(nothing);
        };
        let root = inputs.first().and_then(|input| input.tree().map(|tree| tree.id));
        let step = self.gather(ix, vertex, place, root, &Self::reads_of(vertex)).await?;
        let last = step.earlier.map(|run| (run.at, run.why));
        let mut why = if outlook == StepOutlook::Cached { Explanation::default() } else { step.why };
        if outlook == StepOutlook::Depends {
            // That it is not known is no news: what it is known by is not there yet.
            why.differences.retain(|it| it.kind != DifferenceKind::Gone);
        }
        Ok(StepLook { why, last, ..nothing })
    }
}

/// A step that was looked at, with what the user knows it by.
pub(crate) struct ShownLook<'a> {
    pub(crate) vertex: &'a Vertex,
    pub(crate) look: StepLook,
}

impl Solver {
    /// The vertices of steps that were looked at.
    pub(crate) fn shown(&self, looks: Vec<StepLook>) -> Vec<ShownLook<'_>> {
        looks.into_iter().map(|look| ShownLook { vertex: self.0.graph.get(look.ix), look }).collect()
    }
}
