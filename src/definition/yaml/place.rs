//! Positions of the YAML parser, which counts characters, as spans of bytes of the text as it was written; and syntax errors
//! with a span.

use saphyr_parser::Marker;

use crate::report::{Diagnostic, SourceId, Span};

/// Converts positions of the YAML parser, which counts characters, to byte ranges of the source.
pub(super) struct Places<'t> {
    pub(super) source: SourceId,
    /// The text as written.
    pub(super) text: &'t str,
    /// The text that was parsed: that one, or a mended form of it.
    parsed: &'t str,
    /// Where `parsed` is longer than `text`, in order.
    shifts: &'t [Shift],
    /// The byte of every [`Self::STEP`]th character of `parsed`; empty for ASCII, where bytes are characters.
    steps: Vec<usize>,
}

/// From a byte of a mended text on, its places are that many bytes later than those of the text as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shift {
    pub(super) from: usize,
    pub(super) by: usize,
}

impl<'t> Places<'t> {
    const STEP: usize = 64;

    /// Places of a text that is parsed as it is written.
    pub(super) fn new(source: SourceId, text: &'t str) -> Self {
        Self::of_mended(source, text, text, &[])
    }

    /// Places of `text` of which the mended form `parsed` is parsed. Notes the byte offset of every 64th character, unless
    /// the text is ASCII.
    pub(super) fn of_mended(source: SourceId, text: &'t str, parsed: &'t str, shifts: &'t [Shift]) -> Self {
        let steps = if parsed.is_ascii() {
            Vec::new()
        } else {
            parsed.char_indices().step_by(Self::STEP).map(|(at, _)| at).collect()
        };
        Self { source, text, parsed, shifts, steps }
    }

    fn byte(&self, character: usize) -> usize {
        let parsed = self.byte_parsed(character);
        let passed = self.shifts.partition_point(|shift| shift.from <= parsed);
        let written = parsed - self.shifts[..passed].last().map_or(0, |shift| shift.by);
        // A place inside of what was added is that of the byte after it.
        self.shifts.get(passed).map_or(written, |next| written.min(next.from - next.by))
    }

    fn byte_parsed(&self, character: usize) -> usize {
        if self.steps.is_empty() {
            return character.min(self.parsed.len());
        }
        let Some(start) = self.steps.get(character / Self::STEP) else { return self.parsed.len() };
        let rest = &self.parsed[*start..];
        rest.char_indices().nth(character % Self::STEP).map_or(self.parsed.len(), |(at, _)| start + at)
    }

    fn bytes(&self, start: usize, end: usize) -> Span {
        let clamp = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Span { source: self.source, start: clamp(start), end: clamp(end.max(start)) }
    }

    /// The span between two positions of the parser.
    pub(super) fn span(&self, start: Marker, end: Marker) -> Span {
        self.bytes(self.byte(start.index()), self.byte(end.index()))
    }

    /// The span from `start` to the end of its line, at most to the end of `end`.
    pub(super) fn first_line(&self, start: Span, end: Span) -> Span {
        let from = start.start as usize;
        let line = self.text.get(from..).and_then(|rest| rest.find('\n')).map_or(self.text.len(), |n| from + n);
        self.bytes(from, line.min((end.end as usize).max(from)))
    }

    /// Makes a diagnostic of an error of the YAML parser, at the place where the fault can be mended.
    pub(super) fn syntax_error(&self, error: &saphyr_parser::ScanError) -> Box<Diagnostic> {
        let mut start = self.byte(error.marker().index());
        let mut info = error.info().trim_end_matches('.').to_owned();
        if info.contains("unknown anchor") {
            // The parser reports the position alone; the name of the alias is taken from the text.
            // Only the first `*` is the mark of an alias (YAML 1.2.2, section 7.1).
            let rest = &self.text[start..];
            let rest = rest.strip_prefix('*').unwrap_or(rest);
            let end = self.text.len() - rest.len();
            let name: String = rest.chars().take_while(|c| !c.is_whitespace() && !",[]{}".contains(*c)).collect();
            info = format!("no anchor `&{name}` comes before its alias: *{name}");
            return Box::new(
                Diagnostic::error("bake::definition::yaml_alias", info)
                    .at(self.bytes(start, end + name.len()), "unknown alias"),
            );
        }
        // An error at the end of the text is shown at the last line that is not blank.
        if self.text[start..].trim().is_empty() {
            start = self.text.trim_end().len().saturating_sub(1);
            while !self.text.is_char_boundary(start) {
                start -= 1;
            }
        }
        let end = self.text[start..].chars().next().map_or(start, |c| start + c.len_utf8());
        Box::new(
            Diagnostic::error("bake::definition::yaml_syntax", format!("invalid YAML: {info}"))
                .at(self.bytes(start, end), "the parser stopped here"),
        )
    }
}
