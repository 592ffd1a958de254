//! YAML text ─► a tree of values with their places. Plain scalars are read as YAML 1.2 core (and the old forms that
//! Compose files hold: `017`, `1_000`); `yes` and `on` are text, and so are dates.
//!
//! What the tree means is the affair of `compose`; a bake file in YAML goes on as the tree of the JSON form.

use std::{collections::HashMap, sync::Arc};

use indexmap::IndexMap;
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Tag};

use super::{json, syntax::Body};
use crate::report::{Diagnostic, SourceId, Span, Spanned};

/// Deeper nesting is refused.
const MAX_DEPTH: usize = 500;
/// How many values aliases may stand for, all together.
const MAX_ALIASED: usize = 1_000_000;

/// A value and its place. Aliases share it.
#[derive(Clone, Debug)]
pub(crate) struct YamlNode {
    pub(crate) kind: YamlNodeKind,
    /// Of a block collection: its first line.
    pub(crate) at: Span,
    pub(crate) action: Option<YamlAction>,
    /// How many values this one holds, itself included.
    weight: usize,
}

/// Tags that say how a Compose value meets the one it is merged onto.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum YamlAction {
    /// `!reset`: the value below is removed.
    Reset,
    /// `!override`: the value below is replaced, not merged.
    Override,
}

#[derive(Clone, Debug)]
pub(crate) enum YamlNodeKind {
    Null,
    Bool(bool),
    /// In decimal.
    Number(Arc<str>),
    String(Arc<str>),
    Sequence(Vec<Arc<YamlNode>>),
    Mapping(YamlMapping),
}

/// The entries of a mapping, in the order written; those of merge keys (`<<`) come after.
pub(crate) type YamlMapping = IndexMap<Arc<str>, YamlEntry>;

/// One entry: the place of its key, and its value.
#[derive(Clone, Debug)]
pub(crate) struct YamlEntry {
    pub(crate) at: Span,
    pub(crate) node: Arc<YamlNode>,
}

impl YamlNode {
    pub(crate) const fn new(kind: YamlNodeKind, at: Span) -> Self {
        Self { kind, at, action: None, weight: 1 }
    }

    /// The same with this action.
    #[must_use]
    pub(crate) fn with(self, action: Option<YamlAction>) -> Self {
        Self { action, ..self }
    }

    pub(crate) const fn is_null(&self) -> bool {
        matches!(self.kind, YamlNodeKind::Null)
    }

    pub(crate) const fn mapping(&self) -> Option<&YamlMapping> {
        match &self.kind {
            YamlNodeKind::Mapping(entries) => Some(entries),
            _ => None,
        }
    }

    pub(crate) fn sequence(&self) -> Option<&[Arc<Self>]> {
        match &self.kind {
            YamlNodeKind::Sequence(items) => Some(items),
            _ => None,
        }
    }

    pub(crate) fn str(&self) -> Option<&Arc<str>> {
        match &self.kind {
            YamlNodeKind::String(text) => Some(text),
            _ => None,
        }
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &str) -> Option<&Arc<Self>> {
        self.mapping().and_then(|entries| entries.get(key)).map(|entry| &entry.node)
    }

    /// The text of a string, number or bool.
    pub(crate) fn scalar_text(&self) -> Option<Arc<str>> {
        match &self.kind {
            YamlNodeKind::String(text) | YamlNodeKind::Number(text) => Some(text.clone()),
            YamlNodeKind::Bool(value) => Some(if *value { "true" } else { "false" }.into()),
            _ => None,
        }
    }

    /// What to call this kind of value in a message.
    pub(crate) const fn word(&self) -> &'static str {
        match &self.kind {
            YamlNodeKind::Null => "nothing",
            YamlNodeKind::Bool(_) => "a bool",
            YamlNodeKind::Number(_) => "a number",
            YamlNodeKind::String(_) => "a string",
            YamlNodeKind::Sequence(_) => "a list",
            YamlNodeKind::Mapping(_) => "a mapping",
        }
    }
}

type YamlRead<T> = Result<T, Box<Diagnostic>>;

