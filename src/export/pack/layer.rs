//! A layer as it goes into an image.

use std::collections::BTreeMap;

use crate::oci::{BaseLayer, Codec, DiffId, Digest};

/// A packed layer as an image refers to it.
#[derive(Clone, Debug)]
pub(crate) struct PackedLayer {
    pub(crate) diff_id: DiffId,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) codec: Codec,
    pub(crate) annotations: BTreeMap<String, String>,
    /// The base image marks it as non-distributable.
    pub(crate) nondist: bool,
    /// For an unchanged layer of a base image: the store may not have its blob yet.
    pub(crate) base: Option<BaseLayer>,
}

/// Whether a media type is that of a layer that must not be distributed.
pub(crate) fn is_nondist(media_type: &str) -> bool {
    media_type.contains("nondistributable") || media_type.contains(".foreign.")
}
