//! Needs: what a plan asks of the machine beyond its sandbox and the working directory (<https://docs.docker.com/reference/cli/docker/buildx/bake/#allow>), with
//! who asks. Whether it is granted is decided where paths can be looked at.

use std::collections::BTreeSet;

use super::{
    Build, Export, Plan, PlanNode,
    build::{OptionalFiles, ignore_file_of},
};
use crate::{
    report::Span,
    spec::{
        Entitlement, Output,
        cache::{CacheImport, CacheTarget},
        context::ContextSource,
        local::{LocalMode, SpecialFiles},
        output::Writes,
    },
};

/// The kinds of privileges that a plan can need.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum NeedKind {
    Entitlement(Entitlement),
    /// Forwarding of the ssh agent.
    Ssh,
    /// A local output that removes files.
    LocalDelete,
    /// A local output that keeps device nodes and set-user-ID files.
    SpecialFiles,
    /// A path, relative to the working directory.
    Read(String),
    /// A file that says more about the definition, such as an ignore file: read when it exists.
    ReadDefinition(String),
    Write(String),
}

/// One privilege that a plan needs, and where it is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Need {
    pub(crate) what: NeedKind,
    /// The target that asks.
    pub(crate) target: String,
    /// Its attribute.
    pub(crate) attribute: &'static str,
    pub(crate) at: Span,
}

/// Lists the privileges that a plan needs, each once per target and attribute.
///
/// `is_env_set`: whether a variable of the environment is set, which decides where a secret without `src` is.
pub(crate) fn needs(plan: &Plan, is_env_set: impl Fn(&str) -> bool) -> Vec<Need> {
    let mut all = Vec::new();
    for node in plan.graph.node_weights() {
        match node {
            PlanNode::Build(build) => of_build(build, &is_env_set, &mut all),
            PlanNode::Export(export) => of_export(export, &mut all),
        }
    }
    let mut seen = BTreeSet::new();
    all.retain(|need| seen.insert((need.what.clone(), need.target.clone(), need.attribute)));
    all
}

fn of_build(build: &Build, is_env_set: &impl Fn(&str) -> bool, all: &mut Vec<Need>) {
    let target = build.wanted_by.first().map(ToString::to_string).unwrap_or_default();
    let mut need = |attribute: &'static str, what: NeedKind| {
        all.push(Need { what, target: target.clone(), attribute, at: build.at(attribute) });
    };
    for it in &build.entitlements {
        need("entitlements", NeedKind::Entitlement(it.clone()));
    }
    for it in &build.ssh {
        if it.paths.is_empty() {
            need("ssh", NeedKind::Ssh);
        }
        it.paths.iter().for_each(|path| need("ssh", NeedKind::Read(path.clone())));
    }
    for it in &build.secrets {
        match (&it.src, &it.env) {
            (Some(path), None) => need("secret", NeedKind::Read(path.clone())),
            // The file that has the name of the secret.
            (None, None) if !is_env_set(&it.id) => need("secret", NeedKind::Read(it.id.clone())),
            _ => (),
        }
    }
    if let ContextSource::Local(path) = &build.context {
        need("context", NeedKind::Read(path.clone()));
    }
    if let Some(path) = build.dockerfile_path() {
        need("dockerfile", NeedKind::Read(path));
    }
    let OptionalFiles { lower_case, ignore, policy } = build.optional_files();
    for path in lower_case.into_iter().chain(ignore).chain(policy) {
        need("dockerfile", NeedKind::ReadDefinition(path));
    }
    for it in build.contexts.values() {
        match it {
            ContextSource::Local(path) => {
                need("contexts", NeedKind::Read(path.clone()));
                need("contexts", NeedKind::ReadDefinition(ignore_file_of(path)));
            }
            ContextSource::OciLayout { path, .. } => need("contexts", NeedKind::Read(path.clone())),
            _ => (),
        }
    }
    for cache in &build.cache_from {
        if let CacheImport::Local(local) = &cache.value {
            need("cache-from", NeedKind::Read(local.src.clone()));
        }
    }
    for cache in &build.cache_to {
        if let CacheTarget::Local(local, _) = &cache.value.to {
            need("cache-to", NeedKind::Write(local.dest.clone()));
        }
    }
}

fn of_export(export: &Export, all: &mut Vec<Need>) {
    let target = export.wanted_by.first().map(ToString::to_string).unwrap_or_default();
    let mut need = |what: NeedKind| all.push(Need { what, target: target.clone(), attribute: "output", at: export.at });
    if let Output::Local(local) = &export.output.value
        && local.mode == LocalMode::Delete
    {
        need(NeedKind::LocalDelete);
    }
    if let Output::Local(local) = &export.output.value
        && local.access.special == SpecialFiles::Keep
    {
        need(NeedKind::SpecialFiles);
    }
    if let Writes::File(path) | Writes::Directory(path) = export.output.value.writes() {
        need(NeedKind::Write(path.to_owned()));
    }
}
