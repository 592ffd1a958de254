//! JSON text ─► syntax: bake files in HCL's JSON form (<https://github.com/hashicorp/hcl/blob/main/json/spec.md>).
//! Strings are templates.
//!
//! The tree of values keeps the place of everything, and repeated keys: two `target` objects are two blocks.

use std::{collections::HashMap, sync::Arc};

use super::{
    hcl,
    syntax::{AttributeSyntax, Block, Body, Expr, ExprKind, MAX_DEPTH, MAX_NODES},
};
use crate::report::{Diagnostic, SourceId, Span, Spanned};

/// A JSON value with its place in the source.
#[derive(Debug)]
pub(crate) struct JsonNode {
    pub(crate) kind: JsonNodeKind,
    pub(crate) at: Span,
}

/// One member of an object: its name and its value.
pub(crate) type JsonMember = (Spanned<Arc<str>>, JsonNode);

/// The kinds of JSON values (RFC 8259, section 3).
#[derive(Debug)]
pub(crate) enum JsonNodeKind {
    Null,
    Bool(bool),
    Number(Arc<str>),
    /// The text, and whether it stands in the source just so, between the quotes.
    Text {
        text: Arc<str>,
        verbatim: bool,
    },
    Array(Vec<JsonNode>),
    Object(Vec<JsonMember>),
}

/// Parses a bake file in JSON. The body holds what could be parsed; all errors that were found are among the
/// diagnostics.
pub(crate) fn parse(source: SourceId, text: &str) -> (Body, Vec<Diagnostic>) {
    match tree(source, text) {
        Ok(root) => body(source, text, &root),
        Err(fault) => {
            let end = u32::try_from(text.len()).unwrap_or(u32::MAX);
            let at = Span { source, start: 0, end };
            (Body { attributes: Vec::new(), blocks: Vec::new(), at }, vec![*fault])
        }
    }
}

/// Makes the bake file that a tree of JSON values describes; `text` is what the tree was parsed from.
pub(crate) fn body(source: SourceId, text: &str, root: &JsonNode) -> (Body, Vec<Diagnostic>) {
    let end = u32::try_from(text.len()).unwrap_or(u32::MAX);
    let mut body = Body { attributes: Vec::new(), blocks: Vec::new(), at: Span { source, start: 0, end } };
    let mut builder = JsonBuilder { source, text, faults: Vec::new() };
    builder.file(root, &mut body);
    (body, builder.faults)
}

/// Parses a JSON text into a tree of values with their places.
///
/// # Errors
/// The first fault of the text.
pub(crate) fn tree(source: SourceId, text: &str) -> Result<JsonNode, Box<Diagnostic>> {
    let start = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let mut reader = JsonReader { source, text, pos: start, depth: 0, nodes: 0 };
    let root = reader.value()?;
    reader.skip();
    if reader.pos < text.len() { Err(reader.expected("the end of the file")) } else { Ok(root) }
}

struct JsonReader<'t> {
    source: SourceId,
    text: &'t str,
    pos: usize,
    depth: usize,
    nodes: usize,
}

type JsonRead<T> = Result<T, Box<Diagnostic>>;

