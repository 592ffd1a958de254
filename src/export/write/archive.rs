//! Archives of images: an OCI layout in a tar (OCI image spec, "Image Layout"), with `manifest.json` for `docker load`.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use super::{
    dest::ExportDest,
    job::{ImageBytes, ImageJob, blocking},
    layout,
    member::MemberContent,
    tar::{ArchiveEntryKind, TarHeader, end, header, padding},
};
use crate::{
    export::{
        assemble::{AssembledImage, index_document},
        context::ExportReceipt,
        remember::{self, StoredReceipt},
    },
    oci::Digest,
    report::Diagnostic,
    store::Store,
};

impl ImageJob<'_> {
    /// Writes an archive to a file or to standard output.
    pub(super) async fn archive(
        &self,
        image: AssembledImage,
        docker: bool,
        key: Option<Digest>,
    ) -> Result<ExportReceipt, Diagnostic> {
        self.fetch(&image.blobs).await?;
        let place = self.prepared.place.clone();
        let shown = place.as_ref().map_or_else(|| "stdout".to_owned(), |place| place.path().display().to_string());
        let done = self.receipt(&image);
        let writing = ImageBytes::new(self, image, docker);
        let (store, dest) = (self.context.store.clone(), place.clone());
        let moved = self.moved(&shown);
        let written = blocking(move || {
            let mut place = match &dest {
                Some(dest) => ExportDest::open(dest)?,
                None => ExportDest::stdout()?,
            };
            write_archive(&writing, &store, &mut place, &*moved)?;
            let bytes = place.written();
            Ok((place.finish()?, bytes))
        });
        let fail = |e: io::Error| self.prepared.write_fault(&shown, &e);
        let (stamp, bytes) = written.await.map_err(fail)?;
        if let (Some(key), Some(_), Some(place)) = (key, stamp, place) {
            let metadata = done.metadata.clone();
            let kept = StoredReceipt { stamp, fingerprint: None, blobs: Vec::new(), bytes, metadata, dropped: None };
            remember::keep(&self.context.store, &key, place.path(), kept);
        }
        self.wrote(&shown, bytes, false);
        Ok(done)
    }
}

/// Writes all of an image into one archive.
pub(super) fn write_archive(
    image: &ImageBytes,
    store: &Store,
    place: &mut ExportDest,
    moved: &dyn Fn(u64),
) -> io::Result<()> {
    let index = index_document(&image.names);
    write_image(place, &image.sizes, |digest| image.open(store, digest), &index, image.docker.as_deref(), moved)
}

/// Writes the archive of an image. `blobs` are opened one after the other, in the order of their names.
///
/// # Errors
/// Those of the destination, and those of `open`.
pub(super) fn write_image<'a>(
    out: &mut ExportDest,
    blobs: &BTreeMap<Digest, u64>,
    mut open: impl FnMut(&Digest) -> io::Result<MemberContent<'a>>,
    index: &[u8],
    docker: Option<&[u8]>,
    mut moved: impl FnMut(u64),
) -> io::Result<()> {
    let folder = |out: &mut ExportDest, name: &str| {
        let entry = TarHeader { kind: ArchiveEntryKind::Dir, mode: 0o755, ..TarHeader::file(name.as_bytes(), 0, 0) };
        header(out, &entry)
    };
    folder(out, "blobs/")?;
    folder(out, "blobs/sha256/")?;
    for (digest, size) in blobs {
        let name = format!("blobs/sha256/{}", digest.hex());
        header(out, &TarHeader::file(name.as_bytes(), 0o444, *size))?;
        let n = match open(digest)? {
            MemberContent::Bytes(bytes) => out.write_all(bytes).map(|()| bytes.len() as u64)?,
            MemberContent::File(mut file) => out.copy(&mut file)?,
        };
        if n != *size {
            return Err(io::Error::other(format!("blob {digest} is {n} instead of {size} bytes long")));
        }
        padding(out, *size)?;
        moved(out.written());
    }
    let mut small = |name: &[u8], mode: u32, bytes: &[u8]| {
        header(out, &TarHeader::file(name, mode, bytes.len() as u64))?;
        out.write_all(bytes)?;
        padding(out, bytes.len() as u64)
    };
    small(b"index.json", 0o644, index)?;
    if let Some(manifest) = docker {
        small(b"manifest.json", 0o644, manifest)?;
    }
    small(b"oci-layout", 0o444, layout::VERSION)?;
    end(out)
}
