//! Resolves the vertices of one graph to trees: puts together scheduling, look-up and running.
//!
//! Each vertex is resolved at most once in this process, and each key is worked on by one process at a time.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::try_join_all;

use super::{
    base::{self, ImageSteps},
    blocking::blocking,
    content::error::ContentError,
    failure::SolveFailure,
    lookup::{
        contents::LocalContents,
        key::{self, InputKind},
        records::CacheRecords,
    },
    op::source,
    reads::{ReadPlace, StepReads, layer_source, reads},
    run::{self, StepRun},
    schedule::{
        order,
        tasks::{SolvedVertex, VertexTasks},
    },
    tree::{LayerTree, SolvedTree, TreeBase},
    world::{SolveScope, SolveWorld},
};
use crate::{
    graph::{Graph, Op, Vertex, VertexIx},
    oci::{Digest, digest::FieldHasher},
    report::{
        Diagnostic,
        event::{Ended, Event, StepId},
    },
};

/// Resolves the vertices of one graph; clones share what is resolved.
#[derive(Clone)]
pub(crate) struct Solver(Arc<SolverState>);

struct SolverState {
    graph: Graph,
    world: SolveWorld,
    /// By vertex.
    scopes: Vec<Arc<SolveScope>>,
    tasks: Arc<VertexTasks>,
    records: CacheRecords,
    contents: LocalContents,
    images: ImageSteps,
    /// By vertex: weight of the longest path to an end of the graph.
    heights: Vec<u64>,
    /// By vertex: a process whose secrets or agents other builds of the run take from elsewhere under the same id.
    apart: Vec<bool>,
}

/// The number by which events name a vertex.
fn step_id(ix: VertexIx) -> StepId {
    StepId(u32::try_from(ix.index()).expect("a graph has fewer than 2^32 vertices"))
}

impl Solver {
    /// A solver that has resolved nothing. `scopes` has one entry for each vertex.
    pub(crate) fn new(graph: Graph, scopes: Vec<Arc<SolveScope>>, world: SolveWorld) -> Self {
        Self(Arc::new(SolverState {
            tasks: Arc::new(VertexTasks::new(graph.len())),
            records: CacheRecords::new(world.store.clone()),
            contents: LocalContents::new(&graph),
            images: ImageSteps::of(&graph, step_id),
            heights: order::heights(&graph),
            apart: apart(&graph),
            graph,
            world,
            scopes,
        }))
    }

    /// Adds results of shared caches; a record of the store is preferred to them.
    pub(crate) fn import(&self, known: HashMap<Digest, LayerTree>) {
        self.0.records.import(known);
    }

    /// What the solver may touch.
    pub(crate) fn world(&self) -> &SolveWorld {
        &self.0.world
    }

    /// The tree of a build whose last vertex is `result`, by one look-up if the whole build is known.
    ///
    /// *Cost*, nothing changed: the content of what the build reads (shared walks, stat cache), one record, one stat for
    /// each layer that `bake` made.
    ///
    /// # Errors
    /// The first failure of a vertex that the build needs.
    pub(crate) async fn solve(&self, result: VertexIx) -> Result<SolvedTree, SolveFailure> {
        let needed = order::reachable(&self.0.graph, result);
        let key = self.build_key(result, &needed).await?;
        // A step that is to run anyway makes a result that the next run finds.
        let must_run = needed.iter().any(|ix| self.0.graph.get(*ix).meta.ignore_cache);
        if !must_run && let Some(tree) = self.0.records.build(&key) {
            return Ok(SolvedTree::Cached(tree));
        }
        let tree = self.resolve(result, &needed).await?;
        self.0.records.record_build(&key, &tree)?;
        Ok(SolvedTree::Made(tree))
    }

