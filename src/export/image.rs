//! Images: layers packed, documents made, and all of it handed to an archive, a layout, a registry or a daemon.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::json;

use super::{
    BlobOrigin, BuiltImage, ExportContext, ExportReceipt, PreparedExport,
    archive::{self, MemberContent},
    assemble::{self, Assembled, Blob, Descriptor, From, rfc3339},
    layers::{self, LayerFault, with_causes},
    layout, load,
    options::{ArchiveDest, ImagePlan, ImageTo},
    place::{ExportDest, Stamp},
    receipt,
};
use crate::{
    oci::{Digest, Reference},
    registry::{BlobSource, Push, Upload},
    report::{Diagnostic, event::Event},
    store::Store,
};

/// Writes an image where it is to go.
pub(super) async fn export(
    prepared: &PreparedExport,
    plan: &ImagePlan,
    to: &ImageTo,
    builds: &[BuiltImage],
    context: &ExportContext,
) -> Result<ExportReceipt, Diagnostic> {
    let job = ImageJob { prepared, plan, builds, context };
    let place = match to {
        ImageTo::Archive { dest: ArchiveDest::File(path), .. } | ImageTo::Layout { folder: path, .. } => {
            Some(path.clone())
        }
        _ => None,
    };
    let key = place.as_ref().map(|it| receipt::key(prepared, builds, it));
    if let (Some(key), Some(place)) = (&key, &place)
        && let Some(found) = receipt::find(&context.store, key)
        && still_there(&found, place, matches!(to, ImageTo::Layout { .. }))
    {
        job.wrote(&place.display().to_string(), found.bytes, true);
        return Ok(ExportReceipt { metadata: found.metadata, warnings: job.warnings() });
    }
    let layers = layers::pack(plan, builds, context).await.map_err(|fault| job.layer_fault(fault))?;
    let image = assemble::assemble(plan, builds, &layers);
    let mut made = match to {
        ImageTo::Store => job.store(&image)?,
        ImageTo::Registry { by_digest, insecure } => job.push(&image, *by_digest, *insecure).await?,
        ImageTo::Archive { docker, dest } => job.archive(image, *docker, dest, key).await?,
        ImageTo::Layout { folder, .. } => job.layout(image, folder, key).await?,
        ImageTo::Daemon { context: name } => load::load(&job, image, name.as_deref()).await?,
    };
    made.warnings.extend(job.warnings());
    Ok(made)
}

fn still_there(found: &receipt::StoredReceipt, place: &Path, is_layout: bool) -> bool {
    let file = if is_layout { place.join("index.json") } else { place.to_owned() };
    let same = found.stamp.is_some() && Stamp::of(&file).ok() == found.stamp;
    same && (!is_layout || layout::holds(place, &found.blobs.iter().copied().collect()))
}

/// One image export.
pub(super) struct ImageJob<'a> {
    pub(super) prepared: &'a PreparedExport,
    pub(super) plan: &'a ImagePlan,
    pub(super) builds: &'a [BuiltImage],
    pub(super) context: &'a ExportContext,
}

