//! Writes shared caches: packs the layers of their records, and joins them with what a registry (`cache_registry`), a folder
//! (`cache_folder`) or an object store (`cache_objects`) has.

use std::collections::BTreeMap;

use super::{cache_folder, cache_objects, cache_registry};
use crate::{
    export::{
        assemble::{self, BlobContent, CacheContent, ImageBlob},
        built::CacheRecord,
        cache::{CacheDest, CacheTo},
        context::{ExportContext, with_causes},
        pack::{LayerFault, LayerStack, pack_stacks},
    },
    oci::{Digest, digest::FieldHasher},
    registry::Document,
    spec::cache::CacheDocument,
    store::KeyLock,
};

/// What one build writes into a shared cache.
pub(super) struct CacheWrite<'a> {
    pub(super) document: &'a CacheDocument,
    pub(super) made: CacheContent,
    /// The layers of `made`, each once.
    pub(super) blobs: Vec<ImageBlob>,
    /// The time of this write, seconds since 1970: what was last used long before it is left out.
    pub(super) now: i64,
}

/// Writes the records of a build and their layers to a registry, a layout folder or an object store, beside those that others wrote there.
/// `used` is the time of this use: seconds since 1970.
///
/// # Errors
/// The text names the place and what went wrong.
pub(crate) async fn export_cache(
    to: &CacheTo,
    records: &[CacheRecord],
    used: i64,
    context: &ExportContext,
) -> Result<(), String> {
    let how = to.document.compression;
    let stacks: Vec<LayerStack<'_>> = records
        .iter()
        .map(|record| LayerStack { layers: &record.layers, base_layers: record.layers.len(), epoch: None })
        .collect();
    let packed = pack_stacks(how, &stacks, context).await.map_err(|fault| match fault {
        LayerFault::Builder(diagnostic) => diagnostic.to_string(),
        LayerFault::Text(text) => text,
    })?;
    let made = CacheContent::of(records, &packed, !to.document.oci_mediatypes, used);
    let mut blobs: BTreeMap<Digest, ImageBlob> = BTreeMap::new();
    for layer in packed.iter().flatten() {
        let from = || layer.base.clone().map_or(BlobContent::Store, |base| BlobContent::Base(Box::new(base)));
        let blob = || ImageBlob { digest: layer.digest, size: layer.size, from: from(), nondist: false };
        blobs.entry(layer.digest).or_insert_with(blob);
    }
    let write = CacheWrite { document: &to.document, made, blobs: blobs.into_values().collect(), now: used };
    match &to.place {
        CacheDest::Registry { reference, insecure } => {
            cache_registry::write(context, reference, *insecure, &write).await
        }
        CacheDest::Local { folder, tag, .. } => {
            cache_folder::write(context, folder, tag, to.emptying.clone(), write).await
        }
        CacheDest::Objects(cache) => cache_objects::write(context, cache, to.emptying.as_ref(), &write).await,
    }
}

/// What a document has as a cache: `config` is called for the bytes of the config that it names, which may be gone. What is
/// no cache, or cannot be read as one, has nothing and is replaced.
pub(super) fn content_of(root: &Document, config: Option<&[u8]>, now: i64) -> CacheContent {
    let read = || {
        let (about, layers) = assemble::parts(root)?;
        let bytes = config.ok_or("its config is gone")?;
        assemble::cache_records(&about, bytes, &layers)
    };
    match read() {
        Ok(records) => assemble::content(records, now),
        Err(why) => {
            tracing::debug!(digest = %root.digest, why, "what is there is no cache: it is replaced");
            CacheContent::default()
        }
    }
}

/// Holds back the other writers of a cache that share the state directory. `names` say which cache it is.
pub(super) async fn lock(context: &ExportContext, names: &[&str]) -> Result<KeyLock, String> {
    let mut key = FieldHasher::new("lock/cache/1");
    for name in names {
        key.text(name);
    }
    let (store, key) = (context.store.clone(), key.finish());
    let locked = tokio::task::spawn_blocking(move || store.lock(&key));
    locked.await.map_err(|e| e.to_string())?.map_err(|e| told(&e))
}

/// A number from 0 to 1.
pub(super) fn random() -> f32 {
    getrandom::u32().map_or(0.5, |it| f32::from(u16::try_from(it >> 16).unwrap_or(0)) / f32::from(u16::MAX))
}

/// The text of an error for the user.
pub(super) fn told(error: &dyn std::error::Error) -> String {
    with_causes(error)
}
