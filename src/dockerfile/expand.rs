//! Variable expansion of one word: quotes, escapes, `$name` and the `${…}` modifiers
//! (<https://docs.docker.com/reference/dockerfile/#environment-replacement>).
//!
//! [`expand`] returns one text, [`expand_words`] splits the result at blanks (for EXPOSE). Callers decide which parts
//! of an instruction are expanded, and with which variables. Errors are texts without a span.

use std::fmt;

use indexmap::IndexMap;
use regex::Regex;

/// Variables by name, in the order of their first definition.
pub(crate) type Vars = IndexMap<String, String>;

/// How quotes, escapes and unset variables are treated when a text is expanded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExpandMode {
    /// Quotes and escapes are processed and removed.
    Word,
    /// Quotes are data; the escape still protects `$` (heredoc bodies).
    Body,
    /// For showing a command: quotes and escapes stay, unset variables stay as written.
    Display,
}

/// A text whose variables are expanded, and which of them were set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ExpandedWord {
    pub(crate) text: String,
    /// Names that were looked up and found.
    pub(crate) used: Vec<String>,
    /// Names that were looked up and not set.
    pub(crate) missing: Vec<String>,
}

/// Why a word cannot be expanded, as text for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadWord(pub(crate) String);

impl fmt::Display for BadWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How deep `${a:-${b:-…}}` may go.
const MAX_DEPTH: usize = 100;
/// The most bytes that an expansion may produce: variables that double each other would exhaust memory.
const MAX_TEXT: usize = 16 << 20;

/// Expands the variables of a word into one text.
///
/// # Errors
/// For a malformed or unknown `${…}`, `${name:?text}` of a variable that is not set, and a result of more than 16 MiB.
pub(crate) fn expand(word: &str, vars: &Vars, escape: char, mode: ExpandMode) -> Result<ExpandedWord, BadWord> {
    let quiet = |c: char| match mode {
        ExpandMode::Word => c != '$' && c != escape && c != '"' && c != '\'',
        ExpandMode::Body => c != '$' && c != escape,
        ExpandMode::Display => c != '$',
    };
    if word.chars().all(quiet) {
        return Ok(ExpandedWord { text: word.to_owned(), ..ExpandedWord::default() });
    }
    let mut run = Expander::new(word, vars, escape, mode);
    let text = run.text(None, false)?;
    Ok(ExpandedWord { text, used: run.used, missing: run.missing })
}

/// Expands a word and splits the result at blanks that are not quoted: the ports of EXPOSE.
///
/// # Errors
/// As [`expand`].
pub(crate) fn expand_words(word: &str, vars: &Vars, escape: char) -> Result<(Vec<String>, ExpandedWord), BadWord> {
    let mut run = Expander::new(word, vars, escape, ExpandMode::Word);
    run.words = Some(WordExpander::default());
    let text = run.text(None, false)?;
    let mut words = run.words.take().unwrap_or_default();
    words.end();
    Ok((words.done, ExpandedWord { text, used: run.used, missing: run.missing }))
}

/// The words of a result while it is made.
#[derive(Default)]
struct WordExpander {
    done: Vec<String>,
    current: String,
}

impl WordExpander {
    fn raw(&mut self, text: &str) {
        self.current.push_str(text);
    }

    fn split(&mut self, text: &str) {
        for c in text.chars() {
            if c.is_whitespace() { self.end() } else { self.current.push(c) }
        }
    }

    fn end(&mut self) {
        if !self.current.is_empty() {
            self.done.push(std::mem::take(&mut self.current));
        }
    }
}

struct Expander<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    vars: &'a Vars,
    escape: char,
    mode: ExpandMode,
    depth: usize,
    /// Bytes that substitutions made.
    made: usize,
    words: Option<WordExpander>,
    used: Vec<String>,
    missing: Vec<String>,
}

impl<'a> Expander<'a> {
    fn new(word: &'a str, vars: &'a Vars, escape: char, mode: ExpandMode) -> Self {
        let rest = word.chars().peekable();
        Self { rest, vars, escape, mode, depth: 0, made: 0, words: None, used: Vec::new(), missing: Vec::new() }
    }

