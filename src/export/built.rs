//! What a build hands to its exports: config, layers and the facts that provenance states.
//!
//! Plain data. Where the bytes of layers are, and whether they are here yet, is decided in `pack`.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, value::RawValue};

use crate::{
    oci::{
        BaseLayer, Digest, ImageConfig, Platform,
        key::{key_fields, key_words},
    },
    spec::attest::SbomOptions,
};

/// Deepest folder of a result, or of a destination, that an export walks into.
pub(super) const DEEPEST_FOLDER: usize = 1000;

/// The result of one build: one target on one platform.
#[derive(Clone, Debug)]
pub(crate) struct BuiltImage {
    pub(crate) platform: Platform,
    /// The config of the result, but with the history and diff ids of the base image; those of the steps of this build are
    /// added when the image is assembled.
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
    /// For an inline cache: of each step whose layers are the lowest ones of the result, the cache key, the id of its tree,
    /// and how many layers that is, those of the base image included.
    pub(crate) inline_cache: Option<Vec<(Digest, Digest, usize)>>,
    /// Facts for provenance, if an export states them.
    pub(crate) provenance: Option<Arc<Provenance>>,
    /// What image configs say about the build, if an export writes it.
    pub(crate) build_info: Option<Arc<BuildInfo>>,
    /// The SBOMs that exports write, by the identity of their options.
    pub(crate) sboms: BTreeMap<Digest, Arc<Sbom>>,
}

impl BuiltImage {
    /// The SBOM that these options ask for.
    pub(super) fn sbom(&self, options: Option<&SbomOptions>) -> Option<&Arc<Sbom>> {
        self.sboms.get(&options?.id())
    }
}

/// The software bill of materials of a result, as a scanner wrote it.
#[derive(Clone, Debug)]
pub(crate) struct Sbom {
    /// The identity of the tree that the scanner left.
    pub(crate) id: Digest,
    /// At least one; in the order of their names.
    pub(crate) documents: Vec<SbomDocument>,
}

/// One document of an SBOM: that about the result itself, or about a stage or the context.
#[derive(Clone, Debug)]
pub(crate) struct SbomDocument {
    /// As the scanner named it: `sbom.spdx.json`.
    pub(crate) filename: String,
    /// What the predicate is, as a URL.
    pub(crate) predicate_type: String,
    pub(crate) predicate: Box<RawValue>,
}

/// What an image config says about the build of the image. Nothing in it depends on the machine, its paths or the time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BuildInfo {
    /// The attributes of the request, under the names that BuildKit's Dockerfile frontend gives them.
    pub(crate) attributes: BTreeMap<String, String>,
    /// Sorted, each once.
    pub(crate) sources: Vec<BuildInfoSource>,
}

/// Something from outside that a build was made of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BuildInfoSource {
    pub(crate) kind: BuildInfoSourceKind,
    /// As it was asked for, without credentials: a reference or a URL.
    pub(crate) reference: String,
    /// The digest or commit that it was in this build; `None` when that is not known.
    pub(crate) pin: Option<String>,
}

/// The kinds of sources of a build, as build information names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum BuildInfoSourceKind {
    DockerImage,
    OciLayout,
    Git,
    Http,
}

key_fields!(BuildInfo { attributes, sources });
key_fields!(BuildInfoSource { kind, reference, pin });
key_words!(BuildInfoSourceKind { DockerImage = 0, OciLayout = 1, Git = 2, Http = 3 });

/// The history entry of one step (OCI image spec, image config, `history`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ExportStep {
    pub(crate) created_by: String,
    pub(crate) comment: Option<String>,
    pub(crate) author: Option<String>,
    /// The step made no layer: `empty_layer`.
    pub(crate) empty: bool,
}

/// One layer of a result: its snapshot in the store, and, for layers of a base image, where its blob was published.
#[derive(Clone, Debug)]
pub(crate) struct LayerRef {
    pub(crate) snapshot: Digest,
    /// RFC 3339, when the snapshot was made.
    pub(crate) created: String,
    /// For a layer of a base image: the published layer. It may be neither downloaded nor unpacked yet.
    pub(crate) base: Option<BaseLayer>,
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