    /// Keys and results of all processes and file actions that `result` needs, inputs first.
    ///
    /// # Errors
    /// The first failure of a vertex that the build needs.
    pub(crate) async fn records(&self, result: VertexIx) -> Result<Vec<(Digest, LayerTree)>, SolveFailure> {
        let needed = order::reachable(&self.0.graph, result);
        self.resolve(result, &needed).await?;
        let mut records = Vec::new();
        for ix in needed {
            let vertex = self.0.graph.get(ix);
            if !matches!(vertex.op, Op::Exec(_) | Op::File(_)) {
                continue;
            }
            let inputs = self.0.tasks.wait_all(&vertex.inputs).await?;
            let key = self.key(ix, vertex, &inputs, &reads(&vertex.op), InputKind::Fast).await?;
            records.push((key, self.0.tasks.wait(ix).await?));
        }
        Ok(records)
    }

    /// Makes the snapshots of a tree exist; their folders, lowest first.
    ///
    /// # Errors
    /// When a base layer cannot be pulled or unpacked; names the instruction that asks for the image.
    /// [`SnapshotGone`](SolveFailure::SnapshotGone) when a layer that `bake` made is no longer whole.
    pub(crate) async fn materialise(&self, tree: &LayerTree) -> Result<Vec<PathBuf>, SolveFailure> {
        base::materialise(&self.0.world, tree, &self.0.images).await
    }

    /// The blob of a base layer as a verified file in the store.
    ///
    /// # Errors
    /// When it cannot be pulled or is not what its digest says; names the instruction that asks for the image.
    pub(crate) async fn base_blob(&self, layer: &TreeBase) -> Result<PathBuf, SolveFailure> {
        base::blob(&self.0.world, layer, &self.0.images).await
    }

    async fn resolve(&self, result: VertexIx, needed: &[VertexIx]) -> SolvedVertex {
        let work = |ix| {
            let solver = self.clone();
            async move { solver.vertex(ix).await }
        };
        let solver = self.clone();
        self.0.tasks.start(needed, work, move |ix| solver.bug(ix));
        self.0.tasks.wait(result).await
    }

    fn bug(&self, ix: VertexIx) -> SolveFailure {
        let name = &self.0.graph.get(ix).meta.name;
        Diagnostic::error("bake::solve::bug", format!("a step ended in a fault of `bake` itself: {name}"))
            .help("please report it, with the bake file and the Dockerfile")
            .into()
    }

    /// The key of a whole build: its vertices, and the content that they read from outside.
    async fn build_key(&self, result: VertexIx, needed: &[VertexIx]) -> Result<Digest, SolveFailure> {
        let graph = &self.0.graph;
        let mut hasher = FieldHasher::new("key/build/1");
        hasher.digest(&graph.get(result).digest);
        for ix in needed {
            let vertex = graph.get(*ix);
            if self.0.apart[ix.index()] {
                // A run without this distinction may have taken another source for it.
                hasher.text("apart").digest(&vertex.digest);
            }
            if matches!(vertex.op, Op::Git(_) | Op::Http(_)) {
                let tree = self.resolve(*ix, &[*ix]).await?;
                hasher.digest(&tree.id);
            }
            for (n, read) in reads(&vertex.op).iter().enumerate() {
                if matches!(graph.get(vertex.inputs[read.input()]).op, Op::Local(_)) {
                    hasher.digest(&self.local_content(*ix, n, vertex, read).await?);
                }
            }
        }
        Ok(hasher.finish())
    }

    /// The content of what the `n`th read of a vertex reads of a local directory.
    async fn local_content(
        &self,
        ix: VertexIx,
        n: usize,
        vertex: &Vertex,
        read: &StepReads<'_>,
    ) -> Result<Digest, SolveFailure> {
        let Op::Local(local) = &self.0.graph.get(vertex.inputs[read.input()]).op else {
            unreachable!("the caller has looked")
        };
        let content = self.0.contents.get((ix, n), local, read, &self.0.graph, &self.0.world.locals).await;
        content.map_err(|diagnostic| SolveFailure::from(diagnostic).at_instruction(vertex))
    }

