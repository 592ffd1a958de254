//! Layers of base images: pulled and unpacked when a step first looks inside.
//!
//! The layers of an image are pulled at the same time, while those below are already unpacked; different images do not
//! wait for each other. Layers of one image are unpacked from the lowest up: a layer may hard-link to files below it, and
//! a directory whose parents it does not name takes their mode and owner from below.
//!
//! Progress is reported in bytes under the vertex of the image: the step that waits for the image has not begun.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::oneshot;

use super::{
    blocking::blocking,
    failure::{SolveFailure, store_fault},
    tree::{LayerTree, TreeLayer},
    world::SolveWorld,
};
use crate::{
    graph::{Graph, Op, StepOrigin, VertexIx},
    layer,
    oci::{BaseLayer, DiffId, Digest, LayerOrigin, Reference},
    registry::Layout,
    report::{
        Diagnostic,
        event::{Event, Sink, StepId},
    },
    store::SnapshotMeta,
};

/// Layers of one image that are pulled at a time; the registry client has its own limit for each host.
const PARALLEL_PULLS: usize = 4;
/// Progress is reported each time that so many more bytes are done.
const PROGRESS_STEP: u64 = 1 << 20;

/// The vertex of a graph that stands for the image of each base layer, so that pulls are shown under it.
#[derive(Debug, Default)]
pub(crate) struct ImageSteps(HashMap<DiffId, ImageStep>);

/// The vertex of an image, as the user knows it.
#[derive(Clone, Debug)]
struct ImageStep {
    id: StepId,
    /// The instruction that names the image.
    origin: StepOrigin,
}

impl ImageSteps {
    /// Collects the images of a graph. Of images that share a layer the first one stands for it.
    pub(crate) fn of(graph: &Graph, step_id: impl Fn(VertexIx) -> StepId) -> Self {
        let mut steps = HashMap::new();
        for (ix, vertex) in graph.iter() {
            let Op::Image(image) = &vertex.op else { continue };
            for layer in &image.layers {
                let step = || ImageStep { id: step_id(ix), origin: vertex.meta.origin.clone() };
                steps.entry(layer.diff_id).or_insert_with(step);
            }
        }
        Self(steps)
    }

    fn get(&self, base: &BaseLayer) -> Option<&ImageStep> {
        self.0.get(&base.layer.diff_id)
    }

    /// The failure with the place of the instruction that names the image.
    fn place(&self, base: &BaseLayer, failure: SolveFailure) -> SolveFailure {
        match self.get(base) {
            Some(step) => failure.of_step(&step.origin),
            None => failure,
        }
    }

    /// The progress of a layer; `verb` is `pulling` or `extracting`. A layer that no image of the graph has, as those of
    /// shared caches, reports none.
    fn progress(&self, sink: &Sink, verb: &str, base: &BaseLayer) -> LayerProgress {
        LayerProgress {
            step: self.get(base).map(|step| step.id),
            sink: sink.clone(),
            what: format!("{verb} {}", base.layer.descriptor.digest()).into(),
            total: base.layer.descriptor.size(),
            reported: AtomicU64::new(0),
        }
    }
}

/// Reports how many bytes of the blob of a layer are done.
struct LayerProgress {
    step: Option<StepId>,
    sink: Sink,
    what: Arc<str>,
    total: u64,
    /// `done` when it was last reported.
    reported: AtomicU64,
}

impl LayerProgress {
    /// Reports `done` bytes, in steps of [`PROGRESS_STEP`]. Completion is reported by [`end`](Self::end) alone.
    fn update(&self, done: u64) {
        if done < self.total && done >= self.reported.load(Ordering::Relaxed) + PROGRESS_STEP {
            self.reported.store(done, Ordering::Relaxed);
            self.report(done);
        }
    }

    /// Reports that the layer is done.
    fn end(&self) {
        self.report(self.total);
    }

    fn report(&self, done: u64) {
        if let Some(id) = self.step {
            (self.sink)(Event::Moved { id, what: self.what.clone(), done, total: self.total });
        }
    }
}

