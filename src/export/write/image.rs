//! Images: layers packed, documents assembled, and all of it handed to an archive, a layout, a registry or a daemon.

use std::{io, path::PathBuf};

use super::{
    dest::WriteFault,
    job::{ImageBytes, ImageJob, sizes},
    layout, load,
};
use crate::{
    export::{
        assemble::{AssembledImage, BlobContent, assemble},
        built::BuiltImage,
        context::{ExportContext, ExportReceipt, with_causes},
        options::{ImagePlan, ImageTo},
        pack::pack,
        prepare::PreparedExport,
        remember::{self, FileStamp, StoredReceipt},
    },
    grant::GrantedWrite,
    oci::Digest,
    report::Diagnostic,
};

/// Writes an image where it is to go.
pub(crate) async fn export_image(
    prepared: &PreparedExport,
    plan: &ImagePlan,
    to: &ImageTo,
    builds: &[BuiltImage],
    context: &ExportContext,
) -> Result<ExportReceipt, Diagnostic> {
    let job = ImageJob { prepared, plan, builds, context };
    let place = prepared.place.as_ref();
    let key = place.map(|place| remember::key(prepared, builds, place.path()));
    if let (Some(key), Some(place)) = (&key, place)
        && let Some(found) = remember::find(&context.store, key)
        && still_there(&found, place, matches!(to, ImageTo::Layout { .. }))
    {
        job.wrote(&place.path().display().to_string(), found.bytes, true);
        return Ok(ExportReceipt { metadata: found.metadata, warnings: job.warnings() });
    }
    let layers = pack(plan, builds, context).await.map_err(|fault| job.layer_fault(fault))?;
    let image = assemble(plan, builds, &layers);
    let mut made = match to {
        ImageTo::Store => job.store(&image)?,
        ImageTo::Registry { by_digest, insecure } => job.push(&image, *by_digest, *insecure).await?,
        ImageTo::Archive { docker, .. } => job.archive(image, *docker, key).await?,
        ImageTo::Layout { .. } => job.layout(image, place.expect("a layout has a destination"), key).await?,
        ImageTo::Daemon { context: name } => load::load(&job, image, name.as_deref()).await?,
    };
    made.warnings.extend(job.warnings());
    Ok(made)
}

fn still_there(found: &StoredReceipt, place: &GrantedWrite, is_layout: bool) -> bool {
    let file = if is_layout { place.path().join("index.json") } else { place.path().to_owned() };
    let same = found.stamp.is_some() && FileStamp::of(&file).ok() == found.stamp;
    same && (!is_layout || layout::holds(place, &found.blobs.iter().copied().collect()))
}

impl ImageJob<'_> {
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
        let sizes = sizes(&image);
        if !layout::holds(folder, &sizes) {
            self.fetch(&image.blobs).await?;
        }
        let done = self.receipt(&image);
        let shown = folder.path().display().to_string();
        let writing = ImageBytes::new(self, image, false);
        let (store, dest) = (self.context.store.clone(), folder.clone());
        let moved = self.moved(&shown);
        let written = tokio::task::spawn_blocking(move || {
            let mut bytes = 0;
            let open = |digest: &Digest| writing.open(&store, digest);
            let stamp = layout::write(&dest, &writing.sizes, open, &writing.names, |n| {
                bytes = n;
                moved(n);
            })?;
            Ok((stamp, bytes))
        });
        let written = written.await.map_err(|e| (PathBuf::new(), io::Error::other(e))).and_then(|it| it);
        let (stamp, bytes) =
            written.map_err(|(path, e): WriteFault| self.prepared.write_fault(&path.display().to_string(), &e))?;
        if let Some(key) = key {
            let (blobs, metadata) = (sizes.into_iter().collect(), done.metadata.clone());
            let kept = StoredReceipt { stamp, fingerprint: None, blobs, bytes, metadata, dropped: None };
            remember::keep(&self.context.store, &key, folder.path(), kept);
        }
        self.wrote(&shown, bytes, false);
        Ok(done)
    }
}