impl ImageJob<'_> {
    pub(super) fn fault(&self, code: &'static str, text: impl std::fmt::Display) -> Diagnostic {
        self.prepared.fault(code, text)
    }

    pub(super) fn wrote(&self, what: &str, bytes: u64, reused: bool) {
        (self.context.sink)(Event::Wrote { what: what.into(), bytes, reused });
    }

    fn warnings(&self) -> Vec<Diagnostic> {
        let mut warnings = self.prepared.warnings.clone();
        if self.plan.rewrite && self.builds.iter().any(|it| self.plan.epoch.of(it.epoch).is_none()) {
            let text = self.prepared.about("rewrite-timestamp has no effect without SOURCE_DATE_EPOCH");
            warnings.push(Diagnostic::warning("bake::export::no_epoch", text));
        }
        warnings
    }

    fn layer_fault(&self, fault: LayerFault) -> Diagnostic {
        match fault {
            LayerFault::Builder(diagnostic) => diagnostic,
            LayerFault::Text(text) => self.fault("bake::export::layer", format_args!("cannot make a layer: {text}")),
        }
    }

    /// Full names, joined, as the metadata file has them.
    fn names(&self) -> String {
        let names: Vec<String> = self.plan.names.iter().map(|it| spelled(it, self.prepared)).collect();
        names.join(",")
    }

    /// The descriptors in `index.json`, one per name.
    pub(super) fn named(&self, image: &Assembled) -> Vec<Descriptor> {
        let mut root = image.root.clone();
        root.annotations.extend(self.created());
        if self.plan.names.is_empty() {
            return vec![root];
        }
        let one = |name: &Reference| {
            let mut root = root.clone();
            root.annotations.insert("io.containerd.image.name".to_owned(), name.to_string());
            let tag = name.tag_or_latest().map_or_else(|| name.to_string(), str::to_owned);
            root.annotations.insert("org.opencontainers.image.ref.name".to_owned(), tag);
            root
        };
        self.plan.names.iter().map(one).collect()
    }

    fn created(&self) -> BTreeMap<String, String> {
        let epoch = self.builds.iter().find_map(|it| self.plan.epoch.of(it.epoch));
        let created = rfc3339(epoch.unwrap_or(self.context.now));
        BTreeMap::from([("org.opencontainers.image.created".to_owned(), created)])
    }

    /// Keeps the image's blobs and documents in our own store.
    fn store(&self, image: &Assembled) -> Result<ExportReceipt, Diagnostic> {
        let bytes = image.blobs.iter().filter_map(|blob| match &blob.from {
            From::Bytes(bytes) => Some(bytes.as_slice()),
            From::Store | From::Base(_) => None,
        });
        for bytes in bytes.chain(image.documents.iter().map(|it| it.bytes.as_slice())) {
            self.context.store.put_blob(bytes).map_err(|e| self.fault("bake::export::store", with_causes(&e)))?;
        }
        Ok(self.receipt(image))
    }

    pub(super) fn receipt(&self, image: &Assembled) -> ExportReceipt {
        ExportReceipt { metadata: image.metadata(&self.names(), &self.created()), warnings: Vec::new() }
    }

    /// Brings the blobs of base layers here.
    pub(super) async fn fetch(&self, blobs: &[Blob]) -> Result<(), Diagnostic> {
        fetch(self.context, blobs).await
    }

    async fn archive(
        &self,
        image: Assembled,
        docker: bool,
        dest: &ArchiveDest,
        key: Option<Digest>,
    ) -> Result<ExportReceipt, Diagnostic> {
        self.fetch(&image.blobs).await?;
        let shown = match dest {
            ArchiveDest::Stdout => "stdout".to_owned(),
            ArchiveDest::File(path) => path.display().to_string(),
        };
        let done = self.receipt(&image);
        let writing = Writing::new(self, image, docker);
        let (store, dest) = (self.context.store.clone(), dest.clone());
        let moved = self.moved(&shown);
        let written = blocking(move || {
            let mut place = ExportDest::open(&dest)?;
            writing.archive(&store, &mut place, &*moved)?;
            let bytes = place.written();
            Ok((place.finish()?, bytes))
        });
        let fail = |e| self.fault("bake::export::write", format_args!("cannot write `{shown}`: {e}"));
        let (stamp, bytes) = written.await.map_err(fail)?;
        if let (Some(key), Some(_)) = (key, stamp) {
            let metadata = done.metadata.clone();
            let kept = receipt::StoredReceipt { stamp, fingerprint: None, blobs: Vec::new(), bytes, metadata };
            receipt::keep(&self.context.store, &key, &kept);
        }
        self.wrote(&shown, bytes, false);
        Ok(done)
    }

    async fn layout(&self, image: Assembled, folder: &Path, key: Option<Digest>) -> Result<ExportReceipt, Diagnostic> {
        let sizes = sizes(&image);
        if !layout::holds(folder, &sizes) {
            self.fetch(&image.blobs).await?;
        }
        let done = self.receipt(&image);
        let shown = folder.display().to_string();
        let writing = Writing::new(self, image, false);
        let (store, folder) = (self.context.store.clone(), folder.to_owned());
        let moved = self.moved(&shown);
        let written = tokio::task::spawn_blocking(move || {
            let mut bytes = 0;
            let open = |digest: &Digest| writing.open(&store, digest);
            let stamp = layout::write(&folder, &writing.sizes, open, &writing.names, |n| {
                bytes = n;
                moved(n);
            })?;
            Ok((stamp, bytes))
        });
        let written = written.await.map_err(|e| (PathBuf::new(), io::Error::other(e))).and_then(|it| it);
        let (stamp, bytes) = written.map_err(|(path, e): layout::LayoutFault| {
            self.fault("bake::export::write", format_args!("cannot write `{}`: {e}", path.display()))
        })?;
        if let Some(key) = key {
            let (blobs, metadata) = (sizes.into_iter().collect(), done.metadata.clone());
            let kept = receipt::StoredReceipt { stamp, fingerprint: None, blobs, bytes, metadata };
            receipt::keep(&self.context.store, &key, &kept);
        }
        self.wrote(&shown, bytes, false);
        Ok(done)
    }

    async fn push(&self, image: &Assembled, by_digest: bool, insecure: bool) -> Result<ExportReceipt, Diagnostic> {
        let mut repositories: Vec<(&str, &str, Vec<String>)> = Vec::new();
        for name in &self.plan.names {
            let tag = name.tag_or_latest().filter(|_| !by_digest).map(str::to_owned);
            let known = repositories.iter_mut().find(|it| it.0 == name.domain && it.1 == name.path);
            match known {
                Some(known) => known.2.extend(tag),
                None => repositories.push((&name.domain, &name.path, tag.into_iter().collect())),
            }
        }
        let total: u64 = image.blobs.iter().filter(|it| !it.nondist).map(|it| it.size).sum();
        // Registries at the same time; repositories of one after the other, so that the second mounts from the first.
        let mut registries: BTreeMap<&str, Vec<(&str, Vec<String>)>> = BTreeMap::new();
        for (domain, path, tags) in repositories {
            registries.entry(domain).or_default().push((path, tags));
        }
        let pushes = registries.into_iter().map(|(domain, repositories)| async move {
            for (path, tags) in repositories {
                self.push_one(image, (domain, path), &tags, insecure, total).await?;
            }
            Ok::<(), Diagnostic>(())
        });
        futures_util::future::try_join_all(pushes).await?;
        Ok(self.receipt(image))
    }

    async fn push_one(
        &self,
        image: &Assembled,
        (domain, path): (&str, &str),
        tags: &[String],
        insecure: bool,
        total: u64,
    ) -> Result<(), Diagnostic> {
        let what: Arc<str> = format!("push {domain}/{path}").into();
        let progress = |done: u64| {
            (self.context.sink)(Event::Moved { id: self.context.step, what: what.clone(), done, total });
        };
        let blobs = image.blobs.iter().filter(|it| !it.nondist).map(|it| upload(self.context, it)).collect();
        let push =
            Push { domain, path, tags, blobs, documents: image.documents.clone(), insecure, progress: &progress };
        self.context.client.push(push).await.map_err(|error| {
            let text = format!("cannot push `{domain}/{path}`: {}", with_causes(&error));
            self.fault("bake::export::push", text)
        })?;
        let at = if tags.is_empty() { format!("@{}", image.root.digest) } else { format!(":{}", tags.join(",")) };
        self.wrote(&format!("{domain}/{path}{at}"), total, false);
        Ok(())
    }

    pub(super) fn moved(&self, shown: &str) -> Box<dyn Fn(u64) + Send> {
        let (sink, id, what): (_, _, Arc<str>) = (self.context.sink.clone(), self.context.step, shown.into());
        Box::new(move |done| sink(Event::Moved { id, what: what.clone(), done, total: 0 }))
    }
}

