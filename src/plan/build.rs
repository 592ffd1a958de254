//! A build: one target on one platform, with all that decides its result.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use indexmap::IndexMap;

use super::{key::PlanKey, namespace::CacheNamespace};
use crate::{
    eval::target::typed::TargetName,
    oci::{Digest, Platform},
    report::Span,
    spec::{
        CacheExport, CacheImport, CallMethod, Entitlement, OptionItem, ResourceLimits, Secret, Ssh, Ulimit, boolean,
        context::ContextSource,
        hosts::ExtraHost,
        policy::{UnnamedPolicies, policy_of},
    },
};

pub(crate) use crate::spec::{NetworkMode, dockerfile::DockerfileInput};

/// The files that a build reads if they exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OptionalFiles {
    /// `dockerfile`, which is taken when there is no `Dockerfile`.
    pub(crate) lower_case: Option<String>,
    /// Ignore files of the main context; the first that exists counts.
    pub(crate) ignore: Vec<String>,
    /// The policy beside the Dockerfile, if it would count.
    pub(crate) policy: Option<String>,
}

/// The option of an output that names the stage of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StageOption {
    pub(crate) at: Span,
    /// `source=STAGE`, of what stands there.
    pub(crate) part: String,
}

/// The path of the ignore file of a context directory.
pub(crate) fn ignore_file_of(folder: &str) -> String {
    crate::spec::path::clean(&format!("{folder}/.dockerignore"))
}

/// One build: one target, or several equal ones, on one platform.
#[derive(Clone, Debug)]
pub(crate) struct Build {
    pub(crate) key: PlanKey,
    /// The targets that need it; the first one gives it its name.
    pub(crate) wanted_by: Vec<TargetName>,
    pub(crate) platform: Platform,
    /// The user named the platform.
    pub(crate) explicit_platform: bool,
    /// The result is one of several platforms, even if it is one: names say which.
    pub(crate) multi_platform: bool,
    pub(crate) context: ContextSource,
    pub(crate) dockerfile: DockerfileInput,
    /// The stage to build; the last one when `None`.
    pub(crate) stage: Option<String>,
    /// Where the stage was named, unless that was the attribute `target`.
    pub(crate) stage_option: Option<StageOption>,
    /// In the order of their names.
    pub(crate) args: IndexMap<String, String>,
    /// Arguments whose values come of sensitive variables: no history and no attestation shows them. Not part of the key.
    pub(crate) hidden_args: BTreeSet<String>,
    pub(crate) labels: IndexMap<String, String>,
    /// Named contexts; [`ContextSource::Target`] has a link to the build it stands for.
    pub(crate) contexts: IndexMap<String, ContextSource>,
    pub(crate) network: NetworkMode,
    /// Name and address; a name with several addresses comes several times.
    pub(crate) extra_hosts: Vec<ExtraHost>,
    pub(crate) shm_size: Option<u64>,
    pub(crate) ulimits: Vec<Ulimit>,
    pub(crate) resources: ResourceLimits,
    /// Of all builds with one of these names one step runs at a time. Not part of the key.
    pub(crate) concurrency: BTreeSet<Arc<str>>,
    pub(crate) no_cache: bool,
    /// Stages for which no cached result is used.
    pub(crate) no_cache_filter: Vec<String>,
    pub(crate) secrets: Vec<Secret>,
    pub(crate) ssh: Vec<Ssh>,
    pub(crate) entitlements: Vec<Entitlement>,
    pub(crate) unnamed_policies: UnnamedPolicies,
    pub(crate) call: CallMethod,
    /// Of all targets that want it; not part of the key.
    pub(crate) cache_from: Vec<Arc<OptionItem<CacheImport>>>,
    pub(crate) cache_to: Vec<Arc<OptionItem<CacheExport>>>,
    /// Whose cache mounts its steps use, and whose results of such steps.
    pub(crate) cache_namespace: CacheNamespace,
    /// The label of the first target's block.
    pub(crate) at: Span,
    /// Where its attributes were set, by name.
    pub(crate) places: BTreeMap<&'static str, Span>,
}

impl Build {
    /// Where `dockerfile-inline` was set, if it was.
    pub(crate) fn inline_place(&self) -> Option<Span> {
        self.places.get("dockerfile-inline").copied()
    }

    /// Whether its build arguments ask for the inline cache.
    pub(crate) fn wants_inline_cache(&self) -> bool {
        self.args.get("BUILDKIT_INLINE_CACHE").is_some_and(|it| boolean(it).unwrap_or(false))
    }

    /// The path of the build's Dockerfile on this machine, if it has one: cleaned as text, relative to the working
    /// directory.
    pub(crate) fn dockerfile_path(&self) -> Option<String> {
        match (&self.dockerfile, &self.context) {
            (DockerfileInput::Local(path), _) => {
                Some(crate::spec::path::clean(path.strip_prefix("cwd://").unwrap_or(path)))
            }
            (DockerfileInput::InContext(path), ContextSource::Local(folder)) => {
                Some(crate::spec::path::clean(&format!("{folder}/{path}")))
            }
            _ => None,
        }
    }

    /// The files beside the Dockerfile and in the context that are read if they exist: the Dockerfile in lower case,
    /// and the ignore files in the order in which they are looked for.
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
        let policy = dockerfile.as_deref().filter(|_| self.unnamed_policies == UnnamedPolicies::All).map(policy_of);
        OptionalFiles { lower_case, ignore, policy }
    }

    /// The place where an attribute was set, or else the target's label.
    pub(crate) fn at(&self, attribute: &str) -> Span {
        self.places.get(attribute).copied().unwrap_or(self.at)
    }

    /// Computes the [`PlanKey`] of this build, from everything that decides its result.
    ///
    /// `linked`: keys of the builds whose results are its contexts, by the name of the context. The key is comparable
    /// within a run only.
    #[cfg(not(feature = "unkeyed"))]
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
            // Where a thing is written changes nothing about it.
            stage_option: _,
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
            // When its steps run changes nothing about them.
            concurrency: _,
            no_cache,
            no_cache_filter,
            secrets,
            ssh,
            entitlements,
            unnamed_policies,
            call,
            // Caches of all targets that want it are used.
            cache_from: _,
            cache_to: _,
            cache_namespace,
            at: _,
            places: _,
        } = self;
        use crate::oci::{digest::FieldHasher, key::KeyField as _};
        let mut hasher = FieldHasher::new("plan-build/3");
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
        (no_cache, no_cache_filter).add_to(&mut hasher);
        (secrets, ssh).add_to(&mut hasher);
        (entitlements, unnamed_policies, call).add_to(&mut hasher);
        hasher.text(&cache_namespace.text());
        hasher.finish()
    }

    /// What [`Self::digest`] is when keys read no field.
    #[cfg(feature = "unkeyed")]
    pub(crate) fn digest(&self, _: &BTreeMap<&str, Digest>) -> Digest {
        Digest::from_raw([0; 32])
    }
}