    /// Resolves one vertex, whose inputs are resolved by other tasks.
    async fn vertex(&self, ix: VertexIx) -> SolvedVertex {
        let vertex = self.0.graph.get(ix);
        let inputs = self.0.tasks.wait_all(&vertex.inputs).await?;
        if self.0.world.cancel.is_cancelled() {
            return Err(SolveFailure::Cancelled);
        }
        match &vertex.op {
            Op::Scratch | Op::Local(_) => Ok(LayerTree::scratch()),
            Op::Merge => Ok(inputs[0].merged(&inputs[1..].iter().collect::<Vec<_>>())),
            Op::Image(_) | Op::Git(_) | Op::Http(_) | Op::Exec(_) | Op::File(_) => self.step(ix, vertex, &inputs).await,
        }
    }

    /// A vertex that the user sees as a step. The time it took is that of its own work: what it waits for, such as the
    /// base image or a slot, is not counted.
    async fn step(&self, ix: VertexIx, vertex: &Vertex, inputs: &[LayerTree]) -> SolvedVertex {
        let id = step_id(ix);
        let name = vertex.meta.name.as_str().into();
        (self.0.world.sink)(Event::Step { id, name, digest: Some(vertex.digest) });
        let begun = Instant::now();
        let mut took = None;
        let solved = match &vertex.op {
            Op::Image(image) => Ok(SolvedTree::Cached(LayerTree::of_image(image))),
            Op::Git(_) | Op::Http(_) => source::fetch(&self.0.world, vertex, id).await,
            _ => self.keyed(ix, vertex, inputs, &mut took).await,
        };
        let how = match &solved {
            Ok(SolvedTree::Cached(_)) => Ended::Cached,
            Ok(SolvedTree::Made(_)) => Ended::Done,
            Err(SolveFailure::Failed(diagnostic) | SolveFailure::SnapshotGone(diagnostic)) => {
                Ended::Failed(diagnostic.clone())
            }
            Err(SolveFailure::Cancelled) => Ended::Cancelled,
        };
        let took = took.unwrap_or_else(|| begun.elapsed());
        (self.0.world.sink)(Event::Ended { id, how, took });
        solved.map(SolvedTree::into_tree)
    }

    /// A process or file actions: found by key, or run. `took` is set when it has run.
    async fn keyed(
        &self,
        ix: VertexIx,
        vertex: &Vertex,
        inputs: &[LayerTree],
        took: &mut Option<Duration>,
    ) -> Result<SolvedTree, SolveFailure> {
        let records = &self.0.records;
        let reads = reads(&vertex.op);
        let fast = self.key(ix, vertex, inputs, &reads, InputKind::Fast).await?;
        let ignore = vertex.meta.ignore_cache;
        if !ignore && let Some(tree) = records.step(&fast) {
            return Ok(SolvedTree::Cached(tree));
        }
        let from_trees = reads.iter().any(|read| !self.is_local(vertex, read.input()));
        let slow = if from_trees { Some(self.key(ix, vertex, inputs, &reads, InputKind::Slow).await?) } else { None };
        if let Some(slow) = &slow
            && !ignore
            && let Some(tree) = records.step(slow)
        {
            records.record_step(&fast, &tree)?;
            return Ok(SolvedTree::Cached(tree));
        }
        let run_key = slow.unwrap_or(fast);
        let flight = records.flight(&run_key);
        let _only_here = flight.lock().await;
        let lock = self.0.world.lock(&run_key).await?;
        if !ignore && let Some(tree) = records.step(&run_key) {
            records.record_step(&fast, &tree)?;
            return Ok(SolvedTree::Cached(tree));
        }
        let result = if ignore { self.fresh(&run_key) } else { run_key };
        let tree = self.run(ix, vertex, inputs, result, took).await?;
        records.record_step(&run_key, &tree)?;
        if fast != run_key {
            records.record_step(&fast, &tree)?;
        }
        drop(lock);
        Ok(SolvedTree::Made(tree))
    }

    /// An identity that no earlier run had: what depends on a step that was forced to run must run as well.
    fn fresh(&self, key: &Digest) -> Digest {
        let mut hasher = FieldHasher::new("key/fresh/1");
        hasher.digest(key).text(&(self.0.world.now)()).number(u64::from(std::process::id()));
        hasher.finish()
    }

