//! Layers of images that were published: what they are, and where their blobs are read.

use std::path::PathBuf;

use oci_spec::image::Descriptor;
use serde::{Deserialize, Serialize};

use super::digest::DiffId;

/// One layer of an image: the blob that its manifest names, and the digest of the tar in it that its config names (OCI image
/// spec, "Layer DiffID").
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ImageLayer {
    pub(crate) diff_id: DiffId,
    pub(crate) descriptor: Descriptor,
}

/// Where the blobs of an image are read.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum LayerOrigin {
    /// A repository of a registry.
    Registry { domain: String, path: String },
    /// An OCI layout folder of the host, absolute.
    Layout { folder: PathBuf },
}

/// A layer of a base image, or of a shared cache. It may be neither downloaded nor unpacked yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct BaseLayer {
    pub(crate) layer: ImageLayer,
    pub(crate) origin: LayerOrigin,
}
