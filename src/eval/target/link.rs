//! Links: `contexts = { x = "target:b" }` makes a target depend on another one, which is added to the plan if it was
//! not requested.

use std::{collections::HashMap, sync::Arc};

use indexmap::IndexMap;

use super::{
    field::{Field, Item, TargetFields},
    inherit::{MAX_STEPS, Resolver, chain},
    overrides::known_names,
};
use crate::{
    definition::attribute::Id,
    oci::Platform,
    report::{Diagnostic, Span, suggest},
    spec::OptionItem,
};

/// A target of the plan with its attributes, before they are typed.
#[derive(Debug)]
pub(crate) struct LinkedTarget {
    pub(crate) fields: TargetFields,
    /// Not requested, only needed by another target's context.
    pub(crate) is_linked: bool,
}

/// Follows the links (`target:` contexts) of all targets: adds the targets that they need, refuses circles, and passes
/// entitlements on to the targets that use them.
pub(crate) fn follow(
    targets: &mut IndexMap<Arc<str>, LinkedTarget>,
    resolver: &mut Resolver<'_>,
    groups: &dyn Fn(&str) -> Option<Vec<String>>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let mut states: HashMap<Arc<str>, bool> = HashMap::new();
    let roots: Vec<Arc<str>> = targets.keys().cloned().collect();
    for root in roots {
        if states.contains_key(&root) {
            continue;
        }
        states.insert(root.clone(), true);
        let mut path: Vec<LinkFrame> = vec![LinkFrame::new(root, targets)];
        while let Some(frame) = path.last_mut() {
            let Some((_, name)) = frame.links.get(frame.next).cloned() else {
                let done = path.pop().expect("the loop has a frame");
                states.insert(done.name.clone(), false);
                settle(&done, targets, diagnostics);
                continue;
            };
            frame.next += 1;
            match states.get(&name) {
                Some(false) => continue,
                Some(true) => {
                    diagnostics.push(circle(&name, &path, targets));
                    return;
                }
                None => (),
            }
            if !targets.contains_key(&name) {
                if resolver.own(&name).is_none() {
                    diagnostics.push(unknown(path.last().expect("a frame"), &name, targets, resolver, groups));
                    states.insert(name, false);
                    continue;
                }
                let Some(mut fields) = resolver.resolve(&name, diagnostics) else {
                    states.insert(name, false);
                    continue;
                };
                let at = fields.at(Id::Output).or_else(|| resolver.own(&name).map(|it| it.at)).expect("it has blocks");
                fields.put(
                    Id::Output,
                    Field::Items(Arc::new(vec![Item::Output(Arc::new(OptionItem::of_type("cacheonly")))])),
                    at,
                );
                targets.insert(name.clone(), LinkedTarget { fields, is_linked: true });
            }
            states.insert(name.clone(), true);
            path.push(LinkFrame::new(name, targets));
        }
    }
}

/// A target on the path that is walked.
struct LinkFrame {
    name: Arc<str>,
    /// Name of the context and of the target it points at.
    links: Vec<(Arc<str>, Arc<str>)>,
    next: usize,
}

impl LinkFrame {
    fn new(name: Arc<str>, targets: &IndexMap<Arc<str>, LinkedTarget>) -> Self {
        let links = targets.get(&name).map(|it| links(&it.fields)).unwrap_or_default();
        Self { name, links, next: 0 }
    }
}

/// The links of a target: the name of each `target:` context, and the target that it names.
pub(crate) fn links(fields: &TargetFields) -> Vec<(Arc<str>, Arc<str>)> {
    let Some(contexts) = fields.entries(Id::Contexts) else { return Vec::new() };
    let link = |(key, value): (&Arc<str>, &Option<Arc<str>>)| {
        value.as_deref().and_then(|it| it.strip_prefix("target:")).map(|it| (key.clone(), Arc::from(it)))
    };
    contexts.iter().filter_map(link).collect()
}

fn contexts_at(fields: &TargetFields) -> Option<Span> {
    fields.at(Id::Contexts)
}

/// All links of a target are followed: takes over entitlements, compares platforms.
fn settle(frame: &LinkFrame, targets: &mut IndexMap<Arc<str>, LinkedTarget>, diagnostics: &mut Vec<Diagnostic>) {
    let mut wanted: Vec<Arc<str>> = Vec::new();
    for (context, name) in &frame.links {
        let Some(linked) = targets.get(name) else { continue };
        wanted.extend(linked.fields.texts(Id::Entitlements).iter().cloned());
        diagnostics.extend(platform_gap(&frame.name, &targets[&frame.name].fields, context, name, &linked.fields));
    }
    if wanted.is_empty() {
        return;
    }
    if let Some(user) = targets.get_mut(&frame.name)
        && let Some(at) = contexts_at(&user.fields)
    {
        user.fields.add_entitlements(wanted.iter().map(|it| &**it), at);
    }
}

