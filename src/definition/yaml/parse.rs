//! YAML text ─► documents. Anchors, aliases and merge keys (`<<`) are resolved here; aliases share one value, and what they
//! stand for together is limited, so that a short text cannot become a huge tree.

use std::{collections::HashMap, sync::Arc};

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};

use super::{
    node::{YamlAction, YamlEntry, YamlMapping, YamlNode, YamlNodeKind},
    place::Places,
    reindent::reindented,
    scalar::{action, scalar},
};
use crate::report::{Diagnostic, SourceId, Span, Spanned};

/// The deepest nesting that is accepted; deeper input is refused.
const MAX_DEPTH: usize = 500;
/// How many values aliases may stand for, all together.
const MAX_ALIASED: usize = 1_000_000;

type YamlResult<T> = Result<T, Box<Diagnostic>>;

/// Parses all documents of a YAML text (<https://yaml.org/spec/1.2.2/>). Stops at the first error.
///
/// What YAML 1.2 forbids and other readers take is taken too: lines inside brackets and quotes at any column, and tabs after
/// `key:`. An error is the one of the text as written.
pub(crate) fn parse(source: SourceId, text: &str) -> YamlResult<Vec<Arc<YamlNode>>> {
    let fault = match documents(Places::new(source, text), text) {
        Ok(documents) => return Ok(documents),
        Err(ParseFault::Value(fault)) => return Err(fault),
        Err(ParseFault::Syntax(fault)) => fault,
    };
    let Some((mended, shifts)) = reindented(text) else { return Err(fault) };
    match documents(Places::of_mended(source, text, &mended, &shifts), &mended) {
        Ok(documents) => Ok(documents),
        Err(ParseFault::Value(fault)) => Err(fault),
        Err(ParseFault::Syntax(_)) => Err(fault),
    }
}

/// Why a text could not be parsed.
enum ParseFault {
    /// It is not YAML.
    Syntax(Box<Diagnostic>),
    /// It is YAML with a value that cannot be.
    Value(Box<Diagnostic>),
}

impl From<Box<Diagnostic>> for ParseFault {
    fn from(fault: Box<Diagnostic>) -> Self {
        Self::Value(fault)
    }
}

/// Parses the documents of `parsed`, with the places of the text as written.
fn documents(places: Places<'_>, parsed: &str) -> Result<Vec<Arc<YamlNode>>, ParseFault> {
    let mut builder = YamlBuilder { places, frames: Vec::new(), anchors: HashMap::new(), aliased: 0 };
    let mut parser = Parser::new_from_str(parsed);
    let n_characters = parsed.chars().count();
    // The last line, if it has no line break.
    let last = parsed.rsplit(['\n', '\r']).next().unwrap_or_default();
    let is_blank = last.bytes().all(|byte| matches!(byte, b' ' | b'\t'));
    let mut documents = Vec::new();
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| ParseFault::Syntax(builder.places.syntax_error(&error)))?;
        let at = builder.places.span(span.start, span.end);
        let event = match event {
            Event::DocumentStart(_) => {
                builder.anchors.clear();
                event
            }
            // The parser ends the last line of a text; the value of `|` has only the line breaks that are written.
            Event::Scalar(text, style @ (ScalarStyle::Literal | ScalarStyle::Folded), anchor, tag)
                // Blanks are a line of the value, an empty one, only where they are as deep as the value.
                if span.end.index() >= n_characters && (!is_blank || text.ends_with("\n\n") && !last.is_empty()) =>
            {
                let text = text.strip_suffix('\n').map(str::to_owned).map_or(text, Into::into);
                Event::Scalar(text, style, anchor, tag)
            }
            event => event,
        };
        if let Some(document) = builder.event(event, at)? {
            documents.push(document);
        }
    }
    Ok(documents)
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
    /// Processes one parser event; returns the document if the event completes one.
    fn event(&mut self, event: Event<'_>, at: Span) -> YamlResult<Option<Arc<YamlNode>>> {
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

    fn open(
        &mut self,
        kind: FrameKind,
        anchor: usize,
        tag: Option<&Tag>,
        at: Span,
    ) -> YamlResult<Option<Arc<YamlNode>>> {
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

    fn close(&mut self, end: Span) -> YamlResult<Option<Arc<YamlNode>>> {
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

    fn alias(&mut self, anchor: usize, at: Span) -> YamlResult<Option<Arc<YamlNode>>> {
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

    /// Adds a finished value to the open collection; returns it if it is a whole document.
    fn finished(&mut self, node: Arc<YamlNode>, anchor: usize) -> YamlResult<Option<Arc<YamlNode>>> {
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
fn merge_key(merged: &mut Vec<Arc<YamlNode>>, node: &Arc<YamlNode>, at: Span) -> YamlResult<()> {
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

    fn read(text: &str) -> (SourceMap, YamlResult<Vec<Arc<YamlNode>>>) {
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
        // A text that does not end with a line break.
        check("a: |\n  b\nc: |\n  d", r#"{a:"b\n",c:"d"}"#);
        check("c: >+\n  é", r#"{c:"é"}"#);
        check("c: |\n  d\n# e", r#"{c:"d\n"}"#);
        check("c: |\n  d\n  ", r#"{c:"d\n"}"#);
        check("c:\n  d: |\n    e\n ", r#"{c:{d:"e\n"}}"#);
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
        fails("a: !!binary /w==", 1, "not text");
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
