//! The parser's position in the text, and the errors found so far.

use std::sync::Arc;

use crate::{
    definition::syntax::{AttributeSyntax, Expr, MAX_DEPTH, MAX_NODES},
    report::{Diagnostic, SourceId, Span, Spanned},
};

/// More faults than this in one file are not worth reading.
const MAX_FAULTS: usize = 50;

/// Parsing of a construct was given up; its fault has been recorded in [`Cursor::faults`].
#[derive(Debug)]
pub(super) struct HclAbort;

/// The result of parsing one construct. On `Err` the fault is already in [`Cursor::faults`].
pub(super) type HclResult<T> = Result<T, HclAbort>;

/// A bracket that is open: where it is, what it belongs to, and what closes it.
#[derive(Clone, Copy)]
pub(super) struct Opened {
    pub(super) at: Span,
    pub(super) what: &'static str,
    pub(super) closer: &'static str,
}

/// The position of the HCL parser in a text, with the faults and the parts parsed so far.
pub(super) struct Cursor<'t> {
    pub(super) text: &'t str,
    pub(super) pos: usize,
    pub(super) end: usize,
    source: SourceId,
    /// The span of everything, when the text differs from the source (a JSON string with escapes).
    fixed: Option<Span>,
    pub(super) faults: Vec<Diagnostic>,
    depth: usize,
    nodes: usize,
    /// Elements of the open lists, objects and bodies: each takes its own in one allocation when it closes.
    pub(super) items: Vec<Expr>,
    pub(super) pairs: Vec<(Expr, Expr)>,
    pub(super) attributes: Vec<AttributeSyntax>,
    names: Vec<Arc<str>>,
    /// The brackets of the expression around the position, outermost first.
    pub(super) open: Vec<Opened>,
    /// Nothing more is read.
    pub(super) has_ended: bool,
    /// Inside parentheses, brackets and braces of an expression new lines are blanks.
    pub(super) multiline: usize,
}

impl<'t> Cursor<'t> {
    /// Starts at the beginning of `range`, a byte range of `text`; nothing after its end is read.
    ///
    /// `fixed` becomes the span of everything when the text differs from the source (a JSON string with escapes).
    pub(super) fn new(source: SourceId, text: &'t str, range: std::ops::Range<usize>, fixed: Option<Span>) -> Self {
        Self {
            text,
            pos: range.start,
            end: range.end,
            source,
            fixed,
            faults: Vec::new(),
            depth: 0,
            nodes: 0,
            items: Vec::new(),
            pairs: Vec::new(),
            attributes: Vec::new(),
            names: Vec::new(),
            open: Vec::new(),
            has_ended: false,
            multiline: 0,
        }
    }

    /// The span of the bytes `start..end` of the text.
    pub(super) fn span(&self, start: usize, end: usize) -> Span {
        let clamp = |at: usize| u32::try_from(at.min(self.text.len())).unwrap_or(u32::MAX);
        self.fixed.unwrap_or(Span { source: self.source, start: clamp(start), end: clamp(end) })
    }

    /// The span from `start` to the position: of a construct that was just parsed.
    pub(super) fn since(&self, start: usize) -> Span {
        self.span(start, self.pos)
    }

    /// The next byte; 0 at the end.
    pub(super) fn peek(&self) -> u8 {
        self.peek_at(0)
    }

    /// The byte `ahead` bytes after the position; 0 at or after the end.
    pub(super) fn peek_at(&self, ahead: usize) -> u8 {
        let at = self.pos + ahead;
        if at < self.end { self.text.as_bytes()[at] } else { 0 }
    }

    /// Whether the position is at the end of the range.
    pub(super) fn at_end(&self) -> bool {
        self.pos >= self.end
    }

