//! A layer as it goes into an image, and the compression of published layers.
//!
//! Media types: OCI image spec, "Image Layer Filesystem Changeset"; estargz is known by its annotation.

use std::collections::BTreeMap;

use crate::{
    export::{built::BaseLayer, options::Codec},
    oci::{DiffId, Digest},
};

/// A layer as it goes into an image.
#[derive(Clone, Debug)]
pub(crate) struct PackedLayer {
    pub(crate) diff_id: DiffId,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) codec: Codec,
    pub(crate) annotations: BTreeMap<String, String>,
    /// Marked as not to be distributed by the base image.
    pub(crate) nondist: bool,
    /// A base image's blob as published: it may not be here.
    pub(crate) base: Option<BaseLayer>,
}

/// Compression of a published layer by its media type and annotations, and whether it is not to be distributed.
pub(crate) fn codec_of(media_type: &str, annotations: &BTreeMap<String, String>) -> (Codec, bool) {
    let codec = if annotations.contains_key("containerd.io/snapshot/stargz/toc.digest") {
        Codec::Estargz
    } else if media_type.ends_with("zstd") {
        Codec::Zstd
    } else if media_type.ends_with("gzip") {
        Codec::Gzip
    } else {
        Codec::Uncompressed
    };
    (codec, media_type.contains("nondistributable") || media_type.contains(".foreign."))
}
