//! A build: one target on one platform, with all that decides its result.

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;

use super::PlanKey;
use crate::{
    eval::target::typed::TargetName,
    oci::{Digest, Platform, digest::FieldHasher},
    report::Span,
    spec::{CallMethod, Entitlement, Policy, RemoteCache, ResourceLimits, Secret, Ssh, Ulimit, context::ContextSource},
};

/// Where the Dockerfile comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DockerfileInput {
    /// Its text.
    Inline(String),
    /// A path in the main context.
    InContext(String),
    /// A path relative to the working directory (`cwd://…`) or absolute.
    Local(String),
}

/// Network of RUN instructions that do not choose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum BuildNetwork {
    #[default]
    Default,
    None,
    Host,
}

/// One build.
#[derive(Clone, Debug)]
pub(crate) struct Build {
    pub(crate) key: PlanKey,
    /// The targets that need it; the first one gives it its name.
    pub(crate) wanted_by: Vec<TargetName>,
    pub(crate) platform: Platform,
    /// The user named the platform.
    pub(crate) explicit_platform: bool,
    /// The first target is built for several platforms: names say which.
    pub(crate) multi_platform: bool,
    pub(crate) context: ContextSource,
    pub(crate) dockerfile: DockerfileInput,
    /// The stage to build; the last one when `None`.
    pub(crate) stage: Option<String>,
    /// In the order of their names.
    pub(crate) args: IndexMap<String, String>,
    /// Arguments whose values come of sensitive variables: no history and no attestation shows them. Not part of the key.
    pub(crate) hidden_args: BTreeSet<String>,
    pub(crate) labels: IndexMap<String, String>,
    /// Named contexts; [`ContextSource::Target`] has a link to the build it stands for.
    pub(crate) contexts: IndexMap<String, ContextSource>,
    pub(crate) network: BuildNetwork,
    /// Name and address; a name with several addresses comes several times.
    pub(crate) extra_hosts: Vec<(String, String)>,
    pub(crate) shm_size: Option<u64>,
    pub(crate) ulimits: Vec<Ulimit>,
    pub(crate) resources: ResourceLimits,
    pub(crate) no_cache: bool,
    /// Stages for which no cached result is used.
    pub(crate) no_cache_filter: Vec<String>,
    pub(crate) pull: bool,
    pub(crate) secrets: Vec<Secret>,
    pub(crate) ssh: Vec<Ssh>,
    pub(crate) entitlements: Vec<Entitlement>,
    pub(crate) policies: Vec<Policy>,
    pub(crate) call: CallMethod,
    /// Of all targets that want it; not part of the key.
    pub(crate) cache_from: Vec<RemoteCache>,
    pub(crate) cache_to: Vec<RemoteCache>,
    /// The label of the first target's block.
    pub(crate) at: Span,
    /// Where its attributes were set, by name.
    pub(crate) places: BTreeMap<&'static str, Span>,
}

impl Build {
    /// Where an attribute was set, or else the target's label.
    pub(crate) fn at(&self, attribute: &str) -> Span {
        self.places.get(attribute).copied().unwrap_or(self.at)
    }

    /// The key, from everything that decides the result. `linked`: keys of builds that stand behind contexts.
    pub(crate) fn digest(&self, linked: &BTreeMap<&str, Digest>) -> Digest {
        let mut hasher = FieldHasher::new("plan-build/1");
        hasher.text(&self.platform.to_string()).number(u64::from(self.explicit_platform));
        context(&mut hasher, &self.context);
        match &self.dockerfile {
            DockerfileInput::Inline(text) => hasher.number(0).text(text),
            DockerfileInput::InContext(path) => hasher.number(1).text(path),
            DockerfileInput::Local(path) => hasher.number(2).text(path),
        };
        hasher.optional(self.stage.as_deref());
        pairs(&mut hasher, &self.args);
        pairs(&mut hasher, &self.labels);
        hasher.number(self.contexts.len() as u64);
        for (name, it) in &self.contexts {
            hasher.text(name);
            match (it, linked.get(name.as_str())) {
                (ContextSource::Target(_), Some(key)) => {
                    hasher.text("target").digest(key);
                }
                _ => context(&mut hasher, it),
            }
        }
        hasher.number(self.network as u64);
        hasher.number(self.extra_hosts.len() as u64);
        for (name, address) in &self.extra_hosts {
            hasher.text(name).text(address);
        }
        hasher.number(u64::from(self.shm_size.is_some())).number(self.shm_size.unwrap_or(0));
        texts(&mut hasher, self.ulimits.iter().map(ToString::to_string));
        texts(&mut hasher, self.resources.entries().into_iter().map(|it| format!("{}={}", it.key, it.text)));
        hasher.number(u64::from(self.no_cache)).number(u64::from(self.pull));
        texts(&mut hasher, self.no_cache_filter.iter().cloned());
        texts(&mut hasher, self.secrets.iter().map(|it| format!("{it:?}")));
        texts(&mut hasher, self.ssh.iter().map(|it| format!("{it:?}")));
        texts(&mut hasher, self.entitlements.iter().map(|it| format!("{it:?}")));
        texts(&mut hasher, self.policies.iter().map(|it| format!("{it:?}")));
        hasher.text(&format!("{:?}", self.call));
        hasher.finish()
    }
}

fn pairs(hasher: &mut FieldHasher, all: &IndexMap<String, String>) {
    hasher.number(all.len() as u64);
    for (key, value) in all {
        hasher.text(key).text(value);
    }
}

fn texts(hasher: &mut FieldHasher, all: impl Iterator<Item = String>) {
    let all: Vec<String> = all.collect();
    hasher.number(all.len() as u64);
    for it in &all {
        hasher.text(it);
    }
}

fn context(hasher: &mut FieldHasher, it: &ContextSource) {
    match it {
        ContextSource::Target(name) => hasher.text("target").text(name),
        ContextSource::Image(reference) => hasher.text("image").text(reference),
        ContextSource::OciLayout { path, tag, digest } => {
            hasher.text("layout").text(path).optional(tag.as_deref()).optional(digest.as_deref())
        }
        ContextSource::Git(url) => hasher.text("git").text(url),
        ContextSource::Http(url) => hasher.text("http").text(url),
        ContextSource::Local(path) => hasher.text("local").text(path),
        ContextSource::Stdin => hasher.text("stdin"),
    };
}