/// Parses all documents of a text.
pub(crate) fn parse(source: SourceId, text: &str) -> YamlRead<Vec<Arc<YamlNode>>> {
    let mut builder =
        YamlBuilder { places: Places::new(source, text), frames: Vec::new(), anchors: HashMap::new(), aliased: 0 };
    let mut parser = Parser::new_from_str(text);
    let mut documents = Vec::new();
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| builder.places.syntax_error(&error))?;
        let at = builder.places.span(span.start, span.end);
        if let Event::DocumentStart(_) = event {
            builder.anchors.clear();
        }
        if let Some(document) = builder.event(event, at)? {
            documents.push(document);
        }
    }
    Ok(documents)
}

/// Character positions of the parser, as byte ranges.
struct Places<'t> {
    source: SourceId,
    text: &'t str,
    /// The byte of every [`Self::STEP`]th character; empty for ASCII, where bytes are characters.
    steps: Vec<usize>,
}

impl<'t> Places<'t> {
    const STEP: usize = 64;

    fn new(source: SourceId, text: &'t str) -> Self {
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

    fn span(&self, start: Marker, end: Marker) -> Span {
        self.bytes(self.byte(start.index()), self.byte(end.index()))
    }

    /// From `start` to the end of its line, at most to `end`.
    fn first_line(&self, start: Span, end: Span) -> Span {
        let from = start.start as usize;
        let line = self.text.get(from..).and_then(|rest| rest.find('\n')).map_or(self.text.len(), |n| from + n);
        self.bytes(from, line.min((end.end as usize).max(from)))
    }

    fn syntax_error(&self, error: &saphyr_parser::ScanError) -> Box<Diagnostic> {
        let mut start = self.byte(error.marker().index());
        let mut info = error.info().trim_end_matches('.').to_owned();
        if info.contains("unknown anchor") {
            // The parser tells where the alias ends up; the name is in the text.
            let rest = self.text[start..].trim_start_matches('*');
            let name: String = rest.chars().take_while(|c| !c.is_whitespace() && !",[]{}".contains(*c)).collect();
            info = format!("no anchor `&{name}` comes before its alias: *{name}");
            return Box::new(
                Diagnostic::error("bake::definition::yaml_alias", info)
                    .at(self.bytes(start, start + 1 + name.len()), "unknown alias"),
            );
        }
        // A fault at the end of the text shows at the last line that says something.
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

/// A collection that is not finished.
struct YamlFrame {
    at: Span,
    anchor: usize,
    action: Option<YamlAction>,
    weight: usize,
    kind: FrameKind,
}

enum FrameKind {
    Sequence(Vec<Arc<YamlNode>>),
    Mapping { entries: YamlMapping, merged: Vec<Arc<YamlNode>>, key: Option<Spanned<Arc<str>>> },
}

struct YamlBuilder<'t> {
    places: Places<'t>,
    frames: Vec<YamlFrame>,
    /// Finished values by the number of their anchor.
    anchors: HashMap<usize, Arc<YamlNode>>,
    aliased: usize,
}

impl YamlBuilder<'_> {
    /// Takes one event; gives the document that it finishes.
    fn event(&mut self, event: Event<'_>, at: Span) -> YamlRead<Option<Arc<YamlNode>>> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                if let Some(YamlFrame { kind: FrameKind::Mapping { key: key @ None, .. }, .. }) = self.frames.last_mut()
                {
                    *key = Some(Spanned::new(Arc::from(&*text), at));
                    if anchor > 0 {
                        self.anchors.insert(anchor, Arc::new(YamlNode::new(YamlNodeKind::String(text.into()), at)));
                    }
                    return Ok(None);
                }
                let node = scalar(&text, style, tag.as_deref(), at)?;
                self.finished(Arc::new(node), anchor)
            }
            Event::Alias(anchor) => self.alias(anchor, at),
            Event::SequenceStart(anchor, tag) => self.open(FrameKind::Sequence(Vec::new()), anchor, tag.as_deref(), at),
            Event::MappingStart(anchor, tag) => {
                let kind = FrameKind::Mapping { entries: YamlMapping::new(), merged: Vec::new(), key: None };
                self.open(kind, anchor, tag.as_deref(), at)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(at),
            _ => Ok(None),
        }
    }

