//! Images: layers packed, documents assembled, and all of it handed to an archive, a layout, a registry or a daemon.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{
    dest::WriteFault,
    job::{ImageBytes, ImageJob, sizes},
    layout::{self, LayoutJoin},
    load,
    stage::{ReleaseRecord, StagedExport, StagedParts, StagingFolder, Stamped},
};
use crate::{
    export::{
        assemble::{AssembledImage, BlobContent, assemble},
        built::BuiltImage,
        context::{ExportContext, ExportReceipt, with_causes},
        options::{ExportPlan, ImagePlan, ImageTo},
        pack::pack,
        prepare::PreparedExport,
        remember::{self, FileStamp, StoredReceipt},
        staged::{ExactPath, ReleaseItem, StagedFolder},
    },
    grant::GrantedWrite,
    oci::Digest,
    registry::Document,
    report::Diagnostic,
    store::Store,
};

/// Packs and assembles an image and writes it to its destination: the store, a registry, an archive, a layout, or an
/// engine that loads it.
///
/// Nothing is written when an earlier export of the same content to the same place is still there.
pub(crate) async fn export_image(
    prepared: &PreparedExport,
    plan: &ImagePlan,
    to: &ImageTo,
    builds: &[BuiltImage],
    context: &ExportContext,
) -> Result<ExportReceipt, Diagnostic> {
    let job = ImageJob { prepared, plan, builds, context };
    let place = prepared.place.as_ref();
    let key = job.key(to);
    if let Some(done) = job.is_written_already(key.as_ref(), to).await {
        return Ok(done);
    }
    let image = job.assembled().await?;
    let mut made = match to {
        ImageTo::Store => job.store(&image)?,
        ImageTo::Registry { by_digest, insecure } => job.push(&image, *by_digest, *insecure, key).await?,
        ImageTo::Archive { docker, .. } => job.archive(image, *docker, key).await?,
        ImageTo::Layout { .. } => job.layout(image, place.expect("a layout has a destination"), key).await?,
        ImageTo::Daemon { context: name } => load::load(&job, image, name.as_deref()).await?,
    };
    made.warnings.extend(job.warnings());
    Ok(made)
}

/// Makes an image ready where it is to go, without changing what is visible there.
pub(crate) async fn stage_image(
    prepared: &PreparedExport,
    plan: &ImagePlan,
    to: &ImageTo,
    builds: &[BuiltImage],
    context: &ExportContext,
) -> Result<StagedExport, Diagnostic> {
    let job = ImageJob { prepared, plan, builds, context };
    let place = prepared.place.as_ref();
    let key = job.key(to);
    if let Some(done) = job.is_written_already(key.as_ref(), to).await {
        return Ok(StagedExport::nothing(done));
    }
    let image = job.assembled().await?;
    let mut staged = match to {
        ImageTo::Store => StagedExport::nothing(job.store(&image)?),
        ImageTo::Registry { by_digest, insecure } => job.stage_push(&image, *by_digest, *insecure, key).await?,
        ImageTo::Archive { docker, .. } => job.stage_archive(image, *docker, key).await?,
        ImageTo::Layout { .. } => job.stage_layout(image, place.expect("a layout has a destination"), key).await?,
        ImageTo::Daemon { context: name } => load::stage(&job, image, name.as_deref()).await?,
    };
    staged.receipt.warnings.extend(job.warnings());
    Ok(staged)
}

/// As [`stage_image`], for an image that another engine has made; its blobs are in the store. It is not pushed from here.
/// `identity` is what the image is, for receipts.
pub(crate) async fn stage_received_image(
    prepared: &PreparedExport,
    image: AssembledImage,
    identity: &Digest,
    context: &ExportContext,
) -> Result<StagedExport, Diagnostic> {
    let ExportPlan::Image(plan, to) = &prepared.plan else { unreachable!("the export of an image") };
    let job = ImageJob { prepared, plan, builds: &[], context };
    let place = prepared.place.as_ref();
    let key = place.map(|place| remember::key_of_root(prepared, identity, place.path()));
    if let Some(done) = job.is_written_already(key.as_ref(), to).await {
        return Ok(StagedExport::nothing(done));
    }
    match to {
        ImageTo::Store | ImageTo::Registry { .. } => Ok(StagedExport::nothing(job.receipt(&image))),
        ImageTo::Archive { docker, .. } => job.stage_archive(image, *docker, key).await,
        ImageTo::Layout { .. } => job.stage_layout(image, place.expect("a layout has a destination"), key).await,
        ImageTo::Daemon { context: name } => load::stage(&job, image, name.as_deref()).await,
    }
}

