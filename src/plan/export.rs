//! An export: the result of a target, all its platforms, handed to one output.

use super::PlanKey;
use crate::{
    eval::target::typed::TargetName,
    oci::{Digest, Platform, digest::FieldHasher},
    report::Span,
    spec::{Attest, Output},
};

/// One export.
#[derive(Clone, Debug)]
pub(crate) struct Export {
    pub(crate) key: PlanKey,
    /// The targets that asked for exactly this; never empty.
    pub(crate) wanted_by: Vec<TargetName>,
    pub(crate) output: Output,
    /// Checked references as written; only for images and archives.
    pub(crate) tags: Vec<String>,
    /// `[TYPE[PLATFORM],…:]KEY=VALUE` as written; only for images and archives.
    pub(crate) annotations: Vec<String>,
    pub(crate) attest: Vec<Attest>,
    /// One build each, in this order.
    pub(crate) platforms: Vec<Platform>,
    /// The first target's `output`, `annotations`, `attest`, or its label.
    pub(crate) at: Span,
    pub(crate) annotations_at: Span,
    pub(crate) attest_at: Span,
}

impl Export {
    /// `type=oci,dest=out.tar`.
    pub(crate) fn title(&self) -> String {
        let kind = format!("type={}", self.output.kind);
        let dest = self.output.dest.iter().map(|it| format!("dest={it}"));
        let others = self.output.attrs.iter().map(|(key, value)| format!("{key}={value}"));
        [kind].into_iter().chain(dest).chain(others).collect::<Vec<_>>().join(",")
    }

    /// The key, from what is exported and how.
    pub(crate) fn digest(&self, builds: &[Digest]) -> Digest {
        let mut hasher = FieldHasher::new("plan-export/1");
        hasher.number(builds.len() as u64);
        for build in builds {
            hasher.digest(build);
        }
        for (key, value) in self.output.entries() {
            hasher.text(key).text(value);
        }
        for list in [&self.tags, &self.annotations] {
            hasher.number(list.len() as u64);
            for it in list {
                hasher.text(it);
            }
        }
        hasher.number(self.attest.len() as u64);
        for it in &self.attest {
            hasher.text(&format!("{it:?}"));
        }
        hasher.finish()
    }
}
