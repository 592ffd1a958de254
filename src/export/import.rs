//! Reads shared caches from a registry or an OCI layout folder. Nothing but their documents is fetched.

use super::{
    assemble::{Imported, parts, records},
    built::BlobOrigin,
    cache::{CacheDest, CacheFrom},
    context::with_causes,
};
use crate::registry::{Client, Layout, NoDocuments};

/// Reads the records of a cache. Nothing is fetched but its documents.
///
/// # Errors
/// The text names the place and what went wrong.
pub(crate) async fn import_cache(from: &CacheFrom, client: &Client) -> Result<(Vec<Imported>, BlobOrigin), String> {
    match &from.place {
        CacheDest::Registry { reference, .. } => {
            let digest = match reference.digest {
                Some(digest) => digest,
                None => client.resolve(reference).await.map_err(|e| with_causes(&e))?,
            };
            let root = client.document(reference, &digest, &NoDocuments).await.map_err(|e| with_causes(&e))?;
            let (config, layers) = parts(&root)?;
            let bytes =
                client.blob(reference, &config, || Ok(Vec::new()), &|_| ()).await.map_err(|e| with_causes(&e))?;
            let origin = BlobOrigin::Registry { domain: reference.domain.clone(), path: reference.path.clone() };
            Ok((records(&config, &bytes, &layers)?, origin))
        }
        CacheDest::Local { folder, tag, digest } => {
            let layout = Layout::open(folder).map_err(|e| with_causes(&e))?;
            let root = layout.resolve(Some(tag), digest.as_ref()).map_err(|e| with_causes(&e))?;
            let (config, layers) = parts(&root)?;
            let mut bytes = Vec::new();
            layout.copy_blob(&config, &mut bytes).map_err(|e| with_causes(&e))?;
            Ok((records(&config, &bytes, &layers)?, BlobOrigin::Layout { folder: folder.clone() }))
        }
    }
}
