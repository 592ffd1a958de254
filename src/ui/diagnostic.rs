//! Diagnostics as text. `miette` draws them; every text that it gets was made harmless before (see `terminal`), and a very
//! long line is shown in part.

use std::{collections::HashMap, fmt, sync::Arc};

use miette::{
    GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError, MietteSpanContents, SourceCode, SourceSpan,
    SpanContents,
};

use super::terminal::{harmless, harmless_lines};
use crate::report::{
    Diagnostic, Label, Severity, SourceId, SourceMap, Span,
    fold::{FoldedDiagnostic, fold, some_of},
};

/// Colour and width of rendered diagnostics.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DiagnosticLook {
    pub(crate) color: bool,
    /// Width in columns; `None` does not wrap.
    pub(crate) width: Option<usize>,
}

/// Further diagnostics are counted, not shown.
pub(super) const MAX_SHOWN: usize = 50;
/// A source line with more bytes than this is shown in part.
const LONG_LINE: usize = 400;
/// How many bytes of a long line are shown on either side of the label.
const AROUND: usize = 120;
/// The largest excerpt in bytes.
const MAX_EXCERPT: usize = 4000;

/// Renders all diagnostics as text, equal ones as one: warnings first, so that the errors stand last; each by file and place,
/// the first `at_most` of each.
///
/// Sources come in the order in which they were read; diagnostics without a place come last.
pub(crate) fn render(diagnostics: &[Diagnostic], sources: &SourceMap, look: DiagnosticLook, at_most: usize) -> String {
    let mut order: Vec<&Diagnostic> = diagnostics.iter().collect();
    let place = |diagnostic: &Diagnostic| diagnostic.labels.first().map(|it| (it.at.source, it.at.start));
    order.sort_by_key(|diagnostic| (diagnostic.is_error(), diagnostic.labels.is_empty(), place(diagnostic)));
    let (errors, warnings): (Vec<_>, Vec<_>) = fold(order).into_iter().partition(|it| it.first.is_error());
    let mut excerpts = Excerpts { sources, known: HashMap::new() };
    let mut text = String::new();
    for (all, what) in [(warnings, "warnings"), (errors, "errors")] {
        for diagnostic in all.iter().take(at_most) {
            text.push_str(&render_one(diagnostic, &mut excerpts, look));
        }
        if all.len() > at_most {
            text.extend(["and ", &(all.len() - at_most).to_string(), " more ", what, "\n"]);
        }
    }
    text
}

/// The texts of a map, each made harmless once.
struct Excerpts<'a> {
    sources: &'a SourceMap,
    known: HashMap<SourceId, Excerpt>,
}

impl Excerpts<'_> {
    fn get(&mut self, id: SourceId) -> Excerpt {
        let make = || {
            let source = self.sources.get(id);
            Excerpt { name: harmless(&source.name), text: harmless_lines(&source.text).into() }
        };
        self.known.entry(id).or_insert_with(make).clone()
    }
}

/// The text from the first line that contains `mark`; empty if there is none.
fn from_line_with<'t>(text: &'t str, mark: &str) -> &'t str {
    let line = |at| text[..at].rfind('\n').map_or(0, |it| it + 1);
    text.find(mark).map_or("", |at| &text[line(at)..])
}

