//! Merging of Compose values: a later file onto an earlier one, a service onto the one that it extends
//! (<https://github.com/compose-spec/compose-spec/blob/main/13-merge.md>).
//!
//! `!reset` and `!override` are applied here, and stay in the result, so that they apply again when it is merged
//! further; `settled` removes them.

use std::sync::Arc;

use crate::{
    definition::yaml::node::{YamlAction, YamlEntry, YamlMapping, YamlNode, YamlNodeKind},
    report::Diagnostic,
};

type Merged<T> = Result<T, Box<Diagnostic>>;

/// How a value of a later file is merged onto that of an earlier one, depending on its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MergeRule {
    /// Mappings by key, lists appended, anything else replaced.
    Plain,
    Service,
    Build,
    /// Lists of `KEY=value`, equivalent to mappings: merged by key; an entry without a value replaces an earlier value
    /// too.
    Pairs,
    /// Lists of `host=ip` and equivalent mappings: the addresses of a host are appended.
    Hosts,
    /// The addresses of one host.
    Addresses,
    /// Lists, where a string stands for a list of one item.
    List,
}

impl MergeRule {
    /// The rule for the value of a key.
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

/// Merges the value `over` of a later file onto the value `base` of an earlier one.
pub(super) fn merge(base: &Arc<YamlNode>, over: &Arc<YamlNode>, rule: MergeRule) -> Merged<Arc<YamlNode>> {
    if over.action.is_some() || base.action == Some(YamlAction::Reset) {
        return Ok(over.clone());
    }
    if over.is_null() {
        return Ok(base.clone());
    }
    let (base, over) = (canonical(base, rule), canonical(over, rule));
    let kind = match (&base.kind, &over.kind) {
        (YamlNodeKind::Mapping(below), YamlNodeKind::Mapping(above)) => {
            let mut entries = below.clone();
            for (key, entry) in above {
                merge_entry(&mut entries, key, entry, rule)?;
            }
            YamlNodeKind::Mapping(entries)
        }
        (YamlNodeKind::Sequence(below), YamlNodeKind::Sequence(above)) => {
            let new = above.iter().filter(|item| {
                rule != MergeRule::Addresses || !below.iter().any(|it| it.str().is_some() && it.str() == item.str())
            });
            YamlNodeKind::Sequence(below.iter().chain(new).cloned().collect())
        }
        (YamlNodeKind::Mapping(_) | YamlNodeKind::Sequence(_), _) => {
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
    Ok(Arc::new(YamlNode::new(kind, over.at)))
}

/// Merges one entry of a later file into a mapping.
pub(super) fn merge_entry(entries: &mut YamlMapping, key: &Arc<str>, over: &YamlEntry, rule: MergeRule) -> Merged<()> {
    let replaces = rule == MergeRule::Pairs;
    let inner = if rule == MergeRule::Hosts { MergeRule::Addresses } else { rule.under(key) };
    let merged = match entries.get(key) {
        Some(below) if !replaces => YamlEntry { at: over.at, node: merge(&below.node, &over.node, inner)? },
        _ => over.clone(),
    };
    entries.insert(key.clone(), merged);
    Ok(())
}

/// Converts a value that has a short and a long form to the long form.
pub(super) fn canonical(node: &Arc<YamlNode>, rule: MergeRule) -> Arc<YamlNode> {
    let kind = match (rule, &node.kind) {
        (MergeRule::Build, YamlNodeKind::String(_)) => YamlNodeKind::Mapping(YamlMapping::from_iter([(
            Arc::from("context"),
            YamlEntry { at: node.at, node: node.clone() },
        )])),
        (MergeRule::List, YamlNodeKind::String(_)) => YamlNodeKind::Sequence(vec![node.clone()]),
        (MergeRule::Pairs, YamlNodeKind::Sequence(items)) if items.iter().all(|item| item.scalar_text().is_some()) => {
            let pair = |item: &Arc<YamlNode>| {
                let text = item.scalar_text().unwrap_or_default();
                let (key, value) = match text.split_once('=') {
                    Some((key, value)) => (Arc::from(key), YamlNodeKind::String(value.into())),
                    None => (text.clone(), YamlNodeKind::Null),
                };
                (key, YamlEntry { at: item.at, node: Arc::new(YamlNode::new(value, item.at)) })
            };
            YamlNodeKind::Mapping(items.iter().map(pair).collect())
        }
        (MergeRule::Hosts, YamlNodeKind::Sequence(items)) if items.iter().all(|item| is_host(item)) => {
            let mut hosts = YamlMapping::new();
            for item in items {
                let text = item.str().cloned().unwrap_or_default();
                let (host, addresses) = text.split_once(['=', ':']).unwrap_or((&text, ""));
                let (host, addresses) = text.split_once('=').unwrap_or((host, addresses));
                let new =
                    addresses.split(',').map(|ip| Arc::new(YamlNode::new(YamlNodeKind::String(ip.into()), item.at)));
                let before = hosts.get(host).and_then(|entry: &YamlEntry| entry.node.sequence()).unwrap_or_default();
                let all = YamlNodeKind::Sequence(before.iter().cloned().chain(new).collect());
                hosts.insert(host.into(), YamlEntry { at: item.at, node: Arc::new(YamlNode::new(all, item.at)) });
            }
            YamlNodeKind::Mapping(hosts)
        }
        (MergeRule::Hosts, YamlNodeKind::Mapping(hosts)) => {
            let each = |entry: &YamlEntry| match &entry.node.kind {
                YamlNodeKind::String(_) => {
                    let all = YamlNodeKind::Sequence(vec![entry.node.clone()]);
                    let node = YamlNode::new(all, entry.node.at).with(entry.node.action);
                    YamlEntry { at: entry.at, node: Arc::new(node) }
                }
                _ => entry.clone(),
            };
            YamlNodeKind::Mapping(hosts.iter().map(|(host, entry)| (host.clone(), each(entry))).collect())
        }
        _ => return node.clone(),
    };
    Arc::new(YamlNode::new(kind, node.at).with(node.action))
}

/// Whether an item of `extra_hosts` has a host and an address.
fn is_host(item: &YamlNode) -> bool {
    item.str().is_some_and(|text| text.contains(['=', ':']))
}

/// Removes values that `!reset` takes away, and all merge actions; `None` if the value itself is reset.
pub(super) fn settled(node: &Arc<YamlNode>) -> Option<Arc<YamlNode>> {
    if node.action == Some(YamlAction::Reset) {
        return None;
    }
    let kind = match &node.kind {
        YamlNodeKind::Mapping(entries) => YamlNodeKind::Mapping(
            entries
                .iter()
                .filter_map(|(key, entry)| Some((key.clone(), YamlEntry { at: entry.at, node: settled(&entry.node)? })))
                .collect(),
        ),
        YamlNodeKind::Sequence(items) => YamlNodeKind::Sequence(items.iter().filter_map(settled).collect()),
        _ if node.action.is_none() => return Some(node.clone()),
        other => other.clone(),
    };
    Some(Arc::new(YamlNode::new(kind, node.at)))
}
