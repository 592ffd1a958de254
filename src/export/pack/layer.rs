//! A layer as it goes into an image, and the compression of published layers.
//!
//! Media types: OCI image spec, "Image Layer Filesystem Changeset"; estargz is known by its annotation.

use std::collections::BTreeMap;

use crate::{
    export::built::BaseLayer,
    oci::{DiffId, Digest},
    spec::compression::Codec,
};

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