    /// Text up to `stop`, which is consumed, or to the end if there is no `stop`. With `raw`, escapes stay in the text.
    fn text(&mut self, stop: Option<char>, raw: bool) -> Result<String, BadWord> {
        let raw = raw || self.mode == ExpandMode::Display;
        let mut out = String::new();
        let mut words = if self.depth == 0 { self.words.take() } else { None };
        while let Some(&c) = self.rest.peek() {
            if Some(c) == stop {
                self.rest.next();
                return Ok(out);
            }
            match c {
                '$' => {
                    let modifier = words.is_some() && self.at_modifier();
                    let value = self.value()?;
                    out.push_str(&value);
                    if let Some(words) = &mut words {
                        if modifier {
                            // BuildKit drops the text before `${x:-y}` in the same word of EXPOSE, and so do we.
                            words.current.clear();
                        }
                        words.split(&value);
                    }
                }
                '\'' | '"' if self.mode != ExpandMode::Body => {
                    let quoted = if c == '"' { self.double_quoted(raw)? } else { self.single_quoted()? };
                    out.push_str(&quoted);
                    if let Some(words) = &mut words {
                        words.raw(&quoted);
                    }
                }
                _ => {
                    self.rest.next();
                    let escaped = c == self.escape;
                    if escaped && raw {
                        out.push(c);
                    }
                    let Some(c) = (if escaped { self.rest.next() } else { Some(c) }) else { break };
                    out.push(c);
                    if let Some(words) = &mut words {
                        let mut buffer = [0; 4];
                        let text = c.encode_utf8(&mut buffer);
                        if escaped { words.raw(text) } else { words.split(text) }
                    }
                }
            }
        }
        if words.is_some() {
            self.words = words;
        }
        match stop {
            Some(stop) => Err(BadWord(format!("missing `{stop}`"))),
            None => Ok(out),
        }
    }

    /// At `${name` followed by something else than `}`.
    fn at_modifier(&self) -> bool {
        let mut ahead = self.rest.clone();
        ahead.next();
        if ahead.next() != Some('{') {
            return false;
        }
        let mut ahead = ahead.skip_while(|c| c.is_alphanumeric() || *c == '_');
        ahead.next() != Some('}')
    }

    fn single_quoted(&mut self) -> Result<String, BadWord> {
        self.rest.next();
        let mut out = String::new();
        let keep = self.mode == ExpandMode::Display;
        if keep {
            out.push('\'');
        }
        for c in self.rest.by_ref() {
            if c == '\'' {
                if keep {
                    out.push(c);
                }
                return Ok(out);
            }
            out.push(c);
        }
        Err(BadWord("unexpected end of the word, a single quote is not closed".to_owned()))
    }

    fn double_quoted(&mut self, raw: bool) -> Result<String, BadWord> {
        let raw = raw || self.mode == ExpandMode::Display;
        self.rest.next();
        let mut out = String::new();
        let keep = self.mode == ExpandMode::Display;
        if keep {
            out.push('"');
        }
        while let Some(&c) = self.rest.peek() {
            match c {
                '"' => {
                    self.rest.next();
                    if keep {
                        out.push(c);
                    }
                    return Ok(out);
                }
                '$' => out.push_str(&self.value()?),
                c if c == self.escape => {
                    self.rest.next();
                    match self.rest.peek() {
                        Some(&next) if next == '"' || next == '$' || next == self.escape => {
                            if raw {
                                out.push(c);
                            }
                            out.push(next);
                            self.rest.next();
                        }
                        Some(_) => out.push(c),
                        None => (),
                    }
                }
                c => {
                    self.rest.next();
                    out.push(c);
                }
            }
        }
        Err(BadWord("unexpected end of the word, a double quote is not closed".to_owned()))
    }

