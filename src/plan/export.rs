//! An export: the result of a target, all its platforms, handed to one output.

use std::sync::Arc;

use super::key::PlanKey;
use crate::{
    eval::target::typed::TargetName,
    oci::{Digest, Platform},
    report::Span,
    spec::{ImageTag, OptionItem, Output, annotation::Annotation, attest::Attestations},
};

/// One export: the results of a target's builds, written to one output.
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
    /// The result is one of several platforms, even if it is one.
    pub(crate) multi_platform: bool,
    /// The first target's `output`, or its label.
    pub(crate) at: Span,
}

impl Export {
    /// The output as users write it, type and destination first: `type=oci,dest=out.tar`.
    pub(crate) fn title(&self) -> String {
        let texts = self.output.texts();
        let first = ["type", "dest"].into_iter().filter_map(|key| texts.get_key_value(key));
        let others = texts.iter().filter(|(key, _)| !matches!(key.as_str(), "type" | "dest"));
        first.chain(others).map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
    }

    /// Computes the [`PlanKey`] of this export: exports of equal keys are one node of the plan.
    ///
    /// `builds` are the keys of its builds, in the order of `platforms`. Who wants it, and where it is written in the
    /// definition, do not count. The key is comparable within a run only; what was written is remembered under another
    /// one.
    #[cfg(not(feature = "unkeyed"))]
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
            multi_platform,
            at: _,
        } = self;
        use crate::oci::{digest::FieldHasher, key::KeyField as _};
        let mut hasher = FieldHasher::new("plan-export/2");
        (builds, output).add_to(&mut hasher);
        tags.add_to(&mut hasher);
        (annotations, attestations, multi_platform).add_to(&mut hasher);
        hasher.finish()
    }

    /// What [`Self::digest`] is when keys read no field.
    #[cfg(feature = "unkeyed")]
    pub(crate) fn digest(&self, _: &[Digest]) -> Digest {
        Digest::from_raw([0; 32])
    }
}
