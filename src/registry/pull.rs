//! Reading from a registry: what a tag means now, manifests, blobs.

use std::io;

use super::{Client, Document, Documents, Image, Progress, RegistryError, Target};
use crate::oci::{Descriptor, Digest, Platform, Reference};

/// What a reference means at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) size: u64,
}

impl Client {
    /// What `reference` means now: one HEAD. A reference with a digest is looked up by it.
    ///
    /// # Errors
    /// Names method, registry, repository and the registry's own words.
    pub(crate) async fn resolve(&self, reference: &Reference) -> Result<Resolved, RegistryError> {
        Err(not_yet(reference))
    }

    /// The manifest or index of a digest, from `kept` if it is there.
    ///
    /// # Errors
    /// As [`Client::resolve`]; and when the bytes are not those of the digest.
    pub(crate) async fn document(
        &self,
        reference: &Reference,
        digest: &Digest,
        kept: &dyn Documents,
    ) -> Result<Document, RegistryError> {
        let _ = (digest, kept);
        Err(not_yet(reference))
    }

    /// The image that `reference` names, for `platform`: resolves the tag, reads index, manifest and config.
    ///
    /// # Errors
    /// As [`Client::document`]; and when there is none for the platform.
    pub(crate) async fn image(
        &self,
        reference: &Reference,
        platform: &Platform,
        kept: &dyn Documents,
    ) -> Result<Image, RegistryError> {
        let _ = (platform, kept);
        Err(not_yet(reference))
    }

    /// Fetches one blob of the repository of `reference` into the writer that `open` makes, resuming and retrying.
    /// Given back only when size and digest are right. `open` is called again when all must be read anew.
    ///
    /// # Errors
    /// As [`Client::document`]; a fault of the writer is [`RegistryError::Source`].
    pub(crate) async fn blob<W: io::Write + Send + 'static>(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        open: impl FnMut() -> io::Result<W> + Send,
        progress: Progress<'_>,
    ) -> Result<W, RegistryError> {
        let _ = (descriptor, open, progress);
        Err(not_yet(reference))
    }
}

fn not_yet(reference: &Reference) -> RegistryError {
    let target = Target {
        registry: reference.domain.clone(),
        repository: reference.path.clone(),
        reference: reference.tag_or_latest().unwrap_or_default().to_owned(),
    };
    RegistryError::Document { target, why: "not supported yet".to_owned() }
}
