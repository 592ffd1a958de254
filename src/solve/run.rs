//! Runs one step: waits for a slot, does the work of the op, and keeps the result as a snapshot.
//!
//! If the process dies meanwhile, what is half made lies in `tmp/` and is swept later. The record of the step is written
//! by the caller after the snapshot has its name, so that a record never names what is not there.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    blocking::blocking,
    content::source::{ContentSource, ContentTree},
    failure::{SolveFailure, store_fault, view_fault},
    locals::Locals,
    op::{error::FileError, exec, file, tree_writer::TreeWriter},
    reads::{ReadPlace, layer_source},
    world::{SolveScope, SolveWorld},
};
use crate::{
    graph::{Graph, Op, StepOrigin, Vertex},
    layer::view::LayerView,
    oci::{Digest, digest::FieldHasher},
    report::{
        Diagnostic,
        event::{Event, StepId, Why},
    },
    store::{KeyLock, SnapshotId, SnapshotMeta},
};

/// One step that is to run, with its inputs.
pub(crate) struct StepRun<'a> {
    pub(crate) id: StepId,
    pub(crate) vertex: &'a Vertex,
    pub(crate) scope: &'a Arc<SolveScope>,
    /// Of the steps that wait for a slot, the one with the highest priority runs first.
    pub(crate) priority: u64,
    /// Where its inputs lie, in the order of the vertex.
    pub(crate) places: Vec<ReadPlace>,
    /// The name that the snapshot of the result gets.
    pub(crate) result: Digest,
    /// Why it runs, if an earlier run of it is known.
    pub(crate) why: Option<Why>,
}

/// Runs a step and commits its changes as the snapshot `result`. Reports that the step begins after it got its slot.
///
/// Also returns how long the work took, without the wait for the slot; `None` if it never began.
///
/// # Errors
/// When the step fails, with its instruction; when the run is cancelled.
pub(crate) async fn run(
    world: &SolveWorld,
    graph: &Graph,
    step: StepRun<'_>,
) -> (Result<(), SolveFailure>, Option<Duration>) {
    let StepRun { id, vertex, scope, priority, places, result, why } = step;
    let _turns = match &vertex.op {
        Op::Exec(_) => match turns(world, scope).await {
            Ok(turns) => turns,
            Err(failure) => return (Err(failure), None),
        },
        _ => Vec::new(),
    };
    let _slot = tokio::select! {
        slot = world.slots.take(priority) => slot,
        () = world.cancel.cancelled() => return (Err(SolveFailure::Cancelled), None),
    };
    if world.cancel.is_cancelled() {
        return (Err(SolveFailure::Cancelled), None);
    }
    let begun = Instant::now();
    (world.sink)(Event::Started { id, why });
    let done = match &vertex.op {
        Op::Exec(op) => exec::run(world, op, vertex, scope, places, id, result).await,
        Op::File(op) => match sources(graph, vertex, &places) {
            Ok(sources) => run_file(world, op, &vertex.meta.origin, sources, places, result).await,
            Err(diagnostic) => Err(diagnostic.into()),
        },
        Op::Scratch | Op::Image(_) | Op::Local(_) | Op::Git(_) | Op::Http(_) | Op::Merge => Ok(()),
    };
    (done.map_err(|failure| failure.at_instruction(vertex)), Some(begun.elapsed()))
}

/// Waits until no other process of a step that has one of these names runs, in this run of `bake` and in others that share
/// the state directory. Names are taken in their order, so that nobody waits for one who waits for him.
async fn turns(world: &SolveWorld, scope: &SolveScope) -> Result<Vec<KeyLock>, SolveFailure> {
    let mut turns = Vec::with_capacity(scope.concurrency.len());
    for name in &scope.concurrency {
        let mut key = FieldHasher::new("concurrency/1");
        key.text(name);
        turns.push(world.lock(&key.finish()).await?);
    }
    Ok(turns)
}

/// The inputs of a vertex as sources of copies, named as the user knows them.
fn sources(graph: &Graph, vertex: &Vertex, places: &[ReadPlace]) -> Result<Vec<ContentSource>, Diagnostic> {
    let mut sources = Vec::with_capacity(places.len());
    for (input, place) in vertex.inputs.iter().zip(places) {
        let input = graph.get(*input);
        sources.push(match (place, &input.op) {
            (ReadPlace::Local(tree), Op::Local(local)) => Locals::source(local, tree.clone()),
            (ReadPlace::Layers(folders), _) => layer_source(&input.meta.name, folders)?,
            (ReadPlace::Local(tree), _) => {
                ContentSource { name: input.meta.name.clone(), tree: ContentTree::Local(tree.clone()) }
            }
        });
    }
    Ok(sources)
}

/// Applies file actions into a new snapshot, above input 0.
async fn run_file(
    world: &SolveWorld,
    op: &crate::graph::File,
    origin: &StepOrigin,
    sources: Vec<ContentSource>,
    places: Vec<ReadPlace>,
    result: Digest,
) -> Result<(), SolveFailure> {
    let below: Vec<PathBuf> = match places.into_iter().next() {
        Some(ReadPlace::Layers(folders)) => folders,
        Some(ReadPlace::Local(_)) | None => Vec::new(),
    };
    let (store, op, created, sink) = (world.store.clone(), op.clone(), (world.now)(), world.sink.clone());
    let origin = origin.clone();
    let begun = world.begun;
    let work = move || -> Result<(), Diagnostic> {
        let active = store.prepare().map_err(|error| store_fault(&error))?;
        let lower = LayerView::open(&below).map_err(|error| view_fault(&error))?;
        let mut writer = TreeWriter::new(&active.fs(), lower).map_err(|error| view_fault(&error))?;
        let warnings = file::run(&op.actions, &mut writer, &sources, begun).map_err(FileError::into_diagnostic)?;
        for warning in warnings {
            let mut diagnostic = Diagnostic::warning("bake::solve::copy", warning.message);
            diagnostic.help = warning.hint;
            sink(Event::Warning(Arc::new(origin.tell(diagnostic))));
        }
        drop(writer);
        active.commit(&SnapshotId(result), SnapshotMeta { created }).map_err(|error| store_fault(&error))
    };
    blocking(work).await.map_err(SolveFailure::from)
}