    fn open(&mut self, kind: FrameKind, anchor: usize, tag: Option<&Tag>, at: Span) -> YamlRead<Option<Arc<YamlNode>>> {
        if let Some(YamlFrame { kind: FrameKind::Mapping { key: None, .. }, .. }) = self.frames.last() {
            return Err(Box::new(
                Diagnostic::error("bake::definition::yaml_key", "a key must be a plain word or a string")
                    .at(at, "a list or mapping as a key"),
            ));
        }
        if self.frames.len() >= MAX_DEPTH {
            return Err(Box::new(
                Diagnostic::error("bake::definition::too_deep", format!("nested deeper than {MAX_DEPTH} levels"))
                    .at(at, "one level too many"),
            ));
        }
        self.frames.push(YamlFrame { at, anchor, action: action(tag), weight: 1, kind });
        Ok(None)
    }

    fn close(&mut self, end: Span) -> YamlRead<Option<Arc<YamlNode>>> {
        let Some(frame) = self.frames.pop() else { return Ok(None) };
        let kind = match frame.kind {
            FrameKind::Sequence(items) => YamlNodeKind::Sequence(items),
            FrameKind::Mapping { mut entries, merged, .. } => {
                for mapping in merged.iter().filter_map(|node| node.mapping()) {
                    for (key, entry) in mapping {
                        if !entries.contains_key(key) {
                            entries.insert(key.clone(), entry.clone());
                        }
                    }
                }
                YamlNodeKind::Mapping(entries)
            }
        };
        let at = self.places.first_line(frame.at, end);
        let node = YamlNode { kind, at, action: frame.action, weight: frame.weight };
        self.finished(Arc::new(node), frame.anchor)
    }

    fn alias(&mut self, anchor: usize, at: Span) -> YamlRead<Option<Arc<YamlNode>>> {
        let Some(node) = self.anchors.get(&anchor).cloned() else {
            return Err(Box::new(
                Diagnostic::error("bake::definition::yaml_alias", "an alias stands inside the value that it names")
                    .at(at, "this alias would contain itself"),
            ));
        };
        if let Some(YamlFrame { kind: FrameKind::Mapping { key: key @ None, .. }, .. }) = self.frames.last_mut() {
            let Some(text) = node.scalar_text() else {
                return Err(Box::new(
                    Diagnostic::error("bake::definition::yaml_key", "a key must be a plain word or a string")
                        .at(at, "a list or mapping as a key"),
                ));
            };
            *key = Some(Spanned::new(text, at));
            return Ok(None);
        }
        self.aliased = self.aliased.saturating_add(node.weight);
        if self.aliased > MAX_ALIASED {
            return Err(Box::new(
                Diagnostic::error(
                    "bake::definition::yaml_alias",
                    format!("aliases stand for more than {MAX_ALIASED} values"),
                )
                .at(at, "with this one the limit is passed"),
            ));
        }
        self.finished(node, 0)
    }

    /// Puts a finished value where it belongs; gives it back if it is a whole document.
    fn finished(&mut self, node: Arc<YamlNode>, anchor: usize) -> YamlRead<Option<Arc<YamlNode>>> {
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(frame) = self.frames.last_mut() else { return Ok(Some(node)) };
        frame.weight = frame.weight.saturating_add(node.weight);
        match &mut frame.kind {
            FrameKind::Sequence(items) => items.push(node),
            FrameKind::Mapping { entries, merged, key } => {
                let Some(key) = key.take() else { return Ok(None) };
                if &*key.value == "<<" {
                    return merge_key(merged, &node, key.at).map(|()| None);
                }
                if let Some(before) = entries.get(&key.value) {
                    return Err(Box::new(
                        Diagnostic::error(
                            "bake::definition::yaml_repeated_key",
                            format!("a key is given twice: {}", key.value),
                        )
                        .at(key.at, "given again here")
                        .at(before.at, "first given here"),
                    ));
                }
                entries.insert(key.value, YamlEntry { at: key.at, node });
            }
        }
        Ok(None)
    }
}

