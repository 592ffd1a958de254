//! Positions of the YAML parser, which counts characters, as spans of bytes; and syntax errors with a span.

use saphyr_parser::Marker;

use crate::report::{Diagnostic, SourceId, Span};

/// Character positions of the parser, as byte ranges.
pub(super) struct Places<'t> {
    pub(super) source: SourceId,
    pub(super) text: &'t str,
    /// The byte of every [`Self::STEP`]th character; empty for ASCII, where bytes are characters.
    steps: Vec<usize>,
}

impl<'t> Places<'t> {
    const STEP: usize = 64;

    pub(super) fn new(source: SourceId, text: &'t str) -> Self {
        let steps = if text.is_ascii() {
            Vec::new()
        } else {
            text.char_indices().step_by(Self::STEP).map(|(at, _)| at).collect()
        };
        Self { source, text, steps }
    }

    fn byte(&self, character: usize) -> usize {
        if self.steps.is_empty() {
            return character.min(self.text.len());
        }
        let Some(start) = self.steps.get(character / Self::STEP) else { return self.text.len() };
        let rest = &self.text[*start..];
        rest.char_indices().nth(character % Self::STEP).map_or(self.text.len(), |(at, _)| start + at)
    }

    fn bytes(&self, start: usize, end: usize) -> Span {
        let clamp = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Span { source: self.source, start: clamp(start), end: clamp(end.max(start)) }
    }

    pub(super) fn span(&self, start: Marker, end: Marker) -> Span {
        self.bytes(self.byte(start.index()), self.byte(end.index()))
    }

    /// From `start` to the end of its line, at most to `end`.
    pub(super) fn first_line(&self, start: Span, end: Span) -> Span {
        let from = start.start as usize;
        let line = self.text.get(from..).and_then(|rest| rest.find('\n')).map_or(self.text.len(), |n| from + n);
        self.bytes(from, line.min((end.end as usize).max(from)))
    }

    pub(super) fn syntax_error(&self, error: &saphyr_parser::ScanError) -> Box<Diagnostic> {
        let mut start = self.byte(error.marker().index());
        let mut info = error.info().trim_end_matches('.').to_owned();
        if info.contains("unknown anchor") {
            // The parser reports the position alone; the name of the alias is taken from the text.
            let rest = self.text[start..].trim_start_matches('*');
            let name: String = rest.chars().take_while(|c| !c.is_whitespace() && !",[]{}".contains(*c)).collect();
            info = format!("no anchor `&{name}` comes before its alias: *{name}");
            return Box::new(
                Diagnostic::error("bake::definition::yaml_alias", info)
                    .at(self.bytes(start, start + 1 + name.len()), "unknown alias"),
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
