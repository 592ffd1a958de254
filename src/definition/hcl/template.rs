//! Templates: quoted strings, heredocs, and the strings of JSON. Text, `${…}`, `%{if}`, `%{for}`, strip markers.

use std::sync::Arc;

use super::{
    cursor::{Cursor, HclAbort, HclResult, unclosed},
    parse::end_of_string,
};
use crate::{
    definition::syntax::{Expr, ExprKind, MAX_DEPTH, TemplateFor, TemplateIf, TemplatePart},
    report::{Diagnostic, Span},
};

/// Where a template ends, and what its text may hold.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// At `"`; backslash escapes; no raw new line.
    Quoted,
    /// At the end of the range; text as it is.
    Bare,
}

/// A template before strip markers are applied and directives are nested.
enum TemplateToken {
    Text(String),
    Interpolation(Expr),
    If(Expr),
    Else,
    EndIf,
    For(Box<ForHead>),
    EndFor,
}

/// `key, value in collection`.
struct ForHead {
    key: Option<Arc<str>>,
    value: Arc<str>,
    collection: Expr,
}

struct Marked {
    token: TemplateToken,
    /// `~` after the opening, before the closing.
    strip_before: bool,
    strip_after: bool,
    at: Span,
}

impl Cursor<'_> {
    /// A string in quotes.
    pub(super) fn quoted(&mut self) -> HclResult<Expr> {
        let start = self.pos;
        // Most strings are plain.
        let inside = &self.text.as_bytes()[start + 1..self.end];
        let length = inside.iter().position(|b| matches!(b, b'"' | b'\\' | b'$' | b'%' | b'\n' | b'\r'));
        if let Some(length) = length.filter(|length| inside[*length] == b'"') {
            self.pos += length + 2;
            let text = self.text[start + 1..self.pos - 1].into();
            return Ok(Expr::new(ExprKind::String(text), self.since(start)));
        }
        let n_open = self.open.len();
        let read = self.quoted_template(start);
        if read.is_err() && !self.has_ended {
            // Whoever recovers goes on after the string.
            self.open.truncate(n_open);
            let bytes = &self.text.as_bytes()[..self.end];
            self.pos = end_of_string(bytes, start);
            if bytes[self.pos - 1] != b'"' || self.pos == start + 1 {
                // It is not closed; what closes the brackets of this line is in it.
                let line = self.text[..start].rfind('\n').map_or(0, |n| n + 1);
                let line = self.span(line, line);
                self.open.retain(|opened| opened.at.start < line.start);
            }
        }
        read
    }

    fn quoted_template(&mut self, start: usize) -> HclResult<Expr> {
        let opener = self.span(start, start + 1);
        self.pos += 1;
        let mut tokens = self.tokens(Form::Quoted, opener)?;
        strip(&mut tokens, Form::Quoted);
        self.pos += 1;
        let at = self.since(start);
        let parts = self.nest(tokens)?;
        Ok(Expr::new(template(parts), at))
    }

    /// A string in quotes without interpolation: labels.
    pub(super) fn plain_string(&mut self) -> HclResult<Arc<str>> {
        let expr = self.quoted()?;
        match expr.kind {
            ExprKind::String(text) => Ok(text),
            _ => Err(self.fault(
                Diagnostic::error("bake::definition::label_template", "a label is a plain string")
                    .at(expr.at, "no interpolation is possible here"),
            )),
        }
    }

    /// The whole range as a template.
    pub(super) fn bare_template(&mut self) -> HclResult<Expr> {
        let start = self.pos;
        let opener = self.span(start, start);
        let mut tokens = self.tokens(Form::Bare, opener)?;
        strip(&mut tokens, Form::Bare);
        let at = self.since(start);
        let parts = self.nest(tokens)?;
        Ok(Expr::new(template(parts), at))
    }

    /// `<<WORD` or `<<-WORD`, lines, and a line that is the word.
    pub(super) fn heredoc(&mut self) -> HclResult<Expr> {
        let start = self.pos;
        self.pos += 2;
        let flush = self.eat("-");
        let Some(word) = self.word() else {
            return Err(self.expected("the word that ends the heredoc"));
        };
        let opener = self.since(start);
        self.eat("\r");
        if self.peek() != b'\n' {
            return Err(self.expected("the end of the line after the word of a heredoc"));
        }
        self.pos += 1;
        let body = self.pos;
        let mut line = body;
        let (close, after) = loop {
            if line >= self.end {
                self.pos = self.end;
                self.has_ended |= self.pos >= self.text.len();
                return Err(self.fault(
                    Diagnostic::error("bake::definition::unclosed", "a heredoc is not closed")
                        .at(opener, "opened here")
                        .help(format!("close it with a line that holds only `{}`", word.value)),
                ));
            }
            let next = self.text[line..self.end].find('\n').map_or(self.end, |n| line + n);
            if self.text[line..next].trim_matches([' ', '\t', '\r']) == &*word.value {
                break (line, next);
            }
            line = (next + 1).min(self.end);
        };
        let (end, multiline) = (std::mem::replace(&mut self.end, close), std::mem::replace(&mut self.multiline, 0));
        self.pos = body;
        let n_open = self.open.len();
        let tokens = self.tokens(Form::Bare, opener);
        self.end = end;
        self.multiline = multiline;
        let mut tokens = match tokens {
            Ok(tokens) => tokens,
            Err(HclAbort) => {
                self.open.truncate(n_open);
                self.pos = after;
                return Err(HclAbort);
            }
        };
        self.pos = if self.text[..after].ends_with('\r') { after - 1 } else { after };
        strip(&mut tokens, Form::Bare);
        if flush {
            unindent(&mut tokens);
        }
        let at = self.since(start);
        let parts = self.nest(tokens)?;
        Ok(Expr::new(template(parts), at))
    }

    fn tokens(&mut self, form: Form, opener: Span) -> HclResult<Vec<Marked>> {
        let mut tokens = Vec::new();
        let mut text = String::new();
        let mut start = self.pos;
        loop {
            if self.at_end() {
                if form == Form::Quoted {
                    return Err(self.fault(unclosed("string", "\"", opener)));
                }
                break;
            }
            let rest = self.rest();
            // Everything up to the next byte that may mean something is text.
            let plain = match form {
                Form::Quoted => rest.find(['"', '\\', '\n', '\r', '$', '%']),
                Form::Bare => rest.find(['$', '%']),
            };
            let plain = plain.unwrap_or(rest.len());
            text.push_str(&rest[..plain]);
            self.pos += plain;
            match self.peek() {
                0 if self.at_end() => (),
                b'"' if form == Form::Quoted => break,
                b'\n' | b'\r' if form == Form::Quoted => {
                    return Err(self.fault(
                        Diagnostic::error("bake::definition::unclosed", "a string does not end on its line")
                            .at(opener, "opened here")
                            .help("close it with `\"`; text of several lines is written as a heredoc: <<EOT … EOT"),
                    ));
                }
                b'\\' if form == Form::Quoted => text.push(self.escape()?),
                b'$' | b'%' if self.rest()[1..].starts_with("${") && self.peek() == b'$' => {
                    text.push_str("${");
                    self.pos += 3;
                }
                b'$' | b'%' if self.rest()[1..].starts_with("%{") && self.peek() == b'%' => {
                    text.push_str("%{");
                    self.pos += 3;
                }
                b'$' | b'%' if self.peek_at(1) == b'{' => {
                    push_text(&mut tokens, &mut text, self.since(start));
                    let token = self.deeper(Self::sequence)?;
                    tokens.push(token);
                    start = self.pos;
                }
                _ => {
                    let c = self.rest().chars().next().expect("not at the end");
                    text.push(c);
                    self.pos += c.len_utf8();
                }
            }
        }
        push_text(&mut tokens, &mut text, self.since(start));
        Ok(tokens)
    }

    fn escape(&mut self) -> HclResult<char> {
        let start = self.pos;
        self.pos += 1;
        let c = self.peek();
        self.pos += 1;
        let digits = match c {
            b'n' => return Ok('\n'),
            b'r' => return Ok('\r'),
            b't' => return Ok('\t'),
            b'"' => return Ok('"'),
            b'\\' => return Ok('\\'),
            b'u' => 4,
            b'U' => 8,
            _ => 0,
        };
        let hex = self.text.get(self.pos..(self.pos + digits).min(self.end));
        let hex = hex.filter(|hex| digits > 0 && hex.len() == digits && hex.bytes().all(|b| b.is_ascii_hexdigit()));
        let found = hex.and_then(|hex| char::from_u32(u32::from_str_radix(hex, 16).ok()?));
        match found {
            Some(c) => {
                self.pos += digits;
                Ok(c)
            }
            None => {
                self.pos = (start + 1).min(self.end);
                let n = self.rest().chars().next().map_or(0, char::len_utf8);
                let at = self.span(start, self.pos + n);
                Err(self.fault(
                    Diagnostic::error("bake::definition::bad_escape", "an escape that is not known")
                        .at(at, "not an escape")
                        .help(r#"known are \n \r \t \" \\ \uXXXX \UXXXXXXXX; a backslash itself is \\"#),
                ))
            }
        }
    }

    /// `${…}` or `%{…}`.
    fn sequence(&mut self) -> HclResult<Marked> {
        let start = self.pos;
        let directive = self.peek() == b'%';
        let strip_before = self.peek_at(2) == b'~';
        let what = if directive { "directive" } else { "interpolation" };
        self.open(2 + usize::from(strip_before), what, "}");
        let multiline = std::mem::replace(&mut self.multiline, 1);
        self.skip_blanks();
        let token = if directive { self.directive()? } else { TemplateToken::Interpolation(self.expression()?) };
        self.skip_blanks();
        let strip_after = self.eat("~");
        self.close("")?;
        self.multiline = multiline;
        Ok(Marked { token, strip_before, strip_after, at: self.since(start) })
    }

    fn directive(&mut self) -> HclResult<TemplateToken> {
        let Some(word) = self.word() else {
            return Err(self.expected("`if`, `else`, `endif`, `for` or `endfor`"));
        };
        self.skip_blanks();
        Ok(match &*word.value {
            "if" => TemplateToken::If(self.expression()?),
            "else" => TemplateToken::Else,
            "endif" => TemplateToken::EndIf,
            "for" => {
                let (key, value, collection) = self.for_head()?;
                TemplateToken::For(Box::new(ForHead { key, value, collection }))
            }
            "endfor" => TemplateToken::EndFor,
            other => {
                return Err(self.fault(
                    Diagnostic::error(
                        "bake::definition::unknown_directive",
                        format!("no template directive is called `{other}`"),
                    )
                    .at(word.at, "not a directive")
                    .help("known are if, else, endif, for, endfor; a literal `%{` is written `%%{`"),
                ));
            }
        })
    }

    /// Nests the template parts between `if`/`for` and their `end` directives.
    fn nest(&mut self, tokens: Vec<Marked>) -> HclResult<Vec<TemplatePart>> {
        let is_alone = tokens.len() == 1;
        let mut tokens = tokens.into_iter();
        let mut open: Vec<Open> = Vec::new();
        let mut parts = Vec::with_capacity(tokens.len());
        for marked in &mut tokens {
            let at = marked.at;
            match marked.token {
                TemplateToken::Text(text) if text.is_empty() => (),
                TemplateToken::Text(text) => parts.push(TemplatePart::Text(text.into())),
                TemplateToken::Interpolation(expr) => parts.push(TemplatePart::Interpolation(expr)),
                TemplateToken::If(condition) => {
                    open.push(Open {
                        at,
                        kind: OpenKind::If { condition, then: None },
                        outer: std::mem::take(&mut parts),
                    });
                }
                TemplateToken::For(head) => {
                    open.push(Open { at, kind: OpenKind::For(head), outer: std::mem::take(&mut parts) });
                }
                TemplateToken::Else => match open.last_mut() {
                    Some(Open { kind: OpenKind::If { then: then @ None, .. }, .. }) => {
                        *then = Some(std::mem::take(&mut parts));
                    }
                    _ => return Err(self.stray(at, "else", "if")),
                },
                TemplateToken::EndIf => match open.pop() {
                    Some(Open { kind: OpenKind::If { condition, then }, outer, .. }) => {
                        let last = std::mem::replace(&mut parts, outer);
                        let (then, otherwise) = match then {
                            Some(then) => (then, last),
                            None => (last, Vec::new()),
                        };
                        parts.push(TemplatePart::If(Box::new(TemplateIf { condition, then, otherwise })));
                    }
                    _ => return Err(self.stray(at, "endif", "if")),
                },
                TemplateToken::EndFor => match open.pop() {
                    Some(Open { kind: OpenKind::For(head), outer, .. }) => {
                        let body = std::mem::replace(&mut parts, outer);
                        let ForHead { key, value, collection } = *head;
                        parts.push(TemplatePart::For(Box::new(TemplateFor { key, value, collection, body })));
                    }
                    _ => return Err(self.stray(at, "endfor", "for")),
                },
            }
            if open.len() > MAX_DEPTH {
                return Err(self.fault(
                    Diagnostic::error("bake::definition::too_deep", format!("nested deeper than {MAX_DEPTH} levels"))
                        .at(at, "one level too many"),
                ));
            }
        }
        match open.pop() {
            None => {
                // An interpolation that had text beside it stays a string, even if stripping removed all of the text.
                if !is_alone && matches!(parts.as_slice(), [TemplatePart::Interpolation(_)]) {
                    parts.push(TemplatePart::Text("".into()));
                }
                Ok(parts)
            }
            Some(Open { at, kind, .. }) => {
                let (what, closer) = match kind {
                    OpenKind::If { .. } => ("`%{ if }`", "%{ endif }"),
                    OpenKind::For(_) => ("`%{ for }`", "%{ endfor }"),
                };
                Err(self.fault(unclosed(what, closer, at)))
            }
        }
    }

    fn stray(&mut self, at: Span, word: &str, opener: &str) -> HclAbort {
        self.fault(
            Diagnostic::error(
                "bake::definition::stray_directive",
                format!("`%{{ {word} }}` belongs to no `%{{ {opener} }}`"),
            )
            .at(at, "nothing is open that this could close"),
        )
    }
}

