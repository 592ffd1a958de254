//! OCI layout folders: `index.json`, `blobs/sha256/HEX`. Only read; `export` writes them.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{Document, Image, RegistryError};
use crate::oci::{Descriptor, Digest, Platform};

/// An OCI layout folder.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    folder: PathBuf,
}

impl Layout {
    /// Opens a folder; `oci-layout` and `index.json` must be there.
    ///
    /// # Errors
    /// When it is no layout, or of a version that we do not know.
    pub(crate) fn open(folder: &Path) -> Result<Self, RegistryError> {
        Ok(Self { folder: folder.to_owned() })
    }

    /// What a tag (`None`: the only image, else `latest`) or digest names.
    ///
    /// # Errors
    /// Names the tags that are there.
    pub(crate) fn resolve(&self, tag: Option<&str>, digest: Option<&Digest>) -> Result<Document, RegistryError> {
        let _ = (tag, digest);
        Err(RegistryError::Layout { folder: self.folder.clone(), why: "not supported yet".to_owned() })
    }

    /// The image for a platform.
    ///
    /// # Errors
    /// As [`Layout::resolve`]; and when there is none for the platform, or a blob is damaged.
    pub(crate) fn image(
        &self,
        tag: Option<&str>,
        digest: Option<&Digest>,
        platform: &Platform,
    ) -> Result<Image, RegistryError> {
        let _ = platform;
        self.resolve(tag, digest)?;
        Err(RegistryError::Layout { folder: self.folder.clone(), why: "not supported yet".to_owned() })
    }

    /// Where the blob of a digest lies; its content is not verified.
    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.folder.join("blobs/sha256").join(digest.hex())
    }

    /// Copies a blob to `out`, verifying size and digest: an error means that `out` must be thrown away.
    ///
    /// # Errors
    /// When it is absent, damaged, or cannot be written.
    pub(crate) fn copy_blob(&self, descriptor: &Descriptor, out: &mut dyn io::Write) -> Result<(), RegistryError> {
        let _ = (descriptor, out);
        Err(RegistryError::Layout { folder: self.folder.clone(), why: "not supported yet".to_owned() })
    }
}
