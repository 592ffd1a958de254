//! The tree that YAML text becomes: values with their places and with the tags that Compose gives a meaning.

use std::sync::Arc;

use indexmap::IndexMap;

use crate::report::Span;

/// A value and its place. Aliases share it.
#[derive(Clone, Debug)]
pub(crate) struct YamlNode {
    pub(crate) kind: YamlNodeKind,
    /// Of a block collection: its first line.
    pub(crate) at: Span,
    pub(crate) action: Option<YamlAction>,
    /// How many values this one holds, itself included; what an alias costs.
    pub(super) weight: usize,
}

/// A Compose tag that changes how a value is merged onto the value of an earlier file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum YamlAction {
    /// `!reset`: the value of the earlier file is removed.
    Reset,
    /// `!override`: the value of the earlier file is replaced, not merged.
    Override,
}

/// The kinds of YAML values, resolved by the core schema (<https://yaml.org/spec/1.2.2/#103-core-schema>).
#[derive(Clone, Debug)]
pub(crate) enum YamlNodeKind {
    Null,
    Bool(bool),
    /// In decimal.
    Number(Arc<str>),
    String(Arc<str>),
    Sequence(Vec<Arc<YamlNode>>),
    Mapping(YamlMapping),
}

/// The entries of a mapping, in the order written; those of merge keys (`<<`) come after.
pub(crate) type YamlMapping = IndexMap<Arc<str>, YamlEntry>;

/// One entry: the place of its key, and its value.
#[derive(Clone, Debug)]
pub(crate) struct YamlEntry {
    pub(crate) at: Span,
    pub(crate) node: Arc<YamlNode>,
}

impl YamlNode {
    /// A value at a place, without a merge action.
    pub(crate) const fn new(kind: YamlNodeKind, at: Span) -> Self {
        Self { kind, at, action: None, weight: 1 }
    }

    /// The node with another merge action.
    #[must_use]
    pub(crate) fn with(self, action: Option<YamlAction>) -> Self {
        Self { action, ..self }
    }

    /// Whether the value is null: `~`, `null`, or nothing.
    pub(crate) const fn is_null(&self) -> bool {
        matches!(self.kind, YamlNodeKind::Null)
    }

    /// The entries of a mapping; `None` for any other value.
    pub(crate) const fn mapping(&self) -> Option<&YamlMapping> {
        match &self.kind {
            YamlNodeKind::Mapping(entries) => Some(entries),
            _ => None,
        }
    }

    /// The items of a list; `None` for any other value.
    pub(crate) fn sequence(&self) -> Option<&[Arc<Self>]> {
        match &self.kind {
            YamlNodeKind::Sequence(items) => Some(items),
            _ => None,
        }
    }

    /// The text of a string; `None` for any other value: numbers are not converted.
    pub(crate) fn str(&self) -> Option<&Arc<str>> {
        match &self.kind {
            YamlNodeKind::String(text) => Some(text),
            _ => None,
        }
    }

    /// The value of a key of a mapping; `None` if there is no such key, or for any other value.
    pub(crate) fn get(&self, key: &str) -> Option<&Arc<Self>> {
        self.mapping().and_then(|entries| entries.get(key)).map(|entry| &entry.node)
    }

    /// The text of a string, number or bool.
    pub(crate) fn scalar_text(&self) -> Option<Arc<str>> {
        match &self.kind {
            YamlNodeKind::String(text) | YamlNodeKind::Number(text) => Some(text.clone()),
            YamlNodeKind::Bool(value) => Some(if *value { "true" } else { "false" }.into()),
            _ => None,
        }
    }

    /// The word for this kind of value in messages: `a list`, `a number`.
    pub(crate) const fn word(&self) -> &'static str {
        match &self.kind {
            YamlNodeKind::Null => "nothing",
            YamlNodeKind::Bool(_) => "a bool",
            YamlNodeKind::Number(_) => "a number",
            YamlNodeKind::String(_) => "a string",
            YamlNodeKind::Sequence(_) => "a list",
            YamlNodeKind::Mapping(_) => "a mapping",
        }
    }
}