    fn look_up(&mut self, name: &str) -> Option<&'a str> {
        let vars = self.vars;
        let found = vars.get(name).map(String::as_str);
        let list = if found.is_some() { &mut self.used } else { &mut self.missing };
        if !list.iter().any(|it| it == name) {
            list.push(name.to_owned());
        }
        found
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        match self.rest.peek() {
            Some(c) if c.is_numeric() => {
                while let Some(c) = self.rest.next_if(|c| c.is_numeric()) {
                    name.push(c);
                }
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => name.extend(self.rest.next()),
            _ => {
                while let Some(c) = self.rest.next_if(|c| c.is_alphanumeric() || *c == '_') {
                    name.push(c);
                }
            }
        }
        name
    }

    /// Expands a `$`, as long as the total stays below the limit.
    fn value(&mut self) -> Result<String, BadWord> {
        let value = self.dollar()?;
        self.made += value.len();
        if self.made > MAX_TEXT {
            return Err(BadWord(format!("the text grows over {} MiB", MAX_TEXT >> 20)));
        }
        Ok(value)
    }

    fn dollar(&mut self) -> Result<String, BadWord> {
        self.rest.next();
        let keep = self.mode == ExpandMode::Display;
        if self.rest.peek() != Some(&'{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            return Ok(match self.look_up(&name) {
                Some(value) => value.to_owned(),
                None if keep => format!("${name}"),
                None => String::new(),
            });
        }
        self.rest.next();
        match self.rest.peek() {
            None => return Err(missing_brace()),
            Some('{' | '}' | ':') => return Err(BadWord("bad substitution".to_owned())),
            Some(_) => (),
        }
        let name = self.name();
        if self.depth >= MAX_DEPTH {
            return Err(BadWord(format!("substitutions are nested more than {MAX_DEPTH} deep")));
        }
        self.depth += 1;
        let value = self.braced(&name);
        self.depth -= 1;
        value
    }

    /// Expands the modifier after the name in `${name…}`.
    fn braced(&mut self, name: &str) -> Result<String, BadWord> {
        let keep = self.mode == ExpandMode::Display;
        let Some(first) = self.rest.next() else { return Err(missing_brace()) };
        match first {
            '}' => Ok(match self.look_up(name) {
                Some(value) => value.to_owned(),
                None if keep => format!("${{{name}}}"),
                None => String::new(),
            }),
            ':' => match self.rest.next() {
                Some(sign @ ('-' | '+' | '?')) => self.conditional(name, sign, true),
                Some(other) => Err(unsupported(&format!(":{other}"))),
                None => Err(missing_brace()),
            },
            '-' | '+' | '?' => self.conditional(name, first, false),
            '#' | '%' => {
                let pattern = self.text(Some('}'), true)?;
                match self.look_up(name) {
                    None if keep => Ok(format!("${{{name}{first}{pattern}}}")),
                    value => trim(value.unwrap_or_default(), first, &pattern),
                }
            }
            '/' => {
                let all = self.rest.next_if_eq(&'/').is_some();
                let pattern = self.text(Some('/'), true)?;
                let with = self.text(Some('}'), true)?;
                match self.look_up(name) {
                    None if keep => Ok(format!("${{{name}/{pattern}/{with}}}")),
                    value => replace(value.unwrap_or_default(), &pattern, &with, all),
                }
            }
            other => Err(unsupported(&other.to_string())),
        }
    }

    fn conditional(&mut self, name: &str, sign: char, empty_is_unset: bool) -> Result<String, BadWord> {
        let word = self.text(Some('}'), false)?;
        let value = self.look_up(name);
        let colon = if empty_is_unset { ":" } else { "" };
        if value.is_none() && self.mode == ExpandMode::Display {
            return Ok(format!("${{{name}{colon}{sign}{word}}}"));
        }
        let usable = value.filter(|it| !(empty_is_unset && it.is_empty()));
        match (sign, usable) {
            ('-', None) => Ok(word),
            ('+', None) => Ok(String::new()),
            ('+', Some(_)) => Ok(word),
            ('?', None) => {
                let why = match (word.is_empty(), value) {
                    (false, _) => &word,
                    (true, None) => "is not allowed to be unset",
                    (true, Some(_)) => "is not allowed to be empty",
                };
                Err(BadWord(format!("{name}: {why}")))
            }
            (_, Some(value)) => Ok(value.to_owned()),
            (_, None) => Ok(String::new()),
        }
    }
}

