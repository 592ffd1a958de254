//! Resolves the vertices of a graph to trees: each at most once in this process, each by one process at a time.
//!
//! Every needed vertex is a task that waits for its inputs; nothing recurses, however deep the graph. What runs holds a
//! slot; a step with the longer way to the end of the plan gets a free slot first.
//!
//! What a step leaves when the process dies at any moment: its half-made snapshot in `tmp/`, swept later. The record is
//! written after the snapshot has its name, so a record never names what is not there.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use indexmap::IndexMap;
use tokio::sync::SetOnce;

use super::{
    content,
    failure::{SolveFailure, at_instruction, store_failure, store_fault},
    key::{self, InputKind},
    local::Locals,
    op::{exec, file, read, source},
    slots::Slots,
    tree::{LayerTree, SolvedTree, TreeBase},
};
use crate::{
    graph::{Graph, Local, Op, Vertex, VertexIx},
    layer::view::LayerView,
    oci::{DiffId, Digest, digest::FieldHasher},
    report::{
        Diagnostic,
        event::{Ended, Event, Sink, StepId, Why},
    },
    sandbox,
    store::{SnapshotId, SnapshotMeta, Store, Table},
};

pub(crate) type Solved = Result<LayerTree, SolveFailure>;

/// What a vertex may use beside its inputs: that of the build that first asked for it.
#[derive(Debug, Default)]
pub(crate) struct SolveScope {
    /// Where the values of secrets are, by id.
    pub(crate) secrets: HashMap<String, exec::SecretSource>,
    /// Agent sockets, by id; `None` is that of the environment.
    pub(crate) ssh: HashMap<String, Option<String>>,
    /// Put before the ids of cache mounts.
    pub(crate) cache_namespace: String,
}

/// The world of a solver.
pub(crate) struct SolveWorld {
    pub(crate) store: Store,
    pub(crate) slots: Slots,
    pub(crate) runner: Arc<exec::Runner>,
    pub(crate) sink: Sink,
    pub(crate) sources: source::SourceFetcher,
    pub(crate) locals: Locals,
    pub(crate) cancel: SolveCancel,
    /// The environment of the user, for secrets.
    pub(crate) env: Arc<std::collections::BTreeMap<String, String>>,
    /// RFC 3339 with nanoseconds.
    pub(crate) now: fn() -> String,
}

/// Set once, when the run is to stop; what runs looks at it or waits for it.
#[derive(Clone)]
pub(crate) struct SolveCancel(Arc<CancelState>);

struct CancelState {
    set: AtomicBool,
    wake: tokio::sync::Notify,
    sandbox: sandbox::StepCancel,
}

impl SolveCancel {
    /// # Errors
    /// When the system gives no descriptor for it.
    pub(crate) fn new() -> Result<Self, sandbox::SandboxError> {
        let sandbox = sandbox::StepCancel::new()?;
        Ok(Self(Arc::new(CancelState { set: AtomicBool::new(false), wake: tokio::sync::Notify::new(), sandbox })))
    }

    /// Stops what runs, and whatever would start.
    pub(crate) fn cancel(&self) {
        self.0.set.store(true, Ordering::SeqCst);
        self.0.sandbox.cancel();
        self.0.wake.notify_waiters();
    }

    /// Lets nothing begin, and asks steps that run to end: they have a grace period to clean up in.
    pub(crate) fn ask(&self) {
        self.0.set.store(true, Ordering::SeqCst);
        self.0.sandbox.ask();
        self.0.wake.notify_waiters();
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.0.set.load(Ordering::SeqCst)
    }

    pub(crate) fn sandbox(&self) -> sandbox::StepCancel {
        self.0.sandbox.clone()
    }

    /// Returns when the run is cancelled.
    pub(crate) async fn cancelled(&self) {
        let wait = self.0.wake.notified();
        if !self.is_cancelled() {
            wait.await;
        }
    }
}

/// Resolves the vertices of one graph.
#[derive(Clone)]
pub(crate) struct Solver(Arc<SolverInner>);

