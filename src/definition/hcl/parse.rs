//! The body of a file: attributes and blocks. After an error parsing resumes at the next line that can start one (HCL
//! native syntax: <https://github.com/hashicorp/hcl/blob/main/hclsyntax/spec.md>).

use std::{collections::HashMap, sync::Arc};

use super::cursor::{Cursor, HclAbort, HclResult, Opened, is_word, is_word_start, unclosed};
use crate::{
    definition::syntax::{AttributeSyntax, Block, Body, Expr},
    report::{Diagnostic, SourceId, Span, Spanned},
};

/// Parses a bake file in HCL. The body holds what could be parsed; all errors of the file are among the diagnostics.
pub(crate) fn parse(source: SourceId, text: &str) -> (Body, Vec<Diagnostic>) {
    let start = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let mut cursor = Cursor::new(source, text, start..text.len(), None);
    let body = cursor.body(None);
    (body, cursor.faults)
}

/// Parses one expression that fills the byte range `range` of `text`.
///
/// `text` is that of the source; or, with `fixed`, a text that the source has in another form (a JSON string with
/// escapes), of which every part gets that span.
///
/// # Errors
/// All faults of the expression, at least one.
pub(crate) fn parse_expression(
    source: SourceId,
    text: &str,
    range: std::ops::Range<usize>,
    fixed: Option<Span>,
) -> Result<Expr, Vec<Diagnostic>> {
    let mut cursor = Cursor::new(source, text, range, fixed);
    cursor.multiline = 1;
    cursor.skip_blanks();
    let expr = cursor.expression();
    cursor.skip_blanks();
    match expr {
        Ok(expr) if cursor.at_end() && cursor.faults.is_empty() => Ok(expr),
        Ok(_) if cursor.faults.is_empty() => {
            cursor.expected("the end of the expression");
            Err(cursor.faults)
        }
        _ => Err(cursor.faults),
    }
}

/// Parses a template that fills the byte range `range` of `text`, without quotes and escapes: a string of a JSON or
/// YAML file. `fixed` as in [`parse_expression`].
///
/// # Errors
/// All faults of the template, at least one.
pub(crate) fn parse_template(
    source: SourceId,
    text: &str,
    range: std::ops::Range<usize>,
    fixed: Option<Span>,
) -> Result<Expr, Vec<Diagnostic>> {
    let mut cursor = Cursor::new(source, text, range, fixed);
    let expr = cursor.bare_template();
    match expr {
        Ok(expr) if cursor.faults.is_empty() => Ok(expr),
        _ => Err(cursor.faults),
    }
}