fn render_one(folded: &FoldedDiagnostic<'_>, excerpts: &mut Excerpts<'_>, look: DiagnosticLook) -> String {
    let diagnostic = folded.first;
    let theme = if look.color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler = GraphicalReportHandler::new_themed(theme)
        .with_width(look.width.unwrap_or(100_000))
        .with_break_words(false)
        .with_links(false);
    let shown = Shown::new(diagnostic, excerpts);
    let draw = |diagnostic: &Shown| {
        let mut text = String::new();
        if handler.render_report(&mut text, diagnostic).is_err() {
            text = format!("{}\n", diagnostic.message);
        }
        text.trim_start_matches('\n').to_owned()
    };
    let mut text = draw(&shown);
    if !shown.further.is_empty() {
        // The place that is at fault comes first, so places far from it are drawn each for itself; help comes last.
        text = draw(&Shown { help: None, ..shown.clone() });
        let bare = Shown { message: String::new(), cause: None, ..shown.clone() };
        for further in &shown.further {
            let alone = draw(&Shown { labels: further.clone(), help: None, ..bare.clone() });
            text.push_str(from_line_with(&alone, "╭─["));
        }
        let alone = draw(&Shown { labels: Vec::new(), excerpt: None, ..bare });
        text.push_str(from_line_with(&alone, "  help: "));
    }
    for note in &shown.elsewhere {
        text.extend(["  see: ", note, "\n"]);
    }
    text.push_str(&whose(folded, excerpts.sources));
    if let Some(output) = &diagnostic.output {
        for line in output.lines() {
            text.extend(["  │ ", &harmless(line), "\n"]);
        }
    }
    text.push('\n');
    text
}

/// The lines about further places, targets and stage.
fn whose(folded: &FoldedDiagnostic<'_>, sources: &SourceMap) -> String {
    let FoldedDiagnostic { first, targets, more } = folded;
    let mut text = String::new();
    if !more.is_empty() {
        let place = |at: &Span| line(&sources.place(*at));
        text.extend(["  see: ", &some_of(more.iter().map(place)), "\n"]);
    }
    // A message that names its target does so for one.
    if targets.len() > 1 || targets.len() == 1 && first.topic.is_none() {
        let word = if targets.len() == 1 { "target" } else { "targets" };
        text.extend(["  ", word, ": ", &some_of(targets.iter().map(|name| line(name))), "\n"]);
    }
    if let Some(stage) = &first.stage {
        text.extend(["  stage: ", &line(stage), "\n"]);
    }
    text
}

/// A text as one harmless line, cut in the middle if it is very long.
fn line(text: &str) -> String {
    const LONGEST: usize = 1500;
    const KEPT: usize = 500;
    if text.len() <= LONGEST {
        return harmless(text);
    }
    let head: String = text.chars().take(KEPT).collect();
    let mut tail: Vec<char> = text.chars().rev().take(KEPT).collect();
    tail.reverse();
    harmless(&format!("{head}… ({} bytes) …{}", text.len(), tail.into_iter().collect::<String>()))
}

/// A diagnostic in the form that miette takes.
#[derive(Clone, Debug)]
struct Shown {
    code: &'static str,
    severity: miette::Severity,
    message: String,
    help: Option<String>,
    excerpt: Option<Excerpt>,
    labels: Vec<LabeledSpan>,
    /// Labels of the same source that are too far from the first one to share its excerpt, grouped by excerpt.
    further: Vec<Vec<LabeledSpan>>,
    /// Labels in other sources, or on other lines of the first excerpt, as text.
    elsewhere: Vec<String>,
    cause: Option<Box<Cause>>,
}

impl Shown {
    fn new(diagnostic: &Diagnostic, excerpts: &mut Excerpts<'_>) -> Self {
        let sources = excerpts.sources;
        let main = diagnostic.labels.first().map(|it| it.at.source);
        let (here, there): (Vec<&Label>, Vec<&Label>) =
            diagnostic.labels.iter().partition(|it| Some(it.at.source) == main);
        let excerpt = main.map(|id| excerpts.get(id));
        let mut groups = excerpt.as_ref().map(|it| it.groups(&here)).unwrap_or_default().into_iter();
        let labels = groups.next().unwrap_or_default();
        let place = |label: &&Label| format!("{}: {}", line(&sources.place(label.at)), line(&label.text));
        // A label that is near the first one shares its excerpt, whose head names one place only.
        let first_line = here.first().map_or(0, |it| sources.line_column(it.at).0);
        let is_near = |label: &&&Label| (1..=2).contains(&sources.line_column(label.at).0.abs_diff(first_line));
        let elsewhere = here.iter().filter(is_near).chain(&there).map(place).collect();
        let cause =
            diagnostic.causes.iter().rev().fold(None, |inner, text| Some(Box::new(Cause { text: line(text), inner })));
        Self {
            code: diagnostic.code,
            severity: match diagnostic.severity {
                Severity::Error => miette::Severity::Error,
                Severity::Warning => miette::Severity::Warning,
                Severity::Notice => miette::Severity::Advice,
            },
            message: line(&diagnostic.message),
            help: diagnostic.help.as_deref().map(line),
            excerpt,
            labels,
            further: groups.collect(),
            elsewhere,
            cause,
        }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Shown {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_deref().map(|it| it as _)
    }
}

impl miette::Diagnostic for Shown {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.code))
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(self.severity)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|it| Box::new(it) as _)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.excerpt.as_ref().map(|it| it as _)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(self.labels.iter().cloned()))
    }
}

