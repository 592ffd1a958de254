//! An export: the result of a target, all its platforms, handed to one output.

use std::sync::Arc;

use super::PlanKey;
use crate::{
    eval::target::typed::TargetName,
    oci::{Digest, Platform, digest::FieldHasher, key::KeyField},
    report::Span,
    spec::{ImageTag, OptionItem, Output, annotation::Annotation, attest::Attestations},
};

/// One export.
#[derive(Clone, Debug)]
pub(crate) struct Export {
    pub(crate) key: PlanKey,
    /// The targets that asked for exactly this; never empty.
    pub(crate) wanted_by: Vec<TargetName>,
    pub(crate) output: Arc<OptionItem<Output>>,
    /// Names of the image; only for images and archives.
    pub(crate) tags: Vec<ImageTag>,
    /// Those of the target; only for images and archives.
    pub(crate) annotations: Vec<Annotation>,
    pub(crate) attestations: Attestations,
    /// One build each, in this order.
    pub(crate) platforms: Vec<Platform>,
    /// The first target's `output`, `attest`, or its label.
    pub(crate) at: Span,
    pub(crate) attest_at: Span,
}

impl Export {
    /// `type=oci,dest=out.tar`.
    pub(crate) fn title(&self) -> String {
        let texts = self.output.texts();
        let first = ["type", "dest"].into_iter().filter_map(|key| texts.get_key_value(key));
        let others = texts.iter().filter(|(key, _)| !matches!(key.as_str(), "type" | "dest"));
        first.chain(others).map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
    }

    /// The key, from what is exported and how.
    pub(crate) fn digest(&self, builds: &[Digest]) -> Digest {
        let Self {
            key: _,
            // Who wants it changes nothing about it.
            wanted_by: _,
            output,
            tags,
            annotations,
            attestations,
            // Each build has its own.
            platforms: _,
            at: _,
            attest_at: _,
        } = self;
        let mut hasher = FieldHasher::new("plan-export/2");
        (builds, output).add_to(&mut hasher);
        tags.add_to(&mut hasher);
        (annotations, attestations).add_to(&mut hasher);
        hasher.finish()
    }
}
