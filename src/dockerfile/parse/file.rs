//! A whole Dockerfile: lines to stages, parser directives, and errors of the file as a whole. All errors of a file are
//! reported in one run (Dockerfile reference, format: <https://docs.docker.com/reference/dockerfile/#format>).

use super::instruction::{ParseResult, instruction};
use crate::{
    dockerfile::{
        fault::fault,
        instruction::{Instruction, InstructionKind, ParsedDockerfile},
        lex::LineReader,
    },
    report::{Diagnostic, SourceId, Span, Spanned},
};

/// Parses a Dockerfile into stages and instructions. With errors among the diagnostics the result holds what could be
/// parsed.
pub(crate) fn parse(source: SourceId, text: &str) -> (ParsedDockerfile, Vec<Diagnostic>) {
    let mut reader = LineReader::new(source, text, None);
    let mut file = ParsedDockerfile {
        escape: '\\',
        syntax: None,
        check: None,
        globals: Vec::new(),
        stages: Vec::new(),
        empty_continuations: Vec::new(),
    };
    let mut faults = Vec::new();
    let mut has_no_instruction = true;
    let mut has_reported_no_stage = false;
    while let Some(line) = reader.line() {
        has_no_instruction = false;
        match instruction(&line, &mut reader, &mut faults) {
            Some(ParseResult::Stage(stage)) => file.stages.push(*stage),
            Some(ParseResult::Instruction(it)) => match file.stages.last_mut() {
                Some(stage) => stage.instructions.push(it),
                None if matches!(it.kind, InstructionKind::Arg(_)) => file.globals.push(it),
                None if has_reported_no_stage => (),
                None => {
                    has_reported_no_stage = true;
                    let message =
                        format!("no build stage yet, only ARG may come before the first FROM: `{}`", it.keyword);
                    faults.push(fault("bake::dockerfile::no_stage", message, it.at, "before any FROM"));
                }
            },
            None => (),
        }
    }
    file.escape = reader.escape();
    let spanned = |(value, at): (String, Span)| Spanned::new(value, at);
    file.syntax = reader.directives.syntax.take().map(spanned);
    file.check = reader.directives.check.take().map(spanned);
    file.empty_continuations = std::mem::take(&mut reader.empty_continuations);
    let mut all = std::mem::take(&mut reader.faults);
    all.append(&mut faults);
    let whole = Span { source, start: 0, end: 0 };
    if text.is_empty() {
        all.push(fault("bake::dockerfile::empty", "the Dockerfile is empty".to_owned(), whole, "nothing here"));
    } else if has_no_instruction && all.is_empty() {
        let message = "the Dockerfile has no instructions".to_owned();
        all.push(fault("bake::dockerfile::empty", message, whole, "only comments and blank lines"));
    } else if file.stages.is_empty() && all.is_empty() {
        let message = "the Dockerfile has no build stage".to_owned();
        all.push(
            fault("bake::dockerfile::no_stage", message, whole, "no FROM in this file")
                .help("begin with `FROM scratch` or an image"),
        );
    }
    if let Some(syntax) = &file.syntax
        && !all.is_empty()
        && let Some(foreign) = foreign_syntax(&syntax.value, Some(syntax.at))
    {
        all.insert(0, foreign);
    }
    all.sort_by_key(|fault| fault.labels.first().map_or(0, |label| label.at.start));
    (file, all)
}

/// Parses one ONBUILD trigger of a base image; all spans are `at`.
pub(crate) fn parse_trigger(text: &str, at: Span) -> Result<Instruction, Vec<Diagnostic>> {
    let mut reader = LineReader::new(at.source, text, Some(at));
    let mut faults = Vec::new();
    let first = reader.line().and_then(|line| instruction(&line, &mut reader, &mut faults));
    let more = reader.line().is_some();
    faults.append(&mut reader.faults);
    match first {
        Some(ParseResult::Instruction(it)) if faults.is_empty() && !more => Ok(it),
        _ => {
            if faults.is_empty() {
                let message = format!("an ONBUILD trigger must be one instruction: `{text}`");
                faults.push(fault("bake::dockerfile::bad_onbuild", message, at, "the base has this trigger"));
            }
            Err(faults)
        }
    }
}

/// The error for a `# syntax=` directive that names another frontend than Docker's own, which is built in; `None` if it
/// is that one.
pub(crate) fn foreign_syntax(value: &str, at: Option<Span>) -> Option<Diagnostic> {
    let image = value.split_whitespace().next().unwrap_or_default();
    let name = image.strip_prefix("docker.io/").unwrap_or(image);
    let name = name.split(['@', ':']).next().unwrap_or_default();
    if matches!(name, "docker/dockerfile" | "docker/dockerfile-upstream" | "dockerfile.v0") {
        return None;
    }
    let message = format!("only the built-in Dockerfile syntax is supported, not a frontend image: {image}");
    let diagnostic = Diagnostic::error("bake::dockerfile::foreign_syntax", message)
        .help("remove the directive, use `docker/dockerfile:1`, or build this target with a BuildKit");
    Some(match at {
        Some(at) => diagnostic.at(at, "asked for here"),
        None => diagnostic,
    })
}
