//! Text that our YAML parser refuses and the reader of the peer takes, written in the form that both take: lines inside
//! brackets and quotes that stand at a lower column than their parent are moved right, a tab after `key:` becomes a space, and
//! a comment that follows a quote or bracket is set apart. None of these changes a value. Only text that has failed to parse comes here; nothing is reported.

use super::place::Shift;

/// What moving lines may add to a text: this many bytes for each of its own, and [`SPARE_BYTES`] more. A text that would
/// need more is not mended.
const MAX_GROWTH: usize = 8;
const SPARE_BYTES: usize = 1 << 16;

/// The mended text, and where it is longer than the original. `None` if there is nothing to mend, or it cannot be done.
pub(super) fn reindented(text: &str) -> Option<(String, Vec<Shift>)> {
    let mut walk =
        Walk { text, at: 0, line: 0, columns: Vec::new(), mended: String::new(), copied: 0, shifts: Vec::new() };
    while walk.at < text.len() {
        walk.block_line()?;
    }
    if walk.copied == 0 {
        return None;
    }
    walk.mended.push_str(&text[walk.copied..]);
    Some((walk.mended, walk.shifts))
}

/// A walk over a text, line by line in block context, which knows just enough YAML to find brackets and quotes that open a
/// value (<https://yaml.org/spec/1.2.2/#chapter-7-flow-style-productions>). Columns are bytes: they are only compared with
/// columns before them in the line, and too much indentation is as good as enough.
struct Walk<'t> {
    text: &'t str,
    /// The next byte to look at; always at the start of a character.
    at: usize,
    /// The start of its line.
    line: usize,
    /// The columns of the block collections that are open, outermost first.
    columns: Vec<usize>,
    mended: String,
    /// The bytes of `text` that `mended` has.
    copied: usize,
    shifts: Vec<Shift>,
}

