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
};
use crate::{
    dockerfile::{
        self,
        options::{Asked, BuiltContext, KnownImages, LowerOutcome, NamedContext},
    },
    graph::Graph,
    plan::{Build, Plan, PlanNode, TargetName, build::DockerfileInput},
    report::Diagnostic,
    spec::context,
};

/// Findings about the Dockerfiles of a plan.
#[derive(Default)]
pub(crate) struct Looked {
    /// Faults, each with the targets that have it. A fault of a file that several builds read is listed for each build.
    pub(crate) findings: Vec<(Diagnostic, Vec<TargetName>)>,
    /// Targets whose Dockerfile lies in a context that would have to be fetched.
    pub(crate) unseen: Vec<TargetName>,
}

/// Checks the Dockerfile of every build of a plan.
pub(crate) async fn check(plan: &Plan, contexts: &Contexts) -> Looked {
    let lowering = Lowering { contexts, outside: None, is_env_set: &|_| false, all_stages: true };
    let mut looked = Looked::default();
    let mut known = KnownImages { images: HashMap::new(), assume: true };
    let mut graph = Graph::default();
    let mut results: HashMap<NodeIndex, Arc<BuiltContext>> = HashMap::new();
    let order = petgraph::algo::toposort(&plan.graph, None).expect("plans are acyclic");
    for node in order {
        let PlanNode::Build(build) = &plan.graph[node] else { continue };
        if is_elsewhere(build) {
            // A target has one build for each platform.
            let new: Vec<_> = build.wanted_by.iter().filter(|it| !looked.unseen.contains(it)).cloned().collect();
            looked.unseen.extend(new);
            continue;
        }
        let PendingLower { file, mut options, linked, .. } = match lowering.pending(plan, node, build).await {
            Ok(it) => it,
            Err(all) => {
                looked.add(all, build);
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
                    looked.add(lowered.warnings, build);
                    let given = |it: Diagnostic| it.at(build.at("args"), "given here");
                    looked.add(lowered.unused_args.into_iter().map(given).collect(), build);
                    break;
                }
                LowerOutcome::Failed(all) => {
                    looked.add(all, build);
                    break;
                }
                LowerOutcome::Needs(asked) => {
                    let faults = answer(asked, &mut known);
                    if !faults.is_empty() {
                        looked.add(faults, build);
                        break;
                    }
                }
            }
        }
    }
    looked
}

/// Answers questions about images in OCI layouts; the faults of those that cannot be read.
fn answer(asked: Vec<Asked>, known: &mut KnownImages) -> Vec<Diagnostic> {
    let mut faults = Vec::new();
    for Asked { query, at, .. } in asked {
        match Images::in_layout(&query) {
            Ok(info) => {
                known.images.insert(query, info);
            }
            Err(fault) if fault.labels.is_empty() => faults.push(fault.at(at, "asked for here")),
            Err(fault) => faults.push(fault),
        }
    }
    faults
}

/// Whether the Dockerfile lies in a git repository or a download, which is not fetched here.
fn is_elsewhere(build: &Build) -> bool {
    matches!(build.context, context::ContextSource::Git(_) | context::ContextSource::Http(_))
        && matches!(build.dockerfile, DockerfileInput::InContext(_))
}

impl Looked {
    fn add(&mut self, all: Vec<Diagnostic>, build: &Build) {
        self.findings.extend(all.into_iter().map(|it| (it, build.wanted_by.clone())));
    }
}
