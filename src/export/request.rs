//! What is asked of an export before its build runs: the output, and what the target says about it.
//!
//! Plain data. Options are checked by `options`, not here.

use std::path::PathBuf;

use crate::{oci::Platform, report::Span};

/// One output of a target as the user wrote it. `registry` and `image` with `push` are both understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExportedOutput {
    /// `type=`.
    pub(crate) exporter: String,
    /// All other fields, `dest` included, in order.
    pub(crate) options: Vec<OutputOption>,
    /// The attribute (or flag) that asked for it.
    pub(crate) at: Option<Span>,
}

/// `key=value` of an output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OutputOption {
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) at: Option<Span>,
}

/// What a target says about its outputs, known before the build.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    /// Name of the target, for messages.
    pub(crate) target: String,
    /// `tags` of the target, checked references in the user's spelling; they overrule `name=`.
    pub(crate) tags: Vec<String>,
    /// `annotations` of the target: `[TYPE[PLATFORM][,…]:]KEY=VALUE`.
    pub(crate) annotations: Vec<(String, Option<Span>)>,
    /// Platforms in the order of the target; never empty.
    pub(crate) platforms: Vec<Platform>,
    /// Normalised attestations of the target.
    pub(crate) attest: Attestations,
    /// Relative destinations are relative to it.
    pub(crate) cwd: PathBuf,
    /// Provenance in the metadata file: `Some(true)` in full (`BUILDX_METADATA_PROVENANCE`).
    pub(crate) metadata_provenance: Option<bool>,
    /// An index is made even for one platform (`BUILDKIT_MULTI_PLATFORM=1`).
    pub(crate) always_index: bool,
}

/// Attestations that were asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attestations {
    pub(crate) provenance: Option<ProvenanceWanted>,
    /// Options of `type=sbom`, if asked for.
    pub(crate) sbom: Option<Vec<(String, String)>>,
}

/// `type=provenance,…`.
#[derive(Clone, Debug)]
pub(crate) struct ProvenanceWanted {
    pub(crate) options: Vec<(String, String)>,
    /// Nobody asked; it is the default (`mode=min,inline-only=true`).
    pub(crate) by_default: bool,
    pub(crate) at: Option<Span>,
}
