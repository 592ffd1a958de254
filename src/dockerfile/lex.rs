//! Lines: physical lines to logical ones (comments, continuations, parser directives), and lines to words.
//!
//! A logical line knows where each of its parts stands in the file, so that every word has an exact span
//! (<https://docs.docker.com/reference/dockerfile/#format>). What the words mean is decided in `parse`.

use std::{borrow::Cow, ops::Range};

use crate::report::{Diagnostic, SourceId, Span};

/// Longest physical line, its line end included.
const MAX_LINE: usize = 65535;

/// Where the bytes of a logical line stand in the source.
#[derive(Clone, Debug)]
pub(super) enum SourcePlace {
    /// The span of everything, when the text is not from a file (a trigger of a base image).
    Fixed(Span),
    /// From each offset in the line, the offset in the source.
    Pieces { source: SourceId, first: u32, more: Vec<(u32, u32)> },
}

impl SourcePlace {
    /// The span in the source of a byte range of the logical line.
    pub(super) fn at(&self, range: Range<usize>) -> Span {
        match self {
            Self::Fixed(span) => *span,
            Self::Pieces { source, .. } => {
                let start = self.offset(range.start);
                let end = if range.end > range.start { self.offset(range.end - 1) + 1 } else { start };
                Span { source: *source, start, end: end.max(start) }
            }
        }
    }

    fn offset(&self, at: usize) -> u32 {
        let Self::Pieces { first, more, .. } = self else { return 0 };
        let at = to_u32(at);
        let n = more.partition_point(|(text, _)| *text <= at);
        let (text, source) = if n == 0 { (0, *first) } else { more[n - 1] };
        source + (at - text)
    }
}

/// A logical line: one instruction, its continuation lines joined, without the blank lines and comments between them.
///
/// The bodies of its here-documents are not in it; [`LineReader::heredoc`] reads them. Borrowed from the file unless
/// lines were joined. See <https://docs.docker.com/reference/dockerfile/#format>.
#[derive(Clone, Debug)]
pub(super) struct DockerfileLine<'a> {
    /// Without leading blanks, continuation marks and line end.
    pub(super) text: Cow<'a, str>,
    /// Where each byte of `text` stands in the file.
    pub(super) place: SourcePlace,
    /// The comment lines directly above, without `#` and the blanks around; an empty comment or a blank line ends them.
    pub(super) comments: Vec<String>,
}

/// The parser directives at the top of a file: `# syntax=`, `# check=`, `# escape=`
/// (<https://docs.docker.com/reference/dockerfile/#parser-directives>).
#[derive(Clone, Debug, Default)]
pub(super) struct Directives {
    pub(super) syntax: Option<(String, Span)>,
    pub(super) check: Option<(String, Span)>,
    pub(super) escape: Option<char>,
}

/// Reads the logical lines of a Dockerfile one after the other, and the bodies of here-documents between them.
pub(super) struct LineReader<'a> {
    text: &'a str,
    next: usize,
    source: SourceId,
    fixed: Option<Span>,
    escape: char,
    at_top: bool,
    comments: Vec<String>,
    pub(super) directives: Directives,
    pub(super) empty_continuations: Vec<Span>,
    pub(super) faults: Vec<Diagnostic>,
}

/// A physical line: where it starts, and its text with the line end.
#[derive(Clone, Copy)]
struct Physical<'a> {
    start: usize,
    text: &'a str,
}

impl<'a> Physical<'a> {
    fn without_end(self) -> &'a str {
        self.text.trim_end_matches(['\r', '\n'])
    }
}

