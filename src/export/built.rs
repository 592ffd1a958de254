//! What a build hands to its exports: config, layers and the facts that provenance states.
//!
//! Plain data. Where the bytes of layers are, and whether they are here yet, is decided in `pack`.

use std::{path::PathBuf, sync::Arc};

use serde_json::Value;

use crate::oci::{Descriptor, DiffId, Digest, ImageConfig, Platform};

/// Deepest folder of a result, or of a destination, that an export walks into.
pub(super) const DEEPEST_FOLDER: usize = 1000;

/// The result of one build: one target on one platform.
#[derive(Clone, Debug)]
pub(crate) struct BuiltImage {
    pub(crate) platform: Platform,
    /// The final config with the history and diff ids of the base image; those of the steps of this build are added when
    /// the image is assembled.
    pub(crate) config: ImageConfig,
    /// History of the steps of this build, in order. As many of them have a layer as there are layers above the base.
    pub(crate) steps: Vec<ExportStep>,
    /// All layers, lowest first; the first `base_layers` are those of the base image.
    pub(crate) layers: Vec<LayerRef>,
    pub(crate) base_layers: usize,
    /// Digest over tree and config: builds of equal content give equal exports.
    pub(crate) content: Digest,
    /// `SOURCE_DATE_EPOCH` of the build, seconds since 1970.
    pub(crate) epoch: Option<i64>,
    /// For an inline cache, one entry a step: cache key, identity of the result, number of layers from the lowest.
    pub(crate) inline_cache: Option<Vec<(Digest, Digest, usize)>>,
    /// Facts for provenance, if an export states them.
    pub(crate) provenance: Option<Arc<Provenance>>,
}

/// The history entry of one step (OCI image spec, image config, `history`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ExportStep {
    pub(crate) created_by: String,
    pub(crate) comment: Option<String>,
    pub(crate) author: Option<String>,
    /// The step made no layer: `empty_layer`.
    pub(crate) empty: bool,
}

/// One layer of a result: its snapshot in the store, and for base layers where it was published.
#[derive(Clone, Debug)]
pub(crate) struct LayerRef {
    pub(crate) snapshot: Digest,
    /// RFC 3339, when the snapshot was made.
    pub(crate) created: String,
    /// For a layer of a base image: the published layer. It may be neither downloaded nor unpacked yet.
    pub(crate) base: Option<BaseLayer>,
}

/// A layer of a base image as it was published.
#[derive(Clone, Debug)]
pub(crate) struct BaseLayer {
    pub(crate) diff_id: DiffId,
    pub(crate) descriptor: Descriptor,
    pub(crate) origin: BlobOrigin,
}

/// Where the blob of a base layer can be read: a repository of a registry, or an OCI layout folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BlobOrigin {
    Registry { domain: String, path: String },
    Layout { folder: PathBuf },
}

/// The facts about a build that provenance states (<https://slsa.dev/spec/v1.0/provenance>).
#[derive(Clone, Debug, Default)]
pub(crate) struct Provenance {
    /// `externalParameters.configSource`: uri, digest (`sha1` or `sha256`), path of the Dockerfile.
    pub(crate) config_uri: Option<String>,
    pub(crate) config_digest: Option<(String, String)>,
    pub(crate) config_path: String,
    /// `request.args` in full; what `min` leaves out is left out here.
    pub(crate) args: Vec<(String, String)>,
    pub(crate) secrets: Vec<(String, bool)>,
    pub(crate) ssh: Vec<(String, bool)>,
    pub(crate) locals: Vec<String>,
    /// URI (purl or URL) and digest (algorithm, hex) of images, git commits, downloads.
    pub(crate) materials: Vec<(String, (String, String))>,
    /// All inputs are in `materials`.
    pub(crate) complete: bool,
    /// No step had a network.
    pub(crate) hermetic: bool,
    /// The Dockerfile: name and text.
    pub(crate) source: Option<(String, Vec<u8>)>,
    /// VCS source and revision.
    pub(crate) vcs: Vec<(String, String)>,
    /// RFC 3339.
    pub(crate) started: String,
    pub(crate) finished: String,
    /// `mode=max`: our own graph as a list of `{id, op, inputs}`.
    pub(crate) graph: Vec<Value>,
}

/// The result of one step, as a shared cache records it: its cache key, its identity and its layers.
#[derive(Clone, Debug)]
pub(crate) struct CacheRecord {
    pub(crate) key: Digest,
    pub(crate) id: Digest,
    pub(crate) layers: Vec<LayerRef>,
}