struct SolverInner {
    graph: Graph,
    world: SolveWorld,
    scopes: Vec<Arc<SolveScope>>,
    states: Vec<SetOnce<Solved>>,
    started: Vec<AtomicBool>,
    /// Weight of the longest path from a vertex to an end of the graph.
    heights: Vec<u64>,
    /// Processes whose secrets or agents other builds of the run take from elsewhere.
    apart: Vec<bool>,
    /// The content of what vertices read of local directories, by vertex and number of the read; `None` if there is none.
    contents: HashMap<(VertexIx, usize), SetOnce<Option<Digest>>>,
    looking: AtomicBool,
    /// The first vertex of an image with a layer, by the diff id of the layer.
    images: HashMap<DiffId, VertexIx>,
    flights: Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
    /// Results of shared caches, by key.
    imported: Mutex<HashMap<Digest, LayerTree>>,
}

impl Solver {
    /// `scopes` has one entry for each vertex.
    pub(crate) fn new(graph: Graph, scopes: Vec<Arc<SolveScope>>, world: SolveWorld) -> Self {
        let n = graph.len();
        let heights = heights(&graph);
        let apart = apart(&graph);
        let images = images(&graph);
        let contents = local_reads(&graph).map(|(key, ..)| (key, SetOnce::new())).collect();
        Self(Arc::new(SolverInner {
            graph,
            world,
            scopes,
            states: (0..n).map(|_| SetOnce::new()).collect(),
            started: (0..n).map(|_| AtomicBool::new(false)).collect(),
            heights,
            apart,
            contents,
            looking: AtomicBool::new(false),
            images,
            flights: Mutex::default(),
            imported: Mutex::default(),
        }))
    }

    /// Adds results of shared caches; what is known here goes before them.
    pub(crate) fn import(&self, known: HashMap<Digest, LayerTree>) {
        self.0.imported.lock().unwrap_or_else(PoisonError::into_inner).extend(known);
    }

    /// Keys and results of all steps that `result` needs, inputs first.
    pub(crate) async fn records(&self, result: VertexIx) -> Result<Vec<(Digest, LayerTree)>, SolveFailure> {
        let reachable = self.reachable(result);
        self.resolve(result, &reachable).await?;
        let mut records = Vec::new();
        for ix in reachable {
            let vertex = self.0.graph.get(ix);
            if !matches!(vertex.op, Op::Exec(_) | Op::File(_)) {
                continue;
            }
            let mut inputs = Vec::with_capacity(vertex.inputs.len());
            for input in &vertex.inputs {
                inputs.push(self.0.states[input.index()].wait().await.clone()?);
            }
            let key = self.key(ix, vertex, &inputs, &read::reads(&vertex.op), InputKind::Fast).await?;
            records.push((key, self.0.states[ix.index()].wait().await.clone()?));
        }
        Ok(records)
    }

    pub(crate) fn world(&self) -> &SolveWorld {
        &self.0.world
    }

    /// The tree of a build whose last vertex is `result`, by one look-up if the whole build is known.
    ///
    /// *Cost*, nothing changed: the content of what the build reads (shared walks, stat cache), one record, one stat for
    /// each layer of ours.
    pub(crate) async fn solve(&self, result: VertexIx) -> Result<SolvedTree, SolveFailure> {
        let reachable = self.reachable(result);
        let key = self.build_key(result, &reachable).await?;
        // A step that is to run anyway makes a result that the next run finds.
        let must_run = reachable.iter().any(|ix| self.0.graph.get(*ix).meta.ignore_cache);
        if !must_run
            && let Some(tree) = self.0.world.store.get::<LayerTree>(Table::Build, &key)
            && self.is_whole(&tree)
        {
            return Ok(SolvedTree::Cached(tree));
        }
        let tree = self.resolve(result, &reachable).await?;
        self.put(Table::Build, &key, &tree)?;
        Ok(SolvedTree::Made(tree))
    }

    /// Makes the snapshots of a tree exist.
    pub(crate) async fn materialise(&self, tree: &LayerTree) -> Result<Vec<std::path::PathBuf>, SolveFailure> {
        source::materialise(&self.0.world, tree, &|base| self.image_of(base)).await
    }

