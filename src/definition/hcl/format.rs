//! HCL text ─► the same text, laid out: indentation, blanks between tokens, aligned `=` and comments, one blank line at
//! most. No line is joined, split or moved; strings, heredocs and comments stay byte for byte.
//!
//! It works on tokens, of which strings are one each, wherever the parser found them. That the result means the same is
//! checked by `definition::format`, not here.

use std::collections::HashMap;

use super::cursor::{is_word, is_word_start};

/// One step of indentation.
const INDENT: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TokenKind {
    NewLine,
    /// `#` and `//`.
    LineComment,
    /// `/* */`
    BlockComment,
    /// A string or heredoc, as it is.
    Text,
    Word,
    Number,
    Mark,
}

#[derive(Clone, Copy, Debug)]
struct FormatToken<'t> {
    kind: TokenKind,
    text: &'t str,
    /// There are blanks before it.
    apart: bool,
    role: Role,
}

/// The role of a punctuation mark at its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Plain,
    /// `-` and `!` before their only operand.
    Unary,
    /// `*` that is no product.
    Splat,
    /// `(` and `[` that belong to what is before them.
    Step,
}

/// Lays out a text that has no fault; `strings` is start ─► end of all its strings.
pub(crate) fn layout(text: &str, strings: &HashMap<usize, usize>) -> String {
    let mark = if text.starts_with('\u{feff}') { "\u{feff}" } else { "" };
    let tokens = tokens(text, mark.len(), strings);
    let ending = tokens.iter().find(|it| it.kind == TokenKind::NewLine).map_or("\n", |it| it.text);
    let mut lines = lines(&tokens, ending);
    align(&mut lines, |line| line.value.as_ref().map(|_| width(&line.lead)), |line, n| line.lead_pad = n);
    align(&mut lines, |line| line.comment.map(|_| line.width()), |line, n| line.comment_pad = n);
    let mut laid = mark.to_owned();
    for line in &lines {
        line.write(&mut laid);
    }
    laid
}

/// All comments of a text that has no fault, in order.
pub(crate) fn comments<'t>(text: &'t str, strings: &HashMap<usize, usize>) -> Vec<&'t str> {
    let start = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    tokens(text, start, strings).into_iter().filter(FormatToken::is_comment).map(|it| it.text).collect()
}

impl FormatToken<'_> {
    const fn is_comment(&self) -> bool {
        matches!(self.kind, TokenKind::LineComment | TokenKind::BlockComment)
    }

    fn is_mark(&self, any: &[&str]) -> bool {
        self.kind == TokenKind::Mark && any.contains(&self.text)
    }

    fn opens(&self) -> bool {
        self.is_mark(&["(", "[", "{"])
    }

    fn closes(&self) -> bool {
        self.is_mark(&[")", "]", "}"])
    }

    /// Whether an expression may end with it.
    fn ends_value(&self) -> bool {
        match self.kind {
            TokenKind::Word => !matches!(self.text, "in" | "if"),
            TokenKind::Number | TokenKind::Text => true,
            TokenKind::Mark => self.closes() || self.role == Role::Splat,
            TokenKind::NewLine | TokenKind::LineComment | TokenKind::BlockComment => false,
        }
    }
}

fn tokens<'t>(text: &'t str, start: usize, strings: &HashMap<usize, usize>) -> Vec<FormatToken<'t>> {
    let mut tokens: Vec<FormatToken<'t>> = Vec::new();
    // The last one that is neither comment nor new line.
    let mut before: Option<FormatToken<'t>> = None;
    let (mut at, mut apart) = (start, false);
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with([' ', '\t']) {
            (at, apart) = (at + 1, true);
            continue;
        }
        let (kind, length) = token(rest, strings.get(&at).map(|end| end - at));
        let mut it = FormatToken { kind, text: &rest[..length], apart, role: Role::Plain };
        it.role = role(&it, before.as_ref(), &rest[length..]);
        tokens.push(it);
        if !(it.is_comment() || kind == TokenKind::NewLine) {
            before = Some(it);
        }
        (at, apart) = (at + length, false);
    }
    tokens
}