/// Makes sure that the snapshots of a tree exist, and returns their directories, lowest first.
///
/// *Cost* when all exist: a stat for each layer.
///
/// # Errors
/// When a layer cannot be pulled, is not what its digests say, or cannot be unpacked;
/// [`SnapshotGone`](SolveFailure::SnapshotGone) when a layer that `bake` made is no longer whole, or one of a shared cache
/// cannot be had.
pub(crate) async fn materialise(
    world: &SolveWorld,
    tree: &LayerTree,
    images: &ImageSteps,
) -> Result<Vec<PathBuf>, SolveFailure> {
    let mut missing = Vec::new();
    for (n, layer) in tree.layers.iter().enumerate() {
        match &layer.base {
            _ if world.store.usable(&layer.snapshot) => (),
            Some(base) => missing.push((n, layer, base)),
            None => return Err(snapshot_gone(layer)),
        }
    }
    // Only now: what was found damaged may be whole in another store.
    let folders = tree.layers.iter().map(|layer| world.store.snapshot_fs(&layer.snapshot)).collect::<Vec<_>>();
    if missing.is_empty() {
        return Ok(folders);
    }
    let (senders, blobs): (Vec<_>, Vec<_>) = missing.iter().map(|_| oneshot::channel()).unzip();
    let mut pulls = Vec::with_capacity(missing.len());
    for ((_, _, base), sender) in missing.iter().zip(senders) {
        pulls.push(send_blob(world, base, images, sender));
    }
    let pulling = stream::iter(pulls).buffer_unordered(PARALLEL_PULLS).try_collect::<()>();
    let unpacking = async {
        for ((n, layer, base), blob) in missing.iter().zip(blobs) {
            // No blob comes only when a pull failed, whose failure ends both.
            let Ok(blob) = blob.await else { return std::future::pending().await };
            let unpacked = unpack(world, layer, base, blob, &folders[..*n], images).await;
            unpacked.map_err(|failure| world.caches.failed(base, images.place(base, failure), &world.sink))?;
        }
        Ok(())
    };
    tokio::try_join!(pulling, unpacking)?;
    Ok(folders)
}

async fn send_blob(
    world: &SolveWorld,
    base: &BaseLayer,
    images: &ImageSteps,
    to: oneshot::Sender<PathBuf>,
) -> Result<(), SolveFailure> {
    let path = blob(world, base, images).await?;
    // The receiver is gone only when a lower layer could not be unpacked, which ends the pulls too.
    drop(to.send(path));
    Ok(())
}

/// The failure of a layer that `bake` made and that is not in the store any more.
fn snapshot_gone(layer: &TreeLayer) -> SolveFailure {
    let message = format!("a layer in the cache was damaged or pruned: {}", layer.snapshot.0);
    let diagnostic = Diagnostic::error("bake::solve::snapshot_gone", message);
    let help = "it has been taken away: run the command again, and it is made anew";
    SolveFailure::SnapshotGone(Arc::new(diagnostic.help(help)))
}

/// Unpacks one layer above those in `lowers`, unless another process has done so meanwhile.
async fn unpack(
    world: &SolveWorld,
    layer: &TreeLayer,
    base: &BaseLayer,
    blob: PathBuf,
    lowers: &[PathBuf],
    images: &ImageSteps,
) -> Result<(), SolveFailure> {
    let _lock = world.lock(&layer.snapshot.0).await?;
    if world.store.usable(&layer.snapshot) {
        return Ok(());
    }
    if world.cancel.is_cancelled() {
        return Err(SolveFailure::Cancelled);
    }
    let (store, limits) = (world.store.clone(), world.sources.limits.clone());
    let progress = images.progress(&world.sink, "extracting", base);
    let (base, lowers, snapshot, created) = (base.clone(), lowers.to_vec(), layer.snapshot.clone(), (world.now)());
    blocking(move || {
        let active = store.prepare().map_err(|error| store_fault(&error))?;
        let file = File::open(&blob).map_err(|error| layer_fault(&base, &error))?;
        let file = CountedRead { input: file, done: 0, progress: &progress };
        let diff_id =
            layer::unpack(file, &active.fs(), &lowers, &limits).map_err(|error| layer_fault(&base, &error))?;
        if diff_id != base.layer.diff_id {
            let mut diagnostic = layer_fault_text(&base);
            diagnostic
                .causes
                .push(format!("the content has the diff id {diff_id}, the config says {}", base.layer.diff_id));
            return Err(diagnostic);
        }
        active.commit(&snapshot, SnapshotMeta { created }).map_err(|error| store_fault(&error))?;
        progress.end();
        Ok(())
    })
    .await
    .map_err(SolveFailure::from)
}

/// Makes sure that the blob of a base layer is in the store, verified; pulls it unless it is there.
///
/// # Errors
/// When it cannot be pulled or is not what its digest says; with the instruction that asks for the image.
pub(crate) async fn blob(world: &SolveWorld, base: &BaseLayer, images: &ImageSteps) -> Result<PathBuf, SolveFailure> {
    let digest = base.layer.descriptor.digest().to_string().parse::<Digest>();
    let digest = digest.map_err(|error| images.place(base, layer_fault(base, &error).into()))?;
    // The path is asked for last: what was found damaged here may be whole in another store.
    if world.store.blob_size(&digest).is_some() {
        return Ok(world.store.blob_path(&digest));
    }
    let _lock = world.lock(&digest).await?;
    if world.store.blob_size(&digest).is_none() {
        let progress = images.progress(&world.sink, "pulling", base);
        let pulled = pull(world, base, digest, &progress).await;
        pulled.map_err(|failure| world.caches.failed(base, images.place(base, failure), &world.sink))?;
        progress.end();
    }
    Ok(world.store.blob_path(&digest))
}

