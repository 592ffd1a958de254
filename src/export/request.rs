//! What is asked of an export before its build runs: the output, and what the target says about it.
//!
//! Plain data. Options were parsed when the definition was evaluated.

use std::{path::PathBuf, sync::Arc};

use crate::{
    report::Span,
    spec::{
        ImageTag, OptionItem, Output,
        annotation::Annotation,
        attest::{Attestations, ProvenanceMode},
    },
};

/// One output of a target.
#[derive(Clone, Debug)]
pub(crate) struct ExportedOutput {
    pub(crate) item: Arc<OptionItem<Output>>,
    /// The attribute (or flag) that asked for it.
    pub(crate) at: Span,
}

impl ExportedOutput {
    /// The exporter as the user wrote it: the value of `type`.
    pub(super) fn exporter(&self) -> &str {
        self.item.exporter()
    }
}

/// What a target says about its outputs, known before the build: names, platforms, annotations.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    /// Name of the target, for messages.
    pub(crate) target: String,
    /// `tags` of the target; they overrule `name=`.
    pub(crate) tags: Vec<ImageTag>,
    /// `annotations` of the target; those of the output come after them.
    pub(crate) annotations: Vec<Annotation>,
    /// The result is one of several platforms, even if it is one: an index, or a folder for each.
    pub(crate) multi_platform: bool,
    pub(crate) attestations: Attestations,
    /// Relative destinations are relative to it.
    pub(crate) cwd: PathBuf,
    /// Provenance in the metadata file, if it is to have any (`BUILDX_METADATA_PROVENANCE`).
    pub(crate) metadata_provenance: Option<ProvenanceMode>,
}
