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
pub(in crate::export) struct PackedLayer {
    pub(in crate::export) diff_id: DiffId,
    pub(in crate::export) digest: Digest,
    pub(in crate::export) size: u64,
    pub(in crate::export) codec: Codec,
    pub(in crate::export) annotations: BTreeMap<String, String>,
    /// Marked as not to be distributed by the base image.
    pub(in crate::export) nondist: bool,
    /// A base image's blob as published: it may not be here.
    pub(in crate::export) base: Option<BaseLayer>,
}

/// Compression of a published layer by its media type and annotations, and whether it is not to be distributed.
pub(in crate::export) fn codec_of(media_type: &str, annotations: &BTreeMap<String, String>) -> (Codec, bool) {
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