    /// The blob of a base layer as a verified file.
    ///
    /// # Errors
    /// When it cannot be pulled or is not what its digest says; names the instruction that asks for the image.
    pub(crate) async fn base_blob(&self, base: &TreeBase) -> Result<std::path::PathBuf, SolveFailure> {
        let fetched = source::fetch_blob(&self.0.world, base).await;
        fetched.map_err(|failure| match self.image_of(base) {
            Some(vertex) => failure.at_instruction(vertex),
            None => failure,
        })
    }

    /// The first vertex of an image that has this layer.
    fn image_of(&self, base: &TreeBase) -> Option<&Vertex> {
        let ix = self.0.images.get(&base.layer.diff_id)?;
        Some(self.0.graph.get(*ix))
    }

    async fn resolve(&self, result: VertexIx, reachable: &[VertexIx]) -> Solved {
        for ix in reachable {
            if !self.0.started[ix.index()].swap(true, Ordering::SeqCst) {
                let (solver, ix) = (self.clone(), *ix);
                drop(tokio::spawn(async move {
                    let work = std::panic::AssertUnwindSafe(solver.vertex(ix));
                    let solved =
                        futures_util::FutureExt::catch_unwind(work).await.unwrap_or_else(|_| Err(solver.bug(ix)));
                    drop(solver.0.states[ix.index()].set(solved));
                }));
            }
        }
        self.0.states[result.index()].wait().await.clone()
    }

    fn bug(&self, ix: VertexIx) -> SolveFailure {
        let name = &self.0.graph.get(ix).meta.name;
        Diagnostic::error("bake::solve::bug", format!("a step ended in a fault of `bake` itself: {name}"))
            .help("please report it, with the bake file and the Dockerfile")
            .into()
    }

    /// All vertices that `result` needs, inputs first.
    fn reachable(&self, result: VertexIx) -> Vec<VertexIx> {
        let mut seen = vec![false; self.0.graph.len()];
        let mut stack = vec![result];
        let mut found = Vec::new();
        while let Some(ix) = stack.pop() {
            if !std::mem::replace(&mut seen[ix.index()], true) {
                found.push(ix);
                stack.extend(&self.0.graph.get(ix).inputs);
            }
        }
        found.sort_unstable();
        found
    }

    /// What decides a whole build: its vertices and what they read from outside.
    async fn build_key(&self, result: VertexIx, reachable: &[VertexIx]) -> Result<Digest, SolveFailure> {
        let graph = &self.0.graph;
        let mut hasher = FieldHasher::new("key/build/1");
        hasher.digest(&graph.get(result).digest);
        for ix in reachable {
            let vertex = graph.get(*ix);
            if self.0.apart[ix.index()] {
                // A run without this distinction may have taken another source for it.
                hasher.text("apart").digest(&vertex.digest);
            }
            if matches!(vertex.op, Op::Git(_) | Op::Http(_)) {
                let tree = self.resolve(*ix, &[*ix]).await?;
                hasher.digest(&tree.id);
            }
            for (n, read) in read::reads(&vertex.op).iter().enumerate() {
                if let Op::Local(local) = &graph.get(vertex.inputs[read.input()]).op {
                    hasher.digest(&self.content(*ix, n, local, read).await?);
                }
            }
        }
        Ok(hasher.finish())
    }

    /// The content of what the `n`th read of a vertex reads of a local directory.
    async fn content(
        &self,
        ix: VertexIx,
        n: usize,
        local: &Local,
        read: &read::StepReads<'_>,
    ) -> Result<Digest, SolveFailure> {
        if !self.0.looking.swap(true, Ordering::SeqCst) {
            self.look_ahead();
        }
        if let Some(content) = self.0.contents[&(ix, n)].wait().await {
            return Ok(*content);
        }
        let content = self.0.world.locals.content(local, read).await;
        content.map_err(|e| self.blame(self.0.graph.get(ix), e))
    }

    /// Looks at all that the vertices of the run read of local directories.
    fn look_ahead(&self) {
        let mut wanted: IndexMap<VertexIx, (Local, Vec<_>)> = IndexMap::new();
        for (key, input, local, read) in local_reads(&self.0.graph) {
            let (_, reads) = wanted.entry(input).or_insert_with(|| (local.clone(), Vec::new()));
            reads.push((key, read.into_owned()));
        }
        let solver = self.clone();
        self.0.world.locals.look_ahead(wanted.into_values().collect(), move |key, content| {
            // Each is told once.
            drop(solver.0.contents[&key].set(content));
        });
    }