impl JsonReader<'_> {
    fn span(&self, start: usize, end: usize) -> Span {
        let clamp = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Span { source: self.source, start: clamp(start), end: clamp(end) }
    }

    fn peek(&self) -> u8 {
        self.text.as_bytes().get(self.pos).copied().unwrap_or(0)
    }

    fn skip(&mut self) {
        while matches!(self.peek(), b' ' | b'\t' | b'\r' | b'\n') {
            self.pos += 1;
        }
    }

    fn expected(&self, what: &str) -> Box<Diagnostic> {
        let rest = &self.text[self.pos.min(self.text.len())..];
        let (seen, n) = match rest.chars().next() {
            None => ("the end of the file".to_owned(), 0),
            Some(c) if c.is_control() => (format!("`{}`", c.escape_debug()), c.len_utf8()),
            Some(c) => (format!("`{c}`"), c.len_utf8()),
        };
        let fault = Diagnostic::error("bake::definition::json_syntax", format!("expected {what}, found {seen}"))
            .at(self.span(self.pos, self.pos + n), format!("{what} expected here"));
        let before = self.text[..self.pos.min(self.text.len())].trim_end();
        Box::new(match rest.as_bytes() {
            [b']' | b'}', ..] if before.ends_with(',') => fault.help("remove the comma before it"),
            [b'/' | b'#', ..] => fault.help("JSON has no comments; a key `\"//\"` may hold one"),
            [b'\'', ..] => fault.help("strings are written in straight double quotes: \"…\""),
            _ => fault,
        })
    }

    fn value(&mut self) -> JsonRead<JsonNode> {
        self.skip();
        let start = self.pos;
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(Box::new(hcl::too_large(self.span(start, start + 1))));
        }
        let kind = match self.peek() {
            b'{' => self.nested(Self::object)?,
            b'[' => self.nested(Self::array)?,
            b'"' => {
                let (text, verbatim) = self.string()?;
                JsonNodeKind::Text { text, verbatim }
            }
            b'-' | b'0'..=b'9' => self.number()?,
            _ if self.word("null") => JsonNodeKind::Null,
            _ if self.word("true") => JsonNodeKind::Bool(true),
            _ if self.word("false") => JsonNodeKind::Bool(false),
            _ => return Err(self.expected("a value")),
        };
        Ok(JsonNode { kind, at: self.span(start, self.pos) })
    }

    fn nested(&mut self, inner: fn(&mut Self) -> JsonRead<JsonNodeKind>) -> JsonRead<JsonNodeKind> {
        if self.depth >= MAX_DEPTH {
            return Err(Box::new(
                Diagnostic::error("bake::definition::too_deep", format!("nested deeper than {MAX_DEPTH} levels"))
                    .at(self.span(self.pos, self.pos + 1), "one level too many"),
            ));
        }
        self.depth += 1;
        let kind = inner(self)?;
        self.depth -= 1;
        Ok(kind)
    }

    fn word(&mut self, word: &str) -> bool {
        let found = self.text[self.pos..].starts_with(word);
        if found {
            self.pos += word.len();
        }
        found
    }

    fn object(&mut self) -> JsonRead<JsonNodeKind> {
        let opener = self.span(self.pos, self.pos + 1);
        self.pos += 1;
        let mut items = Vec::new();
        self.skip();
        if self.peek() == b'}' {
            self.pos += 1;
            return Ok(JsonNodeKind::Object(items));
        }
        loop {
            self.skip();
            if self.peek() != b'"' {
                return Err(self.expected("a name in quotes").also(opener, "the object is opened here"));
            }
            let start = self.pos;
            let (name, _) = self.string()?;
            let name = Spanned::new(name, self.span(start, self.pos));
            self.skip();
            if self.peek() != b':' {
                return Err(self.expected("`:`"));
            }
            self.pos += 1;
            let value = self.value()?;
            items.push((name, value));
            self.skip();
            match self.peek() {
                b',' => self.pos += 1,
                b'}' => {
                    self.pos += 1;
                    return Ok(JsonNodeKind::Object(items));
                }
                _ => return Err(self.expected("`,` or `}`").also(opener, "the object is opened here")),
            }
        }
    }

    fn array(&mut self) -> JsonRead<JsonNodeKind> {
        let opener = self.span(self.pos, self.pos + 1);
        self.pos += 1;
        let mut items = Vec::new();
        self.skip();
        if self.peek() == b']' {
            self.pos += 1;
            return Ok(JsonNodeKind::Array(items));
        }
        loop {
            items.push(self.value()?);
            self.skip();
            match self.peek() {
                b',' => self.pos += 1,
                b']' => {
                    self.pos += 1;
                    return Ok(JsonNodeKind::Array(items));
                }
                _ => return Err(self.expected("`,` or `]`").also(opener, "the list is opened here")),
            }
        }
    }

    fn number(&mut self) -> JsonRead<JsonNodeKind> {
        let start = self.pos;
        if self.peek() == b'-' {
            self.pos += 1;
        }
        let first = self.pos;
        while self.peek().is_ascii_digit() {
            self.pos += 1;
        }
        if self.pos == first || (self.pos - first > 1 && self.text.as_bytes()[first] == b'0') {
            return Err(self.expected("a number without leading zeros"));
        }
        if self.peek() == b'.' {
            self.pos += 1;
            if !self.peek().is_ascii_digit() {
                return Err(self.expected("a digit"));
            }
            while self.peek().is_ascii_digit() {
                self.pos += 1;
            }
        }
        if matches!(self.peek(), b'e' | b'E') {
            self.pos += 1;
            if matches!(self.peek(), b'+' | b'-') {
                self.pos += 1;
            }
            if !self.peek().is_ascii_digit() {
                return Err(self.expected("a digit"));
            }
            while self.peek().is_ascii_digit() {
                self.pos += 1;
            }
        }
        Ok(JsonNodeKind::Number(self.text[start..self.pos].into()))
    }

    fn string(&mut self) -> JsonRead<(Arc<str>, bool)> {
        let start = self.pos;
        self.pos += 1;
        let mut decoded: Option<String> = None;
        loop {
            let rest = &self.text[self.pos..];
            let Some(n) = rest.find(|c: char| c == '"' || c == '\\' || (c as u32) < 0x20) else {
                return Err(Box::new(
                    Diagnostic::error("bake::definition::unclosed", "a string is not closed")
                        .at(self.span(start, start + 1), "opened here")
                        .help("close it with `\"`"),
                ));
            };
            if let Some(decoded) = &mut decoded {
                decoded.push_str(&rest[..n]);
            }
            self.pos += n;
            match self.peek() {
                b'"' => {
                    let text: Arc<str> = decoded.map_or_else(|| self.text[start + 1..self.pos].into(), Arc::from);
                    let verbatim = self.pos - start - 1 == text.len() && self.text[start + 1..self.pos] == *text;
                    self.pos += 1;
                    return Ok((text, verbatim));
                }
                b'\\' => {
                    let so_far = decoded.get_or_insert_with(|| self.text[start + 1..self.pos].to_owned());
                    let mut so_far = std::mem::take(so_far);
                    let c = self.escape()?;
                    so_far.push(c);
                    decoded = Some(so_far);
                }
                b'\n' | b'\r' => {
                    return Err(Box::new(
                        Diagnostic::error("bake::definition::unclosed", "a string does not end on its line")
                            .at(self.span(start, start + 1), "opened here")
                            .help("close it with `\"`; a line break inside is written `\\n`"),
                    ));
                }
                _ => return Err(self.expected("a character that is no control character")),
            }
        }
    }

    fn escape(&mut self) -> JsonRead<char> {
        let start = self.pos;
        self.pos += 1;
        let c = self.peek();
        self.pos += 1;
        let simple = match c {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let high = self.hex4();
                let found = match high {
                    Some(high @ 0xD800..=0xDBFF) if self.text[self.pos..].starts_with("\\u") => {
                        self.pos += 2;
                        self.hex4()
                            .filter(|low| (0xDC00..=0xDFFF).contains(low))
                            .and_then(|low| char::from_u32(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00)))
                    }
                    Some(code) => Some(char::from_u32(code).unwrap_or('\u{fffd}')),
                    None => None,
                };
                return found.ok_or_else(|| self.bad_escape(start));
            }
            _ => return Err(self.bad_escape(start)),
        };
        Ok(simple)
    }

    fn hex4(&mut self) -> Option<u32> {
        let hex = self.text.get(self.pos..self.pos + 4).filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))?;
        self.pos += 4;
        u32::from_str_radix(hex, 16).ok()
    }

    fn bad_escape(&self, start: usize) -> Box<Diagnostic> {
        // The backslash and what follows it, if the text does not end there.
        let escaped = self.text.get(start + 1..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
        Box::new(
            Diagnostic::error("bake::definition::bad_escape", "an escape that is not known")
                .at(self.span(start, start + 1 + escaped), "not an escape of JSON"),
        )
    }
}

