//! Shared by the parsers of single instructions: the text of the instruction, and spans and errors in it.

use std::ops::Range;

use crate::{
    dockerfile::{fault::fault, instruction::Heredoc, lex::SourcePlace},
    report::{Diagnostic, Span, Spanned},
};

/// One instruction while it is parsed: its logical line, where that stands in the file, and its here-documents.
pub(super) struct ParseContext<'a> {
    pub(super) text: &'a str,
    pub(super) place: &'a SourcePlace,
    pub(super) escape: char,
    pub(super) keyword: &'a str,
    /// The whole instruction.
    pub(super) at: Span,
    pub(super) heredocs: Vec<Heredoc>,
}

impl ParseContext<'_> {
    /// The text of a byte range of the instruction, with its span.
    pub(super) fn word(&self, range: Range<usize>) -> Spanned<String> {
        Spanned::new(self.text[range.clone()].to_owned(), self.place.at(range))
    }

    /// An error about the whole instruction; `label` says what is there.
    pub(super) fn fault(&self, code: &'static str, message: impl Into<String>, label: &str) -> Diagnostic {
        fault(code, message.into(), self.at, label)
    }

    /// The error for a wrong number of arguments: "KEYWORD requires `wanted`".
    pub(super) fn arguments(&self, wanted: &str) -> Diagnostic {
        let keyword = self.keyword.to_ascii_uppercase();
        self.fault("bake::dockerfile::arguments", format!("{keyword} requires {wanted}"), "this instruction")
    }
}