/// One link of the chain of causes.
#[derive(Clone, Debug)]
struct Cause {
    text: String,
    inner: Option<Box<Self>>,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Cause {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.inner.as_deref().map(|it| it as _)
    }
}

/// A source made harmless; hands out only as many lines as can be shown.
#[derive(Clone, Debug)]
struct Excerpt {
    name: String,
    text: Arc<str>,
}

impl Excerpt {
    /// Labels by the excerpt that shows them: first that of the first label, then in the order of the labels.
    fn groups(&self, labels: &[&Label]) -> Vec<Vec<LabeledSpan>> {
        /// Excerpts with fewer lines than this between their labels are one.
        const NEAR: usize = 4;
        let mut places: Vec<(usize, usize, String)> = Vec::new();
        for label in labels {
            let (start, end) = self.shown(label);
            // Two labels at one place would be drawn beside each other.
            match places.iter_mut().find(|it| (it.0, it.1) == (start, end)) {
                Some((.., text)) => text.extend(["; ", &line(&label.text)]),
                None => places.push((start, end, line(&label.text))),
            }
        }
        let line_of = |at: usize| self.text.as_bytes()[..at].iter().filter(|it| **it == b'\n').count();
        let mut by_line: Vec<(usize, usize)> = places.iter().enumerate().map(|(ix, it)| (line_of(it.0), ix)).collect();
        by_line.sort_unstable();
        let mut group_of = vec![0; places.len()];
        for pair in by_line.windows(2) {
            let [(before, of), (after, ix)] = [pair[0], pair[1]];
            group_of[ix] = group_of[of] + usize::from(after - before >= NEAR);
        }
        let mut groups: Vec<(usize, Vec<LabeledSpan>)> = Vec::new();
        for (ix, (start, end, text)) in places.into_iter().enumerate() {
            let span = (start, end - start);
            let is_first = groups.iter().all(|(it, _)| *it != group_of[ix]);
            // The head of an excerpt names the place of its main label.
            let label = if is_first {
                LabeledSpan::new_primary_with_span(Some(text), span)
            } else {
                LabeledSpan::new_with_span(Some(text), span)
            };
            match groups.iter_mut().find(|(it, _)| *it == group_of[ix]) {
                Some((_, labels)) => labels.push(label),
                None => groups.push((group_of[ix], vec![label])),
            }
        }
        groups.into_iter().map(|(_, labels)| labels).collect()
    }

    /// The part of a label that lies on its first line.
    fn shown(&self, label: &Label) -> (usize, usize) {
        let (start, end) = self.meant(label);
        let line_end = self.text[start..].find('\n').map_or(self.text.len(), |it| start + it);
        (start, end.min(line_end).min(start + LONG_LINE))
    }

    /// The place of a label, or of the part of it that is meant. Behind the last line nothing can be shown.
    fn meant(&self, label: &Label) -> (usize, usize) {
        let last = self.text.trim_end().len();
        let start = self.bound(label.at.start as usize).min(last);
        let end = self.bound(label.at.end as usize).min(last).max(start);
        let found = label.part_in(&self.text[start..end]);
        found.map_or((start, end), |found| (start + found.start, start + found.end))
    }

    /// The next lower character boundary.
    fn bound(&self, at: usize) -> usize {
        let mut at = at.min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        at
    }

    fn line_start(&self, at: usize) -> usize {
        self.text[..at].rfind('\n').map_or(0, |it| it + 1)
    }