trait Also {
    fn also(self, at: Span, text: &str) -> Self;
}

impl Also for Box<Diagnostic> {
    fn also(self, at: Span, text: &str) -> Self {
        Self::new((*self).at(at, text))
    }
}

/// Makes bodies of values. It knows which names are blocks: the same object could be either.
struct JsonBuilder<'t> {
    source: SourceId,
    text: &'t str,
    faults: Vec<Diagnostic>,
}

impl JsonBuilder<'_> {
    fn file(&mut self, root: &JsonNode, body: &mut Body) {
        for object in self.objects(root, || "a bake file".to_owned()) {
            for (name, value) in object {
                match &*name.value {
                    "//" => (),
                    "target" | "group" | "variable" | "function" => self.blocks(name, value, body),
                    "include" if is_include(value) => self.includes(name, value, body),
                    // Files of the peer may have a value of this name, so it is both.
                    "locals" if is_object(value) => {
                        self.unlabelled(name, value, body);
                        self.attribute(name, value, body, false);
                    }
                    "cache" if is_cache(value) => {
                        self.unlabelled(name, value, body);
                        self.attribute(name, value, body, false);
                    }
                    _ => self.attribute(name, value, body, false),
                }
            }
        }
        self.faults.extend(hcl::repeats(&body.attributes));
    }

    /// The objects of a value that is an object or an array of objects.
    fn objects<'n>(&mut self, node: &'n JsonNode, what: impl Fn() -> String) -> Vec<&'n [JsonMember]> {
        let mut found = Vec::new();
        let mut stack = vec![node];
        while let Some(node) = stack.pop() {
            match &node.kind {
                JsonNodeKind::Object(items) => found.push(items.as_slice()),
                JsonNodeKind::Array(items) => stack.extend(items.iter().rev()),
                _ => self.faults.push(
                    Diagnostic::error("bake::definition::json_no_object", format!("{} must be an object", what()))
                        .at(node.at, "not an object")
                        .help("write names and what they are: { \"name\": … }"),
                ),
            }
        }
        found
    }

    /// `"target": {"label": {…}}`.
    fn blocks(&mut self, kind: &Spanned<Arc<str>>, node: &JsonNode, body: &mut Body) {
        for labels in self.objects(node, || format!("`{}` (names and their bodies)", kind.value)) {
            for (label, value) in labels {
                if &*label.value == "//" {
                    continue;
                }
                for content in self.objects(value, || format!("{} `{}`", kind.value, label.value)) {
                    let inner = self.block_body(&kind.value, content, value.at);
                    body.blocks.push(Block {
                        kind: kind.clone(),
                        labels: vec![label.clone()],
                        body: inner,
                        at: label.at,
                    });
                }
            }
        }
    }

    /// `"locals": {…}`, `"cache": {…}`.
    fn unlabelled(&mut self, kind: &Spanned<Arc<str>>, node: &JsonNode, body: &mut Body) {
        for content in self.objects(node, || format!("`{}`", kind.value)) {
            let inner = self.block_body(&kind.value, content, node.at);
            body.blocks.push(Block { kind: kind.clone(), labels: Vec::new(), body: inner, at: kind.at });
        }
    }

    /// `"include": {"file": …}` or `"include": {"label": {"file": …}}`, or a list of such.
    fn includes(&mut self, kind: &Spanned<Arc<str>>, node: &JsonNode, body: &mut Body) {
        let items: &[JsonNode] =
            if let JsonNodeKind::Array(items) = &node.kind { items } else { std::slice::from_ref(node) };
        for item in items {
            if has_file(item) {
                self.unlabelled(kind, item, body);
            } else {
                self.blocks(kind, item, body);
            }
        }
    }

    fn block_body(&mut self, kind: &str, items: &[JsonMember], at: Span) -> Body {
        let mut body = Body { attributes: Vec::new(), blocks: Vec::new(), at };
        for (name, value) in items {
            match (kind, &*name.value) {
                (_, "//") => (),
                ("variable", "validation") => {
                    for content in self.objects(value, || "a validation".to_owned()) {
                        let inner = self.block_body("validation", content, value.at);
                        body.blocks.push(Block { kind: name.clone(), labels: Vec::new(), body: inner, at: name.at });
                    }
                }
                ("variable", "type") | ("function", "params" | "variadic_params") => {
                    self.attribute(name, value, &mut body, true);
                }
                _ => self.attribute(name, value, &mut body, false),
            }
        }
        self.faults.extend(hcl::repeats(&body.attributes));
        body
    }

    /// `code`: strings hold code, not templates.
    fn attribute(&mut self, name: &Spanned<Arc<str>>, value: &JsonNode, body: &mut Body, code: bool) {
        let expr = self.expr(value, code);
        body.attributes.push(AttributeSyntax { name: name.clone(), expr });
    }

    fn expr(&mut self, node: &JsonNode, code: bool) -> Expr {
        let kind = match &node.kind {
            JsonNodeKind::Null => ExprKind::Null,
            JsonNodeKind::Bool(value) => ExprKind::Bool(*value),
            JsonNodeKind::Number(text) => return number(text, node.at),
            JsonNodeKind::Text { text, verbatim } => return self.text(text, *verbatim, node.at, code),
            JsonNodeKind::Array(items) => ExprKind::Tuple(items.iter().map(|item| self.expr(item, code)).collect()),
            JsonNodeKind::Object(items) => ExprKind::Object({
                self.refuse_repeated_keys(items);
                items
                    .iter()
                    .map(|(key, value)| {
                        let key = self.text(&key.value, false, key.at, false);
                        (key, self.expr(value, code))
                    })
                    .collect()
            }),
        };
        Expr::new(kind, node.at)
    }

    /// Keys that are written twice; those that are templates are compared by their text.
    fn refuse_repeated_keys(&mut self, items: &[JsonMember]) {
        let mut first: HashMap<&str, Span> = HashMap::with_capacity(items.len());
        for (key, _) in items {
            if let Some(before) = first.insert(&key.value, key.at) {
                self.faults.push(
                    Diagnostic::error(
                        "bake::definition::repeated_key",
                        format!("the key `{}` is written twice", key.value),
                    )
                    .at(key.at, "written again here")
                    .at(before, "first written here")
                    .help("remove one of them"),
                );
            }
        }
    }

    fn text(&mut self, text: &Arc<str>, verbatim: bool, at: Span, code: bool) -> Expr {
        if !code && !text.contains("${") && !text.contains("%{") {
            return Expr::text(text.clone(), at);
        }
        let parse = if code { hcl::parse_expression } else { hcl::parse_template };
        let parsed = if verbatim {
            parse(self.source, self.text, at.start as usize + 1..at.end as usize - 1, None)
        } else {
            parse(self.source, text, 0..text.len(), Some(at))
        };
        match parsed {
            Ok(expr) => expr,
            Err(faults) => {
                self.faults.extend(faults);
                Expr::text(text.clone(), at)
            }
        }
    }
}

