//! Sources: layers of images are pulled and unpacked when something looks inside; git and http are asked once a run.

use std::{io::Read as _, path::PathBuf, sync::Arc};

use super::read::blocking;
use crate::{
    graph::{Origin, Vertex},
    layer,
    oci::{Digest, Reference},
    registry::{self, Layout},
    report::{
        Diagnostic,
        event::{Event, StepId},
    },
    solve::{
        solver::{Failure, World, blame},
        tree::{Base, Tree, TreeLayer},
    },
    store::{KeyLock, SnapshotMeta, StoreError},
};

/// Who is asked for what is not here.
pub(crate) struct Sources {
    pub(crate) client: Arc<registry::Client>,
    pub(crate) limits: layer::Limits,
}

/// A fault of the state folder.
pub(crate) fn store_failure(error: &StoreError) -> Failure {
    store_fault(error).into()
}

pub(crate) fn store_fault(error: &StoreError) -> Diagnostic {
    Diagnostic::error("bake::store::failed", error.to_string())
        .cause(error)
        .help("the state folder is $BAKE_HOME, by default `bake` in the XDG cache folder")
}

/// Waits until no other process works on `key`.
pub(crate) async fn lock(world: &World, key: &Digest) -> Result<KeyLock, Failure> {
    if let Some(lock) = world.store.try_lock(key).map_err(|e| store_failure(&e))? {
        return Ok(lock);
    }
    let (store, key) = (world.store.clone(), *key);
    tokio::select! {
        lock = blocking(move || store.lock(&key).map_err(|e| store_fault(&e))) => lock.map_err(Failure::from),
        () = world.cancel.cancelled() => Err(Failure::Cancelled),
    }
}

/// Makes the snapshots of a tree exist; their folders, lowest first.
///
/// # Errors
/// When a layer cannot be pulled, is not what its digests say, or cannot be unpacked.
pub(crate) async fn materialise(world: &World, tree: &Tree) -> Result<Vec<PathBuf>, Failure> {
    let mut folders = Vec::with_capacity(tree.layers.len());
    for layer in &tree.layers {
        if !world.store.has_snapshot(&layer.snapshot) {
            match &layer.base {
                Some(base) => unpack(world, layer, base, &folders).await?,
                None => {
                    return Err(Diagnostic::error(
                        "bake::solve::snapshot_gone",
                        "a layer was pruned while it was needed",
                    )
                    .help("run the command again")
                    .into());
                }
            }
        }
        folders.push(world.store.snapshot_fs(&layer.snapshot));
    }
    Ok(folders)
}

/// Pulls one layer and unpacks it above those in `lowers`.
async fn unpack(world: &World, layer: &TreeLayer, base: &Base, lowers: &[PathBuf]) -> Result<(), Failure> {
    let _lock = lock(world, &layer.snapshot.0).await?;
    if world.store.has_snapshot(&layer.snapshot) {
        return Ok(());
    }
    let blob = fetch_blob(world, base).await?;
    let (store, limits) = (world.store.clone(), world.sources.limits.clone());
    let (base, lowers, snapshot, created) = (base.clone(), lowers.to_vec(), layer.snapshot.clone(), (world.now)());
    blocking(move || {
        let fault = |e: &dyn std::error::Error| layer_fault(&base, e);
        let active = store.prepare().map_err(|e| store_fault(&e))?;
        let file = std::fs::File::open(&blob).map_err(|e| fault(&e))?;
        let unpacked = layer::unpack(file, &active.fs(), &lowers, &limits).map_err(|e| fault(&e))?;
        if unpacked.diff_id != base.layer.diff_id {
            let text =
                format!("the content has the diff id {}, the config says {}", unpacked.diff_id, base.layer.diff_id);
            let mut diagnostic = layer_fault_text(&base);
            diagnostic.causes.push(text);
            return Err(diagnostic);
        }
        active.commit(&snapshot, SnapshotMeta { created }).map_err(|e| store_fault(&e))
    })
    .await
    .map_err(Failure::from)
}

/// The blob of a base layer as a verified file: of the layout where it lies, or pulled into the store.
pub(crate) async fn fetch_blob(world: &World, base: &Base) -> Result<PathBuf, Failure> {
    let digest: Digest = base.layer.descriptor.digest().to_string().parse().map_err(|e| layer_fault(base, &e))?;
    if world.store.blob_size(&digest).is_some() {
        return Ok(world.store.blob_path(&digest));
    }
    match &base.origin {
        Origin::Layout { folder } => {
            let (store, folder, base) = (world.store.clone(), PathBuf::from(folder), base.clone());
            blocking(move || {
                let layout = Layout::open(&folder).map_err(|e| layer_fault(&base, &e))?;
                let mut writer = store.blob_writer().map_err(|e| store_fault(&e))?;
                layout.copy_blob(&base.layer.descriptor, &mut writer).map_err(|e| layer_fault(&base, &e))?;
                writer.commit(Some(&digest)).map_err(|e| store_fault(&e))
            })
            .await?;
        }
        Origin::Registry { domain, path } => {
            let reference = Reference { domain: domain.clone(), path: path.clone(), tag: None, digest: Some(digest) };
            let store = world.store.clone();
            let open = move || store.blob_writer().map_err(std::io::Error::other);
            let pulled = tokio::select! {
                pulled = world.sources.client.blob(&reference, &base.layer.descriptor, open, &|_| ()) => pulled,
                () = world.cancel.cancelled() => return Err(Failure::Cancelled),
            };
            let writer = pulled.map_err(|e| layer_fault(base, &e))?;
            blocking(move || writer.commit(Some(&digest)).map_err(|e| store_fault(&e))).await?;
        }
    }
    Ok(world.store.blob_path(&digest))
}

fn layer_fault_text(base: &Base) -> Diagnostic {
    Diagnostic::error(
        "bake::solve::base_layer",
        format!("a layer of the base image cannot be used: {}", base.layer.descriptor.digest()),
    )
}

fn layer_fault(base: &Base, error: &dyn std::error::Error) -> Diagnostic {
    let mut diagnostic = layer_fault_text(base);
    diagnostic.causes.push(error.to_string());
    let mut next = error.source();
    while let Some(error) = next {
        diagnostic.causes.push(error.to_string());
        next = error.source();
    }
    diagnostic
}

/// The tree of a git or http source.
pub(crate) async fn fetch(world: &World, vertex: &Vertex, id: StepId) -> Result<(Tree, bool), Failure> {
    let _ = (world, id, Event::Warning);
    Err(blame(vertex, Diagnostic::error("bake::solve::unsupported_source", "remote sources are not supported yet")))
}

/// Reads at most `limit` bytes of a file.
pub(crate) fn read_limited(path: &std::path::Path, limit: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, format!("larger than {limit} bytes")));
    }
    Ok(bytes)
}