    fn is_local(&self, vertex: &Vertex, input: usize) -> bool {
        matches!(self.0.graph.get(vertex.inputs[input]).op, Op::Local(_))
    }

    async fn key(
        &self,
        ix: VertexIx,
        vertex: &Vertex,
        inputs: &[LayerTree],
        reads: &[StepReads<'_>],
        kind: InputKind,
    ) -> Result<Digest, SolveFailure> {
        let mut digests = Vec::with_capacity(reads.len());
        for (n, read) in reads.iter().enumerate() {
            digests.push(match (self.is_local(vertex, read.input()), kind) {
                (true, _) => self.local_content(ix, n, vertex, read).await?,
                (false, InputKind::Fast) => read.of_tree(&inputs[read.input()].id),
                (false, InputKind::Slow) => self.layer_content(vertex, &inputs[read.input()], read).await?,
            });
        }
        Ok(match &vertex.op {
            Op::Exec(op) => {
                let key = key::exec(op, &vertex.platform, kind, &inputs[0].id, &digests);
                if self.0.apart[ix.index()] { key::apart(&key, op) } else { key }
            }
            Op::File(op) => key::file(&op.actions, &vertex.platform, kind, &inputs[0].id, &digests),
            Op::Scratch | Op::Image(_) | Op::Local(_) | Op::Git(_) | Op::Http(_) | Op::Merge => vertex.digest,
        })
    }

    /// The content of what is read of layers.
    async fn layer_content(
        &self,
        vertex: &Vertex,
        tree: &LayerTree,
        read: &StepReads<'_>,
    ) -> Result<Digest, SolveFailure> {
        let folders = self.materialise(tree).await?;
        let name = self.0.graph.get(vertex.inputs[read.input()]).meta.name.clone();
        let read = read.into_owned();
        let content = blocking(move || {
            let source = layer_source(&name, &folders)?;
            read.content(&source).map_err(ContentError::into_diagnostic)
        });
        content.await.map_err(|diagnostic| SolveFailure::from(diagnostic).at_instruction(vertex))
    }

    async fn run(
        &self,
        ix: VertexIx,
        vertex: &Vertex,
        inputs: &[LayerTree],
        result: Digest,
        took: &mut Option<Duration>,
    ) -> SolvedVertex {
        let world = &self.0.world;
        let mut places = Vec::with_capacity(inputs.len());
        for (input, tree) in vertex.inputs.iter().zip(inputs) {
            places.push(self.place(vertex, *input, tree));
        }
        let step = StepRun {
            id: step_id(ix),
            vertex,
            scope: &self.0.scopes[ix.index()],
            priority: self.0.heights[ix.index()],
            places: try_join_all(places).await?,
            result,
        };
        let (ran, time) = run::run(world, &self.0.graph, step).await;
        *took = time;
        ran?;
        Ok(inputs[0].with_layer(result, (world.now)()))
    }

    /// Where an input lies; layers are made to exist.
    async fn place(&self, vertex: &Vertex, input: VertexIx, tree: &LayerTree) -> Result<ReadPlace, SolveFailure> {
        match &self.0.graph.get(input).op {
            Op::Local(local) => {
                let tree = self.0.world.locals.tree(local).await;
                let tree = tree.map_err(|diagnostic| SolveFailure::from(diagnostic).at_instruction(vertex))?;
                Ok(ReadPlace::Local(tree))
            }
            _ => Ok(ReadPlace::Layers(self.materialise(tree).await?)),
        }
    }
}

/// By vertex: whether a secret or agent that it uses comes from another source elsewhere in the run.
fn apart(graph: &Graph) -> Vec<bool> {
    let ambiguous = graph.ambiguous();
    let is_apart = |vertex: &Vertex| match &vertex.op {
        Op::Exec(exec) => exec.sources.iter().any(|(id, _)| ambiguous.contains(id.as_str())),
        _ => false,
    };
    graph.iter().map(|(_, vertex)| is_apart(vertex)).collect()
}
