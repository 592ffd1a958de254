//! Manifests and indexes as documents: reading them within bounds, choosing the manifest of a platform.

use crate::oci::{Descriptor, Digest, ImageConfig, Platform};

/// One manifest or index, verified: `digest` is that of `bytes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Document {
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) bytes: Vec<u8>,
}

/// Where documents (manifests, indexes, configs) are kept between runs, so that nothing is fetched twice.
pub(crate) trait Documents: Send + Sync {
    /// The bytes of a digest, verified.
    fn get(&self, digest: &Digest) -> Option<Vec<u8>>;
    /// Keeps bytes; failing to is no fault.
    fn put(&self, bytes: &[u8]);
}

/// Keeps nothing.
pub(crate) struct NoDocuments;

impl Documents for NoDocuments {
    fn get(&self, _: &Digest) -> Option<Vec<u8>> {
        None
    }
    fn put(&self, _: &[u8]) {}
}

/// An image for one platform: all that is known before its layers are fetched.
///
/// *Invariant:* `layers` are as many as `config.rootfs.diff_ids`; every layer has a sha256 digest.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    /// What the reference names: of the index, or of the manifest when there is no index.
    pub(crate) root: Document,
    pub(crate) manifest: Document,
    pub(crate) config_digest: Digest,
    pub(crate) config_bytes: Vec<u8>,
    pub(crate) config: ImageConfig,
    /// Lowest first.
    pub(crate) layers: Vec<Descriptor>,
    /// The platform chosen; differs from the one asked for where a compatible one was taken.
    pub(crate) platform: Platform,
}

/// The position in `entries` of what runs best on `wanted`: exactly that platform, else the nearest older variant.
///
/// Entries without platform count only if there is nothing else to choose from and the list has one entry.
pub(crate) fn resolve_platform(entries: &[Option<Platform>], wanted: &Platform) -> Option<usize> {
    entries.iter().position(|it| it.as_ref() == Some(wanted))
}
