//! Archives of images: an OCI layout in a tar (OCI image spec, "Image Layout"), with `manifest.json` for `docker load`.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Write},
};

use super::{
    dest::ExportDest,
    job::{ImageBytes, ImageJob, blocking},
    layout,
    member::MemberContent,
    stage::{ReleaseRecord, StagedExport, StagedParts, StagingFile, Stamped},
};
use crate::{
    archive::{TAR_END, TarEntry, TarMemberKind, tar_headers, tar_padding},
    export::{
        assemble::{AssembledImage, index_document},
        context::ExportReceipt,
        remember::{self, FileStamp, StoredReceipt},
    },
    oci::Digest,
    report::Diagnostic,
    store::Store,
};

impl ImageJob<'_> {
    /// Writes an image archive (OCI layout or `docker save`) to a file or to standard output.
    pub(super) async fn archive(
        &self,
        image: AssembledImage,
        docker: bool,
        key: Option<Digest>,
    ) -> Result<ExportReceipt, Diagnostic> {
        let mut done = self.receipt(&image);
        self.fetch(&image.blobs).await?;
        let (stamp, bytes) = self.put_archive(ImageBytes::new(self, image, docker)).await?;
        done.bytes = bytes;
        if let (Some(key), Some(_), Some(place)) = (key, stamp, &self.prepared.place) {
            remember::keep(&self.context.store, &key, place.path(), receipt(stamp, bytes, &done));
        }
        self.wrote(&self.shown(), bytes, false);
        Ok(done)
    }

    /// Writes an archive to the destination: its stamp, if it is a file that has one, and its size.
    pub(super) async fn put_archive(&self, image: ImageBytes) -> Result<(Option<FileStamp>, u64), Diagnostic> {
        let dest = self.prepared.place.clone();
        self.with_bytes(image, move |image, store, moved| {
            let mut dest = dest.as_ref().map_or_else(ExportDest::stdout, ExportDest::open)?;
            write_archive(image, store, &mut dest, moved)?;
            let bytes = dest.written();
            Ok((dest.finish()?, bytes))
        })
        .await
    }

    /// Makes an archive that gets its name later.
    pub(super) async fn stage_archive(
        &self,
        image: AssembledImage,
        docker: bool,
        key: Option<Digest>,
    ) -> Result<StagedExport, Diagnostic> {
        let mut done = self.receipt(&image);
        self.fetch(&image.blobs).await?;
        let (parts, file, bytes) = self.put_staged_archive(ImageBytes::new(self, image, docker)).await?;
        done.bytes = bytes;
        let record = match (key, self.prepared.place.clone(), file) {
            (Some(key), Some(place), Some(file)) => {
                let receipt = receipt(None, bytes, &done);
                Some(ReleaseRecord { key, receipt, place: Some((place, Stamped::File(file))) })
            }
            _ => None,
        };
        Ok(StagedExport { parts, wrote: vec![(self.shown(), bytes)], receipt: done, record })
    }

    /// Makes an archive that gets its name later: its parts, the open file if it gets a name, and its size.
    pub(super) async fn put_staged_archive(
        &self,
        image: ImageBytes,
    ) -> Result<(StagedParts, Option<File>, u64), Diagnostic> {
        let dest = self.prepared.place.clone();
        self.with_bytes(image, move |image, store, moved| {
            let mut staging = StagingFile::open(dest.as_ref(), store)?;
            write_archive(image, store, &mut staging.dest, moved)?;
            let bytes = staging.dest.written();
            let (parts, file) = staging.stage()?;
            Ok((parts, file, bytes))
        })
        .await
    }

    /// What the user knows the archive by.
    pub(super) fn shown(&self) -> String {
        self.prepared.place.as_ref().map_or_else(|| "stdout".to_owned(), |place| place.path().display().to_string())
    }

    /// Runs `work`, which blocks on files, with all bytes of the archive, which the store has.
    async fn with_bytes<T: Send + 'static>(
        &self,
        writing: ImageBytes,
        work: impl FnOnce(&ImageBytes, &Store, &dyn Fn(u64)) -> io::Result<T> + Send + 'static,
    ) -> Result<T, Diagnostic> {
        let shown = self.shown();
        let (store, moved) = (self.context.store.clone(), self.moved(&shown));
        let written = blocking(move || work(&writing, &store, &*moved));
        written.await.map_err(|error| self.prepared.write_fault(&shown, &error))
    }
}

fn receipt(stamp: Option<FileStamp>, bytes: u64, done: &ExportReceipt) -> StoredReceipt {
    let metadata = done.metadata.clone();
    StoredReceipt { stamp, fingerprint: None, blobs: Vec::new(), bytes, metadata, dropped: None }
}

/// Writes the archive of an image from the store and from memory, on the thread that calls it.
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
        let entry = TarEntry { kind: TarMemberKind::Dir, ..TarEntry::file(name.as_bytes(), 0o755, 0) };
        out.write_all(&tar_headers(&entry))
    };
    folder(out, "blobs/")?;
    folder(out, "blobs/sha256/")?;
    for (digest, size) in blobs {
        let name = format!("blobs/sha256/{}", digest.hex());
        out.write_all(&tar_headers(&TarEntry::file(name.as_bytes(), 0o444, *size)))?;
        let n = match open(digest)? {
            MemberContent::Bytes(bytes) => out.write_all(bytes).map(|()| bytes.len() as u64)?,
            MemberContent::File(mut file) => out.copy(&mut file)?,
        };
        if n != *size {
            return Err(io::Error::other(format!("blob {digest} is {n} instead of {size} bytes long")));
        }
        out.write_all(tar_padding(*size))?;
        moved(out.written());
    }
    let mut small = |name: &[u8], mode: u32, bytes: &[u8]| {
        out.write_all(&tar_headers(&TarEntry::file(name, mode, bytes.len() as u64)))?;
        out.write_all(bytes)?;
        out.write_all(tar_padding(bytes.len() as u64))
    };
    small(b"index.json", 0o644, index)?;
    if let Some(manifest) = docker {
        small(b"manifest.json", 0o644, manifest)?;
    }
    small(b"oci-layout", 0o444, layout::VERSION)?;
    out.write_all(&TAR_END)
}
