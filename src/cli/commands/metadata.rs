//! The metadata file (`--metadata-file`): what the exporters answered for each target, a reference of each build, and what the
//! checks found if `BUILDX_METADATA_WARNINGS` asks for it.

use std::{collections::HashSet, path::Path};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Map, Value, json};

use crate::{
    cli::{
        answer_file,
        settings::{Environment, Settings},
    },
    dispatch::outcome::RunMetadata,
    engine::CheckFinding,
    report::{Diagnostic, SourceMap, Span},
    spec,
};

/// The level of a warning of a check, as BuildKit counts them.
const CHECK_LEVEL: u32 = 1;
/// The builder and its node in the reference of a build.
const BUILDER: &str = "default/default";
/// Letters and digits of the reference of a build.
const REFERENCE_LENGTH: usize = 25;

/// Writes the metadata of a run that has built its targets.
pub(super) fn write_of_run(
    path: &Path,
    settings: &Settings,
    metadata: &RunMetadata,
    findings: &[CheckFinding],
    sources: &SourceMap,
) -> Result<(), Box<Diagnostic>> {
    let mut metadata = metadata.clone();
    for answers in metadata.values_mut() {
        answers.insert("buildx.build.ref".to_owned(), reference().into());
    }
    let warnings = if wants_warnings(&settings.env) { warnings(findings, sources) } else { Vec::new() };
    let warnings = (!warnings.is_empty()).then(|| Value::Array(warnings));
    write(path, &metadata, warnings, settings.command_line.is_some())
}

/// Writes a metadata file. That of `bake build` is about its one target, so the answers stand in it without the name of a
/// target (`is_single`). `warnings` stand beside the targets, or the answers.
pub(super) fn write(
    path: &Path,
    metadata: &RunMetadata,
    warnings: Option<Value>,
    is_single: bool,
) -> Result<(), Box<Diagnostic>> {
    let mut all: Map<String, Value> =
        metadata.iter().map(|(target, answers)| (target.clone(), Value::Object(answers.clone()))).collect();
    if is_single {
        all = metadata.values().next().cloned().unwrap_or_default();
    }
    all.extend(warnings.map(|warnings| ("buildx.build.warnings".to_owned(), warnings)));
    write_json(path, &Value::Object(all))
}

/// Writes a metadata file atomically.
pub(crate) fn write_json(path: &Path, content: &Value) -> Result<(), Box<Diagnostic>> {
    let text = serde_json::to_string_pretty(content).expect("metadata is plain data");
    let failed = |error: &dyn std::error::Error| {
        let mut fault = Diagnostic::error(
            "bake::cli::metadata_file",
            format!("the metadata file cannot be written: {}", path.display()),
        );
        fault.causes.push(error.to_string());
        Box::new(fault)
    };
    answer_file::write(path, &(text + "\n")).map_err(|error| failed(&error))
}

fn wants_warnings(env: &Environment) -> bool {
    env.get("BUILDX_METADATA_WARNINGS").is_some_and(|text| spec::boolean(text).unwrap_or(false))
}

/// What the checks found, each place once, as BuildKit tells clients of it: texts in base64, lines from 1 on
/// (<https://pkg.go.dev/github.com/moby/buildkit/client#VertexWarning>).
fn warnings(findings: &[CheckFinding], sources: &SourceMap) -> Vec<Value> {
    let mut seen = HashSet::new();
    let new = findings.iter().filter(|it| seen.insert((it.rule.name, it.detail.clone(), it.at)));
    let one = |it: &CheckFinding| {
        let line = |at: Span| sources.line_column(at).0;
        let (first, last) = (line(it.at), line(Span { start: it.at.end, ..it.at }));
        let source = sources.get(it.at.source);
        json!({
            "level": CHECK_LEVEL,
            "short": BASE64_STANDARD.encode(format!("{}: {} (line {first})", it.rule.name, it.detail)),
            "detail": [BASE64_STANDARD.encode(&it.detail)],
            "url": it.rule.url(),
            "sourceInfo": {
                "filename": &*source.name,
                "data": BASE64_STANDARD.encode(source.text.as_bytes()),
                "language": "Dockerfile",
            },
            "range": [{"start": {"line": first}, "end": {"line": last}}],
        })
    };
    new.map(one).collect()
}

/// A reference for a build that no other build has. Builds are not recorded, so nothing can be asked by it.
fn reference() -> String {
    let half = || u128::from(getrandom::u64().unwrap_or_default());
    let mut number = half() << 64 | half();
    let mut text = String::with_capacity(REFERENCE_LENGTH);
    for _ in 0..REFERENCE_LENGTH {
        let digit = u32::try_from(number % 36).expect("a rest is less than its divisor");
        text.push(char::from_digit(digit, 36).expect("it is less than 36"));
        number /= 36;
    }
    format!("{BUILDER}/{text}")
}
