//! Reads shared caches from a registry, an OCI layout folder or an object store. Nothing but their documents is fetched.

use futures_util::future::try_join_all;

use super::{
    assemble::{Imported, images, object_records, parts, records},
    cache::{CacheDest, CacheFrom},
    context::with_causes,
};
use crate::{
    objects::{ObjectCache, ObjectStores},
    oci::{LayerOrigin, Reference},
    registry::{Client, Document, Layout, NoDocuments},
};

/// Why a cache was not read; the text names the place and what went wrong.
#[derive(Debug)]
pub(crate) enum ImportFault {
    /// Nothing was written there yet.
    Absent(String),
    Unreadable(String),
}

impl From<String> for ImportFault {
    fn from(text: String) -> Self {
        Self::Unreadable(text)
    }
}

/// Reads the records of a cache. Nothing is fetched but its documents.
///
/// Under the reference is a cache, or an image with an inline cache, or an index of such images, as several platforms or
/// attestations make one.
///
/// # Errors
/// When there is none, or it cannot be read.
pub(crate) async fn import_cache(
    from: &CacheFrom,
    client: &Client,
    objects: &ObjectStores,
) -> Result<(Vec<Imported>, LayerOrigin), ImportFault> {
    match &from.place {
        CacheDest::Registry { reference, .. } => {
            let digest = match reference.digest {
                Some(digest) => digest,
                None => client.resolve(reference).await.map_err(|error| match error.is_absent() {
                    true => ImportFault::Absent(with_causes(&error)),
                    false => ImportFault::Unreadable(with_causes(&error)),
                })?,
            };
            let root = client.document(reference, &digest, &NoDocuments).await.map_err(|e| with_causes(&e))?;
            let mut found = FoundRecords::default();
            let images = images(&root);
            if images.is_empty() {
                found.add(of_registry(reference, client, &root).await);
            }
            for image in &images {
                let document = client.document(reference, image, &NoDocuments).await.map_err(|e| with_causes(&e))?;
                found.add(of_registry(reference, client, &document).await);
            }
            let origin = LayerOrigin::Registry { domain: reference.domain.clone(), path: reference.path.clone() };
            Ok((found.records()?, origin))
        }
        CacheDest::Local { folder, tag, digest } => {
            let layout = Layout::open(folder).map_err(|error| match folder.exists() {
                true => ImportFault::Unreadable(with_causes(&error)),
                false => ImportFault::Absent(with_causes(&error)),
            })?;
            let unnamed = match digest {
                None => layout.resolve_unnamed(tag).map_err(|e| with_causes(&e))?,
                Some(_) => None,
            };
            let root = match unnamed {
                Some(root) => root,
                None => layout.resolve(Some(tag), digest.as_ref()).map_err(|e| with_causes(&e))?,
            };
            let mut found = FoundRecords::default();
            let images = images(&root);
            if images.is_empty() {
                found.add(of_layout(&layout, &root));
            }
            for image in &images {
                let document = layout.document(image, None).map_err(|e| with_causes(&e))?;
                found.add(of_layout(&layout, &document));
            }
            Ok((found.records()?, LayerOrigin::Layout { folder: folder.clone() }))
        }
        CacheDest::Objects(cache) => of_objects(cache, objects).await,
    }
}

/// Reads all documents of a cache in an object store.
async fn of_objects(cache: &ObjectCache, objects: &ObjectStores) -> Result<(Vec<Imported>, LayerOrigin), ImportFault> {
    let holder = objects.open(&cache.place, &cache.access).map_err(|e| with_causes(&e))?;
    let documents = try_join_all(cache.read.iter().map(|name| holder.document(name)));
    let documents = documents.await.map_err(|e| with_causes(&e))?;
    if documents.iter().all(Option::is_none) {
        return Err(ImportFault::Absent(format!("`{}` has no `{}`", cache.place, cache.read.join("`, `"))));
    }
    let mut found = FoundRecords::default();
    for document in documents.iter().flatten() {
        found.add(object_records(&document.bytes));
    }
    Ok((found.records()?, LayerOrigin::Objects { place: cache.place.clone(), blobs: cache.blobs.clone() }))
}

async fn of_registry(reference: &Reference, client: &Client, root: &Document) -> Result<Vec<Imported>, String> {
    let (config, layers) = parts(root)?;
    let bytes = client.blob(reference, &config, || Ok(Vec::new()), &|_| ()).await.map_err(|e| with_causes(&e))?;
    records(&config, &bytes, &layers)
}

fn of_layout(layout: &Layout, root: &Document) -> Result<Vec<Imported>, String> {
    let (config, layers) = parts(root)?;
    let mut bytes = Vec::new();
    layout.copy_blob(&config, &mut bytes).map_err(|e| with_causes(&e))?;
    records(&config, &bytes, &layers)
}

/// The records of all images under a reference, of which some may have none.
#[derive(Default)]
struct FoundRecords {
    all: Vec<Imported>,
    is_any: bool,
    fault: Option<String>,
}

impl FoundRecords {
    fn add(&mut self, found: Result<Vec<Imported>, String>) {
        match found {
            Ok(records) => {
                self.is_any = true;
                self.all.extend(records);
            }
            Err(fault) => self.fault = Some(fault),
        }
    }

    /// All of them; the last fault if not one image could be read.
    fn records(self) -> Result<Vec<Imported>, String> {
        match self.fault {
            Some(fault) if !self.is_any => Err(fault),
            _ => Ok(self.all),
        }
    }
}