impl Walk<'_> {
    fn byte(&self) -> Option<u8> {
        self.byte_after(0)
    }

    fn byte_after(&self, n: usize) -> Option<u8> {
        self.text.as_bytes().get(self.at + n).copied()
    }

    /// Whether the byte `n` after this one ends a word: a blank, a line break, or the end of the text.
    fn ends_after(&self, n: usize) -> bool {
        self.byte_after(n).is_none_or(|byte| byte.is_ascii_whitespace())
    }

    /// Moves on while the bytes are of a kind. Stops at the start of a character only if `kind` takes all bytes above ASCII.
    fn skip(&mut self, kind: impl Fn(u8) -> bool) {
        self.at += self.text.as_bytes()[self.at..].iter().take_while(|byte| kind(**byte)).count();
    }

    fn skip_blanks(&mut self) {
        self.skip(|byte| matches!(byte, b' ' | b'\t'));
    }

    /// To the end of the line, before its break.
    fn skip_line(&mut self) {
        self.skip(|byte| byte != b'\n');
    }

    /// Past the line break that stands here, if one does.
    fn next_line(&mut self) {
        if self.byte() == Some(b'\n') {
            self.at += 1;
        }
        self.line = self.at;
    }

    /// Whether a document ends or begins here, which no quoted string and no bracket may hide.
    fn at_document_marker(&self) -> bool {
        let rest = &self.text[self.at..];
        self.at == self.line && (rest.starts_with("---") || rest.starts_with("...")) && self.ends_after(3)
    }

    /// The column that continued lines need: beyond the innermost block collection.
    fn needed(&self) -> usize {
        self.columns.last().map_or(0, |column| column + 1)
    }

    /// Writes all up to here into the mended text, then `added` in place of the next `removed` bytes.
    fn mend(&mut self, added: &str, removed: usize) -> Option<()> {
        if self.mended.len() + added.len() > self.text.len().saturating_mul(MAX_GROWTH) + SPARE_BYTES {
            return None;
        }
        self.mended.push_str(&self.text[self.copied..self.at]);
        self.mended.push_str(added);
        self.at += removed;
        self.copied = self.at;
        if added.len() != removed {
            self.shifts.push(Shift { from: self.mended.len(), by: self.mended.len() - self.copied });
        }
        Some(())
    }

    /// At the start of a line inside brackets or quotes: moves its text to the column that is needed.
    fn continued_line(&mut self) -> Option<()> {
        let needed = self.needed();
        let spaces = self.text[self.at..].bytes().take_while(|byte| *byte == b' ').count();
        let is_empty = matches!(self.byte_after(spaces), None | Some(b'\n' | b'\r'));
        if spaces >= needed || is_empty || self.at_document_marker() {
            return Some(());
        }
        self.mend(&" ".repeat(needed - spaces), 0)
    }

    /// A line outside of brackets and quotes, with the lines that continue its value.
    fn block_line(&mut self) -> Option<()> {
        self.line = self.at;
        if self.at_document_marker() {
            self.columns.clear();
            self.at += 3;
        } else if self.byte() == Some(b'%') {
            self.skip_line();
        }
        self.skip(|byte| byte == b' ');
        let column = self.at - self.line;
        if !matches!(self.byte(), None | Some(b'\n' | b'\r' | b'#')) {
            while self.columns.last().is_some_and(|last| *last >= column) {
                self.columns.pop();
            }
        }
        while self.block_token()? {}
        self.next_line();
        Some(())
    }

    /// The next token of a line in block context; false at the end of the line.
    fn block_token(&mut self) -> Option<bool> {
        self.skip_blanks();
        let start = self.at;
        while matches!(self.byte(), Some(b'&' | b'!')) {
            self.skip(|byte| !byte.is_ascii_whitespace());
            self.skip_blanks();
        }
        match self.byte() {
            None | Some(b'\n' | b'\r' | b'#') => {
                self.skip_line();
                return Some(false);
            }
            Some(b'-' | b'?' | b':') if self.ends_after(1) => {
                self.columns.push(start - self.line);
                self.indicator()?;
                return Some(true);
            }
            Some(b'*') => self.skip(|byte| !byte.is_ascii_whitespace()),
            Some(b'|' | b'>') => {
                self.block_scalar();
                return Some(false);
            }
            Some(quote @ (b'"' | b'\'')) => {
                self.quoted(quote)?;
                self.set_comment_apart()?;
            }
            Some(b'[' | b'{') => {
                self.flow()?;
                self.set_comment_apart()?;
            }
            Some(_) => {
                if !self.plain() {
                    self.plain_continued();
                    return Some(false);
                }
            }
        }
        // A key, if its colon follows in the same line.
        let end = self.at;
        self.skip_blanks();
        if self.byte() == Some(b':') && self.ends_after(1) && start >= self.line {
            self.columns.push(start - self.line);
            self.indicator()?;
        } else {
            self.at = end;
        }
        Some(true)
    }

    /// One indicator (`-`, `?`, `:`), with a space in place of a tab that follows.
    fn indicator(&mut self) -> Option<()> {
        self.at += 1;
        if self.byte() == Some(b'\t') { self.mend(" ", 1) } else { Some(()) }
    }

    /// Puts a blank before a comment that follows without one.
    fn set_comment_apart(&mut self) -> Option<()> {
        let is_apart = self.text[..self.at].ends_with([' ', '\t', '\n']);
        if self.byte() == Some(b'#') && !is_apart { self.mend(" ", 0) } else { Some(()) }
    }

    /// A word without quotes up to the colon of a key (true), a comment, or the end of the line.
    fn plain(&mut self) -> bool {
        loop {
            match self.byte() {
                None | Some(b'\n') => return false,
                Some(b':') if self.ends_after(1) => return true,
                Some(b' ' | b'\t') if self.byte_after(1) == Some(b'#') => {
                    self.skip_line();
                    return false;
                }
                Some(_) => self.at += 1,
            }
        }
    }

    /// The further lines of a word without quotes: those that stand deeper than its parent.
    fn plain_continued(&mut self) {
        while self.deeper_line_follows() {
            self.next_line();
            self.skip_line();
        }
    }

    /// The lines of `|` and `>`.
    fn block_scalar(&mut self) {
        self.skip_line();
        self.plain_continued();
    }

    /// Whether the line after this one is empty or stands deeper than the innermost block collection.
    fn deeper_line_follows(&self) -> bool {
        let Some(rest) = self.text[self.at..].strip_prefix('\n').filter(|rest| !rest.is_empty()) else { return false };
        let spaces = rest.bytes().take_while(|byte| *byte == b' ').count();
        let word = &rest[spaces..];
        let ends_document = spaces == 0 && (word.starts_with("---") || word.starts_with("..."));
        !ends_document && (spaces >= self.needed() || word.is_empty() || word.starts_with(['\n', '\r']))
    }

    /// A quoted string.
    fn quoted(&mut self, quote: u8) -> Option<()> {
        self.at += 1;
        loop {
            match self.byte()? {
                b'\n' => {
                    self.next_line();
                    self.continued_line()?;
                }
                b'\\' if quote == b'"' && matches!(self.byte_after(1), Some(b'"' | b'\\')) => self.at += 2,
                b'\'' if quote == b'\'' && self.byte_after(1) == Some(b'\'') => self.at += 2,
                byte => {
                    self.at += 1;
                    if byte == quote {
                        return Some(());
                    }
                }
            }
        }
    }

    /// Brackets, to the one that closes the first. Which kind closes which is left to the parser.
    fn flow(&mut self) -> Option<()> {
        let mut open = 0_usize;
        // Inside a word without quotes a quote is a character like any other.
        let mut in_word = false;
        loop {
            match self.byte()? {
                b'\n' => {
                    self.next_line();
                    self.continued_line()?;
                }
                b' ' | b'\t' | b'\r' => self.at += 1,
                b'#' if !in_word || self.text[..self.at].ends_with([' ', '\t', '\n']) => {
                    self.set_comment_apart()?;
                    self.skip_line();
                }
                b'[' | b'{' => {
                    (open, in_word) = (open + 1, false);
                    self.at += 1;
                }
                b']' | b'}' => {
                    (open, in_word) = (open.saturating_sub(1), false);
                    self.at += 1;
                    if open == 0 {
                        return Some(());
                    }
                }
                b',' => {
                    in_word = false;
                    self.at += 1;
                }
                b':' if self.ends_after(1) => {
                    in_word = false;
                    self.indicator()?;
                }
                quote @ (b'"' | b'\'') if !in_word => self.quoted(quote)?,
                b'&' | b'!' | b'*' if !in_word => {
                    self.skip(|byte| !byte.is_ascii_whitespace() && !b",[]{}".contains(&byte));
                }
                _ => {
                    in_word = true;
                    self.at += 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        definition::yaml::{
            node::{YamlNode, YamlNodeKind},
            parse,
        },
        report::SourceMap,
    };

    /// Compares a value with what another reader, a port of the C library that the peer's reader descends from, makes of it.
    fn same(ours: &YamlNode, theirs: &yaml_reader::Value) -> bool {
        match (&ours.kind, theirs) {
            (YamlNodeKind::Null, yaml_reader::Value::Null) => true,
            (YamlNodeKind::Bool(a), yaml_reader::Value::Bool(b)) => a == b,
            (YamlNodeKind::Number(a), yaml_reader::Value::Number(b)) => **a == b.to_string(),
            (YamlNodeKind::String(a), yaml_reader::Value::String(b)) => **a == **b,
            (YamlNodeKind::Sequence(a), yaml_reader::Value::Sequence(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
            }
            (YamlNodeKind::Mapping(a), yaml_reader::Value::Mapping(b)) => {
                a.len() == b.len() && a.iter().all(|(key, a)| b.get(&**key).is_some_and(|b| same(&a.node, b)))
            }
            _ => false,
        }
    }

    /// The text is read as the other reader reads it; `mended` says whether our parser alone would have refused it.
    #[track_caller]
    fn agrees(text: &str, mended: bool) {
        let mut sources = SourceMap::default();
        let id = sources.add("f", text);
        let documents = parse(id, text).unwrap_or_else(|fault| panic!("{text:?}: {fault:?}"));
        let theirs: yaml_reader::Value =
            yaml_reader::from_str(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        assert!(documents.len() == 1 && same(&documents[0], &theirs), "{text:?}: {documents:?} against {theirs:?}");
        assert_eq!(reindented(text).is_some(), mended, "{text:?}");
    }

    #[test]
    fn brackets_and_quotes_continue_at_any_column() {
        for text in [
            "a:\n  b: [\n    x,\n]\nc: 1",
            "a:\n  b: [\nx, y,\n\n# comment ] \n 'p ]\nq', {k: [v,\nw]},\n]\nc: 1",
            "a:\n  - b: {\n  x: \"1 }\n2\\\" \\\\\",\ny: 'it''s\n'\n}\n  - c",
            "a:\n  b: \"one\ntwo\n\n  three\\\n four\"\n  c: 'x\ny'",
            "a:\n  b:\n    \"one\n  two\"\n  c: 2",
            "a:\n  - \"one\ntwo\"\n  - - k: 'x\n  y'\n      l: z",
            "a:\n  &n 'k': &m !!str \"one\ntwo\"\n  x: *m",
            "a: |\n  [ \"not open\nb:\n  c: [x,\n]",
            "a: >-\n  'still text\n\n  more\nb:\n  c: [x,\n]",
            "a: it's [ plain\n  \"and so on\nb:\n  c: [x,\n]",
            "a:\n  # don't [\n  b: c # isn't {\n  d: [x, don't, a b 'c,\n]",
            "---\na:\n  é: [ü,\n]\n  \"ä\": \"ö\nü\"",
            "a:\r\n  b: [\r\nx\r\n]\r\n",
            "a:\n  b: [\n\tx,\n\t]\n",
            "a:\n  b: \"x\n\ty\"\n",
        ] {
            agrees(text, true);
        }
        agrees("a:\n  b: [\n    x,\n   ]\n  c: 'y\n   z'", false);
    }

    #[test]
    fn a_tab_after_a_key_is_a_blank() {
        agrees("a:\tb\nc:\n  d:\te\n", true);
        agrees("a:\t\tb\n", true);
        agrees("a: {b:\tc}\nd: \"x:\ty\"", true);
    }

    #[test]
    fn a_comment_may_touch_what_it_follows() {
        agrees("a: \"b\"# c\nd: 'e'#f\ng: [h,# i\n  \"j\"# k ]\n  ]#l\n", true);
        agrees("a: [b#c, 'd' # e\n  ]\nf: g#h\n", false);
    }

    #[test]
    fn places_are_those_of_the_text_as_written() {
        let text = "é:\n  b: [ö,\nxy, 'p\nq']\n  c:\tz\n  d: e\n";
        let mut sources = SourceMap::default();
        let id = sources.add("f", text);
        let documents = parse(id, text).unwrap();
        let entries = documents[0].get("é").unwrap().mapping().unwrap();
        let items = entries["b"].node.sequence().unwrap();
        let texts: Vec<_> = items.iter().map(|item| sources.text(item.at)).collect();
        assert_eq!(texts, ["ö", "xy", "'p\nq'"]);
        assert_eq!(sources.text(entries["c"].node.at), "z");
        assert_eq!(sources.text(entries["d"].at), "d");
        let twice = "a:\n  b: [x,\n]\n  b: 2\n";
        let fault = parse(sources.add("g", twice), twice).unwrap_err();
        assert_eq!(fault.labels[0].at.start as usize, twice.rfind('b').unwrap());
    }

    #[test]
    fn what_no_reader_takes_stays_an_error_at_its_place() {
        for text in [
            "a:\n  b: [x,\nc: 1\n",
            "a:\n  b: \"x\nc: 1\n",
            "a:\n  b: \"x\n--- \"\n",
            "a:\n  b: [x\n...\n]\n",
            "a:\n  b: \"x\ny\" z\n",
            "a:\n\tb: c\n",
        ] {
            let mut sources = SourceMap::default();
            let fault = parse(sources.add("f", text), text).expect_err(text);
            assert_eq!(fault.code, "bake::definition::yaml_syntax");
            assert!(yaml_reader::from_str::<yaml_reader::Value>(text).is_err(), "{text:?}");
        }
        let deep = format!("{}\"x\n{}\"", "- ".repeat(400), "y\n".repeat(100_000));
        assert!(reindented(&deep).is_none(), "a short text must not become a long one");
    }
}
