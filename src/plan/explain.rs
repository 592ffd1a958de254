//! The plan as text to read, as JSON, and as a graph for Graphviz.

use std::fmt::Write;

use petgraph::{Direction, graph::NodeIndex, visit::EdgeRef};
use serde_json::{Map, Value, json};

use super::{Build, CacheNamespace, Export, Plan, PlanLink, PlanNode, build::DockerfileInput};
use crate::{eval::target::typed::TargetName, report::url::without_credentials, spec::context::ContextSource};

/// Formats a plan as text: one line per node, what is needed before who needs it.
pub(crate) fn text(plan: &Plan) -> String {
    let (builds, exports) = count(plan);
    let mut text = format!("{}, {}\n", plural(builds, "build"), plural(exports, "export"));
    for ix in plan.graph.node_indices() {
        let line = match &plan.graph[ix] {
            PlanNode::Build(build) => build_lines(plan, ix, build),
            PlanNode::Export(export) => export_lines(plan, ix, export),
        };
        text.push('\n');
        text.push_str(&line);
    }
    text
}

/// Formats a plan as JSON: `{"builds": […], "exports": […], "targets": {…}}`.
pub(crate) fn json(plan: &Plan) -> Value {
    let mut builds = Vec::new();
    let mut exports = Vec::new();
    for ix in plan.graph.node_indices() {
        match &plan.graph[ix] {
            PlanNode::Build(build) => builds.push(build_json(plan, ix, build)),
            PlanNode::Export(export) => exports.push(export_json(plan, ix, export)),
        }
    }
    let keys = |all: &[NodeIndex]| all.iter().map(|ix| plan.graph[*ix].key().to_string()).collect::<Vec<_>>();
    let targets: Map<String, Value> = plan
        .targets
        .iter()
        .map(|(name, it)| {
            (
                name.to_string(),
                json!({ "builds": keys(&it.builds), "exports": keys(&it.exports), "linked": it.is_linked }),
            )
        })
        .collect();
    json!({ "builds": builds, "exports": exports, "targets": targets })
}

/// Formats a plan as a graph for Graphviz (`dot`).
pub(crate) fn dot(plan: &Plan) -> String {
    let mut text = "digraph plan {\n  rankdir=LR;\n  node [shape=box, fontname=\"sans-serif\"];\n".to_owned();
    for ix in plan.graph.node_indices() {
        let (label, style) = match &plan.graph[ix] {
            PlanNode::Build(build) => (format!("{}\n{}", names(&build.wanted_by), build.platform), ""),
            PlanNode::Export(export) => (export.title(), ", style=rounded"),
        };
        put(&mut text, format_args!("  n{} [label={}{style}];\n", ix.index(), quoted(&label)));
    }
    for edge in plan.graph.edge_references() {
        let label = match edge.weight() {
            PlanLink::Context { name } => format!(" [label={}]", quoted(name)),
            PlanLink::Result { .. } => String::new(),
        };
        put(&mut text, format_args!("  n{} -> n{}{label};\n", edge.source().index(), edge.target().index()));
    }
    text.push_str("}\n");
    text
}

fn count(plan: &Plan) -> (usize, usize) {
    let builds = plan.graph.node_weights().filter(|it| matches!(it, PlanNode::Build(_))).count();
    (builds, plan.graph.node_count() - builds)
}

fn plural(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

fn names(all: &[TargetName]) -> String {
    let mut names: Vec<&str> = all.iter().map(|it| &*it.0).collect();
    names.dedup();
    names.join(", ")
}

fn put(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    let written = text.write_fmt(arguments);
    debug_assert!(written.is_ok(), "a string takes all");
}

/// Adds a line; a line break in a path or tag is a blank and does not begin another one.
fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.extend(arguments.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }));
    text.push('\n');
}

fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{escaped}\"")
}

/// What a build needs: context name and the build.
fn needed(plan: &Plan, ix: NodeIndex) -> Vec<(&str, NodeIndex)> {
    let mut all: Vec<(&str, NodeIndex)> = plan
        .graph
        .edges_directed(ix, Direction::Incoming)
        .filter_map(|edge| match edge.weight() {
            PlanLink::Context { name } => Some((name.as_str(), edge.source())),
            PlanLink::Result { .. } => None,
        })
        .collect();
    all.sort_unstable();
    all
}

