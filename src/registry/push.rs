//! Writing to a registry: blobs (found there, mounted, or sent), then manifests bottom up, the tags last.

use std::{future::Future, path::PathBuf, pin::Pin, sync::Arc};

use super::{Client, Document, Progress, RegistryError};
use crate::oci::Digest;

/// Makes the file of a blob that is not here yet; the text of an error is shown to the user.
pub(crate) type Fetch = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<PathBuf, String>> + Send>> + Send + Sync>;

/// Where the bytes of a blob come from.
#[derive(Clone)]
pub(crate) enum Source {
    Bytes(bytes::Bytes),
    File(PathBuf),
    /// Asked only if the registry has not got the blob.
    Fetch(Fetch),
}

/// One blob that the repository must have.
#[derive(Clone)]
pub(crate) struct Upload {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) source: Source,
    /// Repositories (registry host, path) known to hold it: asked for a mount when on the same registry.
    pub(crate) found_in: Vec<(String, String)>,
}

/// All that one repository gets.
pub(crate) struct Push<'a> {
    /// Registry host and path.
    pub(crate) domain: &'a str,
    pub(crate) path: &'a str,
    /// Given to the root; none: by digest only.
    pub(crate) tags: &'a [String],
    /// Repeated digests are sent once.
    pub(crate) blobs: Vec<Upload>,
    /// Manifests and indexes, each after those it names; the last is the root.
    pub(crate) documents: Vec<Document>,
    /// `registry.insecure=true` of the output.
    pub(crate) insecure: bool,
    /// Told the bytes of all blobs together.
    pub(crate) progress: Progress<'a>,
}

impl Client {
    /// Sends what the repository lacks. A tag appears only after everything it needs.
    ///
    /// # Errors
    /// Names method, registry, repository and the registry's own words.
    pub(crate) async fn push(&self, push: Push<'_>) -> Result<(), RegistryError> {
        Err(RegistryError::Layout { folder: push.path.into(), why: "not supported yet".to_owned() })
    }
}
