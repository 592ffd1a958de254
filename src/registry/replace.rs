//! Reading what a tag has where it is written, never at a mirror: for writers that join what they write with what is there.
//!
//! Registries have no request that replaces a tag only if it is unchanged (OCI distribution spec, "Pushing manifests"): who
//! writes looks afterwards, and writes again what another has replaced meanwhile.

use super::{
    client::Client,
    error::RegistryError,
    image::Document,
    push::{NameTarget, Repository},
};
use crate::oci::{Descriptor, Digest, Reference};

impl Client {
    /// The document that a tag names at the registry that it is written to; `None` if there is no such tag or repository.
    ///
    /// # Errors
    /// The error has method, registry, repository and the registry's own words.
    pub(crate) async fn written_document(&self, target: &NameTarget<'_>) -> Result<Option<Document>, RegistryError> {
        let host = self.writer(target.domain, target.insecure);
        let reference = reference(target);
        match self.document_at(&host, &reference, target.tag.unwrap_or_default(), None).await {
            Ok(document) => Ok(Some(document)),
            Err(RegistryError::Status { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A blob of the repository, whole and verified, from the registry that it is written to. `None` if it is not there.
    ///
    /// # Errors
    /// As [`Client::written_document`]; and when the bytes are not those of the digest.
    pub(crate) async fn written_blob(
        &self,
        target: &NameTarget<'_>,
        blob: &Descriptor,
    ) -> Result<Option<Vec<u8>>, RegistryError> {
        let host = self.writer(target.domain, target.insecure);
        match self.blob_of(&[host], &reference(target), blob, || Ok(Vec::new()), &|_| ()).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(RegistryError::Status { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether the repository that is written to has a blob: one HEAD.
    ///
    /// # Errors
    /// As [`Client::written_document`].
    pub(crate) async fn has_blob(&self, target: &NameTarget<'_>, digest: &Digest) -> Result<bool, RegistryError> {
        let host = self.writer(target.domain, target.insecure);
        let repository = Repository::new(self, &host, target.domain, target.path);
        repository.has(digest, &mut super::api::Retry::new(self)).await
    }
}

fn reference(target: &NameTarget<'_>) -> Reference {
    let NameTarget { domain, path, tag, insecure: _ } = *target;
    Reference { domain: domain.to_owned(), path: path.to_owned(), tag: tag.map(str::to_owned), digest: None }
}