impl Cursor<'_> {
    /// Attributes and blocks up to the end, or to the `}` that closes the block opened at `opener`.
    fn body(&mut self, opener: Option<Span>) -> Body {
        let start = self.pos;
        let first = self.attributes.len();
        let mut blocks: Vec<Block> = Vec::new();
        loop {
            self.skip_lines();
            if self.at_end() {
                if let Some(opener) = opener.filter(|_| !self.has_ended) {
                    let fault = unclosed("block", "}", opener);
                    let inner = blocks.iter().find(|block| is_top_level(&block.kind.value));
                    self.fault(match inner {
                        Some(inner) => fault.at(inner.at, "a `}` is missing before this block"),
                        None => fault,
                    });
                    self.has_ended = true;
                }
                break;
            }
            if opener.is_some() && self.peek() == b'}' {
                break;
            }
            let item = self.pos;
            if self.item(&mut blocks).is_err() {
                self.recover(item);
            }
        }
        let attributes: Vec<AttributeSyntax> = self.attributes.drain(first..).collect();
        for fault in repeats(&attributes) {
            self.fault(fault);
        }
        Body { attributes, blocks, at: self.since(start) }
    }

    fn item(&mut self, blocks: &mut Vec<Block>) -> HclResult<()> {
        let start = self.pos;
        let Some(name) = self.word() else {
            return Err(match self.peek() {
                b'"' => {
                    let at = self.span(self.pos, self.pos + 1);
                    self.fault(
                        Diagnostic::error(
                            "bake::definition::quoted_name",
                            "the name of an attribute or block is not quoted",
                        )
                        .at(at, "an attribute or a block is expected here")
                        .help("write the name without quotes; a JSON file ends in `.json`"),
                    )
                }
                b'?' | b':' | b'+' | b'-' | b'*' | b'/' | b'%' | b'&' | b'|' | b'.' | b'[' | b'(' => self.expected_but(
                    "an attribute or a block",
                    Some("an expression goes on in the next line only inside brackets: put it in parentheses"),
                ),
                _ => self.expected("an attribute or a block"),
            });
        };
        self.skip_blanks();
        if self.peek() == b'=' && self.peek_at(1) != b'=' {
            self.pos += 1;
            self.skip_blanks();
            if matches!(self.peek(), b'\n' | b'\r') {
                return Err(self.expected("a value"));
            }
            let expr = self.expression()?;
            self.attributes.push(AttributeSyntax { name, expr });
            return self.end_of_item();
        }
        let mut labels = Vec::new();
        loop {
            self.skip_blanks();
            match self.peek() {
                b'{' => break,
                b'"' => labels.push(self.label()?),
                _ => match self.word() {
                    Some(label) => labels.push(label),
                    None => {
                        let help = format!("write `{} = …`", name.value);
                        let help = Some(help.as_str()).filter(|_| self.peek() == b':' && labels.is_empty());
                        return Err(self.expected_but("`=` for an attribute, or `{` for a block", help));
                    }
                },
            }
        }
        let head = self.since(start);
        let block = self.block(name, labels, head)?;
        blocks.push(block);
        self.end_of_item()
    }

    fn label(&mut self) -> HclResult<Spanned<Arc<str>>> {
        let start = self.pos;
        let text = self.plain_string()?;
        Ok(Spanned::new(text, self.since(start)))
    }

    fn block(&mut self, kind: Spanned<Arc<str>>, labels: Vec<Spanned<Arc<str>>>, head: Span) -> HclResult<Block> {
        let opener = self.span(self.pos, self.pos + 1);
        self.pos += 1;
        self.skip_blanks();
        if self.peek() == b'\r' && self.peek_at(1) == b'\n' {
            self.pos += 1;
        }
        let body = if self.peek() == b'\n' || self.at_end() {
            self.deeper(|it| Ok(it.body(Some(opener))))?
        } else {
            self.open.push(Opened { at: opener, what: "block", closer: "}" });
            let body = self.one_line_body(opener)?;
            self.open.pop();
            body
        };
        if self.peek() == b'}' {
            self.pos += 1;
        }
        Ok(Block { kind, labels, body, at: head })
    }

    /// `{ }` or `{ name = value }`: one attribute at most.
    fn one_line_body(&mut self, opener: Span) -> HclResult<Body> {
        let start = self.pos;
        if self.peek() == b'}' {
            return Ok(Body { attributes: Vec::new(), blocks: Vec::new(), at: self.since(start) });
        }
        let Some(name) = self.word() else {
            return Err(self.expected("an attribute or `}`"));
        };
        self.skip_blanks();
        if !(self.peek() == b'=' && self.peek_at(1) != b'=') {
            return Err(self.single_line(opener, "a block inside it needs lines of its own"));
        }
        self.pos += 1;
        self.skip_blanks();
        let expr = self.expression()?;
        self.skip_blanks();
        match self.peek() {
            b'}' => {
                Ok(Body { attributes: vec![AttributeSyntax { name, expr }], blocks: Vec::new(), at: self.since(start) })
            }
            b'\n' | b'\r' => Err(self.single_line(opener, "the closing brace is not on the same line")),
            b',' => Err(self.single_line(opener, "attributes are not separated by commas")),
            0 => Err(self.fault(unclosed("block", "}", opener))),
            _ => Err(self.single_line(opener, "a second thing on the line")),
        }
    }

    fn single_line(&mut self, opener: Span, seen: &str) -> HclAbort {
        let (at, _) = self.seen();
        self.fault(
            Diagnostic::error("bake::definition::single_line_block", "a block on one line holds one attribute only")
                .at(at, seen)
                .at(opener, "the block starts here")
                .help("put each attribute and the closing brace on a line of its own"),
        )
    }

    fn end_of_item(&mut self) -> HclResult<()> {
        self.skip_blanks();
        match self.peek() {
            b'\n' => self.pos += 1,
            b'\r' if self.peek_at(1) == b'\n' => self.pos += 2,
            0 if self.at_end() => (),
            b'}' => {
                let at = self.span(self.pos, self.pos + 1);
                return Err(self.fault(
                    Diagnostic::error("bake::definition::brace", "a closing brace stands on a line of its own")
                        .at(at, "put this on the next line")
                        .help("only a block that is wholly on one line ends on the line of its attribute"),
                ));
            }
            b',' => {
                let at = self.span(self.pos, self.pos + 1);
                return Err(self.fault(
                    Diagnostic::error("bake::definition::comma", "attributes and blocks are not separated by commas")
                        .at(at, "remove this comma")
                        .help("each attribute stands on a line of its own"),
                ));
            }
            _ => return Err(self.expected("the end of the line")),
        }
        Ok(())
    }

    /// Recovers from an error: skips to the next line at which all brackets that the item opened are closed.
    fn recover(&mut self, item: usize) {
        self.multiline = 0;
        self.items.clear();
        self.pairs.clear();
        if self.has_ended {
            self.pos = self.end;
            return;
        }
        let mut open = std::mem::take(&mut self.open);
        let mut at = self.pos.max(item);
        let line = self.text[item..at.min(self.end)].rfind('\n').map(|n| item + n + 1);
        if let Some(line) = line.filter(|line| is_item_line(&self.text[*line..self.end]) && leave_lists(&mut open)) {
            at = line;
        }
        let is_resumed = Some(at) == line && open.is_empty();
        let end = if is_resumed { at } else { self.end_of_faulty(at, open) };
        self.pos = end.max(item + 1).min(self.end);
        while !self.text.is_char_boundary(self.pos) {
            self.pos += 1;
        }
    }

    /// The end of the first line after `at` at which all open brackets are closed.
    fn end_of_faulty(&self, mut at: usize, mut open: Vec<Opened>) -> usize {
        let bytes = &self.text.as_bytes()[..self.end];
        let mut depth = open.len();
        while at < bytes.len() {
            match bytes[at] {
                b'{' | b'[' | b'(' => depth += 1,
                b'}' if depth == 0 => break,
                b'}' | b']' | b')' => depth = depth.saturating_sub(1),
                b'"' => {
                    at = end_of_string(bytes, at);
                    continue;
                }
                b'#' => at = end_of_line(bytes, at) - 1,
                b'/' if bytes.get(at + 1) == Some(&b'/') => at = end_of_line(bytes, at) - 1,
                b'\n' => {
                    let next = &self.text[at + 1..self.end];
                    if depth == open.len() && is_item_line(next) && leave_lists(&mut open) {
                        depth = open.len();
                    }
                    if depth == 0 || starts_block(next) {
                        break;
                    }
                }
                _ => (),
            }
            at += 1;
        }
        at
    }
}

