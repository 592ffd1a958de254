//! Layers of images that were published: what they are, and where their blobs are read.

use std::{fmt, path::PathBuf};

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
    /// An object store, which holds a shared cache: the name of a blob is its digest after the prefix `blobs`.
    Objects { place: ObjectPlace, blobs: String },
}

/// An object store, or the cache service of GitHub Actions: where it is, without credentials.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum ObjectPlace {
    /// A bucket of S3, or of a server at `endpoint` that speaks its protocol.
    S3 { bucket: String, region: String, endpoint: Option<String>, is_path_style: bool },
    /// A container of Azure Blob Storage.
    Azblob { url: String, account: String, container: String },
    /// A bucket of Google Cloud Storage, or of a server at `endpoint` that speaks its protocol.
    Gcs { bucket: String, endpoint: Option<String> },
    /// The cache service of GitHub Actions, at the address that jobs are given.
    Actions { url: String },
}

impl fmt::Display for ObjectPlace {
    /// What users call it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3 { bucket, endpoint: None, .. } => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, endpoint: Some(url), .. } | Self::Gcs { bucket, endpoint: Some(url) } => {
                write!(f, "{}/{bucket}", url.trim_end_matches('/'))
            }
            Self::Azblob { url, container, .. } => write!(f, "{}/{container}", url.trim_end_matches('/')),
            Self::Gcs { bucket, endpoint: None } => write!(f, "gs://{bucket}"),
            Self::Actions { url } => f.write_str(url),
        }
    }
}

/// A layer of a base image, or of a shared cache. It may be neither downloaded nor unpacked yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct BaseLayer {
    pub(crate) layer: ImageLayer,
    pub(crate) origin: LayerOrigin,
}