/// The receipt of an earlier push of an image that another engine has made, if all names still stand for it.
pub(crate) async fn received_is_pushed(
    prepared: &PreparedExport,
    identity: &Digest,
    context: &ExportContext,
) -> Option<ExportReceipt> {
    let ExportPlan::Image(plan, to) = &prepared.plan else { return None };
    let job = ImageJob { prepared, plan, builds: &[], context };
    let key = remember::key_of_root(prepared, identity, Path::new(""));
    job.is_written_already(Some(&key), to).await
}

/// What is remembered of the push of an image that another engine has made.
pub(crate) fn pushed_record(
    prepared: &PreparedExport,
    identity: &Digest,
    root: &Document,
    done: &ExportReceipt,
) -> ReleaseRecord {
    let receipt = StoredReceipt {
        stamp: None,
        fingerprint: None,
        blobs: vec![(root.digest, root.bytes.len() as u64)],
        bytes: done.bytes,
        metadata: done.metadata.clone(),
        dropped: None,
    };
    ReleaseRecord { key: remember::key_of_root(prepared, identity, Path::new("")), receipt, place: None }
}

pub(super) fn still_there(found: &StoredReceipt, place: &GrantedWrite, is_layout: bool) -> bool {
    let file = if is_layout { place.path().join("index.json") } else { place.path().to_owned() };
    let same = found.stamp.is_some() && FileStamp::of(&file).ok() == found.stamp;
    same && (!is_layout || layout::holds(place, &found.blobs.iter().copied().collect()))
}