impl<'a> LineReader<'a> {
    /// Starts at the top of `text`, after a byte order mark.
    ///
    /// `fixed` is the span of every word when the text is not from a file: an ONBUILD trigger of a base image.
    pub(super) fn new(source: SourceId, text: &'a str, fixed: Option<Span>) -> Self {
        Self {
            text,
            next: if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 },
            source,
            fixed,
            escape: '\\',
            at_top: true,
            comments: Vec::new(),
            directives: Directives::default(),
            empty_continuations: Vec::new(),
            faults: Vec::new(),
        }
    }

    /// The character that continues lines and escapes others: a backslash, or what the directive `escape` names
    /// (<https://docs.docker.com/reference/dockerfile/#escape>).
    pub(super) const fn escape(&self) -> char {
        self.escape
    }

    fn physical(&mut self) -> Option<Physical<'a>> {
        let start = self.next;
        let rest = &self.text[start..];
        if rest.is_empty() {
            return None;
        }
        let end = rest.find('\n').map_or(rest.len(), |at| at + 1);
        self.next = start + end;
        if end > MAX_LINE {
            self.faults.push(
                Diagnostic::error(
                    "bake::dockerfile::line_too_long",
                    format!("line is longer than {MAX_LINE} bytes: {end}"),
                )
                .at(self.span(start..start + 40.min(end)), "starts here"),
            );
        }
        Some(Physical { start, text: &rest[..end] })
    }

    fn span(&self, range: Range<usize>) -> Span {
        let mut end = range.end.min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end += 1;
        }
        self.fixed.unwrap_or(Span { source: self.source, start: to_u32(range.start), end: to_u32(end) })
    }

    /// The next logical line that is not blank.
    pub(super) fn line(&mut self) -> Option<DockerfileLine<'a>> {
        loop {
            let physical = self.physical()?;
            let whole = physical.without_end();
            let text = whole.trim_start();
            let start = physical.start + (whole.len() - text.len());
            if let Some(comment) = text.strip_prefix('#') {
                self.comment(comment, start..start + text.len());
                continue;
            }
            self.at_top = false;
            if text.is_empty() {
                self.comments.clear();
                continue;
            }
            let line = self.continued(text, start);
            if !line.text.trim().is_empty() {
                return Some(line);
            }
        }
    }

    /// Joins a line with those that continue it.
    fn continued(&mut self, text: &'a str, start: usize) -> DockerfileLine<'a> {
        let comments = std::mem::take(&mut self.comments);
        let first = to_u32(start);
        let place = |more| match self.fixed {
            Some(span) => SourcePlace::Fixed(span),
            None => SourcePlace::Pieces { source: self.source, first, more },
        };
        let Some(part) = without_continuation(text, self.escape) else {
            return DockerfileLine { text: Cow::Borrowed(text), place: place(Vec::new()), comments };
        };
        let mut joined = part.to_owned();
        let mut more = Vec::new();
        while let Some(physical) = self.physical() {
            let text = physical.without_end();
            let bare = text.trim_start();
            if bare.starts_with('#') {
                continue;
            }
            if bare.is_empty() {
                let at = self.span(physical.start..physical.start + physical.text.len());
                self.empty_continuations.push(at);
                continue;
            }
            more.push((to_u32(joined.len()), to_u32(physical.start)));
            match without_continuation(text, self.escape) {
                Some(part) => joined.push_str(part),
                None => {
                    joined.push_str(text);
                    break;
                }
            }
        }
        let place = match self.fixed {
            Some(span) => SourcePlace::Fixed(span),
            None => SourcePlace::Pieces { source: self.source, first, more },
        };
        DockerfileLine { text: Cow::Owned(joined), place, comments }
    }

    /// Reads the body of a heredoc: the lines up to one that is `name`. `None` if there is no such line; all lines have
    /// then been read.
    pub(super) fn heredoc(&mut self, name: &str, strip_tabs: bool) -> Option<&'a str> {
        let start = self.next;
        loop {
            let physical = self.physical()?;
            let text = physical.without_end();
            let text = if strip_tabs { text.trim_start_matches('\t') } else { text };
            if text == name {
                return Some(&self.text[start..physical.start]);
            }
        }
    }

    fn comment(&mut self, comment: &str, at: Range<usize>) {
        if self.at_top && self.directive(comment, at) {
            return;
        }
        let comment = comment.trim();
        if comment.is_empty() {
            self.comments.clear();
        } else {
            self.comments.push(comment.to_owned());
        }
    }

    /// Reads `key = value`; whatever else ends the zone of directives.
    fn directive(&mut self, comment: &str, at: Range<usize>) -> bool {
        self.at_top = false;
        let Some((key, value)) = key_value(comment) else { return false };
        let span = self.span(at);
        let seen = match key.as_str() {
            "syntax" => self.directives.syntax.replace((value.to_owned(), span)).is_some(),
            "check" => self.directives.check.replace((value.to_owned(), span)).is_some(),
            "escape" => {
                let escape = match value {
                    "\\" => '\\',
                    "`" => '`',
                    _ => {
                        let message = format!("the escape character must be `\\` or a backquote: {value}");
                        self.faults.push(
                            Diagnostic::error("bake::dockerfile::bad_escape", message).at(span, "this directive"),
                        );
                        '\\'
                    }
                };
                self.escape = escape;
                self.directives.escape.replace(escape).is_some()
            }
            _ => return false,
        };
        if seen {
            let message = format!("the directive `{key}` may be given only once");
            self.faults
                .push(Diagnostic::error("bake::dockerfile::repeated_directive", message).at(span, "given again"));
        }
        self.at_top = true;
        true
    }
}

