//! A build: one target on one platform, with all that decides its result.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use indexmap::IndexMap;

use super::PlanKey;
use crate::{
    eval::target::typed::TargetName,
    oci::{Digest, Platform, digest::FieldHasher, key::KeyField},
    report::Span,
    spec::{
        CacheExport, CacheImport, CallMethod, Entitlement, OptionItem, Policy, ResourceLimits, Secret, Ssh, Ulimit,
        context::{self, ContextSource},
        hosts::ExtraHost,
    },
};

pub(crate) use crate::spec::{BuildNetwork, dockerfile::DockerfileInput};

/// Files that a build reads when they exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OptionalFiles {
    /// `dockerfile`, which is taken when there is no `Dockerfile`.
    pub(crate) lower_case: Option<String>,
    /// Ignore files of the main context; the first that exists counts.
    pub(crate) ignore: Vec<String>,
}

/// The ignore file of a context that is a folder.
pub(crate) fn ignore_file_of(folder: &str) -> String {
    context::clean(&format!("{folder}/.dockerignore"))
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
    pub(crate) extra_hosts: Vec<ExtraHost>,
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
    pub(crate) cache_from: Vec<Arc<OptionItem<CacheImport>>>,
    pub(crate) cache_to: Vec<Arc<OptionItem<CacheExport>>>,
    /// The label of the first target's block.
    pub(crate) at: Span,
    /// Where its attributes were set, by name.
    pub(crate) places: BTreeMap<&'static str, Span>,
}

impl Build {
    /// The path of its Dockerfile on this machine, if it has one: cleaned as text, relative to the working directory.
    pub(crate) fn dockerfile_path(&self) -> Option<String> {
        match (&self.dockerfile, &self.context) {
            (DockerfileInput::Local(path), _) => Some(context::clean(path.strip_prefix("cwd://").unwrap_or(path))),
            (DockerfileInput::InContext(path), ContextSource::Local(folder)) => {
                Some(context::clean(&format!("{folder}/{path}")))
            }
            _ => None,
        }
    }

    /// Files beside the Dockerfile and in the context that are read when they exist: the Dockerfile in lower case, and the
    /// ignore files in the order in which they are looked for.
    pub(crate) fn optional_files(&self) -> OptionalFiles {
        let dockerfile = self.dockerfile_path();
        let lower_case = dockerfile
            .as_deref()
            .and_then(|path| path.strip_suffix("Dockerfile"))
            .filter(|folder| folder.is_empty() || folder.ends_with('/'))
            .map(|folder| format!("{folder}dockerfile"));
        let beside = |path: &String| format!("{path}.dockerignore");
        let ignore = match &self.context {
            ContextSource::Local(folder) => dockerfile.iter().map(beside).chain([ignore_file_of(folder)]).collect(),
            _ => Vec::new(),
        };
        OptionalFiles { lower_case, ignore }
    }

    /// Where an attribute was set, or else the target's label.
    pub(crate) fn at(&self, attribute: &str) -> Span {
        self.places.get(attribute).copied().unwrap_or(self.at)
    }

    /// The key, from everything that decides the result. `linked`: keys of builds that stand behind contexts.
    pub(crate) fn digest(&self, linked: &BTreeMap<&str, Digest>) -> Digest {
        let Self {
            key: _,
            // Who wants it and how it is called changes nothing about it.
            wanted_by: _,
            multi_platform: _,
            platform,
            explicit_platform,
            context,
            dockerfile,
            stage,
            args,
            // What is not shown is built all the same.
            hidden_args: _,
            labels,
            contexts,
            network,
            extra_hosts,
            shm_size,
            ulimits,
            resources,
            no_cache,
            no_cache_filter,
            pull,
            secrets,
            ssh,
            entitlements,
            policies,
            call,
            // Caches of all targets that want it are used.
            cache_from: _,
            cache_to: _,
            at: _,
            places: _,
        } = self;
        let mut hasher = FieldHasher::new("plan-build/2");
        (platform, explicit_platform).add_to(&mut hasher);
        (context, dockerfile, stage).add_to(&mut hasher);
        (args, labels).add_to(&mut hasher);
        contexts.len().add_to(&mut hasher);
        for (name, context) in contexts {
            name.add_to(&mut hasher);
            match (context, linked.get(name.as_str())) {
                (ContextSource::Target(_), Some(key)) => ("target", key).add_to(&mut hasher),
                _ => context.add_to(&mut hasher),
            }
        }
        (network, extra_hosts, shm_size).add_to(&mut hasher);
        (ulimits, resources).add_to(&mut hasher);
        (no_cache, no_cache_filter, pull).add_to(&mut hasher);
        (secrets, ssh).add_to(&mut hasher);
        (entitlements, policies, call).add_to(&mut hasher);
        hasher.finish()
    }
}