/// Makes an expression of a JSON value as it is: no text in it is a template.
pub(crate) fn literal(node: &JsonNode) -> Expr {
    let kind = match &node.kind {
        JsonNodeKind::Null => ExprKind::Null,
        JsonNodeKind::Bool(value) => ExprKind::Bool(*value),
        JsonNodeKind::Number(text) => return number(text, node.at),
        JsonNodeKind::Text { text, .. } => ExprKind::String(text.clone()),
        JsonNodeKind::Array(items) => ExprKind::Tuple(items.iter().map(literal).collect()),
        JsonNodeKind::Object(items) => ExprKind::Object(
            items.iter().map(|(key, value)| (Expr::text(key.value.clone(), key.at), literal(value))).collect(),
        ),
    };
    Expr::new(kind, node.at)
}

const fn is_object(node: &JsonNode) -> bool {
    matches!(node.kind, JsonNodeKind::Object(_))
}

/// Whether a value is a `cache` block, rather than a value that is called so.
fn is_cache(node: &JsonNode) -> bool {
    let is_side = |name: &str| matches!(name, "from" | "to");
    matches!(&node.kind, JsonNodeKind::Object(items) if items.iter().any(|(name, _)| is_side(&name.value)))
}

/// Whether an object has a `file`, whatever it is.
fn has_file(node: &JsonNode) -> bool {
    matches!(&node.kind, JsonNodeKind::Object(items) if items.iter().any(|(name, _)| &*name.value == "file"))
}

/// Whether a value is an include, or a list of them, rather than a value that is called so.
fn is_include(node: &JsonNode) -> bool {
    match &node.kind {
        JsonNodeKind::Object(items) => {
            has_file(node) || (!items.is_empty() && items.iter().all(|(_, it)| has_file(it)))
        }
        JsonNodeKind::Array(items) => !items.is_empty() && items.iter().all(is_include),
        _ => false,
    }
}

/// A number, whose sign is an operator in our syntax.
fn number(text: &Arc<str>, at: Span) -> Expr {
    match text.strip_prefix('-') {
        Some(digits) => {
            let operand = Box::new(Expr::new(ExprKind::Number(digits.into()), at));
            Expr::new(ExprKind::Unary { op: super::syntax::UnaryOp::Negate, operand }, at)
        }
        None => Expr::new(ExprKind::Number(text.clone()), at),
    }
}
