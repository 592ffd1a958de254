//! `bake check`: the Dockerfiles of a plan are read, parsed, lowered and checked without a network and without a state
//! directory. Registries are not asked for images, so rules that need the config of such an image are not judged.
//!
//! A fault of one build hides none of another. How findings are shown is not decided here.

use std::{collections::HashMap, sync::Arc};

use petgraph::graph::NodeIndex;

use super::{
    context::Contexts,
    image::Images,
    lower::{Lowering, PendingLower, built},
    lowering_diagnostic::{LoweringDiagnostic, about_options, names},
};
use crate::{
    dockerfile::{
        self,
        check::report::CheckFinding,
        options::{BuiltContext, KnownImages, LowerFaults, LowerOutcome, NamedContext, Query},
    },
    graph::Graph,
    plan::{Build, Plan, TargetName, build::DockerfileInput},
    report::Diagnostic,
    spec::context,
};

/// The findings about the Dockerfiles of a plan.
#[derive(Default)]
pub(crate) struct Looked {
    /// Faults, each with the targets that have it. A fault of a file that several builds read is listed for each build.
    pub(crate) findings: Vec<Diagnostic>,
    /// Targets whose Dockerfile lies in a context that would have to be fetched.
    pub(crate) unseen: Vec<TargetName>,
}

/// Checks the Dockerfile of every build of a plan.
pub(crate) async fn check(plan: &Plan, contexts: &Contexts) -> Looked {
    let lowering = Lowering { contexts, outside: None, is_env_set: &|_| false, all_stages: true };
    let mut looked = Looked::default();
    let mut known = KnownImages { assume: true, ..KnownImages::default() };
    let mut graph = Graph::default();
    let mut results: HashMap<NodeIndex, Arc<BuiltContext>> = HashMap::new();
    for (node, build) in plan.builds_in_order() {
        if is_elsewhere(build) {
            // A target has one build for each platform.
            let new: Vec<_> = build.wanted_by.iter().filter(|it| !looked.unseen.contains(it)).cloned().collect();
            looked.unseen.extend(new);
            continue;
        }
        let PendingLower { file, mut options, linked, .. } = match lowering.pending(plan, node, build).await {
            Ok(it) => it,
            Err(all) => {
                looked.add(all.into_iter().map(LoweringDiagnostic::into_diagnostic), build);
                continue;
            }
        };
        // A linked build that could not be lowered is treated like an image whose config is not known.
        for (name, from) in linked {
            if let Some(result) = results.get(&from) {
                options.contexts.insert(name, NamedContext::Built(result.clone()));
            }
        }
        options.all_stages = options.target.is_none();
        loop {
            match dockerfile::lower(&file.file, &options, &known, &mut graph) {
                LowerOutcome::Done(lowered) => {
                    results.insert(node, Arc::new(built(&lowered)));
                    looked.add(lowered.findings.iter().map(CheckFinding::explained), build);
                    looked.add(about_options(&lowered, build), build);
                    break;
                }
                LowerOutcome::Failed(failed) => {
                    let LowerFaults { findings, faults, unread, checks_failed } = *failed;
                    looked.add(findings.iter().map(CheckFinding::explained), build);
                    looked.add(faults.into_iter().chain(unread).chain(checks_failed), build);
                    break;
                }
                LowerOutcome::Needs(asked) => answer(asked, &mut known),
            }
        }
    }
    looked
}

/// Answers questions about images in OCI layouts.
fn answer(asked: Vec<Query>, known: &mut KnownImages) {
    for query in asked {
        match Images::in_layout(&query) {
            Ok(info) => drop(known.images.insert(query, info)),
            Err(fault) => drop(known.unread.insert(query, fault)),
        }
    }
}

/// Whether the Dockerfile lies in a git repository or a download, which is not fetched here.
fn is_elsewhere(build: &Build) -> bool {
    use context::ContextSource::{Archive, Built, Git, Http};
    match &build.context {
        // It has no Dockerfile.
        Built(_) => true,
        Git(_) | Http(_) | Archive(_) => matches!(build.dockerfile, DockerfileInput::InContext(_)),
        _ => matches!(build.dockerfile, DockerfileInput::Http(_)),
    }
}

impl Looked {
    fn add(&mut self, all: impl IntoIterator<Item = Diagnostic>, build: &Build) {
        self.findings.extend(all.into_iter().map(|diagnostic| diagnostic.of(names(build))));
    }
}
