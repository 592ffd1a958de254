//! How one Compose value is merged onto another: the later file onto the earlier, a service onto the one that it extends.
//!
//! `!reset` and `!override` work here, and stay in the result, so that they work again when that is merged further;
//! `settled` takes them out.

use std::sync::Arc;

use crate::{
    definition::yaml::{Action, Entry, Mapping, Node, NodeKind},
    report::Diagnostic,
};

type Merged<T> = Result<T, Box<Diagnostic>>;

/// Which rule holds for a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// Mappings by key, lists appended, anything else replaced.
    Plain,
    Service,
    Build,
    /// `KEY=value` lists and mappings, which are the same: by key, and an entry without value replaces too.
    Pairs,
    /// `host=ip` lists and mappings: addresses are added.
    Hosts,
    /// The addresses of one host.
    Addresses,
    /// A string is a list of one.
    List,
}

impl Rule {
    /// The rule for what stands under a key.
    fn under(self, key: &str) -> Self {
        match (self, key) {
            (Self::Service, "build") => Self::Build,
            (Self::Service, "environment") | (Self::Build, "args" | "labels" | "additional_contexts" | "ssh") => {
                Self::Pairs
            }
            (Self::Service, "env_file") | (Self::Build, "no_cache_filter") => Self::List,
            (Self::Build, "extra_hosts") => Self::Hosts,
            _ => Self::Plain,
        }
    }
}

/// `over` merged onto `base`.
pub(super) fn merge(base: &Arc<Node>, over: &Arc<Node>, rule: Rule) -> Merged<Arc<Node>> {
    if over.action.is_some() || base.action == Some(Action::Reset) {
        return Ok(over.clone());
    }
    if over.is_null() {
        return Ok(base.clone());
    }
    let (base, over) = (canonical(base, rule), canonical(over, rule));
    let kind = match (&base.kind, &over.kind) {
        (NodeKind::Mapping(below), NodeKind::Mapping(above)) => {
            let mut entries = below.clone();
            for (key, entry) in above {
                merge_entry(&mut entries, key, entry, rule)?;
            }
            NodeKind::Mapping(entries)
        }
        (NodeKind::Sequence(below), NodeKind::Sequence(above)) => {
            let new = above.iter().filter(|item| {
                rule != Rule::Addresses || !below.iter().any(|it| it.str().is_some() && it.str() == item.str())
            });
            NodeKind::Sequence(below.iter().chain(new).cloned().collect())
        }
        (NodeKind::Mapping(_) | NodeKind::Sequence(_), _) => {
            return Err(Box::new(
                Diagnostic::error(
                    "bake::compose::cannot_merge",
                    format!("{} cannot be merged onto {}", over.word(), base.word()),
                )
                .at(over.at, "this value")
                .at(base.at, "does not fit the earlier one")
                .help("write both in the same form, or replace the earlier one with `!override`"),
            ));
        }
        _ => return Ok(over),
    };
    Ok(Arc::new(Node::new(kind, over.at)))
}

/// One entry of a mapping onto those that are there.
pub(super) fn merge_entry(entries: &mut Mapping, key: &Arc<str>, over: &Entry, rule: Rule) -> Merged<()> {
    let replaces = rule == Rule::Pairs;
    let inner = if rule == Rule::Hosts { Rule::Addresses } else { rule.under(key) };
    let merged = match entries.get(key) {
        Some(below) if !replaces => Entry { at: over.at, node: merge(&below.node, &over.node, inner)? },
        _ => over.clone(),
    };
    entries.insert(key.clone(), merged);
    Ok(())
}

/// The one form of values that may be written in several.
pub(super) fn canonical(node: &Arc<Node>, rule: Rule) -> Arc<Node> {
    let kind = match (rule, &node.kind) {
        (Rule::Build, NodeKind::String(_)) => {
            NodeKind::Mapping(Mapping::from_iter([(Arc::from("context"), Entry { at: node.at, node: node.clone() })]))
        }
        (Rule::List, NodeKind::String(_)) => NodeKind::Sequence(vec![node.clone()]),
        (Rule::Pairs, NodeKind::Sequence(items)) if items.iter().all(|item| item.scalar_text().is_some()) => {
            let pair = |item: &Arc<Node>| {
                let text = item.scalar_text().unwrap_or_default();
                let (key, value) = match text.split_once('=') {
                    Some((key, value)) => (Arc::from(key), NodeKind::String(value.into())),
                    None => (text.clone(), NodeKind::Null),
                };
                (key, Entry { at: item.at, node: Arc::new(Node::new(value, item.at)) })
            };
            NodeKind::Mapping(items.iter().map(pair).collect())
        }
        (Rule::Hosts, NodeKind::Sequence(items)) if items.iter().all(|item| is_host(item)) => {
            let mut hosts = Mapping::new();
            for item in items {
                let text = item.str().cloned().unwrap_or_default();
                let (host, addresses) = text.split_once(['=', ':']).unwrap_or((&text, ""));
                let (host, addresses) = text.split_once('=').unwrap_or((host, addresses));
                let new = addresses.split(',').map(|ip| Arc::new(Node::new(NodeKind::String(ip.into()), item.at)));
                let before = hosts.get(host).and_then(|entry: &Entry| entry.node.sequence()).unwrap_or_default();
                let all = NodeKind::Sequence(before.iter().cloned().chain(new).collect());
                hosts.insert(host.into(), Entry { at: item.at, node: Arc::new(Node::new(all, item.at)) });
            }
            NodeKind::Mapping(hosts)
        }
        (Rule::Hosts, NodeKind::Mapping(hosts)) => {
            let each = |entry: &Entry| match &entry.node.kind {
                NodeKind::String(_) => {
                    let all = NodeKind::Sequence(vec![entry.node.clone()]);
                    let node = Node::new(all, entry.node.at).with(entry.node.action);
                    Entry { at: entry.at, node: Arc::new(node) }
                }
                _ => entry.clone(),
            };
            NodeKind::Mapping(hosts.iter().map(|(host, entry)| (host.clone(), each(entry))).collect())
        }
        _ => return node.clone(),
    };
    Arc::new(Node::new(kind, node.at).with(node.action))
}

/// Whether an item of `extra_hosts` has a host and an address.
fn is_host(item: &Node) -> bool {
    item.str().is_some_and(|text| text.contains(['=', ':']))
}

/// The value without what is reset, and without any actions; `None` if it is reset itself.
pub(super) fn settled(node: &Arc<Node>) -> Option<Arc<Node>> {
    if node.action == Some(Action::Reset) {
        return None;
    }
    let kind = match &node.kind {
        NodeKind::Mapping(entries) => NodeKind::Mapping(
            entries
                .iter()
                .filter_map(|(key, entry)| Some((key.clone(), Entry { at: entry.at, node: settled(&entry.node)? })))
                .collect(),
        ),
        NodeKind::Sequence(items) => NodeKind::Sequence(items.iter().filter_map(settled).collect()),
        _ if node.action.is_none() => return Some(node.clone()),
        other => other.clone(),
    };
    Some(Arc::new(Node::new(kind, node.at)))
}