/// Parses a comment as a directive `key = value`: a word of letters and digits, the value without blanks around it, not
/// empty.
pub(super) fn key_value(comment: &str) -> Option<(String, &str)> {
    let (key, value) = comment.split_once('=')?;
    let (key, value) = (key.trim(), value.trim());
    let word = key.starts_with(|c: char| c.is_ascii_alphabetic()) && key.chars().all(|c| c.is_ascii_alphanumeric());
    (word && !value.is_empty()).then(|| (key.to_ascii_lowercase(), value))
}

/// The line without its continuation mark; `None` if it is not continued.
fn without_continuation(line: &str, escape: char) -> Option<&str> {
    let part = line.trim_end_matches([' ', '\t']).strip_suffix(escape)?;
    (!part.ends_with(escape)).then_some(part)
}

fn to_u32(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

const BLANKS: [char; 5] = ['\t', '\u{b}', '\u{c}', '\r', ' '];

/// Shortens a byte range so that no Unicode blanks stand at its ends.
pub(super) fn trim(text: &str, range: Range<usize>) -> Range<usize> {
    let part = &text[range.clone()];
    let start = range.start + (part.len() - part.trim_start().len());
    let end = start + part.trim().len();
    start..end
}

/// Splits a byte range at its first blanks: the first word, and the rest without blanks around it.
pub(super) fn split_first(text: &str, range: Range<usize>) -> (Range<usize>, Range<usize>) {
    let range = trim(text, range);
    let part = &text[range.clone()];
    match part.find(BLANKS) {
        Some(at) => (range.start..range.start + at, trim(text, range.start + at..range.end)),
        None => (range.clone(), range.end..range.end),
    }
}

/// Splits a byte range into words at blanks, without regard to quotes.
pub(super) fn split_blanks(text: &str, range: Range<usize>) -> Vec<Range<usize>> {
    let mut words = Vec::new();
    let mut start = None;
    for (at, c) in text[range.clone()].char_indices() {
        let at = range.start + at;
        match (BLANKS.contains(&c), start) {
            (true, Some(from)) => {
                words.push(from..at);
                start = None;
            }
            (false, None) => start = Some(at),
            _ => (),
        }
    }
    if let Some(from) = start {
        words.push(from..range.end);
    }
    words
}

/// Splits a byte range into words at Unicode blanks outside of quotes; quotes and escapes stay in the words. An escape
/// at the very end is dropped.
pub(super) fn split_words(text: &str, range: Range<usize>, escape: char) -> Vec<Range<usize>> {
    let mut words = Vec::new();
    let mut start = None;
    let mut quote = None;
    let mut chars = text[range.clone()].char_indices();
    while let Some((at, c)) = chars.next() {
        let at = range.start + at;
        if quote.is_none() && c.is_whitespace() {
            if let Some(from) = start.take() {
                words.push(from..at);
            }
            continue;
        }
        let from = *start.get_or_insert(at);
        if c == escape && quote != Some('\'') {
            if chars.next().is_none() {
                if from < at {
                    words.push(from..at);
                }
                return words;
            }
        } else if quote == Some(c) {
            quote = None;
        } else if quote.is_none() && (c == '\'' || c == '"') {
            quote = Some(c);
        }
    }
    if let Some(from) = start {
        words.push(from..range.end);
    }
    words
}

/// A flag as written (`--name=value`), its quotes and escapes removed, and its byte range in the line.
pub(super) struct FlagWord {
    pub(super) text: String,
    pub(super) range: Range<usize>,
}

/// Takes the words that begin with `--` from the front of a byte range; returns them and the range of the arguments. A
/// bare `--` ends the flags.
pub(super) fn take_flags(text: &str, range: Range<usize>, escape: char) -> (Vec<FlagWord>, Range<usize>) {
    let mut flags = Vec::new();
    let mut rest = trim(text, range);
    while text[rest.clone()].starts_with("--") {
        let mut word = String::new();
        let mut quote = None;
        let mut end = rest.end;
        let mut chars = text[rest.clone()].char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                c if quote.is_none() && c.is_whitespace() => {
                    end = rest.start + at;
                    break;
                }
                c if c == escape => word.extend(chars.next().map(|(_, c)| c)),
                c if quote == Some(c) => quote = None,
                '\'' | '"' if quote.is_none() => quote = Some(c),
                c => word.push(c),
            }
        }
        let range = rest.start..end;
        rest = trim(text, end..rest.end);
        if word == "--" {
            break;
        }
        flags.push(FlagWord { text: word, range });
    }
    (flags, rest)
}

