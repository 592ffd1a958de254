//! What a build hands to its exports: config, layers and the facts that provenance states.
//!
//! Plain data. Where the bytes of layers are, and whether they are here yet, is decided in `pack`.

use std::{path::PathBuf, sync::Arc};

use serde_json::Value;

use crate::oci::{Descriptor, DiffId, Digest, ImageConfig, Platform};

/// Deepest folder of a result, or of a destination, that an export walks into.
pub(super) const DEEPEST_FOLDER: usize = 1000;

/// One build's result: one target on one platform.
#[derive(Clone, Debug)]
pub(crate) struct BuiltImage {
    pub(crate) platform: Platform,
    /// Final, with the base's history and diff ids, without those of this build's own steps and layers.
    pub(crate) config: ImageConfig,
    /// History of this build's own steps, in order; those that are not empty are as many as the own layers.
    pub(crate) steps: Vec<ExportStep>,
    /// All layers, lowest first; the first `base_layers` are the base image's.
    pub(crate) layers: Vec<LayerRef>,
    pub(crate) base_layers: usize,
    /// Identity of tree and config: equal content gives equal exports.
    pub(crate) content: Digest,
    /// SOURCE_DATE_EPOCH of the build.
    pub(crate) epoch: Option<i64>,
    /// For an inline cache: key, identity of the result, and how many of the layers it has.
    pub(crate) inline_cache: Option<Vec<(Digest, Digest, usize)>>,
    /// Facts for provenance; whatever is known, see `attest.rs`.
    pub(crate) provenance: Option<Arc<Provenance>>,
}

/// A history entry of a step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ExportStep {
    pub(crate) created_by: String,
    pub(crate) comment: Option<String>,
    pub(crate) author: Option<String>,
    /// It made no layer.
    pub(crate) empty: bool,
}

/// One layer of a result.
#[derive(Clone, Debug)]
pub(crate) struct LayerRef {
    pub(crate) snapshot: Digest,
    /// RFC 3339, when the snapshot was made.
    pub(crate) created: String,
    /// For a layer of a base image: what it is where it came from. It may be neither downloaded nor unpacked.
    pub(crate) base: Option<BaseLayer>,
}

/// A layer of a base image as published.
#[derive(Clone, Debug)]
pub(crate) struct BaseLayer {
    pub(crate) diff_id: DiffId,
    pub(crate) descriptor: Descriptor,
    pub(crate) origin: BlobOrigin,
}

/// Where a base layer's blob is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BlobOrigin {
    Registry { domain: String, path: String },
    Layout { folder: PathBuf },
}

/// What provenance says about a build.
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