/// Brings the blobs of base layers here.
pub(super) async fn fetch(context: &ExportContext, blobs: &[Blob]) -> Result<(), Diagnostic> {
    let missing = blobs.iter().filter_map(|blob| match &blob.from {
        From::Base(base) => Some(layers::fetch(context, base)),
        From::Bytes(_) | From::Store => None,
    });
    stream::iter(missing).buffer_unordered(4).try_collect::<()>().await
}

/// A blob as the registry module wants it; one of a base image is fetched only if the registry lacks it.
pub(super) fn upload(context: &ExportContext, blob: &Blob) -> Upload {
    let mut found_in = Vec::new();
    let source = match &blob.from {
        From::Bytes(bytes) => BlobSource::Bytes(bytes.clone().into()),
        From::Store => BlobSource::File(context.store.blob_path(&blob.digest)),
        From::Base(base) => {
            if let BlobOrigin::Registry { domain, path } = &base.origin {
                found_in.push((domain.clone(), path.clone()));
            }
            let (context, base, digest) = (context.clone(), base.clone(), blob.digest);
            BlobSource::Fetch(Arc::new(move || {
                let (context, base) = (context.clone(), base.clone());
                Box::pin(async move {
                    layers::fetch(&context, &base).await.map_err(|e| e.to_string())?;
                    Ok(context.store.blob_path(&digest))
                })
            }))
        }
    };
    Upload { digest: blob.digest, size: blob.size, source, found_in }
}

/// The name as it was written, with its tag.
fn spelled(name: &Reference, prepared: &PreparedExport) -> String {
    let same = |text: &&String| Reference::parse(text).is_ok_and(|it| it == *name);
    match prepared.subject.tags.iter().find(same) {
        Some(text) if name.tag.is_some() => text.clone(),
        _ => name.to_string(),
    }
}

/// All blobs and documents with their sizes, in the order in which archives have them.
fn sizes(image: &Assembled) -> BTreeMap<Digest, u64> {
    let documents = image.documents.iter().map(|it| (it.digest, it.bytes.len() as u64));
    image.blobs.iter().map(|it| (it.digest, it.size)).chain(documents).collect()
}

/// An image about to be written by a thread.
pub(super) struct Writing {
    sizes: BTreeMap<Digest, u64>,
    bytes: BTreeMap<Digest, Vec<u8>>,
    names: Vec<Descriptor>,
    docker: Option<Vec<u8>>,
}

impl Writing {
    pub(super) fn new(job: &ImageJob<'_>, image: Assembled, docker: bool) -> Self {
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
            if let From::Bytes(content) = blob.from {
                bytes.insert(blob.digest, content);
            }
        }
        Self { sizes, bytes, names, docker }
    }

    fn open(&self, store: &Store, digest: &Digest) -> io::Result<MemberContent<'_>> {
        match self.bytes.get(digest) {
            Some(bytes) => Ok(MemberContent::Bytes(bytes)),
            None => store.open_blob(digest).map(MemberContent::File).map_err(io::Error::other),
        }
    }

    pub(super) fn archive(&self, store: &Store, place: &mut ExportDest, moved: &dyn Fn(u64)) -> io::Result<()> {
        let index = archive::index_json(&self.names);
        archive::image(place, &self.sizes, |it| self.open(store, it), &index, self.docker.as_deref(), moved)
    }
}

/// Runs file work on a thread of its own.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other).and_then(|it| it)
}
