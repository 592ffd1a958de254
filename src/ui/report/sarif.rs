//! SARIF 2.1.0, the format of code scanning services (<https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html>).
//!
//! One run with one tool; a rule for each code that occurs; paths are relative to `%SRCROOT%`, the root of the repository.

use std::{collections::BTreeMap, fmt::Write as _};

use serde_json::{Map, Value, json};

use super::{
    finding::{FilePlace, Finding, Findings},
    rules,
};
use crate::report::Severity;

/// The name under which fingerprints are known; another way of making them gets another version.
const FINGERPRINT: &str = "bakeFinding/v1";

pub(super) fn write(findings: &Findings<'_>) -> String {
    let mut codes: BTreeMap<&str, usize> = findings.all.iter().map(|finding| (finding.code, 0)).collect();
    codes.values_mut().enumerate().for_each(|(ix, value)| *value = ix);
    let rules: Vec<Value> = codes.keys().map(|code| rule(code)).collect();
    let results: Vec<Value> = findings
        .all
        .iter()
        .zip(&findings.fingerprints)
        .map(|(finding, fingerprint)| result(finding, codes[finding.code], &fingerprint.hex()))
        .collect();
    let run = json!({
        "tool": {"driver": {
            "name": "bake",
            "semanticVersion": env!("CARGO_PKG_VERSION"),
            "rules": rules,
        }},
        "columnKind": "unicodeCodePoints",
        "results": results,
        "invocations": [{"executionSuccessful": !findings.all.iter().any(|finding| finding.is_error())}],
    });
    let log = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [run],
    });
    format!("{log:#}\n")
}

fn rule(code: &str) -> Value {
    let about = rules::about(code);
    json!({
        "id": code,
        "name": name(code),
        "shortDescription": {"text": about.meaning},
        "help": {
            "text": format!("{}, as in: {}", about.meaning, about.example),
            "markdown": format!("{}, as in: {}", about.meaning_markdown, about.example_markdown),
        },
    })
}

/// `bake::check::undefined_var` as a name of a rule: `UndefinedVar`.
fn name(code: &str) -> String {
    let last = code.rsplit("::").next().unwrap_or(code);
    let word = |word: &str| {
        let mut chars = word.chars();
        chars.next().map(|first| first.to_ascii_uppercase().to_string() + chars.as_str()).unwrap_or_default()
    };
    last.split('_').map(word).collect()
}

fn result(finding: &Finding, rule: usize, fingerprint: &str) -> Value {
    let level = match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Notice => "note",
    };
    let mut result = Map::new();
    result.insert("ruleId".to_owned(), finding.code.into());
    result.insert("ruleIndex".to_owned(), rule.into());
    result.insert("level".to_owned(), level.into());
    result.insert("message".to_owned(), json!({"text": finding.text()}));
    if let Some(place) = &finding.place {
        result.insert("locations".to_owned(), json!([{"physicalLocation": location(place)}]));
    }
    result.insert("partialFingerprints".to_owned(), json!({FINGERPRINT: fingerprint}));
    if !finding.targets.is_empty() {
        result.insert("properties".to_owned(), json!({"targets": finding.targets}));
    }
    Value::Object(result)
}

fn location(place: &FilePlace) -> Value {
    let artifact = if place.path.starts_with('/') {
        json!({"uri": format!("file://{}", uri(&place.path))})
    } else {
        json!({"uri": uri(&place.path), "uriBaseId": "%SRCROOT%"})
    };
    json!({
        "artifactLocation": artifact,
        "region": {
            "startLine": place.line,
            "startColumn": place.column,
            "endLine": place.end_line,
            "endColumn": place.end_column,
        },
    })
}

/// A path as a part of a URI (RFC 3986, section 3.3): what is not unreserved is percent-encoded.
fn uri(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => text.push(char::from(byte)),
            other => write!(text, "%{other:02X}").expect("a string takes all"),
        }
    }
    text
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn paths_are_parts_of_uris() {
        assert_eq!(uri("a b/ü%:x.hcl"), "a%20b/%C3%BC%25%3Ax.hcl");
        assert_eq!(name("bake::check::undefined_var"), "UndefinedVar");
    }
}