/// The builds of an export, in the order of the platforms.
pub(crate) fn results(plan: &Plan, ix: NodeIndex) -> Vec<NodeIndex> {
    let mut all: Vec<(usize, NodeIndex)> = plan
        .graph
        .edges_directed(ix, Direction::Incoming)
        .filter_map(|edge| match edge.weight() {
            PlanLink::Result { platform } => Some((*platform, edge.source())),
            PlanLink::Context { .. } => None,
        })
        .collect();
    all.sort_unstable();
    all.into_iter().map(|(_, ix)| ix).collect()
}

fn build_lines(plan: &Plan, ix: NodeIndex, build: &Build) -> String {
    let mut text = String::new();
    line(&mut text, format_args!("build {}  {}  {}", build.key, build.platform, names(&build.wanted_by)));
    let stage = build.stage.as_ref().map(|it| format!(", stage {it}")).unwrap_or_default();
    line(
        &mut text,
        format_args!("  of {} in {}{stage}", dockerfile_text(&build.dockerfile), context_text(&build.context)),
    );
    for (name, source) in needed(plan, ix) {
        line(&mut text, format_args!("  after build {} as context {name}", plan.graph[source].key()));
    }
    for (name, context) in build.contexts.iter().filter(|(_, it)| !matches!(it, ContextSource::Target(_))) {
        line(&mut text, format_args!("  with context {name} = {}", context_text(context)));
    }
    if build.cache_namespace != CacheNamespace::Shared {
        line(&mut text, format_args!("  with cache mounts of its own, {}", build.cache_namespace.text()));
    }
    if build.wanted_by.len() > 1 {
        line(&mut text, format_args!("  shared: these targets differ in nothing that the build sees"));
    }
    text
}

fn export_lines(plan: &Plan, ix: NodeIndex, export: &Export) -> String {
    let mut text = String::new();
    line(&mut text, format_args!("export {}  {}  {}", export.key, names(&export.wanted_by), export.title()));
    let keys: Vec<String> = results(plan, ix).iter().map(|it| plan.graph[*it].key().to_string()).collect();
    line(&mut text, format_args!("  of build {}", keys.join(", ")));
    if !export.tags.is_empty() {
        line(&mut text, format_args!("  as {}", tags(export).join(", ")));
    }
    text
}

fn tags(export: &Export) -> Vec<&str> {
    export.tags.iter().map(|tag| tag.text.as_str()).collect()
}

fn dockerfile_text(it: &DockerfileInput) -> String {
    match it {
        DockerfileInput::Inline(_) => "an inline Dockerfile".to_owned(),
        DockerfileInput::InContext(path) => path.clone(),
        DockerfileInput::Local(path) => format!("cwd://{path}"),
        DockerfileInput::Http(url) => without_credentials(url).into_owned(),
    }
}

fn context_text(it: &ContextSource) -> String {
    match it {
        ContextSource::Target(name) => format!("target:{name}"),
        ContextSource::Image(reference) => format!("docker-image://{reference}"),
        ContextSource::OciLayout { path, tag, digest } => {
            format!("oci-layout://{}", ContextSource::layout_text(path, tag.as_deref(), digest.as_deref()))
        }
        ContextSource::Git(url) | ContextSource::Http(url) => url.clone(),
        ContextSource::Local(path) => path.clone(),
        ContextSource::Stdin => "-".to_owned(),
        ContextSource::Archive(digest) => ContextSource::archive_text(digest),
        ContextSource::Built(name) => ContextSource::built_text(name),
    }
}

fn build_json(plan: &Plan, ix: NodeIndex, build: &Build) -> Value {
    let after: Vec<Value> = needed(plan, ix)
        .iter()
        .map(|(name, source)| json!({ "context": name, "build": plan.graph[*source].key().to_string() }))
        .collect();
    json!({
        "key": build.key.to_string(),
        "targets": build.wanted_by.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "platform": build.platform.to_string(),
        "context": context_text(&build.context),
        "dockerfile": dockerfile_text(&build.dockerfile),
        "stage": build.stage,
        "after": after,
    })
}

fn export_json(plan: &Plan, ix: NodeIndex, export: &Export) -> Value {
    json!({
        "key": export.key.to_string(),
        "targets": export.wanted_by.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "output": export.output.texts(),
        "tags": tags(export),
        "platforms": export.platforms.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "of": results(plan, ix).iter().map(|it| plan.graph[*it].key().to_string()).collect::<Vec<_>>(),
    })
}