/// The words of a line among which marks of here-documents are looked for: quotes and escapes stay; blanks after `<<`
/// belong to the word. A line with a quote that is not closed has none.
pub(super) fn heredoc_words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                word.push(c);
                word.extend(chars.next());
            }
            '\'' | '"' => {
                word.push(c);
                loop {
                    match chars.next() {
                        Some('\\') if c == '"' => {
                            word.push('\\');
                            word.extend(chars.next());
                        }
                        Some(inner) => {
                            word.push(inner);
                            if inner == c {
                                break;
                            }
                        }
                        None => return Vec::new(),
                    }
                }
            }
            '<' => {
                word.push(c);
                if chars.next_if_eq(&'<').is_some() {
                    word.push('<');
                    while let Some(blank) = chars.next_if(|c| matches!(c, ' ' | '\t' | '\r')) {
                        word.push(blank);
                    }
                }
            }
            c if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            c => word.push(c),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// Parses the mark of a here-document, `[n]<<[-][ ]name`: the name without quotes, whether it was unquoted (variables
/// are expanded), and whether leading tabs are dropped.
pub(super) fn heredoc_mark(word: &str) -> Option<(String, bool, bool)> {
    let body = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
    let (strip_tabs, name) = match body.strip_prefix('-') {
        Some(name) => (true, name),
        None => (false, body),
    };
    let name = name.trim_start();
    if name.is_empty() || name.contains('<') {
        return None;
    }
    let mut out = String::new();
    let mut quoted = false;
    let mut quote = None;
    let mut chars = name.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' if quote != Some('\'') => out.extend(chars.next()),
            c if quote == Some(c) => quote = None,
            '\'' | '"' if quote.is_none() => {
                quoted = true;
                quote = Some(c);
            }
            c if quote.is_none() && c.is_whitespace() => return None,
            c => out.push(c),
        }
    }
    (quote.is_none() && !out.is_empty()).then_some((out, !quoted, strip_tabs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::SourceMap;

    fn lines(text: &str) -> Vec<String> {
        let mut map = SourceMap::default();
        let source = map.add("Dockerfile", text);
        let mut reader = LineReader::new(source, text, None);
        std::iter::from_fn(|| reader.line()).map(|it| it.text.into_owned()).collect()
    }

    #[test]
    fn lines_are_joined() {
        assert_eq!(lines("RUN a \\\n  b\n"), ["RUN a   b"]);
        assert_eq!(lines("RUN a \\  \n# c\n\n  b\nX"), ["RUN a   b", "X"]);
        assert_eq!(lines("RUN a\\\\\nX"), ["RUN a\\\\", "X"]);
        assert_eq!(lines("RUN a \\"), ["RUN a "]);
        assert_eq!(lines("\\\nRUN a\r\n"), ["RUN a"]);
        assert_eq!(lines("\u{feff}# escape=`\nRUN a `\nb\\\n"), ["RUN a b\\"]);
        assert_eq!(lines("# x\n# escape=`\nRUN a \\\nb"), ["RUN a b"]);
    }

    #[test]
    fn words_know_their_places() {
        let text = "ENV a=1 \\\n  b='x y' \\\n c=2\n";
        let mut map = SourceMap::default();
        let source = map.add("Dockerfile", text);
        let line = LineReader::new(source, text, None).line().expect("there is one");
        let words: Vec<String> = split_words(&line.text, 4..line.text.len(), '\\')
            .into_iter()
            .map(|it| map.text(line.place.at(it)).to_owned())
            .collect();
        assert_eq!(words, ["a=1", "b='x y'", "c=2"]);
    }

    #[test]
    fn heredoc_marks_are_found() {
        let marks = |line: &str| -> Vec<String> {
            heredoc_words(line)
                .iter()
                .filter_map(|it| heredoc_mark(it))
                .map(|(name, expand, tabs)| format!("{name} {expand} {tabs}"))
                .collect()
        };
        assert_eq!(marks("RUN <<EOF"), ["EOF true false"]);
        assert_eq!(marks("RUN cat <<-'A B' 3<< C > /x"), ["A B false true", "C true false"]);
        assert_eq!(marks("RUN cat <<<x '<<EOF' \"<<F\""), [""; 0]);
        assert_eq!(marks("RUN it's <<EOF"), [""; 0]);
    }

    #[test]
    fn flags_are_taken_from_the_front() {
        let text = r#"--a="x y" --b=c\ d -- --e f"#;
        let (flags, rest) = take_flags(text, 0..text.len(), '\\');
        assert_eq!(flags.iter().map(|it| it.text.as_str()).collect::<Vec<_>>(), ["--a=x y", "--b=c d"]);
        assert_eq!(&text[rest], "--e f");
    }
}