/// The platforms of a target, commas split; texts that are none are skipped.
fn platforms(fields: &TargetFields) -> Vec<(String, Option<Platform>)> {
    let texts = fields.texts(Id::Platforms).iter().flat_map(|it| it.split(','));
    texts.filter(|it| !it.is_empty()).map(|it| (it.to_owned(), Platform::parse(it).ok())).collect()
}

fn platform_gap(
    name: &str,
    user: &TargetFields,
    context: &str,
    linked_name: &str,
    linked: &TargetFields,
) -> Option<Diagnostic> {
    let (wanted, offered) = (platforms(user), platforms(linked));
    if wanted.len() < 2 || offered.len() < 2 {
        return None;
    }
    let missing: Vec<&str> = wanted
        .iter()
        .filter(|(text, platform)| {
            !offered.iter().any(|(other, it)| if platform.is_some() { it == platform } else { other == text })
        })
        .map(|(text, _)| text.as_str())
        .collect();
    if missing.is_empty() {
        return None;
    }
    let list =
        |all: &[(String, Option<Platform>)]| all.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>().join(", ");
    let mut diagnostic = Diagnostic::error(
        "bake::eval::link_platforms",
        format!(
            "target `{name}` uses `{linked_name}` as context `{context}` on platforms that `{linked_name}` is not built for: {}",
            missing.join(", ")
        ),
    )
    .help(format!("add {} to `platforms` of `{linked_name}`, or build `{name}` for fewer", missing.join(", ")));
    if let Some(at) = user.at(Id::Platforms) {
        diagnostic = diagnostic.at(at, format!("`{name}` is for {}", list(&wanted)));
    }
    if let Some(at) = linked.at(Id::Platforms) {
        diagnostic = diagnostic.at(at, format!("`{linked_name}` is for {}", list(&offered)));
    }
    Some(diagnostic)
}

fn unknown(
    frame: &LinkFrame,
    name: &str,
    targets: &IndexMap<Arc<str>, LinkedTarget>,
    resolver: &Resolver<'_>,
    groups: &dyn Fn(&str) -> Option<Vec<String>>,
) -> Diagnostic {
    let all: Vec<Arc<str>> = resolver.names().cloned().collect();
    let context = frame.links.iter().find(|(_, it)| &**it == name).map_or("", |(context, _)| context);
    let (what, help) = match groups(name) {
        Some(members) => ("is a group", format!("point at one of its targets: {}", members.join(", "))),
        None => (
            "is not defined",
            suggest::did_you_mean(name, all.iter().map(|it| &**it)).unwrap_or_else(|| known_names("targets", &all)),
        ),
    };
    let mut diagnostic = Diagnostic::error(
        "bake::eval::unknown_link",
        format!("context `{context}` of target `{}` points at a target that {what}: {name}", frame.name),
    )
    .help(help);
    if let Some(at) = targets.get(&frame.name).and_then(|it| contexts_at(&it.fields)) {
        diagnostic = diagnostic.at_part(at, &format!("target:{name}"), format!("target `{name}` {what}"));
    }
    diagnostic
}

fn circle(name: &str, path: &[LinkFrame], targets: &IndexMap<Arc<str>, LinkedTarget>) -> Diagnostic {
    let from = path.iter().position(|it| &*it.name == name).unwrap_or(0);
    let path = &path[from..];
    let names: Vec<&str> = path.iter().map(|it| &*it.name).chain([name]).collect();
    let message = match path {
        [only] => format!("target `{}` uses itself as a context: {}", only.name, chain(&names)),
        _ => format!("targets use each other as contexts in a circle: {}", chain(&names)),
    };
    let mut diagnostic = Diagnostic::error("bake::eval::link_cycle", message).help("remove one of these contexts");
    for (frame, next) in path.iter().zip(&names[1..]).take(MAX_STEPS) {
        let context = frame.links.get(frame.next.saturating_sub(1)).map_or("", |(context, _)| context);
        if let Some(at) = targets.get(&frame.name).and_then(|it| contexts_at(&it.fields)) {
            let seen = format!("context `{context}` of `{}`", frame.name);
            diagnostic = diagnostic.at_part(at, &format!("target:{next}"), seen);
        }
    }
    diagnostic
}
