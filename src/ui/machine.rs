//! Diagnostics for programs: `bake check --format=json`, and what is told while progress is shown as JSON
//! (`--progress=rawjson`), one object a line as BuildKit's solve status has them.
//!
//! What is hidden is masked by `output`, where the texts are written.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::report::{Diagnostic, SourceMap, Span};

/// A diagnostic as an object; lines and columns count from 1, in characters.
pub(crate) fn entry(it: &Diagnostic, sources: &SourceMap) -> Value {
    let place = it.labels.first().map(|label| {
        let end = Span { start: label.at.end, ..label.at };
        (sources.get(label.at.source).name.to_string(), sources.line_column(label.at), sources.line_column(end))
    });
    let targets: Vec<&str> = it.targets.iter().map(|name| &**name).collect();
    let mut entry = json!({
        "code": it.code,
        "severity": if it.is_error() { "error" } else { "warning" },
        "message": it.to_string(),
        "file": place.as_ref().map(|(file, ..)| file),
        "line": place.as_ref().map(|(_, start, _)| start.0),
        "column": place.as_ref().map(|(_, start, _)| start.1),
        "endLine": place.as_ref().map(|(.., end)| end.0),
        "endColumn": place.as_ref().map(|(.., end)| end.1),
        "help": it.help,
        "targets": targets,
    });
    if let Some(stage) = &it.stage {
        entry["stage"] = json!(&**stage);
    }
    if let Some(output) = &it.output {
        entry["output"] = json!(output);
    }
    entry
}

/// A diagnostic as one line: a warning in the form of BuildKit's warnings, whose texts are in base64, with what is more in
/// `diagnostic`; an error in `errors`, which BuildKit does not have.
pub(crate) fn line(it: &Diagnostic, sources: &SourceMap) -> String {
    let entry = entry(it, sources);
    if it.is_error() {
        return json!({"errors": [entry]}).to_string();
    }
    let detail: Vec<String> = it.help.iter().map(|help| STANDARD.encode(help)).collect();
    let mut warning = json!({"level": 1, "short": STANDARD.encode(it.to_string()), "detail": detail});
    if let Some(label) = it.labels.first() {
        let place = |at: Span| {
            let (line, column) = sources.line_column(at);
            json!({"line": line, "character": column - 1})
        };
        let end = Span { start: label.at.end, ..label.at };
        warning["sourceInfo"] = json!({"filename": &*sources.get(label.at.source).name});
        warning["range"] = json!([{"start": place(label.at), "end": place(end)}]);
    }
    warning["diagnostic"] = entry;
    json!({"warnings": [warning]}).to_string()
}

/// A message that is no diagnostic as one line.
pub(crate) fn message(text: &str) -> String {
    json!({"message": text.trim_end()}).to_string()
}
