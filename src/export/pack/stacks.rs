//! Packs and compresses layers. A snapshot, what lies below it, the epoch, the codec and its level give one blob; which
//! one is recorded in `Table::Blob`. All layers of all platforms are made at the same time, each blob once.
//!
//! Published layers of base images stay as they are unless another codec is forced; those of a cache are packed again if
//! their times must change.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};

use super::layer::{PackedLayer, is_nondist};
use crate::{
    archive,
    export::{
        built::{BuiltImage, LayerRef},
        context::{ExportContext, with_causes},
        options::ImagePlan,
    },
    layer::{self, PackOptions},
    oci::{BaseLayer, Codec, DiffId, Digest, digest::FieldHasher},
    report::{Diagnostic, event::Event},
    spec::compression::LayerCompression,
    store::{SnapshotId, Store, Table},
};

const PARALLEL: usize = 4;

/// A blob that was made, as `Table::Blob` records it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct PackedRecord {
    diff_id: DiffId,
    digest: Digest,
    size: u64,
    annotations: BTreeMap<String, String>,
    /// The digits of the name of the snapshot that it was packed from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    layer: Option<String>,
}

/// The blobs that were packed from snapshots: the digest of each, and the digits of the name of the snapshot. *Cost:* reads
/// all records of blobs.
pub(crate) fn packed_layers(store: &Store) -> impl Iterator<Item = (Digest, String)> {
    store.records::<PackedRecord>(Table::Blob).filter_map(|record| Some((record.digest, record.layer?)))
}

/// How a blob is made.
#[derive(Clone)]
enum PackJob {
    /// From the snapshot, above those below it.
    Pack { snapshot: SnapshotId, lowers: Vec<SnapshotId>, epoch: Option<i64> },
    /// From a published blob, which is fetched first.
    Convert { base: Box<BaseLayer> },
}

/// Why a layer could not be packed.
pub(crate) enum LayerFault {
    /// A fault of pulling the base image.
    Builder(Box<Diagnostic>),
    /// A fault of packing, with its causes.
    Text(String),
}

fn pulled(fault: Diagnostic) -> LayerFault {
    LayerFault::Builder(Box::new(fault))
}

/// The layers of one image, lowest first, and the time to which modification times in those above the base are clamped.
pub(crate) struct LayerStack<'a> {
    pub(crate) layers: &'a [LayerRef],
    pub(crate) base_layers: usize,
    pub(crate) epoch: Option<i64>,
}

/// Packs the layers of each build; the result is in the same order.
pub(crate) async fn pack(
    plan: &ImagePlan,
    builds: &[BuiltImage],
    context: &ExportContext,
) -> Result<Vec<Vec<PackedLayer>>, LayerFault> {
    let how = plan.options.compression;
    let mut stacks = Vec::with_capacity(builds.len());
    for BuiltImage { layers, base_layers, epoch, .. } in builds {
        let epoch = plan.options.epoch.of(*epoch).filter(|_| plan.options.rewrite_timestamp);
        stacks.push(LayerStack { layers, base_layers: *base_layers, epoch });
    }
    pack_stacks(how, &stacks, context).await
}

