//! Blobs: content under its sha256. A blob that has its name is complete, and was verified when it was written.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::PathBuf,
};

use sha2::{Digest as _, Sha256};

use super::{Result, Store, StoreError, failed};
use crate::oci::Digest;

/// Writes one blob, hashing on the way. Dropped without [`BlobWriter::commit`] it leaves nothing.
pub(crate) struct BlobWriter {
    store: Store,
    path: PathBuf,
    file: BufWriter<File>,
    hasher: Sha256,
    size: u64,
    named: bool,
}

impl Store {
    /// Where a blob lies, if it is there.
    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.path(&["blobs", "sha256", &digest.hex()])
    }

    /// Size of a blob; `None` if it is not there.
    pub(crate) fn blob_size(&self, digest: &Digest) -> Option<u64> {
        fs::metadata(self.blob_path(digest)).ok().filter(fs::Metadata::is_file).map(|meta| meta.len())
    }

    /// Opens a blob for reading.
    pub(crate) fn open_blob(&self, digest: &Digest) -> Result<File> {
        let path = self.blob_path(digest);
        File::open(&path).map_err(failed("open", &path))
    }

    /// Starts a blob.
    pub(crate) fn blob_writer(&self) -> Result<BlobWriter> {
        let path = self.fresh()?;
        let file = File::create(&path).map_err(failed("write", &path))?;
        let file = BufWriter::with_capacity(1 << 18, file);
        Ok(BlobWriter { store: self.clone(), path, file, hasher: Sha256::new(), size: 0, named: false })
    }

    /// Stores bytes.
    pub(crate) fn put_blob(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        if self.blob_size(&digest) == Some(bytes.len() as u64) {
            return Ok(digest);
        }
        let mut writer = self.blob_writer()?;
        writer.write_all(bytes).map_err(failed("write", &self.blob_path(&digest)))?;
        writer.commit(Some(&digest))?;
        Ok(digest)
    }
}

impl BlobWriter {
    /// Gives the blob its name.
    ///
    /// # Errors
    /// When the content is not that of `expected`, or cannot be written out.
    pub(crate) fn commit(mut self, expected: Option<&Digest>) -> Result<(Digest, u64)> {
        self.file.flush().map_err(failed("write", &self.path))?;
        let found = Digest::from_raw(std::mem::take(&mut self.hasher).finalize().into());
        if let Some(wanted) = expected
            && *wanted != found
        {
            return Err(StoreError::Digest { wanted: *wanted, found });
        }
        let name = self.store.blob_path(&found);
        fs::rename(&self.path, &name).map_err(failed("write", &name))?;
        self.named = true;
        Ok((found, self.size))
    }

    /// Bytes written so far.
    pub(crate) const fn size(&self) -> u64 {
        self.size
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        self.size += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        if !self.named {
            drop(fs::remove_file(&self.path));
        }
    }
}
