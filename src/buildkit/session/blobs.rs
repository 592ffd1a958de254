//! Places of blobs that the daemon may read and write: our store, and folders in the OCI layout.
//!
//! A blob counts only after its digest was checked. The digest says what a blob is, so a place never takes other content
//! for one that it has.

use std::{
    fs::File,
    io::{self, Write as _},
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::fs::FileExt as _,
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, linkat, mkdirat, openat, renameat, unlinkat},
    io::Errno,
};
use sha2::{Digest as _, Sha256};
use tonic::Status;

use crate::{
    layer::view::at,
    oci::Digest,
    store::{BlobWriter, Store, StoreError},
};

/// A place of blobs.
#[derive(Clone)]
pub(crate) enum ContentPlace {
    /// Our store: the daemon may write every blob, and read those that it wrote.
    Store { store: Store, received: ReceivedBlobs },
    /// A folder in the OCI layout: the daemon may read every blob of it, and write if `writable`. Its `index.json` is the
    /// caller's.
    Layout { folder: Arc<OwnedFd>, writable: bool, received: ReceivedBlobs },
}

/// The blobs that a daemon sent or wanted to send, in order.
#[derive(Clone, Default)]
pub(crate) struct ReceivedBlobs(Arc<Mutex<Vec<ReceivedBlob>>>);

/// A blob that is in its place now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReceivedBlob {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    /// It was there already and did not travel.
    pub(crate) was_known: bool,
}

impl ReceivedBlobs {
    /// All so far; each once.
    #[cfg(test)]
    pub(crate) fn list(&self) -> Vec<ReceivedBlob> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, blob: ReceivedBlob) {
        let mut blobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !blobs.iter().any(|known| known.digest == blob.digest) {
            blobs.push(blob);
        }
    }

    fn has_sent(&self, digest: &Digest) -> bool {
        let blobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        blobs.iter().any(|blob| blob.digest == *digest && !blob.was_known)
    }
}

/// A blob that is being written; dropped before [`commit`](Self::commit), nothing is kept.
pub(super) enum NewBlob {
    Store(BlobWriter),
    Layout(LayoutBlob),
}

/// A blob that is open for reading.
pub(super) struct OpenBlob {
    file: File,
    pub(super) size: u64,
}

impl OpenBlob {
    pub(super) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }
}

impl ContentPlace {
    fn received(&self) -> &ReceivedBlobs {
        match self {
            Self::Store { received, .. } | Self::Layout { received, .. } => received,
        }
    }

    /// The size of a blob that is there. Blocks.
    pub(super) fn size(&self, digest: &Digest) -> Option<u64> {
        match self {
            Self::Store { store, .. } => store.blob_size(digest),
            Self::Layout { folder, .. } => open_blob(folder, digest).ok().map(|blob| blob.size),
        }
    }

    /// Notes that the daemon wanted to send a blob that is there.
    pub(super) fn note_known(&self, digest: Digest, size: u64) {
        self.received().note(ReceivedBlob { digest, size, was_known: true });
    }

    /// Opens a blob that the daemon may read. Blocks.
    pub(super) fn open(&self, digest: &Digest) -> Result<OpenBlob, Status> {
        let missing = || Status::not_found(format!("there is no blob {digest}"));
        match self {
            Self::Store { store, received } => {
                if !received.has_sent(digest) {
                    return Err(missing());
                }
                let size = store.blob_size(digest).ok_or_else(missing)?;
                Ok(OpenBlob { file: store.open_blob(digest).map_err(|error| store_fault(&error))?, size })
            }
            Self::Layout { folder, .. } => open_blob(folder, digest).map_err(|error| match at::is_absent(&error) {
                true => missing(),
                false => Status::failed_precondition(format!("cannot read {digest}: {error}")),
            }),
        }
    }

    /// Starts a blob. Blocks.
    pub(super) fn create(&self) -> Result<NewBlob, Status> {
        match self {
            Self::Store { store, .. } => Ok(NewBlob::Store(store.blob_writer().map_err(|error| store_fault(&error))?)),
            Self::Layout { writable: false, .. } => Err(Status::permission_denied("this place is only read")),
            Self::Layout { folder, .. } => Ok(NewBlob::Layout(LayoutBlob::create(folder.clone()).map_err(fault)?)),
        }
    }

