//! The summary of a run as Markdown, for the page of a job: failures first, then a table of targets.
//!
//! A job of GitHub may write 1 MiB of it (<https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands>,
//! "Adding a job summary"), so rows and texts beyond [`LONGEST`] are counted, not written.

use std::{fmt::Write as _, time::Duration};

use super::finding::{Finding, Findings, shown};
use crate::{
    report::result::{ResultEnd, TargetResult},
    ui::progress::conclusion::size,
};

/// What a summary may take, in bytes, less the lines that end it.
const LONGEST: usize = 900_000;
/// Lines of the output of a failed step; the last ones.
const OUTPUT_LINES: usize = 30;

pub(super) fn write(findings: &Findings<'_>) -> String {
    let mut text = format!("## bake: {}\n", headline(findings));
    let (errors, others): (Vec<&Finding>, Vec<&Finding>) =
        findings.all.iter().copied().partition(|finding| finding.is_error());
    section(&mut text, "### Failures\n", errors.iter(), |finding| failure(finding));
    if !findings.targets.is_empty() {
        let head = "### Targets\n\n| Target | Platforms | Result | Time | Size | Tags | Digest |\n|---|---|---|--:|--:|---|---|";
        section(&mut text, head, findings.targets.iter(), |target| row(target));
    }
    section(&mut text, "### Warnings\n", others.iter(), |finding| format!("- {}", one_line(finding)));
    text
}

/// Writes a heading and a line for each item, as far as there is room; nothing without items.
fn section<T>(text: &mut String, head: &str, items: impl ExactSizeIterator<Item = T>, line: impl Fn(T) -> String) {
    let n_items = items.len();
    if n_items == 0 {
        return;
    }
    write!(text, "\n{head}\n").expect("a string takes all");
    for (ix, item) in items.enumerate() {
        let line = line(item);
        if text.len() + line.len() > LONGEST {
            write!(text, "\n… and {} more\n", n_items - ix).expect("a string takes all");
            return;
        }
        text.extend([&line, "\n"]);
    }
}

fn headline(findings: &Findings<'_>) -> String {
    let n_targets = findings.targets.len();
    let failed = findings.targets.iter().filter(|target| target.fault().is_some()).count();
    let n_errors = findings.all.iter().filter(|finding| finding.is_error()).count();
    let count = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
    let took = format!("{:.1} s", findings.took.as_secs_f64());
    match (n_targets, failed, n_errors) {
        (0, _, 0) => format!("nothing failed, {}", count(findings.all.len(), "warning")),
        (0, _, n) => count(n, "error"),
        (n, 0, 0) => format!("{} in {took}", count(n, "target")),
        (n, 0, errors) => format!("{} and {} in {took}", count(n, "target"), count(errors, "error")),
        (n, failed, _) => format!("{failed} of {} failed in {took}", count(n, "target")),
    }
}

fn failure(finding: &Finding) -> String {
    let mut text = format!("- **{}**", cell(&finding.message));
    if let Some(place) = &finding.place {
        write!(text, " in {}", code(&format!("{}:{}", place.path, place.line))).expect("a string takes all");
    }
    let targets: Vec<String> = finding.targets.iter().map(|name| code(name)).collect();
    if !targets.is_empty() {
        write!(text, " ({})", targets.join(", ")).expect("a string takes all");
    }
    if let Some(help) = &finding.help {
        write!(text, "<br>help: {}", cell(help)).expect("a string takes all");
    }
    if let Some(output) = &finding.output {
        let lines: Vec<&str> = output.lines().collect();
        let lines = &lines[lines.len().saturating_sub(OUTPUT_LINES)..];
        let fence = "`".repeat(longest_run(output).max(2) + 1);
        write!(text, "\n\n  {fence}text\n").expect("a string takes all");
        lines.iter().for_each(|line| writeln!(text, "  {line}").expect("a string takes all"));
        writeln!(text, "  {fence}").expect("a string takes all");
    }
    text
}

fn one_line(finding: &Finding) -> String {
    let place = finding.place.as_ref().map(|place| format!("{}: ", code(&format!("{}:{}", place.path, place.line))));
    format!("{}{}", place.unwrap_or_default(), cell(&finding.message))
}

fn row(target: &TargetResult) -> String {
    let ends = || target.builds.iter().map(|build| &build.end).chain(target.outputs.iter().map(|output| &output.end));
    let result = if target.fault().is_some() {
        "❌ failed"
    } else if ends().any(|end| matches!(end, ResultEnd::NotRun)) {
        "not run"
    } else if target.builds.iter().all(|build| matches!(build.end, ResultEnd::Cached)) {
        "cached"
    } else {
        "built"
    };
    let platforms: Vec<&str> = target.builds.iter().map(|build| build.platform.as_str()).collect();
    let took: Duration = target.builds.iter().map(|build| build.took).sum();
    let bytes = if target.bytes() == 0 { String::new() } else { size(target.bytes()) };
    let tags: Vec<String> = target.tags.iter().map(|tag| code(&shown(tag))).collect();
    let digest = target.digest.as_deref().map(code).unwrap_or_default();
    let cells = [
        code(&shown(&target.name)),
        cell(&platforms.join(", ")),
        result.to_owned(),
        format!("{:.1} s", took.as_secs_f64()),
        bytes,
        tags.join("<br>"),
        digest,
    ];
    format!("| {} |", cells.join(" | "))
}

/// Text as it is: what Markdown or HTML would read is escaped; line breaks become blanks.
fn cell(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '(' | ')' | '#' | '+' | '!' | '|' | '~' | '>' | '@'
            | '$' | ':' => escaped.extend(['\\', c]),
            '<' => escaped.push_str("&lt;"),
            '&' => escaped.push_str("&amp;"),
            '\n' | '\r' => escaped.push(' '),
            _ => escaped.push(c),
        }
    }
    escaped
}

/// Text as a code span that may stand in a cell of a table.
fn code(text: &str) -> String {
    let fence = "`".repeat(longest_run(text) + 1);
    // A blank keeps marks at the ends apart from the fence (CommonMark, section 6.1).
    let pad = if text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    format!("{fence}{pad}{}{pad}{fence}", text.replace('|', "\\|").replace(['\n', '\r'], " "))
}

/// The length of the longest run of backticks.
fn longest_run(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn marks_of_markdown_are_text() {
        assert_eq!(cell("a|b <img> `x` *y*\nz"), "a\\|b &lt;img\\> \\`x\\` \\*y\\* z");
        assert_eq!((code("a|b").as_str(), code("`a``b").as_str()), ("`a\\|b`", "``` `a``b ```"));
    }
}
