//! Names in registries, and in archives that several targets share, that several targets of one plan write: the last one is kept, which one that is nobody knows. Files
//! and folders that two outputs write are the subject of `dest`.
//!
//! Equal images under one name are no fault, and neither are builds that write one cache: it keeps the records of all.

use indexmap::{IndexMap, IndexSet};
use petgraph::{Direction, graph::NodeIndex};

use super::{Export, Plan, PlanNode, TargetName, dest};
use crate::{
    oci::{digest::FieldHasher, key::KeyField as _},
    report::{Diagnostic, Span, fold::some_of},
    spec::{Output, output::Writes},
};

/// Warnings of tags that different images are pushed or loaded to.
pub(crate) fn conflicts(plan: &Plan) -> Vec<Diagnostic> {
    let mut tags: IndexMap<(&'static str, String), Vec<NodeIndex>> = IndexMap::new();
    for node in plan.graph.node_indices() {
        let PlanNode::Export(export) = &plan.graph[node] else { continue };
        for name in names(export) {
            tags.entry(name).or_default().push(node);
        }
    }
    let mut found = Vec::new();
    for ((does, name), nodes) in tags.iter().filter(|(_, nodes)| nodes.len() > 1) {
        let export = |node: &NodeIndex| plan.export(*node);
        if nodes.iter().any(|node| differ(plan, nodes[0], *node)) {
            let of_one = format!("outputs of one target {does} different images to one tag");
            let of_many = format!("{does} different images to one tag, which keeps the last");
            let who = nodes.iter().map(|node| (&export(node).wanted_by, export(node).at));
            let help = "give each its own tag; for several platforms under one tag, one target has `platforms`";
            found.push(told("bake::plan::same_tag", who, (&of_one, &of_many), name).help(help));
        }
    }
    found
}

/// The warning about targets that write to one name. `text` is for one target and for several.
fn told<'a>(
    code: &'static str,
    who: impl Iterator<Item = (&'a Vec<TargetName>, Span)>,
    text: (&str, &str),
    name: &str,
) -> Diagnostic {
    let (mut targets, mut places) = (IndexSet::new(), IndexSet::new());
    for (names, at) in who {
        targets.extend(names.first().map(|name| name.0.clone()));
        places.insert(at);
    }
    let listed = some_of(targets.iter().map(|name| format!("`{name}`")));
    let message = match targets.len() {
        1 => format!("{} ({listed}): {name}", text.0),
        _ => format!("targets {listed} {}: {name}", text.1),
    };
    let warning = Diagnostic::warning(code, message).of(targets).topic(name);
    places.into_iter().take(2).fold(warning, |warning, at| warning.at(at, "asked for here"))
}

/// What an export does with names, and the names that others can see afterwards.
fn names(export: &Export) -> impl Iterator<Item = (&'static str, String)> {
    let does = match &export.output.value {
        Output::Image(it) | Output::Registry(it) if it.push && !it.push_by_digest => Some("push"),
        Output::Docker(it) if it.archive.dest.is_none() => Some("load"),
        // In one archive, which is part of the name.
        _ if dest::appends(export) => Some("write"),
        _ => None,
    };
    let dest = match export.output.value.writes() {
        _ if !dest::appends(export) => String::new(),
        Writes::Nothing => String::new(),
        Writes::Stdout => " in the archive on standard output".to_owned(),
        Writes::File(dest) | Writes::Directory(dest) => format!(" in {dest}"),
    };
    let own = || export.output.value.image().map_or(&[][..], |it| it.names.as_slice()).iter().collect();
    let names: Vec<_> =
        if export.tags.is_empty() { own() } else { export.tags.iter().map(|it| &it.reference).collect() };
    let names: IndexSet<String> = names.into_iter().map(|name| format!("{name}{dest}")).collect();
    does.into_iter().flat_map(move |does| names.clone().into_iter().map(move |name| (does, name)))
}

/// Whether two exports make different images: of other builds, or in another form.
fn differ(plan: &Plan, one: NodeIndex, other: NodeIndex) -> bool {
    let builds = |node| plan.graph.neighbors_directed(node, Direction::Incoming).collect::<IndexSet<_>>();
    // The key of an image leaves its names out.
    let form = |export: &Export| {
        let mut hasher = FieldHasher::new("plan-image/1");
        (export.output.value.image(), &export.annotations, &export.attestations).add_to(&mut hasher);
        hasher.finish()
    };
    builds(one) != builds(other) || form(plan.export(one)) != form(plan.export(other))
}