struct Open {
    at: Span,
    kind: OpenKind,
    outer: Vec<TemplatePart>,
}

enum OpenKind {
    If { condition: Expr, then: Option<Vec<TemplatePart>> },
    For(Box<ForHead>),
}

fn push_text(tokens: &mut Vec<Marked>, text: &mut String, at: Span) {
    if !text.is_empty() {
        let token = TemplateToken::Text(std::mem::take(text));
        tokens.push(Marked { token, strip_before: false, strip_after: false, at });
    }
}

/// `~` takes the blanks and line breaks of the text next to it. In a text of several lines it takes from one line only.
fn strip(tokens: &mut [Marked], form: Form) {
    for i in 0..tokens.len() {
        if tokens[i].strip_before
            && let Some(Marked { token: TemplateToken::Text(text), .. }) =
                i.checked_sub(1).map(|before| &mut tokens[before])
        {
            let before_break = text.strip_suffix('\n').unwrap_or(text);
            let line = if form == Form::Bare { before_break.rfind('\n').map_or(0, |at| at + 1) } else { 0 };
            text.truncate(line + text[line..].trim_end().len());
        }
        if tokens[i].strip_after
            && let Some(Marked { token: TemplateToken::Text(text), .. }) = tokens.get_mut(i + 1)
        {
            let end = text.find('\n').filter(|_| form == Form::Bare).map_or(text.len(), |at| at + 1);
            let taken = end - text[..end].trim_start().len();
            text.drain(..taken);
        }
    }
}