    /// Whether the snapshots that we made are there.
    fn is_whole(&self, tree: &LayerTree) -> bool {
        tree.layers.iter().all(|layer| layer.base.is_some() || self.0.world.store.has_snapshot(&layer.snapshot))
    }

    async fn vertex(&self, ix: VertexIx) -> Solved {
        let vertex = self.0.graph.get(ix);
        let mut inputs = Vec::with_capacity(vertex.inputs.len());
        for input in &vertex.inputs {
            inputs.push(self.0.states[input.index()].wait().await.clone()?);
        }
        if self.0.world.cancel.is_cancelled() {
            return Err(SolveFailure::Cancelled);
        }
        match &vertex.op {
            Op::Scratch | Op::Local(_) => Ok(LayerTree::scratch()),
            Op::Merge => Ok(inputs[0].merged(&inputs[1..].iter().collect::<Vec<_>>())),
            _ => self.step(ix, vertex, &inputs).await,
        }
    }

    /// A vertex that the user sees as a step.
    async fn step(&self, ix: VertexIx, vertex: &Vertex, inputs: &[LayerTree]) -> Solved {
        let id = self.announce(ix, vertex);
        let begun = Instant::now();
        let solved = match &vertex.op {
            Op::Image(image) => Ok(SolvedTree::Cached(LayerTree::of_image(image))),
            Op::Git(_) | Op::Http(_) => source::fetch(&self.0.world, vertex, id).await,
            _ => self.keyed(ix, vertex, inputs, id).await,
        };
        let how = match &solved {
            Ok(SolvedTree::Cached(_)) => Ended::Cached,
            Ok(SolvedTree::Made(_)) => Ended::Done,
            Err(SolveFailure::Failed(diagnostic) | SolveFailure::SnapshotGone(diagnostic)) => {
                Ended::Failed(diagnostic.clone())
            }
            Err(SolveFailure::Cancelled) => Ended::Cancelled,
        };
        (self.0.world.sink)(Event::Ended { id, how, took: begun.elapsed() });
        solved.map(SolvedTree::into_tree)
    }

    fn announce(&self, ix: VertexIx, vertex: &Vertex) -> StepId {
        let id = StepId(u32::try_from(ix.index()).expect("a graph has fewer than 2^32 vertices"));
        (self.0.world.sink)(Event::Step { id, name: vertex.meta.name.as_str().into(), digest: Some(vertex.digest) });
        id
    }