    /// The text from the position to the end of the range that is parsed, which may be before the end of the file.
    pub(super) fn rest(&self) -> &'t str {
        &self.text[self.pos.min(self.end)..self.end]
    }

    /// Consumes `word` if it is next.
    pub(super) fn eat(&mut self, word: &str) -> bool {
        let found = self.rest().starts_with(word);
        if found {
            self.pos += word.len();
        }
        found
    }

    /// Whether this word is next and is not the start of a longer one.
    pub(super) fn is_at_word(&self, word: &str) -> bool {
        self.rest().strip_prefix(word).is_some_and(|after| !after.starts_with(is_word))
    }

    /// Consumes `word` if it is next and is not the start of a longer word.
    pub(super) fn eat_word(&mut self, word: &str) -> bool {
        self.is_at_word(word) && self.eat(word)
    }

    /// Records an error; of a file only the first 50 are kept.
    pub(super) fn fault(&mut self, fault: Diagnostic) -> HclAbort {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(fault);
        }
        HclAbort
    }

    /// Records that something else was expected here.
    pub(super) fn expected(&mut self, what: &str) -> HclAbort {
        self.expected_but(what, None)
    }

    /// Records that something else was expected here, with what to type instead.
    pub(super) fn expected_but(&mut self, what: &str, help: Option<&str>) -> HclAbort {
        if let Some(opened) = self.open.last().copied().filter(|_| self.at_end()) {
            return self.unclosed(opened);
        }
        let (at, seen) = self.seen();
        let fault = Diagnostic::error("bake::definition::syntax", format!("expected {what}, found {seen}"))
            .at(at, format!("{what} expected here"));
        let quote = self.rest().starts_with(['\'', '“', '”', '„', '‘', '’']);
        self.fault(match help {
            _ if quote => fault.help("strings are written in straight double quotes: \"…\""),
            Some(help) => fault.help(help),
            None => fault,
        })
    }

    /// Takes an opening bracket of `length` bytes.
    pub(super) fn open(&mut self, length: usize, what: &'static str, closer: &'static str) {
        let at = self.span(self.pos, self.pos + length);
        self.open.push(Opened { at, what, closer });
        self.pos += length;
    }

    /// Takes the bracket that closes the innermost open one; `expected` is what else could have come.
    pub(super) fn close(&mut self, expected: &str) -> HclResult<()> {
        let opened = *self.open.last().expect("every closing follows an opening");
        if self.eat(opened.closer) {
            self.open.pop();
            return Ok(());
        }
        let is_cut = opened.closer == "}" && opened.what != "object" && matches!(self.peek(), b'"' | b'\n' | b'\r');
        if self.at_end() || is_cut {
            return Err(self.unclosed(opened));
        }
        let (at, seen) = self.seen();
        let Opened { closer, what, .. } = opened;
        Err(self.fault(
            Diagnostic::error("bake::definition::syntax", format!("expected {expected}`{closer}`, found {seen}"))
                .at(at, format!("{expected}`{closer}` expected here"))
                .at(opened.at, format!("the {what} is opened here")),
        ))
    }

    fn unclosed(&mut self, opened: Opened) -> HclAbort {
        // The enclosing brackets are then not closed either; reporting them would only repeat this error.
        self.has_ended |= self.pos >= self.text.len();
        self.fault(unclosed(opened.what, opened.closer, opened.at))
    }

    /// The next token, for a message.
    pub(super) fn seen(&self) -> (Span, String) {
        let rest = self.rest();
        match rest.chars().next() {
            None => {
                let before = &self.text[..self.pos.min(self.end)];
                let last = before.chars().next_back().map_or(0, char::len_utf8);
                (self.span(before.len() - last, before.len()), "the end of the file".to_owned())
            }
            Some('\n' | '\r') => (self.span(self.pos, self.pos + 1), "the end of the line".to_owned()),
            Some(c) if is_word_start(c) || c.is_ascii_digit() => {
                let n = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                (self.span(self.pos, self.pos + n), format!("`{}`", shorten(&rest[..n])))
            }
            Some(c) if c.is_control() => {
                (self.span(self.pos, self.pos + c.len_utf8()), format!("`{}`", c.escape_debug()))
            }
            Some(c) => (self.span(self.pos, self.pos + c.len_utf8()), format!("`{c}`")),
        }
    }

    /// Counts a node, and runs `inner` one level deeper.
    pub(super) fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> HclResult<T>) -> HclResult<T> {
        if self.depth >= MAX_DEPTH {
            let at = self.span(self.pos, self.pos + 1);
            // Parsing on would only repeat this error.
            self.pos = self.end;
            self.has_ended = true;
            return Err(self.fault(
                Diagnostic::error("bake::definition::too_deep", format!("nested deeper than {MAX_DEPTH} levels"))
                    .at(at, "one level too many"),
            ));
        }
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            let at = self.span(self.pos, self.pos + 1);
            self.pos = self.end;
            self.has_ended = true;
            return Err(self.fault(too_large(at)));
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    /// Skips blanks and comments; new lines too when inside brackets.
    pub(super) fn skip_blanks(&mut self) {
        self.skip(self.multiline > 0);
    }

    /// Skips blanks, comments and new lines.
    pub(super) fn skip_lines(&mut self) {
        self.skip(true);
    }

    fn skip(&mut self, lines: bool) {
        loop {
            match self.peek() {
                b' ' | b'\t' => self.pos += 1,
                b'\r' if self.peek_at(1) == b'\n' && lines => self.pos += 2,
                b'\n' if lines => self.pos += 1,
                b'#' => self.skip_line_comment(),
                b'/' if self.peek_at(1) == b'/' => self.skip_line_comment(),
                b'/' if self.peek_at(1) == b'*' => self.skip_block_comment(),
                _ => return,
            }
        }
    }

    fn skip_line_comment(&mut self) {
        self.pos = self.rest().find('\n').map_or(self.end, |n| self.pos + n);
    }

    fn skip_block_comment(&mut self) {
        let start = self.pos;
        match self.rest()[2..].find("*/") {
            Some(n) => self.pos += n + 4,
            None => {
                self.pos = self.end;
                let at = self.span(start, start + 2);
                self.fault(
                    Diagnostic::error("bake::definition::unclosed", "a comment is not closed")
                        .at(at, "opened here")
                        .help("close it with `*/`"),
                );
            }
        }
    }

    /// Takes an identifier: letters, digits, `_` and `-`, not starting with a digit or `-`.
    pub(super) fn word(&mut self) -> Option<Spanned<Arc<str>>> {
        let rest = self.rest();
        let ascii = rest.bytes().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')).count();
        let n = if rest.as_bytes().get(ascii).is_none_or(u8::is_ascii) {
            ascii
        } else {
            rest.find(|c| !is_word(c)).unwrap_or(rest.len())
        };
        if n == 0 || !rest.chars().next().is_some_and(is_word_start) {
            return None;
        }
        let start = self.pos;
        self.pos += n;
        Some(Spanned::new(self.shared(&rest[..n]), self.since(start)))
    }

    /// The text of a name; equal names nearby share one.
    fn shared(&mut self, name: &str) -> Arc<str> {
        let bytes = name.as_bytes();
        let (first, last) = (bytes.first().copied().unwrap_or(0), bytes.last().copied().unwrap_or(0));
        let slot = (name.len() * 31 + usize::from(first) * 7 + usize::from(last)) % SHARED;
        if self.names.is_empty() {
            self.names.resize(SHARED, "".into());
        }
        if *self.names[slot] != *name {
            self.names[slot] = name.into();
        }
        self.names[slot].clone()
    }
}

/// How many names are remembered.
const SHARED: usize = 64;

/// Whether a character can begin an identifier.
pub(super) fn is_word_start(c: char) -> bool {
    c == '_' || c.is_alphabetic()
}

/// Whether a character can stand in an identifier after its first one.
pub(super) fn is_word(c: char) -> bool {
    c == '-' || c == '_' || c.is_alphanumeric()
}

/// The error for a file whose syntax tree would exhaust memory.
pub(crate) fn too_large(at: Span) -> Diagnostic {
    Diagnostic::error("bake::definition::too_large", format!("a file has more than {MAX_NODES} expressions"))
        .at(at, "the limit is reached here")
}

/// The error for a bracket that is not closed.
pub(super) fn unclosed(what: &str, closer: &str, opener: Span) -> Diagnostic {
    let article = if what.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    Diagnostic::error("bake::definition::unclosed", format!("{article} {what} is not closed"))
        .at(opener, "opened here")
        .help(format!("close it with `{closer}`"))
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
