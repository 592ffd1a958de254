//! A diagnostic as reports have it: without what must not be shown, its place as a file with lines and columns, and a
//! fingerprint by which a service knows it again after lines have moved.

use std::{
    collections::HashMap,
    path::{Component, Path, PathBuf},
    time::Duration,
};

use indexmap::IndexSet;

use crate::{
    oci::{Digest, digest::FieldHasher},
    report::{
        Diagnostic, Label, Severity, SourceMap, SourceOrigin, Span,
        result::{BuildResult, OutputResult, ResultEnd, TargetResult},
    },
    ui::{masking, terminal::harmless_lines},
};

/// What paths in reports are relative to.
#[derive(Clone, Debug)]
pub(crate) struct ReportPaths {
    /// Absolute: what names of files are relative to.
    pub(crate) cwd: PathBuf,
    /// Absolute: the folder that reports start from, the root of the repository; `cwd` lies in it.
    pub(crate) root: PathBuf,
}

/// One diagnostic, fit to be shown.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    pub(super) code: &'static str,
    pub(super) severity: Severity,
    /// With its causes; one line, unless the message itself has more.
    pub(super) message: String,
    pub(super) help: Option<String>,
    /// The last lines of a failed step.
    pub(super) output: Option<String>,
    pub(super) place: Option<FilePlace>,
    /// The place as text, for a source that is no file: `--set`, standard input.
    pub(super) elsewhere: Option<String>,
    pub(super) targets: IndexSet<String>,
    /// The line that has the fault, without blanks at its ends.
    line_text: String,
}

/// A place in a file. Lines and columns count from 1, columns in characters; the end column is behind the last character.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct FilePlace {
    /// Relative to the root of the repository, or absolute where it lies outside of it; with `/`.
    pub(super) path: String,
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) end_line: usize,
    pub(super) end_column: usize,
}

/// What makes two diagnostics one finding.
pub(super) type FindingKey = (Severity, &'static str, String, Option<FilePlace>, Option<String>);

impl Finding {
    pub(super) fn new(diagnostic: &Diagnostic, sources: &SourceMap, paths: &ReportPaths) -> Self {
        let span = diagnostic.labels.first().map(|label| meant(label, sources));
        let place = span.and_then(|at| file_place(at, sources, paths));
        let elsewhere = span.filter(|_| place.is_none()).map(|at| shown(&sources.place(at)));
        Self {
            code: diagnostic.code,
            severity: diagnostic.severity,
            message: shown(&diagnostic.to_string()),
            help: diagnostic.help.as_deref().map(shown),
            output: diagnostic.output.as_deref().map(shown),
            line_text: span.map(|at| line_text(at, sources)).unwrap_or_default(),
            targets: diagnostic.targets.iter().map(|name| shown(name)).collect(),
            place,
            elsewhere,
        }
    }

    pub(super) fn key(&self) -> FindingKey {
        (self.severity, self.code, self.message.clone(), self.place.clone(), self.elsewhere.clone())
    }

    pub(super) const fn is_error(&self) -> bool {
        matches!(self.severity, Severity::Error)
    }

    /// The message, where it was found if that is no file, and what to do.
    pub(super) fn text(&self) -> String {
        let mut text = self.message.clone();
        if let Some(elsewhere) = &self.elsewhere {
            text.extend([" (", elsewhere, ")"]);
        }
        if let Some(help) = &self.help {
            text.extend(["\nhelp: ", help]);
        }
        if !self.targets.is_empty() {
            let word = if self.targets.len() == 1 { "target" } else { "targets" };
            let names: Vec<&str> = self.targets.iter().map(String::as_str).collect();
            text.extend(["\n", word, ": ", &crate::report::fold::some_of(names.into_iter())]);
        }
        text
    }
}

/// All that a report is made of.
pub(super) struct Findings<'a> {
    /// Errors first, then warnings, then notices, each in the order in which they were told.
    pub(super) all: Vec<&'a Finding>,
    /// By position in `all`: what a service knows the finding by, also after its line has moved.
    pub(super) fingerprints: Vec<Digest>,
    pub(super) targets: Vec<&'a TargetResult>,
    pub(super) took: Duration,
}

impl<'a> Findings<'a> {
    pub(super) fn new(findings: &'a [Finding], targets: Vec<&'a TargetResult>, took: Duration) -> Self {
        let mut all: Vec<&Finding> = findings.iter().collect();
        all.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        let mut n_equal: HashMap<Digest, u64> = HashMap::new();
        let fingerprint = |finding: &&Finding| {
            let path = finding.place.as_ref().map(|place| place.path.as_str());
            let mut hasher = FieldHasher::new("finding/1");
            hasher.text(finding.code).text(&finding.message).optional(path).text(&finding.line_text);
            let of_all = hasher.finish();
            // Of several equal ones in one file the second stays the second.
            let n_before = n_equal.entry(of_all).or_default();
            let mut hasher = FieldHasher::new("finding/1/n");
            hasher.digest(&of_all).number(*n_before);
            *n_before += 1;
            hasher.finish()
        };
        let fingerprints = all.iter().map(fingerprint).collect();
        Self { all, fingerprints, targets, took }
    }