    /// A process or file actions: found by key, or run.
    async fn keyed(
        &self,
        ix: VertexIx,
        vertex: &Vertex,
        inputs: &[LayerTree],
        id: StepId,
    ) -> Result<SolvedTree, SolveFailure> {
        let reads = read::reads(&vertex.op);
        let fast = self.key(ix, vertex, inputs, &reads, InputKind::Fast).await?;
        let ignore = vertex.meta.ignore_cache;
        if !ignore && let Some(tree) = self.known(&fast) {
            return Ok(SolvedTree::Cached(tree));
        }
        let from_trees = reads.iter().any(|read| !self.is_local(vertex, read.input()));
        let slow = if from_trees { Some(self.key(ix, vertex, inputs, &reads, InputKind::Slow).await?) } else { None };
        if let Some(slow) = &slow
            && !ignore
            && let Some(tree) = self.known(slow)
        {
            self.put(Table::Vertex, &fast, &tree)?;
            return Ok(SolvedTree::Cached(tree));
        }
        let run_key = slow.unwrap_or(fast);
        let flight = self.flight(&run_key);
        let _only_here = flight.lock().await;
        let lock = source::lock(&self.0.world, &run_key).await?;
        if !ignore && let Some(tree) = self.known(&run_key) {
            self.put(Table::Vertex, &fast, &tree)?;
            return Ok(SolvedTree::Cached(tree));
        }
        let result = if ignore { self.fresh(&run_key) } else { run_key };
        let tree = self.run(ix, vertex, inputs, id, result).await?;
        self.put(Table::Vertex, &run_key, &tree)?;
        if fast != run_key {
            self.put(Table::Vertex, &fast, &tree)?;
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

    fn known(&self, key: &Digest) -> Option<LayerTree> {
        let here = self.0.world.store.get::<LayerTree>(Table::Vertex, key).filter(|tree| {
            tree.layers.last().is_some_and(|top| top.base.is_some() || self.0.world.store.has_snapshot(&top.snapshot))
        });
        here.or_else(|| self.0.imported.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned())
    }

    fn put(&self, table: Table, key: &Digest, tree: &LayerTree) -> Result<(), SolveFailure> {
        self.0.world.store.put(table, key, tree).map_err(|e| store_failure(&e))
    }

    fn flight(&self, key: &Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut flights = self.0.flights.lock().unwrap_or_else(PoisonError::into_inner);
        flights.entry(*key).or_default().clone()
    }

    fn is_local(&self, vertex: &Vertex, input: usize) -> bool {
        matches!(self.0.graph.get(vertex.inputs[input]).op, Op::Local(_))
    }

    async fn key(
        &self,
        ix: VertexIx,
        vertex: &Vertex,
        inputs: &[LayerTree],
        reads: &[read::StepReads<'_>],
        kind: InputKind,
    ) -> Result<Digest, SolveFailure> {
        let mut digests = Vec::with_capacity(reads.len());
        for (n, read) in reads.iter().enumerate() {
            let source = self.0.graph.get(vertex.inputs[read.input()]);
            let digest = match (&source.op, kind) {
                (Op::Local(local), _) => self.content(ix, n, local, read).await?,
                (_, InputKind::Fast) => read.of_tree(&inputs[read.input()].id),
                (_, InputKind::Slow) => {
                    let dirs = self.materialise(&inputs[read.input()]).await?;
                    let (name, read) = (source.meta.name.clone(), read.into_owned());
                    read::blocking(move || read::content_of(&read, &read::layers(&name, &dirs)?))
                        .await
                        .map_err(|e| self.blame(vertex, e))?
                }
            };
            digests.push(digest);
        }
        Ok(match &vertex.op {
            Op::Exec(it) => {
                let key = key::exec(it, &vertex.platform, kind, &inputs[0].id, &digests);
                if self.0.apart[ix.index()] { key::apart(&key, it) } else { key }
            }
            Op::File(it) => key::file(&it.actions, &vertex.platform, kind, &inputs[0].id, &digests),
            _ => vertex.digest,
        })
    }

    async fn run(&self, ix: VertexIx, vertex: &Vertex, inputs: &[LayerTree], id: StepId, result: Digest) -> Solved {
        let world = &self.0.world;
        let mut places = Vec::with_capacity(inputs.len());
        for (input, tree) in vertex.inputs.iter().zip(inputs) {
            places.push(match &self.0.graph.get(*input).op {
                Op::Local(local) => {
                    read::ReadPlace::Local(world.locals.tree(local).await.map_err(|e| self.blame(vertex, e))?)
                }
                _ => read::ReadPlace::Layers(self.materialise(tree).await?),
            });
        }
        let _slot = tokio::select! {
            slot = world.slots.take(self.0.heights[ix.index()]) => slot,
            () = world.cancel.cancelled() => return Err(SolveFailure::Cancelled),
        };
        if world.cancel.is_cancelled() {
            return Err(SolveFailure::Cancelled);
        }
        (world.sink)(Event::Started { id, why: None::<Why> });
        match &vertex.op {
            Op::Exec(it) => exec::run(world, it, vertex, &self.0.scopes[ix.index()], places, id, result).await?,
            Op::File(it) => {
                let sources = self.sources(vertex, &places).map_err(|e| self.blame(vertex, e))?;
                let dest = match places.into_iter().next() {
                    Some(read::ReadPlace::Layers(dirs)) => dirs,
                    _ => Vec::new(),
                };
                file_step(world, it, sources, dest, result).await.map_err(|e| self.blame(vertex, e))?;
            }
            _ => (),
        }
        Ok(inputs[0].with_layer(result, (world.now)()))
    }

    /// The inputs of a vertex as sources of copies, named as the user knows them.
    fn sources(&self, vertex: &Vertex, places: &[read::ReadPlace]) -> Result<Vec<content::ContentSource>, Diagnostic> {
        let mut sources = Vec::with_capacity(places.len());
        for (input, place) in vertex.inputs.iter().zip(places) {
            let input = self.0.graph.get(*input);
            sources.push(match (place, &input.op) {
                (read::ReadPlace::Local(tree), Op::Local(local)) => Locals::source(local, tree.clone()),
                (read::ReadPlace::Layers(dirs), _) => read::layers(&input.meta.name, dirs)?,
                (read::ReadPlace::Local(tree), _) => content::ContentSource {
                    name: input.meta.name.clone(),
                    tree: content::ContentTree::Local(tree.clone()),
                },
            });
        }
        Ok(sources)
    }

    /// Adds the place of the instruction to a fault.
    fn blame(&self, vertex: &Vertex, diagnostic: Diagnostic) -> SolveFailure {
        at_instruction(vertex, diagnostic).into()
    }
}

/// Applies file actions into a new snapshot.
async fn file_step(
    world: &SolveWorld,
    op: &crate::graph::File,
    sources: Vec<content::ContentSource>,
    dest: Vec<std::path::PathBuf>,
    result: Digest,
) -> Result<(), Diagnostic> {
    let (store, op, created, sink) = (world.store.clone(), op.clone(), (world.now)(), world.sink.clone());
    read::blocking(move || {
        let active = store.prepare().map_err(|e| store_fault(&e))?;
        let looked = |e: &std::io::Error| {
            Diagnostic::error("bake::solve::view", "the layers of a step cannot be looked at").cause(e)
        };
        let lower = LayerView::open(&dest).map_err(|e| looked(&e))?;
        let mut writer = file::TreeWriter::new(&active.fs(), lower).map_err(|e| looked(&e))?;
        let warnings = file::run(&op.actions, &mut writer, &sources).map_err(|e| read::fault(&e))?;
        for warning in warnings {
            let mut diagnostic = Diagnostic::warning("bake::solve::copy", warning.message);
            diagnostic.help = warning.hint;
            sink(Event::Warning(Arc::new(diagnostic)));
        }
        drop(writer);
        active.commit(&SnapshotId(result), SnapshotMeta { created }).map_err(|e| store_fault(&e))
    })
    .await
}

/// Everything that vertices read of local directories: vertex and number of the read, the input and its op, the read.
fn local_reads(graph: &Graph) -> impl Iterator<Item = ((VertexIx, usize), VertexIx, &Local, read::StepReads<'_>)> {
    graph.iter().flat_map(move |(ix, vertex)| {
        let reads = read::reads(&vertex.op).into_iter().enumerate();
        reads.filter_map(move |(n, read)| match &graph.get(vertex.inputs[read.input()]).op {
            Op::Local(local) => Some(((ix, n), vertex.inputs[read.input()], local, read)),
            _ => None,
        })
    })
}

/// The first vertex of an image for each layer of any image.
fn images(graph: &Graph) -> HashMap<DiffId, VertexIx> {
    let mut images = HashMap::new();
    for (ix, vertex) in graph.iter() {
        let Op::Image(image) = &vertex.op else { continue };
        for layer in &image.layers {
            images.entry(layer.diff_id).or_insert(ix);
        }
    }
    images
}

/// Which vertices need more than the ids of what they are given to be told from others of the run.
fn apart(graph: &Graph) -> Vec<bool> {
    let ambiguous = graph.ambiguous();
    let is_apart = |vertex: &Vertex| match &vertex.op {
        Op::Exec(exec) => exec.sources.iter().any(|(id, _)| ambiguous.contains(id.as_str())),
        _ => false,
    };
    graph.iter().map(|(_, vertex)| is_apart(vertex)).collect()
}

/// Weight of the longest path from each vertex to an end: a process counts for much more than a copy.
fn heights(graph: &Graph) -> Vec<u64> {
    let mut heights = vec![0_u64; graph.len()];
    let vertices: Vec<_> = graph.iter().collect();
    for (ix, vertex) in vertices.into_iter().rev() {
        let own = heights[ix.index()] + if matches!(vertex.op, Op::Exec(_)) { 100 } else { 1 };
        for input in &vertex.inputs {
            let slot = &mut heights[input.index()];
            *slot = (*slot).max(own);
        }
    }
    heights
}