/// The token at the start of the text, and its length; `string` is the length of the string that begins here.
fn token(rest: &str, string: Option<usize>) -> (TokenKind, usize) {
    const LONG_MARKS: [&str; 9] = ["...", "==", "!=", "<=", ">=", "&&", "||", "=>", "::"];
    let bytes = rest.as_bytes();
    let first = rest.chars().next().unwrap_or_default();
    match first {
        '\n' => (TokenKind::NewLine, 1),
        '\r' if bytes.get(1) == Some(&b'\n') => (TokenKind::NewLine, 2),
        '#' => (TokenKind::LineComment, line_comment(rest)),
        '/' if bytes.get(1) == Some(&b'/') => (TokenKind::LineComment, line_comment(rest)),
        '/' if bytes.get(1) == Some(&b'*') => {
            (TokenKind::BlockComment, rest[2..].find("*/").map_or(rest.len(), |end| end + 4))
        }
        '"' | '<' if string.is_some() => (TokenKind::Text, string.unwrap_or(1)),
        _ if is_word_start(first) => (TokenKind::Word, rest.find(|c| !is_word(c)).unwrap_or(rest.len())),
        '0'..='9' => (TokenKind::Number, number(bytes)),
        _ => {
            let long = LONG_MARKS.iter().find(|mark| rest.starts_with(**mark));
            (TokenKind::Mark, long.map_or(first.len_utf8(), |mark| mark.len()))
        }
    }
}

/// Up to the end of the line, whose `\r` belongs to the line break.
fn line_comment(rest: &str) -> usize {
    let line = &rest[..rest.find('\n').unwrap_or(rest.len())];
    line.strip_suffix('\r').unwrap_or(line).len()
}

fn number(bytes: &[u8]) -> usize {
    let digits = |from: usize| bytes[from..].iter().take_while(|it| it.is_ascii_digit()).count();
    let mut end = digits(0);
    if bytes.get(end) == Some(&b'.') && digits(end + 1) > 0 {
        end += 1 + digits(end + 1);
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let from = (end + 1 + sign).min(bytes.len());
        if digits(from) > 0 {
            end = from + digits(from);
        }
    }
    end
}

fn role(it: &FormatToken<'_>, before: Option<&FormatToken<'_>>, after: &str) -> Role {
    let follows_value = before.is_some_and(FormatToken::ends_value);
    match (it.kind, it.text) {
        (TokenKind::Mark, "!") => Role::Unary,
        (TokenKind::Mark, "-") if !follows_value => Role::Unary,
        (TokenKind::Mark, "*") if before.is_some_and(|it| it.is_mark(&["."])) => Role::Splat,
        (TokenKind::Mark, "*")
            if before.is_some_and(|it| it.is_mark(&["["])) && after.trim_start().starts_with(']') =>
        {
            Role::Splat
        }
        (TokenKind::Mark, "[") if follows_value => Role::Step,
        (TokenKind::Mark, "(") if follows_value && before.is_some_and(|it| it.kind == TokenKind::Word) => Role::Step,
        _ => Role::Plain,
    }
}

/// One line of the result: `lead`, then `value` from its `=` on, then a comment.
struct FormatLine<'t> {
    indent: usize,
    lead: String,
    value: Option<String>,
    comment: Option<&'t str>,
    ending: &'t str,
    lead_pad: usize,
    comment_pad: usize,
}

impl FormatLine<'_> {
    fn is_blank(&self) -> bool {
        self.lead.is_empty() && self.comment.is_none()
    }

    /// How wide it is without the comment.
    fn width(&self) -> usize {
        self.value.as_ref().map_or(width(&self.lead), |value| self.lead_pad.max(width(&self.lead)) + 1 + width(value))
    }

    fn write(&self, laid: &mut String) {
        if !self.is_blank() {
            push_blanks(laid, self.indent * INDENT);
            laid.push_str(&self.lead);
            if let Some(value) = &self.value {
                push_blanks(laid, self.lead_pad.saturating_sub(width(&self.lead)) + 1);
                laid.push_str(value);
            }
            if let Some(comment) = self.comment {
                push_blanks(laid, self.comment_pad.saturating_sub(self.width()) + 1);
                laid.push_str(comment);
            }
        }
        laid.push_str(self.ending);
    }
}

