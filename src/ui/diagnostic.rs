//! Diagnostics as text: `miette` draws them; what it is given is made harmless first. Control characters of the input
//! never reach the terminal, and a line of a megabyte is shown in part.

use std::fmt;

use miette::{
    GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError, MietteSpanContents, SourceCode, SourceSpan,
    SpanContents,
};

use crate::report::{Diagnostic, Label, Severity, SourceMap};

/// How text looks here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    pub(crate) color: bool,
    /// Columns; `None` does not wrap.
    pub(crate) width: Option<usize>,
}

/// More are counted, not shown.
const MAX_SHOWN: usize = 50;
/// A line that is longer is shown in part.
const LONG_LINE: usize = 400;
/// How much of a long line is shown on either side.
const AROUND: usize = 120;
/// Nothing longer is shown as one excerpt.
const MAX_EXCERPT: usize = 4000;

/// All diagnostics as text: errors first, at most [`MAX_SHOWN`].
pub(crate) fn render(diagnostics: &[Diagnostic], sources: &SourceMap, look: Look) -> String {
    let mut order: Vec<&Diagnostic> = diagnostics.iter().collect();
    order.sort_by_key(|it| !it.is_error());
    let mut text = String::new();
    for diagnostic in order.iter().take(MAX_SHOWN) {
        text.push_str(&render_one(diagnostic, sources, look));
    }
    if order.len() > MAX_SHOWN {
        let more = order.len() - MAX_SHOWN;
        text.extend(["and ", &more.to_string(), " more\n"]);
    }
    text
}

fn render_one(diagnostic: &Diagnostic, sources: &SourceMap, look: Look) -> String {
    let theme = if look.color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler = GraphicalReportHandler::new_themed(theme)
        .with_width(look.width.unwrap_or(100_000))
        .with_break_words(false)
        .with_links(false);
    let shown = Shown::new(diagnostic, sources);
    let mut text = String::new();
    if handler.render_report(&mut text, &shown).is_err() {
        text = format!("{}\n", shown.message);
    }
    let mut text = text.trim_start_matches('\n').to_owned();
    for note in &shown.elsewhere {
        text.extend(["  see: ", note, "\n"]);
    }
    if let Some(output) = &diagnostic.output {
        for line in output.lines() {
            text.extend(["  │ ", &harmless(line, false), "\n"]);
        }
    }
    text.push('\n');
    text
}

/// Replaces what would steer a terminal or turn the direction of text; the length in bytes stays.
pub(crate) fn harmless(text: &str, keep_lines: bool) -> String {
    let one = |c: char| match c {
        '\n' if keep_lines => '\n',
        '\r' if keep_lines => ' ',
        '\t' => '\t',
        '\u{0}'..='\u{1f}' | '\u{7f}' => '?',
        '\u{80}'..='\u{9f}' => '·',
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        other => other,
    };
    text.chars().map(one).collect()
}

/// A text of one line, cut in the middle if it is absurdly long.
fn line(text: &str) -> String {
    const LONGEST: usize = 1500;
    const KEPT: usize = 500;
    if text.len() <= LONGEST {
        return harmless(text, false);
    }
    let head: String = text.chars().take(KEPT).collect();
    let mut tail: Vec<char> = text.chars().rev().take(KEPT).collect();
    tail.reverse();
    harmless(&format!("{head}… ({} bytes) …{}", text.len(), tail.into_iter().collect::<String>()), false)
}

/// A diagnostic as miette wants it.
#[derive(Debug)]
struct Shown {
    code: &'static str,
    severity: miette::Severity,
    message: String,
    help: Option<String>,
    excerpt: Option<Excerpt>,
    labels: Vec<LabeledSpan>,
    /// Labels in other sources than the first one's, or on other lines of its excerpt.
    elsewhere: Vec<String>,
    cause: Option<Box<Cause>>,
}

impl Shown {
    fn new(diagnostic: &Diagnostic, sources: &SourceMap) -> Self {
        let main = diagnostic.labels.first().map(|it| it.at.source);
        let (here, there): (Vec<&Label>, Vec<&Label>) =
            diagnostic.labels.iter().partition(|it| Some(it.at.source) == main);
        let excerpt = main.map(|id| {
            let source = sources.get(id);
            Excerpt { name: harmless(&source.name, false), text: harmless(&source.text, true) }
        });
        let labels = excerpt
            .iter()
            .flat_map(|excerpt| here.iter().enumerate().map(|(ix, label)| excerpt.label(label, ix == 0)))
            .collect();
        let place = |it: &&Label| format!("{}: {}", line(&sources.place(it.at)), line(&it.text));
        // A label that is near the first one shares its excerpt, whose head names one place only.
        let first_line = here.first().map_or(0, |it| sources.line_column(it.at).0);
        let is_near = |it: &&&Label| (1..=2).contains(&sources.line_column(it.at).0.abs_diff(first_line));
        let elsewhere = here.iter().filter(is_near).chain(&there).map(place).collect();
        let cause =
            diagnostic.causes.iter().rev().fold(None, |inner, text| Some(Box::new(Cause { text: line(text), inner })));
        Self {
            code: diagnostic.code,
            severity: match diagnostic.severity {
                Severity::Error => miette::Severity::Error,
                Severity::Warning => miette::Severity::Warning,
            },
            message: line(&diagnostic.message),
            help: diagnostic.help.as_deref().map(line),
            excerpt,
            labels,
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
#[derive(Debug)]
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
#[derive(Debug)]
struct Excerpt {
    name: String,
    text: String,
}

impl Excerpt {
    /// The part of a label that lies on its first line.
    fn label(&self, label: &Label, is_main: bool) -> LabeledSpan {
        let start = self.bound(label.at.start as usize);
        let end = self.bound(label.at.end as usize).max(start);
        let line_end = self.text[start..].find('\n').map_or(self.text.len(), |it| start + it);
        let span = (start, end.min(line_end).min(start + LONG_LINE) - start);
        let text = Some(line(&label.text));
        if is_main { LabeledSpan::new_primary_with_span(text, span) } else { LabeledSpan::new_with_span(text, span) }
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
        render(&[diagnostic], &sources, Look { color: false, width: None })
    }

    #[test]
    fn an_error_shows_its_line() {
        let text = check("a = 1\nb = X\nc = 3\n", 10, 11);
        assert!(text.contains("a.hcl:2:5"), "{text}");
        assert!(text.contains("b = X") && text.contains("here"), "{text}");
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
