//! Needs: what a plan asks of the machine beyond its sandbox and the working directory (spec: bake language §18.3), with
//! who asks. Whether it is granted is decided where paths can be looked at.

use std::collections::BTreeSet;

use super::{Build, Export, Plan, PlanNode, build::DockerfileInput};
use crate::{
    report::Span,
    spec::{
        Entitlement,
        context::ContextSource,
        output::{Writes, writes},
    },
};

/// What is asked for.
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
    Write(String),
}

/// Something that is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Need {
    pub(crate) what: NeedKind,
    /// The target that asks.
    pub(crate) target: String,
    /// Its attribute.
    pub(crate) attribute: &'static str,
    pub(crate) at: Span,
}

/// All needs of a plan, each once per target and attribute.
pub(crate) fn needs(plan: &Plan) -> Vec<Need> {
    let mut all = Vec::new();
    for node in plan.graph.node_weights() {
        match node {
            PlanNode::Build(build) => of_build(build, &mut all),
            PlanNode::Export(export) => of_export(export, &mut all),
        }
    }
    let mut seen = BTreeSet::new();
    all.retain(|it| seen.insert((it.what.clone(), it.target.clone(), it.attribute)));
    all
}

fn of_build(build: &Build, all: &mut Vec<Need>) {
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
        if let Some(path) = &it.src {
            need("secret", NeedKind::Read(path.clone()));
        }
    }
    if let ContextSource::Local(path) = &build.context {
        need("context", NeedKind::Read(path.clone()));
    }
    match (&build.dockerfile, &build.context) {
        (DockerfileInput::Local(path), _) => need("dockerfile", NeedKind::Read(path.clone())),
        (DockerfileInput::InContext(path), ContextSource::Local(context)) => {
            need("dockerfile", NeedKind::Read(format!("{context}/{path}")));
        }
        _ => (),
    }
    for it in build.contexts.values() {
        if let ContextSource::Local(path) = it {
            need("contexts", NeedKind::Read(path.clone()));
        }
    }
    for (attribute, caches, key) in [("cache-from", &build.cache_from, "src"), ("cache-to", &build.cache_to, "dest")] {
        for path in caches.iter().filter(|it| it.kind == "local").filter_map(|it| it.attrs.get(key)) {
            need(attribute, if key == "src" { NeedKind::Read(path.clone()) } else { NeedKind::Write(path.clone()) });
        }
    }
}

fn of_export(export: &Export, all: &mut Vec<Need>) {
    let target = export.wanted_by.first().map(ToString::to_string).unwrap_or_default();
    let mut need = |what: NeedKind| all.push(Need { what, target: target.clone(), attribute: "output", at: export.at });
    if export.output.kind == "local" && export.output.attrs.get("mode").is_some_and(|it| it == "delete") {
        need(NeedKind::LocalDelete);
    }
    if export.output.kind == "local" && export.output.attrs.get("special").is_some_and(|it| it == "keep") {
        need(NeedKind::SpecialFiles);
    }
    if let Writes::File(path) | Writes::Directory(path) = writes(&export.output) {
        need(NeedKind::Write(path.to_owned()));
    }
}