async fn pull(
    world: &SolveWorld,
    base: &BaseLayer,
    digest: Digest,
    progress: &LayerProgress,
) -> Result<(), SolveFailure> {
    match &base.origin {
        LayerOrigin::Layout { folder } => {
            let (store, folder, base) = (world.store.clone(), folder.clone(), base.clone());
            blocking(move || {
                let layout = Layout::open(&folder).map_err(|error| layer_fault(&base, &error))?;
                let mut writer = store.blob_writer().map_err(|error| store_fault(&error))?;
                let copied = layout.copy_blob(&base.layer.descriptor, &mut writer);
                copied.map_err(|error| layer_fault(&base, &error))?;
                writer.commit(Some(&digest)).map(drop).map_err(|error| store_fault(&error))
            })
            .await
            .map_err(SolveFailure::from)
        }
        LayerOrigin::Registry { domain, path } => {
            let reference = Reference { domain: domain.clone(), path: path.clone(), tag: None, digest: Some(digest) };
            let store = world.store.clone();
            let open = move || store.blob_writer().map_err(io::Error::other);
            let update = |done| progress.update(done);
            let pulled = tokio::select! {
                pulled = world.sources.client.blob(&reference, &base.layer.descriptor, open, &update) => pulled,
                () = world.cancel.cancelled() => return Err(SolveFailure::Cancelled),
            };
            let writer = pulled.map_err(|error| layer_fault(base, &error))?;
            blocking(move || writer.commit(Some(&digest)).map(drop).map_err(|error| store_fault(&error)))
                .await
                .map_err(SolveFailure::from)
        }
        LayerOrigin::Objects { place, blobs } => {
            let store = world.store.clone();
            let open = move || store.blob_writer().map_err(io::Error::other);
            let update = |done| progress.update(done);
            let wanted = (&digest, base.layer.descriptor.size());
            let pulled = tokio::select! {
                pulled = world.sources.objects.blob(place, blobs, wanted, open, &update) => pulled,
                () = world.cancel.cancelled() => return Err(SolveFailure::Cancelled),
            };
            let (writer, base) = (pulled.map_err(|error| layer_fault(base, &error))?, base.clone());
            blocking(move || writer.commit(Some(&digest)).map(drop).map_err(|error| layer_fault(&base, &error)))
                .await
                .map_err(SolveFailure::from)
        }
    }
}

fn layer_fault_text(base: &BaseLayer) -> Diagnostic {
    Diagnostic::error(
        "bake::solve::base_layer",
        format!("a layer of the base image cannot be used: {}", base.layer.descriptor.digest()),
    )
}

fn layer_fault(base: &BaseLayer, error: &(dyn std::error::Error + 'static)) -> Diagnostic {
    layer_fault_text(base).cause(error)
}

/// Reports how many bytes were read.
struct CountedRead<'a> {
    input: File,
    done: u64,
    progress: &'a LayerProgress,
}

impl Read for CountedRead<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.input.read(buffer)?;
        self.done += n as u64;
        self.progress.update(self.done);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        sync::{Mutex, PoisonError},
    };

    use super::*;

    #[test]
    fn progress_is_reported_in_steps_and_its_end_once() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let sink: Sink = {
            let told = told.clone();
            Arc::new(move |event| {
                let Event::Moved { id, done, total, .. } = event else { return };
                told.lock().unwrap_or_else(PoisonError::into_inner).push((id.0, done, total));
            })
        };
        let total = 3 * PROGRESS_STEP;
        let what: Arc<str> = "extracting".into();
        let progress = LayerProgress { step: Some(StepId(7)), sink, what, total, reported: AtomicU64::new(0) };
        let mut input = tempfile::tempfile().expect("a temporary file");
        input.write_all(&vec![0; usize::try_from(total).expect("it is small")]).expect("it is writable");
        io::Seek::rewind(&mut input).expect("it is a file");
        let mut read = CountedRead { input, done: 0, progress: &progress };
        assert_eq!(io::copy(&mut read, &mut io::sink()).expect("it is readable"), total);
        progress.end();
        let told = told.lock().unwrap_or_else(PoisonError::into_inner).clone();
        assert_eq!(told, [1, 2, 3].map(|n| (7, n * PROGRESS_STEP, total)));
    }
}
