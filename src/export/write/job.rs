//! One image export: its faults, names and progress, and the bytes of its blobs, for every kind of destination.

use std::{collections::BTreeMap, io, sync::Arc};

use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::json;

use super::{layout::IMAGE_NAME, member::MemberContent, registry::pushed_bytes};
use crate::{
    export::{
        assemble::{AssembledImage, BlobContent, DocumentDescriptor, ImageBlob, rfc3339},
        built::BuiltImage,
        context::{ExportContext, ExportReceipt},
        options::ImagePlan,
        pack::{LayerFault, fetch_base},
        prepare::PreparedExport,
    },
    oci::{Digest, LayerOrigin, Reference},
    registry::{BlobSource, Upload},
    report::{Diagnostic, event::Event},
    store::Store,
};

/// The annotation with the time of an image.
const CREATED: &str = "org.opencontainers.image.created";

/// One export of an image: its plan, the builds that it is made of, and what exporters work with.
pub(super) struct ImageJob<'a> {
    pub(super) prepared: &'a PreparedExport,
    pub(super) plan: &'a ImagePlan,
    pub(super) builds: &'a [BuiltImage],
    pub(super) context: &'a ExportContext,
}

impl ImageJob<'_> {
    /// An error about this export, at the place of its output.
    pub(super) fn fault(&self, code: &'static str, text: impl std::fmt::Display) -> Diagnostic {
        self.prepared.fault(code, text)
    }

    /// Tells the user that something was written; `reused` if it was there already. `bytes` is its length.
    pub(super) fn wrote(&self, what: &str, bytes: u64, reused: bool) {
        (self.context.sink)(Event::Wrote { what: what.into(), bytes, reused });
    }

    /// The warnings that are known before anything is written: `rewrite-timestamp` without an epoch.
    pub(super) fn warnings(&self) -> Vec<Diagnostic> {
        let mut warnings = Vec::new();
        if self.plan.options.rewrite_timestamp
            && self.builds.iter().any(|it| self.plan.options.epoch.of(it.epoch).is_none())
        {
            let text = self.prepared.about("rewrite-timestamp has no effect without SOURCE_DATE_EPOCH");
            let warning = Diagnostic::warning("bake::export::no_epoch", text);
            warnings.push(warning.at(self.prepared.output.at, "this output").topic("rewrite-timestamp"));
        }
        warnings
    }

    /// Makes a diagnostic of a layer that could not be packed.
    pub(super) fn layer_fault(&self, fault: LayerFault) -> Diagnostic {
        match fault {
            LayerFault::Builder(diagnostic) => *diagnostic,
            LayerFault::Text(text) => self.fault("bake::export::layer", format_args!("cannot make a layer: {text}")),
        }
    }

    /// Full names, joined, as the metadata file has them.
    fn names(&self) -> String {
        let names: Vec<String> = self.plan.names.iter().map(ToString::to_string).collect();
        names.join(",")
    }

    /// The descriptors in `index.json`, one per name.
    pub(super) fn named(&self, image: &AssembledImage) -> Vec<DocumentDescriptor> {
        let mut root = image.root.clone();
        root.annotations.extend(self.created(image));
        if self.plan.names.is_empty() {
            return vec![root];
        }
        let one = |name: &Reference| {
            let mut root = root.clone();
            root.annotations.insert(IMAGE_NAME.to_owned(), name.to_string());
            let tag = name.tag_or_latest().map_or_else(|| name.to_string(), str::to_owned);
            root.annotations.insert("org.opencontainers.image.ref.name".to_owned(), tag);
            root
        };
        self.plan.names.iter().map(one).collect()
    }

    /// When it was made; nothing if another engine has said so.
    fn created(&self, image: &AssembledImage) -> BTreeMap<String, String> {
        if image.root.annotations.contains_key(CREATED) {
            return BTreeMap::new();
        }
        let epoch = self.builds.iter().find_map(|it| self.plan.options.epoch.of(it.epoch));
        let created = rfc3339(epoch.unwrap_or(self.context.now));
        BTreeMap::from([(CREATED.to_owned(), created)])
    }

    /// The receipt of this export: the entries of the image in the metadata file; no warnings yet.
    pub(super) fn receipt(&self, image: &AssembledImage) -> ExportReceipt {
        ExportReceipt {
            metadata: image.metadata(&self.names(), &self.created(image)),
            warnings: Vec::new(),
            bytes: pushed_bytes(image),
        }
    }

    /// Fetches the blobs of base layers that the store lacks.
    pub(super) async fn fetch(&self, blobs: &[ImageBlob]) -> Result<(), Diagnostic> {
        fetch(self.context, blobs).await
    }

    /// A function that reports the bytes written so far as progress of this export, under the name `shown`.
    pub(super) fn moved(&self, shown: &str) -> Box<dyn Fn(u64) + Send + Sync> {
        let (sink, id, what): (_, _, Arc<str>) = (self.context.sink.clone(), self.context.step, shown.into());
        Box::new(move |done| sink(Event::Moved { id, what: what.clone(), done, total: 0 }))
    }
}

