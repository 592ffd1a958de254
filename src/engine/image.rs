//! Answers the frontend's questions about images: a tag is resolved once in a run, then its manifest and config are read.
//!
//! Layers are not pulled here: a build that is found in the cache needs none of them.

use std::{collections::HashMap, path::Path, sync::Arc};

use tokio::sync::{Mutex, OnceCell};

use crate::{
    dockerfile::options::{ImageInfo, Query},
    graph::ImageOp,
    oci::{Digest, ImageLayer, LayerOrigin, Reference},
    registry::{self, Documents, Layout, RegistryError},
    report::{Diagnostic, suggest},
    spec::context::ContextSource,
    store::Store,
};

/// The manifests, configs and layer lists of the images that the Dockerfiles of this run name; each is read once.
pub(crate) struct Images {
    client: Arc<registry::Client>,
    store: Store,
    /// Whether what is read from registries is kept in the store.
    keeps: bool,
    known: Mutex<HashMap<Query, Arc<OnceCell<ImageInfo>>>>,
}

impl Images {
    /// No image is known yet; what is read from registries is kept in `store`.
    pub(crate) fn new(client: Arc<registry::Client>, store: Store) -> Self {
        Self { client, store, keeps: true, known: Mutex::default() }
    }

    /// As [`new`](Self::new), but nothing is kept.
    pub(crate) fn not_kept(client: Arc<registry::Client>, store: Store) -> Self {
        Self { keeps: false, ..Self::new(client, store) }
    }

    /// Reads the manifest, config and layers of an image from its registry or layout; only the first time.
    ///
    /// # Errors
    /// When it cannot be found or read, or has nothing for the platform.
    pub(crate) async fn answer(&self, query: &Query) -> Result<ImageInfo, Diagnostic> {
        let cell = self.known.lock().await.entry(query.clone()).or_default().clone();
        cell.get_or_try_init(|| self.ask(query)).await.cloned()
    }

    async fn ask(&self, query: &Query) -> Result<ImageInfo, Diagnostic> {
        match &query.layout {
            Some(_) => Self::in_layout(query),
            None => self.in_registry(query).await,
        }
    }

    /// Reads the manifest, config and layers of an image in an OCI layout.
    ///
    /// # Errors
    /// When it cannot be found or read, has nothing for the platform, or lies in a registry.
    pub(crate) fn in_layout(query: &Query) -> Result<ImageInfo, Diagnostic> {
        let Some(folder) = &query.layout else {
            let message = format!("no registry is asked for the image: {}", query.reference);
            return Err(Diagnostic::error("bake::engine::not_fetched", message));
        };
        let (tag, digest) = split_layout_reference(&query.reference)?;
        let found = Layout::open(Path::new(folder))
            .and_then(|layout| layout.image(tag.as_deref(), digest.as_ref(), &query.platform))
            .map_err(|error| fault(&query.reference, &error))?;
        let digest = found.manifest.digest;
        Ok(info(format!("oci-layout://{folder}@{digest}"), LayerOrigin::Layout { folder: folder.into() }, found))
    }

    async fn in_registry(&self, query: &Query) -> Result<ImageInfo, Diagnostic> {
        let reference = Reference::parse(&query.reference)
            .map_err(|error| Diagnostic::error("bake::engine::bad_reference", error.to_string()))?;
        let kept = KeptImage { store: self.store.clone(), keeps: self.keeps };
        let found = self
            .client
            .image(&reference, &query.platform, &kept)
            .await
            .map_err(|error| fault(&reference.familiar(), &error))?;
        let origin = LayerOrigin::Registry { domain: reference.domain.clone(), path: reference.path.clone() };
        let pinned = Reference { digest: Some(found.root.digest), ..reference };
        Ok(info(pinned.to_string(), origin, found))
    }
}

/// Keeps manifests and configs as blobs of the store.
struct KeptImage {
    store: Store,
    keeps: bool,
}

impl Documents for KeptImage {
    fn get(&self, digest: &Digest) -> Option<Vec<u8>> {
        self.store.blob_bytes(digest).ok()
    }

    fn put(&self, bytes: &[u8]) {
        // A failed write only costs a request of the next run.
        if self.keeps {
            drop(self.store.put_blob(bytes));
        }
    }
}

/// Splits the reference of an image in an OCI layout, as [`ContextSource::layout_text`] makes it, into tag and digest.
///
/// # Errors
/// When the digest is none: a pin that is not understood must not be lost.
fn split_layout_reference(text: &str) -> Result<(Option<String>, Option<Digest>), Diagnostic> {
    let address = format!("oci-layout://{text}");
    let ContextSource::OciLayout { path: _, tag, digest } = ContextSource::parse(&address) else {
        unreachable!("the prefix says what it is")
    };
    let digest = digest.map(|text| text.parse::<Digest>().map_err(|_| text)).transpose().map_err(|wrong| {
        let message = format!("the digest is not sha256:<64 hex digits>: {wrong}");
        Diagnostic::error("bake::engine::bad_reference", message).help("`index.json` of the layout has the digests")
    })?;
    Ok((tag.filter(|tag| !tag.is_empty()), digest))
}

fn fault(name: &str, error: &RegistryError) -> Diagnostic {
    let fault = Diagnostic::error("bake::engine::image", format!("the image cannot be read: {name}")).cause(error);
    let RegistryError::LayoutName { wanted, names, .. } = error else { return fault };
    let near = wanted.as_deref().and_then(|wanted| suggest::did_you_mean(wanted, names.iter().map(String::as_str)));
    let how = "write oci-layout://PATH:TAG, oci-layout://PATH?name=NAME, or oci-layout://PATH@DIGEST";
    fault.help(near.unwrap_or_else(|| how.to_owned()))
}

fn info(reference: String, origin: LayerOrigin, found: registry::RegistryImage) -> ImageInfo {
    let layers = found
        .layers
        .into_iter()
        .zip(&found.config.rootfs.diff_ids)
        .map(|(descriptor, diff_id)| ImageLayer { diff_id: *diff_id, descriptor })
        .collect();
    ImageInfo {
        image: ImageOp { reference, manifest: found.manifest.digest, origin, layers },
        config: Arc::new(found.config),
    }
}
