//! `bake affected`: the targets whose results can differ since a revision, as text, JSON or the matrix of a CI.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::{
    affected::{AffectedReason, FileReader, UncomparedSource, UnpinnedInput},
    cli::{
        affected::{Answered, Compared, answer, names_of},
        affected_args::AffectedFormat,
        affected_args::WantedRevisions,
        exit::{OK, write, write_json},
        settings::Settings,
    },
    plan::TargetName,
    report::fold::some_of,
    ui::output,
};

/// Answers which targets are affected.
pub(crate) fn run(settings: &Settings, wanted: &WantedRevisions, format: AffectedFormat) -> u8 {
    let answered = match answer(settings, wanted) {
        Ok(answered) => answered,
        Err(code) => return code,
    };
    match format {
        AffectedFormat::Text => {
            let code = write(&text(&answered));
            output::words(&summary(&answered));
            code
        }
        AffectedFormat::Json => write_json(&format!("{:#}\n", document(&answered))),
        AffectedFormat::Matrix => write_json(&format!("{}\n", matrix(&answered))),
    }
}

/// Names the affected targets instead of those that the command line has, for a build of them.
///
/// # Errors
/// The exit code, when there is nothing to build or something is at fault; that was told.
pub(crate) fn restrict(settings: &mut Settings, wanted: &WantedRevisions) -> Result<(), u8> {
    let answered = names_of(settings, wanted)?;
    output::words(&summary(&answered));
    if answered.answer.targets.is_empty() {
        return Err(OK);
    }
    // The groups that ask for it are not named any more.
    settings.has_warned = true;
    settings.execution = settings.execution.or(answered.release);
    settings.names = answered.answer.targets.iter().map(|target| target.name.to_string()).collect();
    Ok(())
}

/// A line for each reason, the target first.
fn text(answered: &Answered) -> String {
    let targets = &answered.answer.targets;
    let width = targets.iter().map(|target| target.name.0.chars().count()).max().unwrap_or_default();
    let mut text = String::new();
    for target in targets {
        for reason in &target.reasons {
            let AffectedReason { kind: _, path, line, text: what, reader } = reason;
            let place = match (path, line) {
                (Some(path), Some(line)) => format!("{path}:{line}: "),
                (Some(path), None) => format!("{path}: "),
                (None, _) => String::new(),
            };
            let reader = match reader {
                Some(FileReader { instruction, place: Some((path, line)) }) => {
                    format!(", read by {instruction} ({path}:{line})")
                }
                Some(FileReader { instruction, place: None }) => format!(", read by {instruction}"),
                None => String::new(),
            };
            // A string takes any text.
            let _never_fails = writeln!(text, "{:width$}  {place}{what}{reader}", &*target.name.0);
        }
    }
    text
}

fn summary(answered: &Answered) -> String {
    let Answered { answer, compared, .. } = answered;
    let (n, of) = (answer.targets.len(), answer.n_targets);
    let verb = if n == 1 { "is" } else { "are" };
    let mut text = format!("{n} of {of} targets {verb} affected since {}\n", base_of(compared));
    if !answer.unpinned.is_empty() {
        let references = some_of(answer.unpinned.iter().map(|it| it.reference.as_str()));
        let _never_fails = writeln!(text, "unpinned, may change at any time: {references}");
    }
    if !answer.not_compared.is_empty() {
        let paths = some_of(answer.not_compared.iter().map(|it| it.path.as_str()));
        let _never_fails = writeln!(text, "not compared, git ignores it: {paths}");
    }
    text
}

/// What is compared with, in words.
fn base_of(compared: &Compared) -> String {
    let Compared { wanted, since, until: _, bases } = compared;
    let short = |commit: &String| commit.chars().take(12).collect::<String>();
    let commits: Vec<String> = bases.iter().map(short).collect();
    let commits = commits.join(", ");
    if bases.len() == 1 && bases[0] == *since {
        return format!("{} ({commits})", wanted.since);
    }
    let until = wanted.until.as_deref().unwrap_or("HEAD");
    format!("{commits}, the merge base of {} and {until}", wanted.since)
}

fn document(answered: &Answered) -> Value {
    let Answered { answer, compared, top, release: _ } = answered;
    let targets: Vec<Value> = answer
        .targets
        .iter()
        .map(|target| {
            let reasons: Vec<Value> = target.reasons.iter().map(reason).collect();
            json!({ "target": &*target.name.0, "reasons": reasons })
        })
        .collect();
    let unpinned: Vec<Value> = answer
        .unpinned
        .iter()
        .map(|UnpinnedInput { kind, reference, targets }| {
            json!({ "kind": kind.name(), "reference": reference, "targets": names(targets) })
        })
        .collect();
    let not_compared: Vec<Value> = answer
        .not_compared
        .iter()
        .map(|UncomparedSource { path, targets }| json!({ "path": path, "targets": names(targets) }))
        .collect();
    json!({
        "since": { "revision": compared.wanted.since, "commit": compared.since },
        "until": compared.until.as_ref().map(|commit| json!({ "revision": compared.wanted.until, "commit": commit })),
        "comparedWith": compared.bases,
        "workTree": top.to_string_lossy(),
        "total": answer.n_targets,
        "targets": targets,
        "unpinned": unpinned,
        "notCompared": not_compared,
    })
}

fn names(targets: &[TargetName]) -> Vec<&str> {
    targets.iter().map(|name| &*name.0).collect()
}

fn reason(reason: &AffectedReason) -> Value {
    let AffectedReason { kind, path, line, text, reader } = reason;
    let mut value = json!({ "kind": kind.name(), "text": text });
    if let Some(path) = path {
        value["path"] = json!(path);
    }
    if let Some(line) = line {
        value["line"] = json!(line);
    }
    if let Some(FileReader { instruction, place }) = reader {
        value["readBy"] = json!({ "instruction": instruction });
        if let Some((path, line)) = place {
            value["readBy"]["path"] = json!(path);
            value["readBy"]["line"] = json!(line);
        }
    }
    value
}

fn matrix(answered: &Answered) -> Value {
    let include: Vec<Value> =
        answered.answer.targets.iter().map(|target| json!({ "target": &*target.name.0 })).collect();
    json!({ "include": include })
}