    /// Keeps a blob under its digest. Blocks.
    ///
    /// # Errors
    /// It has another digest than `expected`, or cannot be written.
    pub(super) fn commit(&self, blob: NewBlob, expected: Option<&Digest>) -> Result<Digest, Status> {
        let (digest, size) = match blob {
            NewBlob::Store(writer) => writer.commit(expected).map_err(|error| store_fault(&error))?,
            NewBlob::Layout(blob) => blob.commit(expected)?,
        };
        self.received().note(ReceivedBlob { digest, size, was_known: false });
        Ok(digest)
    }
}

impl NewBlob {
    /// Writes on. Blocks.
    pub(super) fn write(&mut self, data: &[u8]) -> Result<(), Status> {
        match self {
            Self::Store(writer) => writer.write_all(data).map_err(fault),
            Self::Layout(blob) => blob.write(data).map_err(fault),
        }
    }
}

fn fault(error: io::Error) -> Status {
    Status::data_loss(format!("cannot write the blob: {error}"))
}

fn store_fault(error: &StoreError) -> Status {
    match error {
        StoreError::Mismatch { .. } => Status::failed_precondition(error.to_string()),
        _ => Status::data_loss(error.to_string()),
    }
}

fn blob_path(digest: &Digest) -> PathBuf {
    Path::new("blobs/sha256").join(digest.hex())
}

fn open_blob(folder: &OwnedFd, digest: &Digest) -> io::Result<OpenBlob> {
    let file = at::file(folder.as_fd(), &blob_path(digest))?;
    let size = file.metadata()?.len();
    Ok(OpenBlob { file, size })
}

/// A blob for a layout folder: a file without a name, or with a temporary one where the file system has no such files.
pub(super) struct LayoutBlob {
    folder: Arc<OwnedFd>,
    file: File,
    temporary: Option<String>,
    hasher: Sha256,
    size: u64,
}

impl LayoutBlob {
    fn create(folder: Arc<OwnedFd>) -> io::Result<Self> {
        let mode = Mode::from_raw_mode(0o644);
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let (file, temporary) = match openat(&folder, ".", flags | OFlags::TMPFILE, mode) {
            Ok(file) => (file, None),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => {
                let name = format!(".bake-tmp-{}-{:016x}", std::process::id(), getrandom::u64()?);
                let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
                (openat(&folder, &name, flags, mode)?, Some(name))
            }
            Err(error) => return Err(error.into()),
        };
        Ok(Self { folder, file: file.into(), temporary, hasher: Sha256::new(), size: 0 })
    }

    fn write(&mut self, data: &[u8]) -> io::Result<()> {
        self.file.write_all(data)?;
        self.hasher.update(data);
        self.size += data.len() as u64;
        Ok(())
    }

    fn commit(mut self, expected: Option<&Digest>) -> Result<(Digest, u64), Status> {
        let hex: String =
            std::mem::take(&mut self.hasher).finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let digest = Digest::from_hex(&hex).map_err(|error| Status::internal(error.to_string()))?;
        if let Some(expected) = expected.filter(|expected| **expected != digest) {
            return Err(Status::failed_precondition(format!("the content has the digest {digest}, not {expected}")));
        }
        self.name(&digest).map_err(fault)?;
        Ok((digest, self.size))
    }

    fn name(&mut self, digest: &Digest) -> io::Result<()> {
        let make = |dir: &OwnedFd, name: &str| match mkdirat(dir, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => at::dir(dir.as_fd(), Path::new(name)),
            Err(error) => Err(error.into()),
        };
        let dir = make(&make(&self.folder, "blobs")?, "sha256")?;
        if let Some(temporary) = self.temporary.take() {
            return Ok(renameat(&self.folder, &temporary, &dir, digest.hex())?);
        }
        let unnamed = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        match linkat(CWD, unnamed, &dir, digest.hex(), AtFlags::SYMLINK_FOLLOW) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for LayoutBlob {
    fn drop(&mut self) {
        if let Some(name) = &self.temporary {
            unlinkat(&self.folder, name, AtFlags::empty()).ok();
        }
    }
}