/// Makes the blob of every layer of each stack, in their order.
///
/// Equal ones are packed once. What an earlier run packed is taken from `Table::Blob`, where new ones are recorded.
/// Published layers of base images stay as they are unless another codec is forced.
pub(crate) async fn pack_stacks(
    how: LayerCompression,
    stacks: &[LayerStack<'_>],
    context: &ExportContext,
) -> Result<Vec<Vec<PackedLayer>>, LayerFault> {
    let mut jobs: HashMap<Digest, PackJob> = HashMap::new();
    let mut wanted: Vec<Vec<WantedLayer>> = Vec::new();
    for stack in stacks {
        let mut layers = Vec::new();
        for i in 0..stack.layers.len() {
            let found = of_layer(how, stack, i);
            if let WantedLayer::Made { key, job, .. } = &found {
                jobs.entry(*key).or_insert_with(|| job.clone());
            }
            layers.push(found);
        }
        wanted.push(layers);
    }
    let mut done: HashMap<Digest, PackedRecord> = HashMap::new();
    for key in jobs.keys() {
        if let Some(record) = known(&context.store, key) {
            done.insert(*key, record);
        }
    }
    jobs.retain(|key, _| !done.contains_key(key));
    make_ready(&jobs, stacks, context).await?;
    let mut n_left = jobs.len();
    let what: Arc<str> = format!("layers ({})", how.codec.name()).into();
    let made = stream::iter(jobs).map(|(key, job)| make(context, how, key, job)).buffer_unordered(PARALLEL);
    let mut made = std::pin::pin!(made);
    let mut packed_bytes = 0;
    while let Some((key, record)) = made.try_next().await? {
        n_left -= 1;
        packed_bytes += record.size;
        // How large the others become is known only when they are packed.
        let total = if n_left == 0 { packed_bytes } else { 0 };
        (context.sink)(Event::Moved { id: context.step, what: what.clone(), done: packed_bytes, total });
        done.insert(key, record);
    }
    let packed = |layer: WantedLayer| match layer {
        WantedLayer::AsPublished(packed) => *packed,
        WantedLayer::Made { key, nondist, .. } => {
            let record = done[&key].clone();
            PackedLayer {
                diff_id: record.diff_id,
                digest: record.digest,
                size: record.size,
                codec: how.codec,
                annotations: record.annotations,
                nondist,
                base: None,
            }
        }
    };
    Ok(wanted.into_iter().map(|layers| layers.into_iter().map(packed).collect()).collect())
}

enum WantedLayer {
    AsPublished(Box<PackedLayer>),
    Made { key: Digest, job: PackJob, nondist: bool },
}

fn of_layer(how: LayerCompression, stack: &LayerStack<'_>, i: usize) -> WantedLayer {
    let layer = &stack.layers[i];
    let epoch = stack.epoch.filter(|_| i >= stack.base_layers);
    let mut hasher = FieldHasher::new("export-layer/1");
    hasher.text(how.codec.name()).optional(how.level.map(|it| it.to_string()).as_deref());
    // A layer that came from a cache is ours all the same: its times may have to change.
    match &layer.base {
        Some(base) if epoch.is_none() => {
            let annotations: BTreeMap<String, String> =
                base.layer.descriptor.annotations().clone().unwrap_or_default().into_iter().collect();
            let media_type = base.layer.descriptor.media_type();
            let (codec, nondist) =
                (Codec::of_layer(media_type.as_ref(), &annotations), is_nondist(media_type.as_ref()));
            let digest = base.layer.descriptor.digest().to_string().parse::<Digest>();
            match digest {
                Ok(digest) if !how.force || codec == how.codec => WantedLayer::AsPublished(Box::new(PackedLayer {
                    diff_id: base.layer.diff_id,
                    digest,
                    size: base.layer.descriptor.size(),
                    codec,
                    annotations,
                    nondist,
                    base: Some(base.clone()),
                })),
                _ => {
                    hasher.text("convert").text(base.layer.descriptor.digest().as_ref());
                    WantedLayer::Made {
                        key: hasher.finish(),
                        job: PackJob::Convert { base: Box::new(base.clone()) },
                        nondist,
                    }
                }
            }
        }
        _ => {
            let lowers: Vec<SnapshotId> = stack.layers[..i].iter().map(|it| SnapshotId(it.snapshot)).collect();
            hasher.text("pack").digest(&layer.snapshot).optional(epoch.map(|it| it.to_string()).as_deref());
            lowers.iter().for_each(|lower| {
                hasher.digest(&lower.0);
            });
            let job = PackJob::Pack { snapshot: SnapshotId(layer.snapshot), lowers, epoch };
            WantedLayer::Made { key: hasher.finish(), job, nondist: false }
        }
    }
}

/// A record whose blob is here.
fn known(store: &Store, key: &Digest) -> Option<PackedRecord> {
    let record: PackedRecord = store.get(Table::Blob, key)?;
    (store.blob_size(&record.digest) == Some(record.size)).then_some(record)
}

/// Unpacks the snapshots that packing compares with, and fetches the blobs that are converted.
async fn make_ready(
    jobs: &HashMap<Digest, PackJob>,
    stacks: &[LayerStack<'_>],
    context: &ExportContext,
) -> Result<(), LayerFault> {
    for stack in stacks {
        let packs = |layer: &LayerRef| {
            jobs.values().any(|job| matches!(job, PackJob::Pack { snapshot, .. } if snapshot.0 == layer.snapshot))
        };
        let Some(last) = stack.layers.iter().rposition(packs) else { continue };
        let below = &stack.layers[..=last];
        if below.iter().any(|layer| !context.store.usable(&SnapshotId(layer.snapshot))) {
            context.base.unpack(below).await.map_err(pulled)?;
        }
    }
    let fetched = jobs.values().filter_map(|job| match job {
        PackJob::Convert { base } => Some(fetch_base(context, base)),
        PackJob::Pack { .. } => None,
    });
    stream::iter(fetched).buffer_unordered(PARALLEL).try_collect::<()>().await.map_err(pulled)
}

/// Fetches the blob of a base layer unless the store has it.
pub(crate) async fn fetch_base(context: &ExportContext, base: &BaseLayer) -> Result<(), Diagnostic> {
    let digest = base.layer.descriptor.digest().to_string().parse::<Digest>();
    if digest.is_ok_and(|digest| context.store.blob_size(&digest) == Some(base.layer.descriptor.size())) {
        return Ok(());
    }
    context.base.blob(base).await
}

async fn make(
    context: &ExportContext,
    how: LayerCompression,
    key: Digest,
    job: PackJob,
) -> Result<(Digest, PackedRecord), LayerFault> {
    let (store, LayerCompression { codec, level, .. }) = (context.store.clone(), how);
    let made = tokio::task::spawn_blocking(move || make_blocking(&store, codec, level, &key, &job));
    let made = made.await.map_err(|e| LayerFault::Text(e.to_string()))?;
    made.map(|record| (key, record)).map_err(LayerFault::Text)
}

fn make_blocking(
    store: &Store,
    codec: Codec,
    level: Option<i32>,
    key: &Digest,
    job: &PackJob,
) -> Result<PackedRecord, String> {
    let text = |e: &dyn std::error::Error| with_causes(e);
    // Another process may be making the same.
    let _lock = store.lock(key).map_err(|e| text(&e))?;
    if let Some(record) = known(store, key) {
        return Ok(record);
    }
    let mut writer = store.blob_writer().map_err(|e| text(&e))?;
    let encoded = match job {
        PackJob::Pack { snapshot, lowers, epoch } => {
            let upper = store.snapshot_fs(snapshot);
            let lowers: Vec<_> = lowers.iter().map(|it| store.snapshot_fs(it)).collect();
            let options = PackOptions { epoch: *epoch };
            layer::pack_encoded(&upper, &lowers, options, codec, level, &mut writer)
        }
        PackJob::Convert { base } => {
            let digest: Digest = base.layer.descriptor.digest().to_string().parse().map_err(|e| text(&e))?;
            let blob = store.open_blob(&digest).map_err(|e| text(&e))?;
            let plain = archive::decode(blob).map_err(|e| text(&e))?;
            layer::encode(codec, level, plain, &mut writer)
        }
    };
    let encoded = encoded.map_err(|e| text(&e))?;
    if let PackJob::Convert { base } = job
        && codec != Codec::Estargz
        && encoded.diff_id != base.layer.diff_id
    {
        return Err(format!("the layer {} does not unpack to what its image says", base.layer.descriptor.digest()));
    }
    let (digest, size) = writer.commit(Some(&encoded.digest)).map_err(|e| text(&e))?;
    let layer = match job {
        PackJob::Pack { snapshot, .. } => Some(snapshot.0.hex()),
        PackJob::Convert { .. } => None,
    };
    let record = PackedRecord { diff_id: encoded.diff_id, digest, size, annotations: encoded.annotations, layer };
    store.put(Table::Blob, key, &record).map_err(|e| text(&e))?;
    Ok(record)
}