    /// The place behind the line's end.
    fn line_end(&self, at: usize) -> usize {
        self.text[at..].find('\n').map_or(self.text.len(), |it| at + it + 1)
    }

    /// What to show of the lines around a range.
    fn window(&self, start: usize, end: usize, before: usize, after: usize) -> (usize, usize) {
        let (first, last) = (self.line_start(start), self.line_end(end));
        if last - first > LONG_LINE {
            let from = self.bound(start.saturating_sub(AROUND)).max(first);
            return (from, self.bound((end + AROUND).min(from + MAX_EXCERPT)).min(last).max(start));
        }
        let (mut from, mut to) = (first, last);
        for _ in 0..before {
            if from > 0 && start - self.line_start(from - 1) < MAX_EXCERPT / 2 {
                from = self.line_start(from - 1);
            }
        }
        for _ in 0..after {
            if to < self.text.len() && self.line_end(to) - end < MAX_EXCERPT / 2 {
                to = self.line_end(to);
            }
        }
        (from, to)
    }
}

impl SourceCode for Excerpt {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let start = self.bound(span.offset());
        let end = self.bound(span.offset() + span.len()).max(start);
        let (from, to) = if before == 0 && after == 0 { (start, end) } else { self.window(start, end, before, after) };
        let line = self.text.as_bytes()[..from].iter().filter(|it| **it == b'\n').count();
        let column = self.text[self.line_start(from)..from].chars().count();
        let lines = self.text.as_bytes()[from..to].iter().filter(|it| **it == b'\n').count();
        Ok(Box::new(MietteSpanContents::new_named(
            self.name.clone(),
            &self.text.as_bytes()[from..to],
            (from, to - from).into(),
            line,
            column,
            lines,
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{SourceId, Span};

    fn check(text: &str, start: usize, end: usize) -> String {
        let mut sources = SourceMap::default();
        let source: SourceId = sources.add("a.hcl", text);
        let at = Span { source, start: u32::try_from(start).expect("small"), end: u32::try_from(end).expect("small") };
        let diagnostic = Diagnostic::error("bake::test", "wrong").at(at, "here");
        render(&[diagnostic], &sources, DiagnosticLook { color: false, width: None }, MAX_SHOWN)
    }

    #[test]
    fn an_error_shows_its_line() {
        let text = check("a = 1\nb = X\nc = 3\n", 10, 11);
        assert!(text.contains("a.hcl:2:5"), "{text}");
        assert!(text.contains("b = X") && text.contains("here"), "{text}");
    }

    #[test]
    fn a_part_is_shown_alone_if_it_stands_there_once() {
        let meant = |text: &str, part: &str| {
            let mut sources = SourceMap::default();
            let source = sources.add("a.hcl", text);
            let at = Span { source, start: 0, end: u32::try_from(text.len()).expect("short") };
            let label = Label { at, text: String::new(), part: Some(part.to_owned()) };
            let excerpt = Excerpt { name: String::new(), text: text.into() };
            let (start, end) = excerpt.meant(&label);
            text[start..end].to_owned()
        };
        assert_eq!(meant(r#"["base", "a"]"#, "a"), r#""a""#);
        assert_eq!(meant("[base, other]", "other"), "other");
        assert_eq!(meant(r#"["a", "a"]"#, "a"), r#"["a", "a"]"#);
        assert_eq!(meant(r#"["a"]"#, "b"), r#"["a"]"#);
        assert_eq!(meant(r#"["a"]"#, ""), r#"["a"]"#);
    }

    #[test]
    fn hostile_text_is_harmless() {
        let text = check(&format!("{}\u{1b}]0;x\u{7}{}", "a".repeat(100_000), "b".repeat(100_000)), 100_000, 100_001);
        assert!(!text.contains('\u{1b}') && !text.contains('\u{7}') && text.len() < 2000, "{text}");
        check("", 0, 0);
        check("ü", 1, 9);
        check("a\n", 2, 2);
        check("a\r\nb\r\n", 3, 4);
    }
}