    /// Every target with a build, and the outputs that belong to all of its builds.
    pub(super) fn builds(&self) -> impl Iterator<Item = (&'a TargetResult, &'a BuildResult)> {
        self.targets.iter().copied().flat_map(|target| target.builds.iter().map(move |build| (target, build)))
    }

    /// The errors that are not the fault of a build or an output.
    pub(super) fn other_errors(&self) -> impl Iterator<Item = &'a Finding> {
        let of_results: Vec<String> = self
            .targets
            .iter()
            .flat_map(|target| {
                let outputs = target.outputs.iter().map(|output: &OutputResult| &output.end);
                target.builds.iter().map(|build| &build.end).chain(outputs)
            })
            .filter_map(|end| match end {
                ResultEnd::Failed(fault) => Some(shown(&fault.to_string())),
                ResultEnd::Done | ResultEnd::Cached | ResultEnd::NotRun => None,
            })
            .collect();
        let errors: Vec<&Finding> = self.all.iter().copied().filter(|finding| finding.is_error()).collect();
        errors.into_iter().filter(move |finding| !of_results.contains(&finding.message))
    }
}

/// A text without sensitive values and credentials, in which nothing steers a terminal; line breaks stay.
pub(super) fn shown(text: &str) -> String {
    harmless_lines(&masking::shown(text)).into_owned()
}

/// The span of a label, or of the part of it that is meant.
fn meant(label: &Label, sources: &SourceMap) -> Span {
    let at = label.at;
    let text = sources.get(at.source).text.get(at.start as usize..at.end as usize).unwrap_or_default();
    label.part_in(text).map_or(at, |part| {
        let behind = |offset: usize| at.start + u32::try_from(offset).expect("the part lies in the span");
        Span { start: behind(part.start), end: behind(part.end), ..at }
    })
}

/// The place of a span in a file. That of a text inside of another one is there.
fn file_place(at: Span, sources: &SourceMap, paths: &ReportPaths) -> Option<FilePlace> {
    let source = sources.get(at.source);
    match source.origin {
        SourceOrigin::Elsewhere => None,
        SourceOrigin::Within(outer) => {
            let mut place = file_place(outer, sources, paths)?;
            let (line, _) = sources.line_column(at);
            let inner = source.text.lines().nth(line - 1).unwrap_or_default().trim();
            let outer_text = &sources.get(outer.source).text;
            // In a heredoc each line of the value is a line of the file, the first one behind that of the attribute.
            let of_file = place.line + line;
            if !inner.is_empty()
                && of_file <= place.end_line
                && let Some(found) = outer_text.lines().nth(of_file - 1).filter(|text| is_line_of(text.trim(), inner))
            {
                let indent = found.chars().take_while(|c| c.is_whitespace()).count();
                let end_column = found.trim_end().chars().count() + 1;
                place = FilePlace { line: of_file, column: indent + 1, end_line: of_file, end_column, ..place };
            }
            Some(place)
        }
        SourceOrigin::File => {
            let (line, column) = sources.line_column(at);
            let (mut end_line, mut end_column) = sources.line_column(Span { start: at.end, ..at });
            if (end_line, end_column) < (line, column) {
                (end_line, end_column) = (line, column);
            }
            // A span that ends with its line break is one of that line.
            if end_line > line && end_column == 1 {
                end_line -= 1;
                end_column = source.text.lines().nth(end_line - 1).map_or(1, |text| text.chars().count() + 1);
            }
            Some(FilePlace { path: relative(&source.name, paths), line, column, end_line, end_column })
        }
    }
}

/// Whether a line of a heredoc gave this line of its value, as far as that can be seen: expressions have other texts.
fn is_line_of(written: &str, value: &str) -> bool {
    written == value || written.contains("${") && value.starts_with(written.split("${").next().unwrap_or_default())
}

/// A path as services know it: relative to the root of the repository where it lies in it.
fn relative(name: &str, paths: &ReportPaths) -> String {
    let mut clean = PathBuf::new();
    for part in paths.cwd.join(name).components() {
        match part {
            Component::CurDir => (),
            Component::ParentDir => drop(clean.pop()),
            other => clean.push(other),
        }
    }
    let path: &Path = clean.strip_prefix(&paths.root).unwrap_or(&clean);
    shown(&path.to_string_lossy())
}

fn line_text(at: Span, sources: &SourceMap) -> String {
    let (line, _) = sources.line_column(at);
    let text = &sources.get(at.source).text;
    text.lines().nth(line - 1).unwrap_or_default().trim().to_owned()
}