impl ImageJob<'_> {
    /// The key of the receipt, for destinations that are recognised by one: files and folders of this machine, and names in
    /// registries, which are part of the plan.
    fn key(&self, to: &ImageTo) -> Option<Digest> {
        let place = self.prepared.place.as_ref().map(GrantedWrite::path);
        let place = place.or_else(|| matches!(to, ImageTo::Registry { .. }).then_some(Path::new("")));
        place.map(|place| remember::key(self.prepared, self.builds, place))
    }

    /// The receipt of an earlier export of the same image to the same place, if it is still there.
    async fn is_written_already(&self, key: Option<&Digest>, to: &ImageTo) -> Option<ExportReceipt> {
        let found = remember::find(&self.context.store, key?)?;
        if let ImageTo::Registry { by_digest, insecure } = to {
            let is_there = self.is_pushed_already(&found, *by_digest, *insecure).await;
            return is_there.then(|| ExportReceipt {
                bytes: found.bytes,
                metadata: found.metadata,
                warnings: self.warnings(),
            });
        }
        let place = self.prepared.place.as_ref()?;
        if !still_there(&found, place, matches!(to, ImageTo::Layout { .. })) {
            return None;
        }
        self.wrote(&place.path().display().to_string(), found.bytes, true);
        // Of a layout the receipt has what was written at that time.
        let bytes = if found.blobs.is_empty() { found.bytes } else { found.blobs.iter().map(|(_, size)| size).sum() };
        Some(ExportReceipt { metadata: found.metadata, warnings: self.warnings(), bytes })
    }

    /// Packs the layers and makes the documents of the image.
    pub(super) async fn assembled(&self) -> Result<AssembledImage, Diagnostic> {
        let packed = pack(self.plan, self.builds, self.context).await;
        let layers = packed.map_err(|fault| self.layer_fault(fault))?;
        Ok(assemble(self.plan, self.builds, &layers))
    }

    /// Keeps the image's blobs and documents in our own store.
    fn store(&self, image: &AssembledImage) -> Result<ExportReceipt, Diagnostic> {
        let bytes = image.blobs.iter().filter_map(|blob| match &blob.from {
            BlobContent::Bytes(bytes) => Some(bytes.as_slice()),
            BlobContent::Store | BlobContent::Base(_) => None,
        });
        for bytes in bytes.chain(image.documents.iter().map(|it| it.bytes.as_slice())) {
            self.context.store.put_blob(bytes).map_err(|e| self.fault("bake::export::store", with_causes(&e)))?;
        }
        Ok(self.receipt(image))
    }

    async fn layout(
        &self,
        image: AssembledImage,
        folder: &GrantedWrite,
        key: Option<Digest>,
    ) -> Result<ExportReceipt, Diagnostic> {
        let (sizes, mut done) = (sizes(&image), self.receipt(&image));
        done.bytes = sizes.values().sum();
        self.fetch_for(folder, &image).await?;
        let (stamp, bytes) =
            self.put_layout(ImageBytes::new(self, image, false), folder, LayoutJoin::KeepBlobs).await?;
        if let Some(key) = key {
            let (blobs, metadata) = (sizes.into_iter().collect(), done.metadata.clone());
            let kept = StoredReceipt { stamp, fingerprint: None, blobs, bytes, metadata, dropped: None };
            remember::keep(&self.context.store, &key, folder.path(), kept);
        }
        self.wrote(&folder.path().display().to_string(), bytes, false);
        Ok(done)
    }

    /// Makes the part of a layout that the folder lacks.
    async fn stage_layout(
        &self,
        image: AssembledImage,
        folder: &GrantedWrite,
        key: Option<Digest>,
    ) -> Result<StagedExport, Diagnostic> {
        let (sizes, mut done) = (sizes(&image), self.receipt(&image));
        done.bytes = sizes.values().sum();
        self.fetch_for(folder, &image).await?;
        let (parts, bytes) =
            self.put_staged_layout(ImageBytes::new(self, image, false), folder, LayoutJoin::KeepBlobs).await?;
        let record = key.map(|key| {
            let (blobs, metadata) = (sizes.into_iter().collect(), done.metadata.clone());
            let receipt = StoredReceipt { stamp: None, fingerprint: None, blobs, bytes, metadata, dropped: None };
            ReleaseRecord { key, receipt, place: Some((folder.clone(), Stamped::Layout)) }
        });
        let wrote = vec![(folder.path().display().to_string(), bytes)];
        Ok(StagedExport { parts, wrote, receipt: done, record })
    }

    /// Writes into a layout folder: the stamp of its index, and how many bytes it lacked.
    pub(super) async fn put_layout(
        &self,
        image: ImageBytes,
        folder: &GrantedWrite,
        join: LayoutJoin,
    ) -> Result<(Option<FileStamp>, u64), Diagnostic> {
        let dest = folder.clone();
        self.with_layout(image, folder, move |image, store, moved| {
            let mut bytes = 0;
            let open = |digest: &Digest| image.open(store, digest);
            let stamp = layout::write(&dest, &image.sizes, open, &image.names, join, |n| {
                bytes = n;
                moved(n);
            })?;
            Ok((stamp, bytes))
        })
        .await
    }

    /// Makes the part of a layout that the folder lacks, which gets its names later; and its size.
    pub(super) async fn put_staged_layout(
        &self,
        image: ImageBytes,
        folder: &GrantedWrite,
        join: LayoutJoin,
    ) -> Result<(StagedParts, u64), Diagnostic> {
        let dest = folder.clone();
        let written = self.with_layout(image, folder, move |image, store, moved| {
            let at_dest = |error| (dest.path().to_owned(), error);
            let staging = StagingFolder::make(&dest, 0o777).map_err(at_dest)?;
            let mut bytes = 0;
            let open = |digest: &Digest| image.open(store, digest);
            layout::stage(&staging.root, &dest, &image.sizes, open, &image.names, join, |n| {
                bytes = n;
                moved(n);
            })?;
            Ok((staging, bytes))
        });
        let (StagingFolder { root: _, path, inode, hold }, bytes) = written.await?;
        let item = StagedFolder {
            dest: ExactPath(folder.path().to_owned()),
            staged: ExactPath(path),
            inode,
            folders: Vec::new(),
            remove: Vec::new(),
            is_layout: true,
            sweeps: join == LayoutJoin::Sweep,
        };
        let parts = StagedParts { items: vec![ReleaseItem::Folder(item)], hold: Some(hold), ..StagedParts::default() };
        Ok((parts, bytes))
    }

    /// Fetches the blobs of base layers that the store and a layout folder lack.
    pub(super) async fn fetch_for(&self, folder: &GrantedWrite, image: &AssembledImage) -> Result<(), Diagnostic> {
        if layout::holds(folder, &sizes(image)) { Ok(()) } else { self.fetch(&image.blobs).await }
    }

    /// Runs `work`, which blocks on files, with all bytes that the layout `folder` may lack.
    async fn with_layout<T: Send + 'static>(
        &self,
        writing: ImageBytes,
        folder: &GrantedWrite,
        work: impl FnOnce(&ImageBytes, &Store, &dyn Fn(u64)) -> Result<T, WriteFault> + Send + 'static,
    ) -> Result<T, Diagnostic> {
        let (store, moved) = (self.context.store.clone(), self.moved(&folder.path().display().to_string()));
        let written = tokio::task::spawn_blocking(move || work(&writing, &store, &*moved)).await;
        let written = written.map_err(|error| (PathBuf::new(), io::Error::other(error))).and_then(|done| done);
        written.map_err(|(path, error)| self.prepared.write_fault(&path.display().to_string(), &error))
    }
}