/// Fetches the blobs of base layers that the store lacks, four at a time.
pub(super) async fn fetch(context: &ExportContext, blobs: &[ImageBlob]) -> Result<(), Diagnostic> {
    let missing = blobs.iter().filter_map(|blob| match &blob.from {
        BlobContent::Base(base) => Some(fetch_base(context, base)),
        BlobContent::Bytes(_) | BlobContent::Store => None,
    });
    stream::iter(missing).buffer_unordered(4).try_collect::<()>().await
}

/// The upload of a blob. One of a base image is fetched only if the registry lacks it.
pub(super) fn upload(context: &ExportContext, blob: &ImageBlob) -> Upload {
    let mut found_in = Vec::new();
    let source = match &blob.from {
        BlobContent::Bytes(bytes) => BlobSource::Bytes(bytes.clone().into()),
        BlobContent::Store => BlobSource::File(context.store.blob_path(&blob.digest)),
        BlobContent::Base(base) => {
            if let LayerOrigin::Registry { domain, path } = &base.origin {
                found_in.push((domain.clone(), path.clone()));
            }
            let (context, base, digest) = (context.clone(), base.clone(), blob.digest);
            BlobSource::Fetch(Arc::new(move || {
                let (context, base) = (context.clone(), base.clone());
                Box::pin(async move {
                    fetch_base(&context, &base).await.map_err(|e| e.to_string())?;
                    Ok(context.store.blob_path(&digest))
                })
            }))
        }
    };
    Upload { digest: blob.digest, size: blob.size, source, found_in }
}

/// All blobs and documents with their sizes, in the order in which archives have them.
pub(super) fn sizes(image: &AssembledImage) -> BTreeMap<Digest, u64> {
    let documents = image.documents.iter().map(|it| (it.digest, it.bytes.len() as u64));
    image.blobs.iter().map(|it| (it.digest, it.size)).chain(documents).collect()
}

/// What the thread that writes an archive or layout needs of an image: sizes, documents, names, and Docker's
/// `manifest.json`.
pub(super) struct ImageBytes {
    pub(super) sizes: BTreeMap<Digest, u64>,
    pub(super) bytes: BTreeMap<Digest, Vec<u8>>,
    pub(super) names: Vec<DocumentDescriptor>,
    pub(super) docker: Option<Vec<u8>>,
}

impl ImageBytes {
    /// Collects the bytes of an image. `docker` asks for `manifest.json`, which only an image of one platform has.
    pub(super) fn new(job: &ImageJob<'_>, image: AssembledImage, docker: bool) -> Self {
        let (sizes, names) = (sizes(&image), job.named(&image));
        let docker = image.single.as_ref().filter(|_| docker).map(|(config, layers)| {
            let blob = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
            let tags: Vec<String> = job.plan.names.iter().map(Reference::familiar).collect();
            let tags = if tags.is_empty() { serde_json::Value::Null } else { json!(tags) };
            let layers: Vec<String> = layers.iter().map(blob).collect();
            json!([{"Config": blob(config), "RepoTags": tags, "Layers": layers}]).to_string().into_bytes()
        });
        let mut bytes: BTreeMap<Digest, Vec<u8>> =
            image.documents.into_iter().map(|document| (document.digest, document.bytes)).collect();
        for blob in image.blobs {
            if let BlobContent::Bytes(content) = blob.from {
                bytes.insert(blob.digest, content);
            }
        }
        Self { sizes, bytes, names, docker }
    }

    /// The bytes of several images in one archive or layout: blobs once, images in the order of their names.
    pub(super) fn joined(images: Vec<Self>) -> Self {
        let mut all = Self { sizes: BTreeMap::new(), bytes: BTreeMap::new(), names: Vec::new(), docker: None };
        let mut docker: Vec<serde_json::Value> = Vec::new();
        for Self { sizes, bytes, names, docker: manifest } in images {
            all.sizes.extend(sizes);
            all.bytes.extend(bytes);
            all.names.extend(names);
            let listed = manifest.and_then(|text| serde_json::from_slice::<Vec<serde_json::Value>>(&text).ok());
            docker.extend(listed.unwrap_or_default());
        }
        // Of two images with one name the last counts, as in a layout that is there.
        let mut last: BTreeMap<(Option<String>, Digest), DocumentDescriptor> = BTreeMap::new();
        let mut named: BTreeMap<String, Digest> = BTreeMap::new();
        for descriptor in all.names {
            let name = descriptor.annotations.get(IMAGE_NAME).cloned();
            if let Some(earlier) = name.as_ref().and_then(|name| named.insert(name.clone(), descriptor.digest)) {
                last.remove(&(name.clone(), earlier));
            }
            last.insert((name, descriptor.digest), descriptor);
        }
        let docker = (!docker.is_empty()).then(|| serde_json::Value::Array(docker).to_string().into_bytes());
        Self { names: last.into_values().collect(), docker, ..all }
    }

    /// The bytes of a blob: from memory, or the file of the store.
    ///
    /// # Errors
    /// When the store has no such blob, or it cannot be opened.
    pub(super) fn open(&self, store: &Store, digest: &Digest) -> io::Result<MemberContent<'_>> {
        match self.bytes.get(digest) {
            Some(bytes) => Ok(MemberContent::Bytes(bytes)),
            None => store.open_blob(digest).map(MemberContent::File).map_err(io::Error::other),
        }
    }
}

/// Runs work that blocks on files on a thread of its own.
///
/// # Errors
/// Those of `work`; a panic in it becomes an error.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other).and_then(|it| it)
}