/// An error for each attribute that a body repeats.
pub(crate) fn repeats(attributes: &[AttributeSyntax]) -> Vec<Diagnostic> {
    let mut faults = Vec::new();
    let mut look = |before: Option<Span>, attribute: &AttributeSyntax| {
        let Some(before) = before else { return };
        let name = &attribute.name.value;
        faults.push(
            Diagnostic::error("bake::definition::repeated_attribute", format!("attribute `{name}` is set twice"))
                .at(attribute.name.at, "set again here")
                .at(before, "first set here")
                .help(format!("keep one of the lines that set \"{name}\"")),
        );
    };
    // A few are compared pairwise; for many a hash set is faster.
    if attributes.len() <= 32 {
        for (i, attribute) in attributes.iter().enumerate() {
            let before = attributes[..i].iter().find(|it| it.name.value == attribute.name.value);
            look(before.map(|it| it.name.at), attribute);
        }
    } else {
        let mut first: HashMap<&str, Span> = HashMap::with_capacity(attributes.len());
        for attribute in attributes {
            look(first.insert(&attribute.name.value, attribute.name.at), attribute);
        }
    }
    faults
}

/// Closes open lists and parentheses at a line that looks like an attribute, which cannot stand inside them. Returns
/// whether there were any.
fn leave_lists(open: &mut Vec<Opened>) -> bool {
    let n = open.len();
    while open.last().is_some_and(|opened| opened.closer != "}") {
        open.pop();
    }
    open.len() < n
}

/// The offset after the string that starts at `at`, or the end of its line if it is not closed.
pub(super) fn end_of_string(bytes: &[u8], at: usize) -> usize {
    let mut at = at + 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\n' => return at,
            b'\\' if bytes.get(at + 1).is_some_and(|next| *next != b'\n') => at += 2,
            _ => at += 1,
        }
    }
    at.min(bytes.len())
}

fn end_of_line(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |n| at + n)
}

fn is_top_level(kind: &str) -> bool {
    matches!(kind, "target" | "group" | "variable" | "function" | "locals" | "include" | "cache")
}

/// Whether a line is the head of a block in the first column.
fn starts_block(line: &str) -> bool {
    let end = line.find(|c| !is_word(c)).unwrap_or(line.len());
    is_top_level(&line[..end]) && line[end..].starts_with([' ', '\t'])
}

/// Whether a line starts with an attribute or ends a block.
fn is_item_line(line: &str) -> bool {
    let line = line.trim_start_matches([' ', '\t']);
    let end = line.find(|c| !is_word(c)).unwrap_or(line.len());
    let after = line[end..].trim_start_matches([' ', '\t']);
    line.starts_with('}')
        || line.starts_with(is_word_start)
            && after.starts_with('=')
            && !after.starts_with("==")
            && !after.starts_with("=>")
}