/// `<<: *a` or `<<: [*a, *b]`.
fn merge_key(merged: &mut Vec<Arc<YamlNode>>, node: &Arc<YamlNode>, at: Span) -> YamlRead<()> {
    let fault = || {
        Box::new(
            Diagnostic::error("bake::definition::yaml_merge", "a merge key `<<` takes a mapping or a list of mappings")
                .at(at, "this merge key has another value"),
        )
    };
    match &node.kind {
        YamlNodeKind::Mapping(_) => merged.push(node.clone()),
        YamlNodeKind::Sequence(items) if items.iter().all(|item| item.mapping().is_some()) => {
            merged.extend(items.iter().cloned());
        }
        _ => return Err(fault()),
    }
    Ok(())
}

fn action(tag: Option<&Tag>) -> Option<YamlAction> {
    match tag {
        Some(tag) if tag.handle == "!" && tag.suffix == "reset" => Some(YamlAction::Reset),
        Some(tag) if tag.handle == "!" && tag.suffix == "override" => Some(YamlAction::Override),
        _ => None,
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>, at: Span) -> YamlRead<YamlNode> {
    let core = tag.filter(|tag| tag.is_yaml_core_schema()).map(|tag| tag.suffix.as_str());
    let kind = match core {
        Some("str") => YamlNodeKind::String(text.into()),
        Some("null") => YamlNodeKind::Null,
        Some("binary") => {
            return Err(Box::new(
                Diagnostic::error("bake::definition::yaml_tag", "binary values cannot be used here: !!binary")
                    .at(at, "a binary value")
                    .help("write the text itself"),
            ));
        }
        Some(word @ ("int" | "float" | "bool")) => {
            let kind = plain(text);
            let fits = match word {
                "bool" => matches!(kind, YamlNodeKind::Bool(_)),
                _ => matches!(kind, YamlNodeKind::Number(_)),
            };
            if !fits {
                return Err(Box::new(
                    Diagnostic::error(
                        "bake::definition::yaml_tag",
                        format!("the value does not fit its tag `!!{word}`: {text}"),
                    )
                    .at(at, format!("not a value of `!!{word}`")),
                ));
            }
            kind
        }
        _ if style == ScalarStyle::Plain => plain(text),
        _ => YamlNodeKind::String(text.into()),
    };
    Ok(YamlNode { action: action(tag), ..YamlNode::new(kind, at) })
}

/// What a scalar without quotes means.
fn plain(text: &str) -> YamlNodeKind {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return YamlNodeKind::Null,
        "true" | "True" | "TRUE" => return YamlNodeKind::Bool(true),
        "false" | "False" | "FALSE" => return YamlNodeKind::Bool(false),
        _ => (),
    }
    if text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.'))
        && let Some(number) = number(text)
    {
        return YamlNodeKind::Number(number.into());
    }
    YamlNodeKind::String(text.into())
}

fn number(text: &str) -> Option<String> {
    let compact = text.replace('_', "");
    let (sign, digits) = match compact.as_bytes().first()? {
        b'-' => ("-", &compact[1..]),
        b'+' => ("", &compact[1..]),
        _ => ("", &*compact),
    };
    let radix = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => 16,
        [b'0', b'o' | b'O', ..] => 8,
        [b'0', b'b' | b'B', ..] => 2,
        [b'0', b'0'..=b'7', ..] => 80,
        _ => 10,
    };
    let whole = match radix {
        80 => unsigned(&digits[1..], 8),
        10 => unsigned(digits, 10),
        radix => unsigned(&digits[2..], radix),
    };
    match whole {
        Some(0) => return Some("0".to_owned()),
        Some(whole) => return Some(format!("{sign}{whole}")),
        None => (),
    }
    let (mantissa, exponent) =
        digits.split_once(['e', 'E']).map_or((digits, None), |(mantissa, exponent)| (mantissa, Some(exponent)));
    let (before, after) = mantissa.split_once('.').map_or((mantissa, None), |(before, after)| (before, Some(after)));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let exponent_fits = exponent.is_none_or(|exponent| {
        let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !digits.is_empty() && all_digits(digits)
    });
    let digits_fit = all_digits(before) && all_digits(after.unwrap_or_default());
    if !digits_fit || !exponent_fits || (before.is_empty() && after.is_none_or(str::is_empty)) {
        return None;
    }
    let value: f64 = format!("{sign}{digits}").parse().ok()?;
    value.is_finite().then(|| float_text(value))
}