fn push_blanks(text: &mut String, n: usize) {
    text.extend(std::iter::repeat_n(' ', n));
}

fn width(text: &str) -> usize {
    text.chars().count()
}

/// The lines with their indentation: one step more than the line that opens the innermost bracket around them.
fn lines<'t>(tokens: &[FormatToken<'t>], ending: &'t str) -> Vec<FormatLine<'t>> {
    let mut lines: Vec<FormatLine<'t>> = Vec::new();
    // For each open bracket: the indentation of its line.
    let mut open: Vec<usize> = Vec::new();
    for line in tokens.split_inclusive(|it| it.kind == TokenKind::NewLine) {
        let (line, ending) = match line {
            [line @ .., last] if last.kind == TokenKind::NewLine => (line, last.text),
            line => (line, ending),
        };
        // A line that begins with a closing bracket stands under the line of its opener.
        let indent = match (line.first(), open.last()) {
            (Some(first), Some(opener)) if first.closes() => *opener,
            (_, Some(opener)) => opener + 1,
            (_, None) => 0,
        };
        for token in line {
            if token.opens() {
                open.push(indent);
            } else if token.closes() {
                open.pop();
            }
        }
        let line = cells(line, indent, ending);
        let follows_text = lines.last().is_some_and(|it| !it.is_blank());
        if !line.is_blank() || follows_text {
            lines.push(line);
        }
    }
    while lines.last().is_some_and(FormatLine::is_blank) {
        lines.pop();
    }
    lines
}

/// Splits a line at its `=` and before its comment, where others may be aligned with it.
fn cells<'t>(line: &[FormatToken<'t>], indent: usize, ending: &'t str) -> FormatLine<'t> {
    // A value of several lines is not aligned with its neighbours.
    let is_flat = !line.iter().any(|it| it.text.contains('\n'));
    let (line, comment) = match line {
        [first @ .., last] if is_flat && last.is_comment() && !first.is_empty() => (first, Some(last.text)),
        line => (line, None),
    };
    let split = assignment(line).filter(|_| is_flat);
    let (lead, value) = match split {
        Some(at) => (spaced(&line[..at]), Some(spaced(&line[at..]))),
        None => (spaced(line), None),
    };
    FormatLine { indent, lead, value, comment, ending, lead_pad: 0, comment_pad: 0 }
}