fn missing_brace() -> BadWord {
    BadWord("missing `}`".to_owned())
}

fn unsupported(modifier: &str) -> BadWord {
    BadWord(format!("unsupported modifier ({modifier}) in substitution"))
}

/// Part of a glob pattern in `#`, `%`, `/`.
enum GlobPiece {
    Any,
    One,
    Literal(char),
}

fn glob(pattern: &str) -> Result<Vec<GlobPiece>, BadWord> {
    let mut chars = pattern.chars();
    let mut out = Vec::new();
    while let Some(c) = chars.next() {
        out.push(match c {
            '*' => GlobPiece::Any,
            '?' => GlobPiece::One,
            '\\' => match chars.next() {
                Some(c @ ('}' | '/' | '*' | '?' | '\\')) => GlobPiece::Literal(c),
                Some(c) => return Err(BadWord(format!("invalid escape `\\{c}` in pattern: {pattern}"))),
                None => return Err(BadWord(format!("the pattern ends in a backslash: {pattern}"))),
            },
            c => GlobPiece::Literal(c),
        });
    }
    Ok(out)
}

fn regex<'a>(glob: impl Iterator<Item = &'a GlobPiece>, anchored: bool, greedy: bool) -> Result<Regex, BadWord> {
    let mut text = String::from(if anchored { "^" } else { "" });
    for part in glob {
        match part {
            GlobPiece::Any => text.push_str(if greedy { ".*" } else { ".*?" }),
            GlobPiece::One => text.push('.'),
            GlobPiece::Literal(c) => text.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    Regex::new(&text).map_err(|_| BadWord("the pattern is too long".to_owned()))
}

/// `${name#pattern}` and `${name%pattern}`, doubled for the longest match.
fn trim(value: &str, sign: char, pattern: &str) -> Result<String, BadWord> {
    let (greedy, pattern) = match pattern.strip_prefix(sign) {
        Some(pattern) => (true, pattern),
        None => (false, pattern),
    };
    let glob = glob(pattern)?;
    if sign == '#' {
        let found = regex(glob.iter(), true, greedy)?.find(value).map_or(0, |it| it.end());
        return Ok(value[found..].to_owned());
    }
    // The shortest suffix is not what a leftmost search finds: both sides are reversed instead.
    let reversed: String = value.chars().rev().collect();
    let found = regex(glob.iter().rev(), true, greedy)?.find(&reversed).map_or(0, |it| it.end());
    Ok(reversed[found..].chars().rev().collect())
}

fn replace(value: &str, pattern: &str, with: &str, all: bool) -> Result<String, BadWord> {
    let regex = regex(glob(pattern)?.iter(), false, true)?;
    let with = regex::NoExpand(with);
    Ok(if all { regex.replace_all(value, with) } else { regex.replace(value, with) }.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vars() -> Vars {
        [("V", "foo.tar.gz"), ("P", "/a/b/c"), ("E", ""), ("W", "a b")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    fn word(text: &str) -> String {
        expand(text, &vars(), '\\', ExpandMode::Word).map_or_else(|fault| format!("! {fault}"), |it| it.text)
    }

    #[test]
    fn texts_that_double_each_other_end_in_a_fault() {
        let mut vars = vars();
        let mut last = expand("aaaaaaaaaa", &vars, '\\', ExpandMode::Word);
        for _ in 0..40 {
            let Ok(text) = last else { break };
            vars.insert("A".to_owned(), text.text);
            last = expand("\"$A\"${A}", &vars, '\\', ExpandMode::Word);
        }
        assert_eq!(last, Err(BadWord("the text grows over 16 MiB".to_owned())));
    }

    #[test]
    fn words_expand_as_the_table_says() {
        let table = [
            ("${V%.*}", "foo.tar"),
            ("${V%%.*}", "foo"),
            ("${V#*.}", "tar.gz"),
            ("${V##*.}", "gz"),
            ("${P##*/}", "c"),
            ("${P%/*}", "/a/b"),
            (r"${P//\//_}", "_a_b_c"),
            ("${V//./_}", "foo_tar_gz"),
            ("${V/t?r/Z}", "foo.Z.gz"),
            ("${E-d}", ""),
            ("${E:-d}", "d"),
            ("${E+x}", "x"),
            ("${E:+x}", ""),
            ("${U-d}${U:-e}", "de"),
            (r"\$V", "$V"),
            (r"\\$V", r"\foo.tar.gz"),
            ("'$V'", "$V"),
            (r#""a\ b""#, r"a\ b"),
            (r"a\ b", "a b"),
            (r"a\nb", "anb"),
            ("$$", ""),
            ("$V_x", ""),
            ("${U:-${V}}", "foo.tar.gz"),
            ("$1x", "x"),
            ("a$", "a$"),
            (r#""\$V \" \\ \x""#, r#"$V " \ \x"#),
            ("a\\", "a"),
            ("${V/[.]/x}", "foo.tar.gz"),
            ("${V/#foo/x}", "foo.tar.gz"),
            ("${V//o/$W}", "fa ba b.tar.gz"),
            ("${U:?must set}", "! U: must set"),
            ("${U?}", "! U: is not allowed to be unset"),
            ("${E:?}", "! E: is not allowed to be empty"),
            ("${E?x}", ""),
            ("${V", "! missing `}`"),
            ("${V:-x", "! missing `}`"),
            ("${}", "! bad substitution"),
            ("${:x}", "! bad substitution"),
            ("${{x}", "! bad substitution"),
            ("${V^^}", "! unsupported modifier (^) in substitution"),
            ("${V:0:1}", "! unsupported modifier (:0) in substitution"),
            ("${V:=x}", "! unsupported modifier (:=) in substitution"),
            ("${V:#x}", "! unsupported modifier (:#) in substitution"),
            ("${!V}", "! unsupported modifier (V) in substitution"),
            ("${V/x}", "! missing `/`"),
            (r"${V#\x}", r"! invalid escape `\x` in pattern: \x"),
            ("'a", "! unexpected end of the word, a single quote is not closed"),
            ("\"a", "! unexpected end of the word, a double quote is not closed"),
        ];
        for (text, expected) in table {
            assert_eq!(word(text), expected, "{text}");
        }
    }

    #[test]
    fn bodies_keep_quotes_and_display_keeps_unset_names() {
        let show = |text: &str, mode| expand(text, &vars(), '\\', mode).expect("it is fine").text;
        assert_eq!(show(r#"'$V' "$U" \$V"#, ExpandMode::Body), r#"'foo.tar.gz' "" $V"#);
        assert_eq!(show(r#"echo "$V" '$V' ${U:-x} $U"#, ExpandMode::Display), r#"echo "foo.tar.gz" '$V' ${U:-x} $U"#);
    }

    #[test]
    fn expose_words_split_after_expansion() {
        let words = |text: &str| expand_words(text, &vars(), '\\').expect("it is fine").0;
        assert_eq!(words("80/$W"), ["80/a", "b"]);
        assert_eq!(words("'$W'\"$W\""), ["$Wa b"]);
        assert_eq!(words("90-9${V:+1}"), ["1"]);
    }

    #[test]
    fn names_are_collected() {
        let all = expand("$V ${U:-$X}", &vars(), '\\', ExpandMode::Word).expect("it is fine");
        assert_eq!(all.used, ["V"]);
        assert_eq!(all.missing, ["X", "U"]);
    }

    #[test]
    fn deep_nesting_is_refused() {
        let text = format!("{}x{}", "${U:-".repeat(100_000), "}".repeat(100_000));
        assert!(word(&text).contains("nested more than 100 deep"));
    }
}