fn unsigned(digits: &str, radix: u32) -> Option<u64> {
    if digits.is_empty() || digits.starts_with('+') { None } else { u64::from_str_radix(digits, radix).ok() }
}

/// The shortest decimal; with an exponent where it would be longer than 21 digits.
fn float_text(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 || (1e-4..1e21).contains(&size) {
        return value.to_string();
    }
    let text = format!("{value:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
    format!("{mantissa}e{sign}{digits:0>2}")
}

/// Whether a document is a bake file rather than a Compose file.
pub(crate) fn is_bake(document: &YamlNode) -> bool {
    let has = |key: &str| document.get(key).is_some();
    ["target", "group", "variable", "function"].into_iter().any(has) && !has("services")
}

/// A bake file in YAML: the same as its JSON form.
pub(crate) fn body(source: SourceId, text: &str, document: &YamlNode) -> (Body, Vec<Diagnostic>) {
    json::body(source, text, &as_json(text, document))
}

/// The same as a tree of JSON values.
pub(super) fn as_json(text: &str, node: &YamlNode) -> json::JsonNode {
    let kind = match &node.kind {
        YamlNodeKind::Null => json::JsonNodeKind::Null,
        YamlNodeKind::Bool(value) => json::JsonNodeKind::Bool(*value),
        YamlNodeKind::Number(number) => json::JsonNodeKind::Number(number.clone()),
        YamlNodeKind::String(value) => {
            let written = text.get(node.at.start as usize..node.at.end as usize).unwrap_or_default();
            let inside = written.strip_prefix(['"', '\'']).and_then(|it| it.strip_suffix(['"', '\'']));
            json::JsonNodeKind::Text { text: value.clone(), verbatim: inside == Some(value) }
        }
        YamlNodeKind::Sequence(items) => {
            json::JsonNodeKind::Array(items.iter().map(|item| as_json(text, item)).collect())
        }
        YamlNodeKind::Mapping(entries) => json::JsonNodeKind::Object(
            entries
                .iter()
                .map(|(key, entry)| (Spanned::new(key.clone(), entry.at), as_json(text, &entry.node)))
                .collect(),
        ),
    };
    json::JsonNode { kind, at: node.at }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;
    use crate::report::SourceMap;

    /// The value as JSON-like text.
    fn shown(node: &YamlNode) -> String {
        let text = match &node.kind {
            YamlNodeKind::Null => "null".to_owned(),
            YamlNodeKind::Bool(value) => value.to_string(),
            YamlNodeKind::Number(number) => number.to_string(),
            YamlNodeKind::String(text) => format!("{text:?}"),
            YamlNodeKind::Sequence(items) => {
                format!("[{}]", items.iter().map(|item| shown(item)).collect::<Vec<_>>().join(","))
            }
            YamlNodeKind::Mapping(entries) => {
                format!(
                    "{{{}}}",
                    entries
                        .iter()
                        .map(|(key, entry)| format!("{key}:{}", shown(&entry.node)))
                        .collect::<Vec<_>>()
                        .join(",")
                )
            }
        };
        match node.action {
            None => text,
            Some(action) => format!("{action:?}({text})"),
        }
    }

    fn read(text: &str) -> (SourceMap, YamlRead<Vec<Arc<YamlNode>>>) {
        let mut sources = SourceMap::default();
        let id = sources.add("f", text);
        let parsed = parse(id, text);
        (sources, parsed)
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let (_, parsed) = read(text);
        let documents = parsed.unwrap_or_else(|fault| panic!("{fault:?}"));
        assert_eq!(documents.iter().map(|it| shown(it)).collect::<Vec<_>>().join(" "), expected, "{text}");
    }

    /// The message, and the line it points at.
    #[track_caller]
    fn fails(text: &str, line: usize, message: &str) {
        let (sources, parsed) = read(text);
        let fault = parsed.expect_err("it must fail");
        assert!(fault.message.contains(message), "{}", fault.message);
        assert_eq!(sources.line_column(fault.labels[0].at).0, line, "{fault:?}");
    }

    #[test]
    fn scalars_are_those_of_the_core_schema_and_of_old_files() {
        check("[yes, on, no, True, ~, null, '', \"\"]", r#"["yes","on","no",true,null,null,"",""]"#);
        check("[0o17, 017, 0x1F, 0b11, 1_000, -5, +5, 08]", "[15,15,31,3,1000,-5,5,8]");
        check(
            "[1e3, .5, 1.50, 5., -1.5e-7, 1e21, 12.3.4, 1.2.3-rc, '1']",
            r#"[1000,0.5,1.5,5,-1.5e-07,1e+21,"12.3.4","1.2.3-rc","1"]"#,
        );
        check("[2024-01-02, 12:30, .inf, 0x, 1e, +]", r#"["2024-01-02","12:30",".inf","0x","1e","+"]"#);
        check("[!!str 1, !!int '2', !!float 3, !foo x]", r#"["1",2,3,"x"]"#);
    }

    #[test]
    fn collections_anchors_merge_keys_and_documents() {
        check("a: &x {p: 1, q: 2}\nb: {<<: *x, q: 3}\nc: *x", "{a:{p:1,q:2},b:{q:3,p:1},c:{p:1,q:2}}");
        check("a: &x {p: 1}\nb: &y {p: 2, q: 2}\nc: {<<: [*x, *y]}", "{a:{p:1},b:{p:2,q:2},c:{p:1,q:2}}");
        check("a: 1\n---\nb: 2\n", "{a:1} {b:2}");
        check("a: !reset null\nb: !override [1]", "{a:Reset(null),b:Override([1])}");
        check("", "");
        check("# only a comment\n", "");
    }

    #[test]
    fn places_are_bytes_even_after_wide_characters() {
        let text = "é: \"日本\"\nx: [ö, ü]\n# ä\nz: 'q'\n";
        let (sources, parsed) = read(text);
        let documents = parsed.unwrap();
        let entries = documents[0].mapping().unwrap();
        assert_eq!(sources.text(entries["z"].node.at), "'q'");
        assert_eq!(sources.text(entries["x"].at), "x");
        assert_eq!(sources.text(entries["x"].node.at), "[ö, ü]");
        assert_eq!(sources.text(entries["é"].node.at), "\"日本\"");
    }

    #[test]
    fn faults_are_located() {
        fails("a: 1\nb: 2\na: 3", 3, "given twice: a");
        fails("a:\n  b: *ghost\n", 2, "ghost");
        fails("s: &s\n  x: *s\n", 2, "inside the value");
        fails("a:\n  b: \".\n", 2, "YAML");
        fails("a: !!binary '%%%'", 1, "binary");
        fails("? [a]\n: b", 1, "key");
        fails("a: {<<: 1}", 1, "<<");
    }

    #[test]
    fn bombs_are_refused_at_once() {
        let mut text = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for i in 1..30 {
            let alias = format!("*a{}", i - 1);
            writeln!(text, "a{i}: &a{i} [{}]", [alias.as_str(); 10].join(",")).unwrap();
        }
        assert!(read(&text).1.unwrap_err().message.contains("aliases"));
        assert!(read(&"[".repeat(100_000)).1.is_err());
        assert!(read(&"- ".repeat(10_000)).1.is_err());
        let deep: String = (0..600).map(|i| format!("{}a:\n", " ".repeat(i))).collect();
        assert!(read(&deep).1.unwrap_err().message.contains("deeper"));
    }
}