/// Where the `=` stands of an item that begins and ends on this line.
fn assignment(line: &[FormatToken<'_>]) -> Option<usize> {
    let (mut depth, mut found) = (0usize, None);
    for (at, token) in line.iter().enumerate() {
        if token.opens() {
            depth += 1;
        } else if token.closes() {
            depth = depth.checked_sub(1)?;
        } else if depth == 0 && at > 0 && found.is_none() && token.is_mark(&["="]) {
            found = Some(at);
        }
    }
    found.filter(|_| depth == 0)
}

/// The tokens of a line with the blanks between them.
fn spaced(line: &[FormatToken<'_>]) -> String {
    let mut text = String::new();
    let mut has_splat = false;
    for (at, token) in line.iter().enumerate() {
        let before = at.checked_sub(1).map(|at| &line[at]);
        if before.is_some_and(|before| is_apart(before, token, has_splat)) {
            text.push(' ');
        }
        has_splat |= token.role == Role::Splat;
        text.push_str(token.text);
    }
    text
}

/// Whether a blank stands between two tokens; `has_splat`: there is a splat before them.
fn is_apart(before: &FormatToken<'_>, it: &FormatToken<'_>, has_splat: bool) -> bool {
    if before.is_mark(&["(", "["]) || it.is_mark(&[")", "]", ","]) {
        return false;
    }
    if before.is_comment() || it.is_comment() {
        return true;
    }
    if before.is_mark(&[".", "::"]) || before.role == Role::Unary || it.is_mark(&["...", "::"]) {
        return false;
    }
    if it.is_mark(&["."]) {
        // `1 .5` is no number, and the steps of a splat end at a blank.
        return it.apart && (has_splat || before.kind == TokenKind::Number);
    }
    if it.role == Role::Step {
        return it.apart && has_splat && it.text == "[";
    }
    if it.role == Role::Splat {
        return false;
    }
    !(before.is_mark(&["{"]) && it.is_mark(&["}"]))
}

/// Gives the cells of lines that follow each other with one indentation the width of the widest.
fn align(
    lines: &mut [FormatLine<'_>],
    width_of: impl Fn(&FormatLine<'_>) -> Option<usize>,
    set: impl Fn(&mut FormatLine<'_>, usize),
) {
    let mut start = 0;
    while start < lines.len() {
        let indent = lines[start].indent;
        let widths = lines[start..].iter().map_while(|it| width_of(it).filter(|_| it.indent == indent));
        let (n, widest) = widths.fold((0, 0), |(n, widest), width| (n + 1, widest.max(width)));
        lines[start..start + n].iter_mut().for_each(|it| set(it, widest));
        start += n.max(1);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        definition::{format::format, hcl, load::Format, shape::DefinitionShape},
        report::SourceMap,
    };

    /// Comments in every place, and whatever else a formatter could trip over.
    const NASTY: &str = r#"# first
/* block */ variable "A" { # open
  // own line
  default = /* before */ "x" /* after */ # trailing
  } # close

target "a" /* label */ "b" {
  list = [ # in a list
    1, /* one */ 2, // two

    # alone
    3
    # last
  ]
  object = { # in an object
    k = 1, l : 2 # pair
    /* key */ "m" = /* value */ 3
    (n) = { deep = [[[{}]]] }
    "long key ${n}" = 4 # end
    # before the brace
  }
  call = f(/* none */ 1, # one
    2... /* rest */)
  text = "a ${ /* in a template */ f( 1 ) } $${no} %{ if x ~} y %{~ else }z%{ endif }" # template
  here = <<-EOT
      # no comment
    ${ a  +  b }
      %{ for x in y ~}
  {{
      %{ endfor }
    EOT
  after = a ? -b : !c && (d || e) != f[*].g # ternary
  loop = { for k, v in m : k => v... if k != /* x */ "y" }
  index = a[0].b["c"].0.d.*.e - 1
  /* two
       lines */ more = 1 /* and
  more */
  wide = "ü" # ü
  emptyish = "" # e
}
one { line = 1 } # c
none {}
last = 1"#;

    fn strings(text: &str) -> HashMap<usize, usize> {
        let (body, faults) = hcl::parse(SourceMap::default().add("file", text), text);
        assert!(faults.is_empty(), "{faults:?} of:\n{text}");
        DefinitionShape::of(&body).strings
    }

    fn laid(text: &str) -> String {
        let source = SourceMap::default().add("file", text);
        format(Format::Hcl, source, text).unwrap_or_else(|faults| panic!("{faults:?} of:\n{text}"))
    }

    /// The same tokens with other blanks where there are any.
    fn spread(text: &str, gaps: &[usize]) -> String {
        let mut spread = String::new();
        for (ix, token) in tokens(text, 0, &strings(text)).iter().enumerate() {
            let gap = gaps[ix % gaps.len()];
            if token.apart {
                spread.push_str([" ", "\t", "   ", " \t "][gap]);
            }
            spread.push_str(token.text);
            if token.kind == TokenKind::NewLine && gap == 3 {
                spread.push_str("    ");
            }
        }
        spread
    }

    #[test]
    fn nasty_files_keep_what_they_say() {
        let unix = laid(NASTY);
        assert_eq!(comments(&unix, &strings(&unix)).len(), 31);
        let windows = NASTY.replace('\n', "\r\n");
        assert_eq!(laid(&windows), unix.replace('\n', "\r\n"));
        assert_eq!(laid(&format!("\u{feff}\n\n{NASTY}\n\n")), format!("\u{feff}{unix}"));
    }

    proptest! {
        /// Only the tokens count, not the blanks that were between them.
        #[test]
        fn blanks_between_tokens_do_not_matter(gaps in prop::collection::vec(0usize..4, 400)) {
            let spread = spread(NASTY, &gaps);
            prop_assert_eq!(laid(&spread), laid(NASTY));
        }
    }
}