/// Takes the indentation that all lines of a `<<-` heredoc have in common; blank lines do not count.
fn unindent(tokens: &mut [Marked]) {
    let blanks = |line: &str| line.chars().take_while(|c| c.is_whitespace() && *c != '\n').count();
    let is_blank = |line: &str| line.ends_with('\n') && line.trim().is_empty();
    let mut common = usize::MAX;
    let mut at_start = true;
    for marked in tokens.iter() {
        let TemplateToken::Text(text) = &marked.token else {
            if at_start {
                common = 0;
            }
            at_start = false;
            continue;
        };
        for line in text.split_inclusive('\n') {
            if at_start && !is_blank(line) {
                common = common.min(blanks(line));
            }
            at_start = line.ends_with('\n');
        }
    }
    let mut at_start = true;
    for marked in tokens {
        let TemplateToken::Text(text) = &mut marked.token else {
            at_start = false;
            continue;
        };
        let mut shifted = String::with_capacity(text.len());
        for line in text.split_inclusive('\n') {
            let cut = if at_start && !is_blank(line) {
                line.char_indices().nth(common).map_or(line.len(), |(at, _)| at)
            } else {
                0
            };
            shifted.push_str(&line[cut..]);
            at_start = line.ends_with('\n');
        }
        *text = shifted;
    }
}

/// Parts as an expression: text alone is a string.
fn template(parts: Vec<TemplatePart>) -> ExprKind {
    match parts.as_slice() {
        [] => ExprKind::String("".into()),
        [TemplatePart::Text(text)] => ExprKind::String(text.clone()),
        _ => ExprKind::Template(parts),
    }
}
