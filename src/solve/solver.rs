//! Resolves the vertices of one graph to trees: puts together scheduling, look-up and running.
//!
//! Each vertex is resolved at most once in this process, and each key is worked on by one process at a time.

use std::{
    collections::HashMap,
    future::Future,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures_util::future::try_join_all;
use tracing::Instrument as _;

use super::{
    base::{self, ImageSteps},
    blocking::blocking,
    content::error::ContentError,
    explain::{gather::GatheredStep, memory::StepMemory},
    failure::SolveFailure,
    lookup::{
        contents::LocalContents,
        key::{self, InputKind},
        records::{CacheRecords, KnownStep, StepKeys},
    },
    op::{
        exec,
        held::HeldSlot,
        linked::{self, KeptDirs},
        source,
    },
    reads::{ReadPlace, StepReads, layer_source, reads},
    run::{self, StepRun},
    schedule::{
        order,
        tasks::{SolvedVertex, VertexTasks},
    },
    tree::{LayerTree, SolvedTree, TreeLayer},
    world::{SolveScope, SolveWorld},
};
use crate::{
    graph::{Graph, Op, Vertex, VertexIx},
    oci::{BaseLayer, Digest, digest::FieldHasher},
    report::{
        Diagnostic,
        event::{Event, StepEnd, StepId},
    },
    store::SnapshotMeta,
};

/// Solves the vertices of one graph, each at most once; clones share the results.
#[derive(Clone)]
pub(crate) struct Solver(pub(super) Arc<SolverState>);

pub(super) struct SolverState {
    pub(super) graph: Graph,
    pub(super) world: SolveWorld,
    /// By vertex.
    scopes: Vec<Arc<SolveScope>>,
    tasks: Arc<VertexTasks>,
    pub(super) records: CacheRecords,
    pub(super) contents: LocalContents,
    images: ImageSteps,
    /// How long the vertices took that ran, without what they waited for.
    took: Mutex<HashMap<VertexIx, Duration>>,
    /// By vertex: weight of the longest path to an end of the graph.
    heights: Vec<u64>,
    /// By vertex: a process whose secrets or agents other builds of the run take from elsewhere under the same id.
    pub(super) apart: Vec<bool>,
    pub(super) memory: StepMemory,
}

/// The number by which events name a vertex.
fn step_id(ix: VertexIx) -> StepId {
    StepId(u32::try_from(ix.index()).expect("a graph has fewer than 2^32 vertices"))
}

impl Solver {
    /// A solver that has solved nothing. `scopes` has one entry for each vertex.
    pub(crate) fn new(graph: Graph, scopes: Vec<Arc<SolveScope>>, world: SolveWorld) -> Self {
        Self(Arc::new(SolverState {
            tasks: Arc::new(VertexTasks::new(graph.len())),
            records: CacheRecords::new(world.store.clone()),
            contents: LocalContents::new(&graph),
            images: ImageSteps::of(&graph, step_id),
            took: Mutex::default(),
            heights: order::heights(&graph),
            apart: apart(&graph),
            memory: StepMemory::new(world.store.clone()),
            graph,
            world,
            scopes,
        }))
    }

    /// Has shared caches read by `read` when a step is looked up that the store does not know. A run that is cancelled
    /// does not wait for them.
    pub(crate) fn import(&self, read: impl Future<Output = HashMap<Digest, LayerTree>> + Send + 'static) {
        let cancel = self.0.world.cancel.clone();
        self.0.records.import(async move {
            tokio::select! {
                known = read => Arc::new(known),
                () = cancel.cancelled() => Arc::default(),
            }
        });
    }

    /// The critical path of what has run so far: the names of its steps, lowest first, with their times.
    pub(crate) fn critical_path(&self) -> Vec<(Arc<str>, Duration)> {
        let took = self.0.took.lock().unwrap_or_else(PoisonError::into_inner);
        let path = order::critical_path(&self.0.graph, &took);
        path.into_iter().map(|ix| (self.0.graph.get(ix).meta.name.as_str().into(), took[&ix])).collect()
    }

    /// How many of the vertices that `result` needs ran in this process, and the sum of their times.
    pub(crate) fn work(&self, result: VertexIx) -> (usize, Duration) {
        let took = self.0.took.lock().unwrap_or_else(PoisonError::into_inner);
        if took.is_empty() {
            return (0, Duration::ZERO);
        }
        let needed = order::reachable(&self.0.graph, result);
        let ran = needed.iter().filter_map(|ix| took.get(ix));
        ran.fold((0, Duration::ZERO), |(n, sum), took| (n + 1, sum + *took))
    }

    /// Everything outside the graph that the solver uses.
    pub(crate) fn world(&self) -> &SolveWorld {
        &self.0.world
    }

    /// Solves a build whose last vertex is `result` and returns its tree; by one look-up if the whole build is known.
    ///
    /// *Cost*, nothing changed: the content of what the build reads (shared walks, stat cache), one record, one stat
    /// for each layer that `bake` made.
    ///
    /// # Errors
    /// The first failure of a vertex that the build needs.
    pub(crate) async fn solve(&self, result: VertexIx) -> Result<SolvedTree, SolveFailure> {
        let needed = order::reachable(&self.0.graph, result);
        let key = self.build_key(result, &needed).await?;
        // A step that is to run anyway makes a result that the next run finds.
        let must_run = needed.iter().any(|ix| self.0.graph.get(*ix).meta.ignore_cache);
        let known = if must_run { None } else { self.0.records.build(&key).await };
        tracing::debug!(key = %key, known = known.is_some(), forced = must_run, "record of the whole build");
        if let Some(tree) = known {
            return Ok(SolvedTree::Cached(tree));
        }
        let tree = self.resolve(result, &needed).await?;
        self.0.records.record_build(&key, &tree).await?;
        Ok(SolvedTree::Made(tree))
    }

    /// The cache keys, as shared caches have them, and results of all processes and copies that `result` needs, inputs
    /// first.
    ///
    /// # Errors
    /// The first failure of a vertex that the build needs.
    pub(crate) async fn records(&self, result: VertexIx) -> Result<Vec<(Digest, LayerTree)>, SolveFailure> {
        let needed = order::reachable(&self.0.graph, result);
        self.resolve(result, &needed).await?;
        let mut records = Vec::new();
        for ix in needed {
            let vertex = self.0.graph.get(ix);
            if !matches!(vertex.op, Op::Exec(_) | Op::File(_) | Op::Merge) {
                continue;
            }
            let inputs = self.0.tasks.wait_all(&vertex.inputs).await?;
            let tree = self.0.tasks.wait(ix).await?;
            let keys = match vertex.op {
                Op::Merge => linked_keys(&tree),
                _ => self.keys(ix, vertex, &inputs, &reads(&vertex.op), InputKind::Fast).await?,
            };
            records.push((keys.shared, tree));
        }
        Ok(records)
    }

    /// The graph whose vertices it solves.
    pub(crate) fn graph(&self) -> &Graph {
        &self.0.graph
    }

    /// Solves what a RUN step needs, and puts the step into `slot` as it is before it runs.
    ///
    /// # Errors
    /// The first failure of a vertex that the step needs.
    pub(crate) async fn hold(&self, ix: VertexIx, slot: &HeldSlot) -> Result<(), SolveFailure> {
        let vertex = self.0.graph.get(ix);
        let Op::Exec(exec) = &vertex.op else { unreachable!("only RUN steps are held") };
        let mut inputs = Vec::with_capacity(vertex.inputs.len());
        for input in &vertex.inputs {
            inputs.push(self.resolve(*input, &order::reachable(&self.0.graph, *input)).await?);
        }
        let places = vertex.inputs.iter().zip(&inputs).map(|(input, tree)| self.place(vertex, *input, tree));
        let places = try_join_all(places).await?;
        let (world, scope) = (&self.0.world, &self.0.scopes[ix.index()]);
        slot.put(exec::hold(world, exec, vertex, scope, places, step_id(ix)).await?);
        Ok(())
    }

    /// Makes sure that the snapshots of a tree exist, and returns their directories, lowest first.
    ///
    /// # Errors
    /// When a base layer cannot be pulled or unpacked; with the instruction that asks for the image.
    /// [`SnapshotGone`](SolveFailure::SnapshotGone) when a layer that `bake` made is no longer whole.
    pub(crate) async fn materialise(&self, tree: &LayerTree) -> Result<Vec<PathBuf>, SolveFailure> {
        base::materialise(&self.0.world, tree, &self.0.images).await
    }

    /// Makes sure that the blob of a base layer is in the store, verified, and returns its file.
    ///
    /// # Errors
    /// When it cannot be pulled or is not what its digest says; with the instruction that asks for the image.
    pub(crate) async fn base_blob(&self, layer: &BaseLayer) -> Result<PathBuf, SolveFailure> {
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
    pub(super) async fn build_key(&self, result: VertexIx, needed: &[VertexIx]) -> Result<Digest, SolveFailure> {
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
    pub(super) async fn local_content(
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
            Op::Merge => self.linked(vertex, &inputs).await,
            Op::Image(_) | Op::Git(_) | Op::Http(_) | Op::Exec(_) | Op::File(_) => self.step(ix, vertex, &inputs).await,
        }
    }

    /// `COPY --link`: the layer of the copy, which was made on an empty tree, above the tree of input 0.
    async fn linked(&self, vertex: &Vertex, inputs: &[LayerTree]) -> SolvedVertex {
        let mut tree = inputs[0].merged(&inputs[1..].iter().collect::<Vec<_>>());
        let ([below, upper], [_, copy]) = (inputs, &vertex.inputs[..]) else { return Ok(tree) };
        let ([layer], Op::File(file)) = (&upper.layers[..], &self.0.graph.get(*copy).op) else { return Ok(tree) };
        let paths = linked::on_the_way(&file.actions);
        if below.layers.is_empty() || paths.is_empty() {
            return Ok(tree);
        }
        let keys = linked_keys(&tree);
        if let Some(known) = self.0.records.step(&keys).await {
            return Ok(claimed_like(inputs, known));
        }
        let folders = self.materialise(&tree).await?;
        let n_below = below.layers.len();
        let kept = {
            let folders = folders.clone();
            let find = move || KeptDirs::find(&folders[..n_below], &folders[n_below..], &paths);
            blocking(find).await?
        };
        if !kept.is_empty() {
            let id = kept.snapshot(&layer.snapshot);
            let _lock = self.0.world.lock(&id.0).await?;
            if !self.0.world.store.usable(&id) {
                let (store, copy, id) = (self.0.world.store.clone(), folders[n_below].clone(), id.clone());
                let meta = SnapshotMeta { created: layer.created.clone() };
                blocking(move || kept.apply(&store, &copy, &id, meta)).await?;
            }
            tree.layers[n_below] = TreeLayer { snapshot: id, created: layer.created.clone(), base: None };
        }
        self.0.records.record_step(&keys.own, &tree)?;
        Ok(tree)
    }

    /// A vertex that the user sees as a step. The time it took is that of its own work: what it waits for, such as the
    /// base image or a slot, is not counted.
    async fn step(&self, ix: VertexIx, vertex: &Vertex, inputs: &[LayerTree]) -> SolvedVertex {
        let id = step_id(ix);
        let name = vertex.meta.name.as_str().into();
        (self.0.world.sink)(Event::Step { id, name, digest: Some(vertex.digest) });
        let span = tracing::debug_span!("step", digest = %vertex.digest, name = %vertex.meta.name);
        let begun = Instant::now();
        let mut took = None;
        let solved = match &vertex.op {
            Op::Image(image) => Ok(SolvedTree::Cached(LayerTree::of_image(image))),
            Op::Git(_) | Op::Http(_) => source::fetch(&self.0.world, vertex, id).instrument(span).await,
            _ => self.keyed(ix, vertex, inputs, &mut took).instrument(span).await,
        };
        let how = match &solved {
            Ok(SolvedTree::Cached(_)) => StepEnd::Cached,
            Ok(SolvedTree::Made(_)) => StepEnd::Done,
            Err(SolveFailure::Failed(diagnostic) | SolveFailure::SnapshotGone(diagnostic)) => {
                StepEnd::Failed(diagnostic.clone())
            }
            Err(SolveFailure::Cancelled) => StepEnd::Cancelled,
        };
        if let Some(took) = took {
            self.0.took.lock().unwrap_or_else(PoisonError::into_inner).insert(ix, took);
        }
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
        let fast = self.keys(ix, vertex, inputs, &reads, InputKind::Fast).await?;
        let ignore = vertex.meta.ignore_cache;
        if !ignore && let Some(known) = records.step(&fast).await {
            tracing::debug!(key = %fast.own, "known by its definition");
            return Ok(SolvedTree::Cached(claimed_like(inputs, known)));
        }
        let from_trees = reads.iter().any(|read| !self.is_local(vertex, read.input()));
        let slow = if from_trees { Some(self.keys(ix, vertex, inputs, &reads, InputKind::Slow).await?) } else { None };
        if let Some(slow) = &slow
            && !ignore
            && let Some(known) = records.step(slow).await
        {
            self.0.memory.forget_lists(ix);
            tracing::debug!(key = %slow.own, "known by the content that it reads");
            self.record_known(&fast, &known)?;
            return Ok(SolvedTree::Cached(claimed_like(inputs, known)));
        }
        let run_keys = slow.unwrap_or(fast);
        let run_key = run_keys.own;
        tracing::debug!(key = %run_key, by_definition = %fast.own, forced = ignore, "not known: it is run");
        let flight = records.flight(&run_key);
        let _only_here = flight.lock().await;
        let lock = self.0.world.lock(&run_key).await?;
        if !ignore && let Some(known) = records.step(&run_keys).await {
            self.0.memory.forget_lists(ix);
            self.record_known(&fast, &known)?;
            return Ok(SolvedTree::Cached(claimed_like(inputs, known)));
        }
        let result = if ignore { self.fresh(&run_key) } else { run_key };
        let gathered = self.gather_to_run(ix, vertex, inputs, &reads).await?;
        let mut tree = self.run(ix, vertex, inputs, (result, gathered.as_ref()), took).await?;
        if inputs.iter().any(|input| input.claimed.is_some()) {
            tree.claimed = Some(if ignore { result } else { run_keys.shared });
        }
        records.record_step(&run_key, &tree)?;
        if fast.own != run_key {
            records.record_step(&fast.own, &tree)?;
        }
        if let Some(gathered) = gathered {
            self.remember(gathered, &tree.id, took.unwrap_or_default()).await?;
        }
        drop(lock);
        Ok(SolvedTree::Made(tree))
    }

    /// Records by its definition a result that was found by the content that it reads.
    fn record_known(&self, fast: &StepKeys, known: &KnownStep) -> Result<(), SolveFailure> {
        match known {
            KnownStep::Own(tree) => self.0.records.record_step(&fast.own, tree),
            KnownStep::Shared(_) => Ok(()),
        }
    }

    /// An identity that no earlier run had: what depends on a step that was forced to run must run as well.
    fn fresh(&self, key: &Digest) -> Digest {
        let mut hasher = FieldHasher::new("key/fresh/1");
        hasher.digest(key).text(&(self.0.world.now)()).number(u64::from(std::process::id()));
        hasher.finish()
    }

    pub(super) fn is_local(&self, vertex: &Vertex, input: usize) -> bool {
        matches!(self.0.graph.get(vertex.inputs[input]).op, Op::Local(_))
    }

    /// The keys of a step by the identity or by the content of what it reads.
    ///
    /// # Errors
    /// When something that it reads is not there or cannot be read.
    pub(super) async fn keys(
        &self,
        ix: VertexIx,
        vertex: &Vertex,
        inputs: &[LayerTree],
        reads: &[StepReads<'_>],
        kind: InputKind,
    ) -> Result<StepKeys, SolveFailure> {
        let (mut own, mut shared) = (Vec::with_capacity(reads.len()), Vec::with_capacity(reads.len()));
        for (n, read) in reads.iter().enumerate() {
            let both = match (self.is_local(vertex, read.input()), kind) {
                (true, _) => self.local_content(ix, n, vertex, read).await?,
                (false, InputKind::Fast) => {
                    let tree = &inputs[read.input()];
                    own.push(read.of_tree(&tree.id));
                    shared.push(read.of_tree(tree.shared_id()));
                    continue;
                }
                (false, InputKind::Slow) => self.layer_content((ix, n), vertex, &inputs[read.input()], read).await?,
            };
            own.push(both);
            shared.push(both);
        }
        let key = |root: fn(&LayerTree) -> &Digest, digests: &[Digest]| match &vertex.op {
            Op::Exec(op) => {
                let key = key::exec(op, &vertex.platform, kind, root(&inputs[0]), digests);
                if self.0.apart[ix.index()] { key::apart(&key, op) } else { key }
            }
            Op::File(op) => key::file(&op.actions, &vertex.platform, kind, root(&inputs[0]), digests),
            Op::Scratch | Op::Image(_) | Op::Local(_) | Op::Git(_) | Op::Http(_) | Op::Merge => vertex.digest,
        };
        let own = key(|tree| &tree.id, &own);
        let is_claimed = inputs.iter().any(|input| input.claimed.is_some());
        Ok(StepKeys { own, shared: if is_claimed { key(LayerTree::shared_id, &shared) } else { own } })
    }

    /// The content of what is read of layers. The names in it are kept until the step is known, so that nothing is hashed
    /// twice.
    async fn layer_content(
        &self,
        key: (VertexIx, usize),
        vertex: &Vertex,
        tree: &LayerTree,
        read: &StepReads<'_>,
    ) -> Result<Digest, SolveFailure> {
        let folders = self.materialise(tree).await?;
        let name = self.0.graph.get(vertex.inputs[read.input()]).meta.name.clone();
        let read = read.into_owned();
        let content = blocking(move || {
            let source = layer_source(&name, &folders)?;
            read.content_listed(&source).map_err(ContentError::into_diagnostic)
        });
        let listed = content.await.map_err(|diagnostic| SolveFailure::from(diagnostic).at_instruction(vertex));
        let (digest, files) = listed?;
        self.0.memory.keep_list(key, digest, files);
        Ok(digest)
    }

    async fn run(
        &self,
        ix: VertexIx,
        vertex: &Vertex,
        inputs: &[LayerTree],
        (result, gathered): (Digest, Option<&GatheredStep>),
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
            why: gathered.and_then(GatheredStep::told),
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

/// The keys of the record of `COPY --link` above a tree.
pub(super) fn linked_keys(tree: &LayerTree) -> StepKeys {
    StepKeys { own: linked::key(&tree.id), shared: linked::key(tree.shared_id()) }
}

/// A known result as a step with these inputs has it: it comes from a shared cache if it was found there or an input does.
pub(super) fn claimed_like(inputs: &[LayerTree], known: KnownStep) -> LayerTree {
    let is_claimed = inputs.iter().any(|input| input.claimed.is_some());
    match known {
        KnownStep::Own(tree) if !is_claimed => LayerTree { claimed: None, ..tree },
        KnownStep::Own(tree) | KnownStep::Shared(tree) => {
            let claimed = Some(*tree.shared_id());
            LayerTree { claimed, ..tree }
        }
    }
}

/// By vertex: whether a secret or agent that it uses comes from another source elsewhere in the run.
fn apart(graph: &Graph) -> Vec<bool> {
    let ambiguous = graph.ambiguous();
    let is_apart = |vertex: &Vertex| match &vertex.op {
        Op::Exec(exec) => exec.sources.iter().any(|source| ambiguous.contains(&(source.kind, source.id.as_str()))),
        _ => false,
    };
    graph.iter().map(|(_, vertex)| is_apart(vertex)).collect()
}
