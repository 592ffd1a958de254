//! Bake files in YAML: distinguished from Compose files by their keys, and passed on as the tree of the JSON form.

use crate::{
    definition::{json, syntax::Body},
    report::{Diagnostic, SourceId, Spanned},
};

use super::node::{YamlNode, YamlNodeKind};

/// Whether a document is a bake file rather than a Compose file.
pub(crate) fn is_bake(document: &YamlNode) -> bool {
    let has = |key: &str| document.get(key).is_some();
    ["target", "group", "variable", "function"].into_iter().any(has) && !has("services")
}

/// Lowers a bake file in YAML to a body, by way of its JSON form. Errors are among the diagnostics.
pub(crate) fn body(source: SourceId, text: &str, document: &YamlNode) -> (Body, Vec<Diagnostic>) {
    json::body(source, text, &as_json(text, document))
}

/// Converts a YAML node to a JSON node with the same places.
pub(in crate::definition) fn as_json(text: &str, node: &YamlNode) -> json::JsonNode {
    let kind = match &node.kind {
        YamlNodeKind::Null => json::JsonNodeKind::Null,
        YamlNodeKind::Bool(value) => json::JsonNodeKind::Bool(*value),
        YamlNodeKind::Number(number) => json::JsonNodeKind::Number(number.clone()),
        YamlNodeKind::String(value) => {
            let written = text.get(node.at.start as usize..node.at.end as usize).unwrap_or_default();
            let inside = written.strip_prefix(['"', '\'']).and_then(|it| it.strip_suffix(['"', '\'']));
            json::JsonNodeKind::Text { text: value.clone(), verbatim: inside == Some(value) }
        }
        YamlNodeKind::Sequence(items) => {
            json::JsonNodeKind::Array(items.iter().map(|item| as_json(text, item)).collect())
        }
        YamlNodeKind::Mapping(entries) => json::JsonNodeKind::Object(
            entries
                .iter()
                .map(|(key, entry)| (Spanned::new(key.clone(), entry.at), as_json(text, &entry.node)))
                .collect(),
        ),
    };
    json::JsonNode { kind, at: node.at }
}
