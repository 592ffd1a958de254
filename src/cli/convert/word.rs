//! Words of the shell with their quotes and expansions (POSIX.1-2024, Shell Command Language, sections 2.2, 2.5, 2.6).
//!
//! Nothing is expanded. What only a shell can know (`$(command)`, `$1`, `${NAME%text}`) is kept as it is written.

/// A word, or the text of a here-document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) parts: Vec<WordPart>,
    /// A part of it is in quotes, so that it is one word whatever it holds.
    pub(super) is_quoted: bool,
    /// It has `*`, `?`, `[…]` or `{a,b}` outside of quotes, which the shell replaces.
    pub(super) is_pattern: bool,
}

/// A part of a word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WordPart {
    Text(String),
    Expansion(ShellExpansion),
}

/// What begins with `$` or a backquote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ShellExpansion {
    /// The variable; a digit for `$1`, empty for what has none.
    pub(super) name: String,
    pub(super) kind: ExpansionKind,
    pub(super) written: String,
}

/// What the shell makes of an expansion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ExpansionKind {
    /// `$NAME`
    Value,
    /// `${NAME:-word}`
    Default(Word),
    /// `${NAME:=word}`
    Assign(Word),
    /// `${NAME:+word}`
    Alternative(Word),
    /// `${NAME:?word}`
    Required(Word),
    /// What only a shell can know.
    Computed,
}

impl Word {
    /// A word of one text.
    pub(super) fn literal(text: impl Into<String>) -> Self {
        Self { parts: vec![WordPart::Text(text.into())], ..Self::default() }
    }

    /// The text of a word without expansions.
    pub(super) fn plain(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [WordPart::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The text of a word that stands there without quotes, as reserved words do.
    pub(super) fn bare(&self) -> Option<&str> {
        self.plain().filter(|_| !self.is_quoted)
    }

    /// The word without its quotes, its expansions as they are written.
    pub(super) fn written(&self) -> String {
        let part = |part: &WordPart| match part {
            WordPart::Text(text) => text.clone(),
            WordPart::Expansion(expansion) => expansion.written.clone(),
        };
        self.parts.iter().map(part).collect()
    }

    /// The expansion that is all of the word.
    pub(super) fn lone_expansion(&self) -> Option<&ShellExpansion> {
        match self.parts.as_slice() {
            [WordPart::Expansion(expansion)] => Some(expansion),
            _ => None,
        }
    }

    /// `NAME=word` as the name and the word.
    pub(super) fn assignment(&self) -> Option<(&str, Self)> {
        let [WordPart::Text(first), rest @ ..] = self.parts.as_slice() else { return None };
        let (name, value) = first.split_once('=')?;
        if !is_variable_name(name) {
            return None;
        }
        let first = (!value.is_empty()).then(|| WordPart::Text(value.to_owned()));
        Some((name, Self { parts: first.into_iter().chain(rest.iter().cloned()).collect(), ..self.clone() }))
    }

    fn push(&mut self, text: &str) {
        match self.parts.last_mut() {
            Some(WordPart::Text(last)) => last.push_str(text),
            _ => self.parts.push(WordPart::Text(text.to_owned())),
        }
    }

    fn push_char(&mut self, c: char) {
        self.push(c.encode_utf8(&mut [0; 4]));
    }
}

/// Whether a text is the name of a variable of the shell.
pub(super) fn is_variable_name(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Where a word stands, which decides what ends it and which quotes count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WordPlace {
    /// In a command.
    Command,
    /// In the braces of an expansion: it ends with the text.
    Argument,
    /// In a here-document, where quotes are text.
    Document,
}

/// How deep words in braces are read; below, they are taken for something that the shell computes.
const MAX_DEPTH: usize = 20;

/// A script, and how far it has been read.
pub(super) struct ScriptText {
    chars: Vec<char>,
    at: usize,
    /// From 1.
    pub(super) line: usize,
    /// Something is not closed at the end of the text: the line where it was opened.
    pub(super) unclosed: Option<usize>,
    depth: usize,
}

impl ScriptText {
    /// The text from its start.
    pub(super) fn new(text: &str) -> Self {
        Self { chars: text.chars().collect(), at: 0, line: 1, unclosed: None, depth: 0 }
    }

    /// The character that is `ahead` of the next one.
    pub(super) fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    /// The next character, which is taken.
    pub(super) fn take(&mut self) -> Option<char> {
        let c = self.peek(0)?;
        self.at += 1;
        if c == '\n' {
            self.line += 1;
        }
        Some(c)
    }

    /// Passes over the next character.
    pub(super) fn skip(&mut self) {
        self.take();
    }

    /// Takes the rest of the line, without its end.
    pub(super) fn take_line(&mut self) -> Option<String> {
        self.peek(0)?;
        let mut line = String::new();
        while let Some(c) = self.take().filter(|c| *c != '\n') {
            line.push(c);
        }
        Some(line)
    }

    /// Takes what is between the bracket that comes next and the one that closes it.
    pub(super) fn take_brackets(&mut self, open: char, close: char) -> String {
        let (start, line) = (self.at, self.line);
        let mut depth = 0usize;
        while let Some(c) = self.take() {
            match c {
                '\\' => self.skip(),
                '\'' if close == ')' => while self.take().is_some_and(|c| c != '\'') {},
                '"' if close == ')' => self.skip_double_quoted(),
                c if c == open => depth += 1,
                c if c == close => {
                    depth -= 1;
                    if depth == 0 {
                        return self.chars[start + 1..self.at - 1].iter().collect();
                    }
                }
                _ => (),
            }
        }
        self.unclosed.get_or_insert(line);
        self.chars[(start + 1).min(self.at)..].iter().collect()
    }

    fn skip_double_quoted(&mut self) {
        while let Some(c) = self.take().filter(|c| *c != '"') {
            match c {
                '\\' => self.skip(),
                '$' if self.peek(0) == Some('(') => drop(self.take_brackets('(', ')')),
                _ => (),
            }
        }
    }

    /// A word of a command, up to what ends it.
    pub(super) fn word(&mut self) -> Word {
        self.read(WordPlace::Command)
    }

    /// The text of a here-document whose variables are expanded.
    pub(super) fn document(text: &str) -> Word {
        Self::new(text).read(WordPlace::Document)
    }

    fn read(&mut self, place: WordPlace) -> Word {
        let mut word = Word::default();
        if place == WordPlace::Command && self.peek(0) == Some('~') && self.peek(1).is_none_or(|c| " \n\t/".contains(c))
        {
            self.take();
            let name = "HOME".to_owned();
            let home = ShellExpansion { name, kind: ExpansionKind::Value, written: "~".to_owned() };
            word.parts.push(WordPart::Expansion(home));
            word.is_quoted = true;
        }
        while let Some(c) = self.peek(0) {
            match c {
                '$' if self.peek(1) == Some('\'') && place != WordPlace::Document => {
                    self.take();
                    self.ansi_quoted(&mut word);
                }
                '$' | '`' => self.expansion(&mut word, place),
                '\\' if place == WordPlace::Document => self.escaped(&mut word, &['\\', '$', '`', '\n']),
                _ if place == WordPlace::Document => {
                    self.take();
                    word.push_char(c);
                }
                '\n' | ';' | '&' | '|' | '(' | ')' | '<' | '>' if place == WordPlace::Command => break,
                c if c.is_whitespace() && place == WordPlace::Command => break,
                '\'' => self.single_quoted(&mut word),
                '"' => self.double_quoted(&mut word),
                '\\' => {
                    self.take();
                    if let Some(c) = self.take().filter(|c| *c != '\n') {
                        word.push_char(c);
                        word.is_quoted = true;
                    }
                }
                c => {
                    let is_list = c == '{' && self.is_brace_list();
                    word.is_pattern |= matches!(c, '*' | '?') || is_list || (c == '[' && !word.parts.is_empty());
                    self.take();
                    word.push_char(c);
                }
            }
        }
        word
    }

    /// Whether `{` begins `{a,b}` or `{1..3}`.
    fn is_brace_list(&self) -> bool {
        let inner: String = self.chars[self.at..].iter().take_while(|c| !c.is_whitespace() && **c != '}').collect();
        self.chars.get(self.at + inner.chars().count()) == Some(&'}') && (inner.contains(',') || inner.contains(".."))
    }

    fn single_quoted(&mut self, word: &mut Word) {
        let line = self.line;
        self.take();
        word.is_quoted = true;
        loop {
            match self.take() {
                Some('\'') => return,
                Some(c) => word.push_char(c),
                None => {
                    self.unclosed.get_or_insert(line);
                    return;
                }
            }
        }
    }

    fn escaped(&mut self, word: &mut Word, special: &[char]) {
        self.take();
        match self.peek(0) {
            Some(c) if special.contains(&c) => {
                self.take();
                if c != '\n' {
                    word.push_char(c);
                }
            }
            _ => word.push("\\"),
        }
    }

    fn double_quoted(&mut self, word: &mut Word) {
        let line = self.line;
        self.take();
        word.is_quoted = true;
        while let Some(c) = self.peek(0) {
            match c {
                '"' => {
                    self.take();
                    return;
                }
                '\\' => self.escaped(word, &['"', '\\', '$', '`', '\n']),
                '$' | '`' => self.expansion(word, WordPlace::Document),
                c => {
                    self.take();
                    word.push_char(c);
                }
            }
        }
        self.unclosed.get_or_insert(line);
    }

    /// `$'text'` with the escapes of C.
    fn ansi_quoted(&mut self, word: &mut Word) {
        let line = self.line;
        self.take();
        word.is_quoted = true;
        loop {
            match self.take() {
                Some('\'') => return,
                Some('\\') => {
                    let Some(c) = self.take() else { continue };
                    let plain = match c {
                        'a' => '\u{7}',
                        'b' => '\u{8}',
                        'e' | 'E' => '\u{1b}',
                        'f' => '\u{c}',
                        'n' => '\n',
                        'r' => '\r',
                        't' => '\t',
                        'v' => '\u{b}',
                        'x' => self.number(16, 2, 0),
                        'u' => self.number(16, 4, 0),
                        'U' => self.number(16, 8, 0),
                        '0'..='7' => self.number(8, 2, c.to_digit(8).unwrap_or(0)),
                        '\\' | '\'' | '"' | '?' => c,
                        _ => {
                            word.push("\\");
                            c
                        }
                    };
                    word.push_char(plain);
                }
                Some(c) => word.push_char(c),
                None => {
                    self.unclosed.get_or_insert(line);
                    return;
                }
            }
        }
    }

    /// The character of a number with at most `length` digits; `start` is the value of those before.
    fn number(&mut self, base: u32, length: usize, start: u32) -> char {
        let mut value = start;
        for _ in 0..length {
            let Some(digit) = self.peek(0).and_then(|c| c.to_digit(base)) else { break };
            value = value.wrapping_mul(base).wrapping_add(digit);
            self.take();
        }
        char::from_u32(value).unwrap_or(char::REPLACEMENT_CHARACTER)
    }

    /// What begins with `$` or a backquote; a lone `$` is text.
    fn expansion(&mut self, word: &mut Word, place: WordPlace) {
        let start = self.at;
        let found = match (self.take(), self.peek(0)) {
            (Some('`'), _) => {
                let line = self.line;
                loop {
                    match self.take() {
                        Some('`') => break,
                        Some('\\') => self.skip(),
                        Some(_) => (),
                        None => {
                            self.unclosed.get_or_insert(line);
                            break;
                        }
                    }
                }
                (String::new(), ExpansionKind::Computed)
            }
            (_, Some('{')) => {
                let inner = self.take_brackets('{', '}');
                self.braced(&inner)
            }
            (_, Some('(')) => {
                self.take_brackets('(', ')');
                (String::new(), ExpansionKind::Computed)
            }
            // A quoted text that depends on the language of messages.
            (_, Some('"')) if place != WordPlace::Document => return self.double_quoted(word),
            (_, Some(c)) if c.is_ascii_alphabetic() || c == '_' => {
                let mut name = String::new();
                while let Some(c) = self.peek(0).filter(|c| c.is_ascii_alphanumeric() || *c == '_') {
                    name.push(c);
                    self.take();
                }
                (name, ExpansionKind::Value)
            }
            (_, Some(c)) if c.is_ascii_digit() || "@*#?$!-".contains(c) => {
                self.take();
                (c.to_string(), ExpansionKind::Computed)
            }
            _ => return word.push("$"),
        };
        let written = self.chars[start..self.at].iter().collect();
        let (name, kind) = found;
        word.parts.push(WordPart::Expansion(ShellExpansion { name, kind, written }));
    }

    /// What stands between the braces of `${…}`.
    fn braced(&self, inner: &str) -> (String, ExpansionKind) {
        let end = inner.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(inner.len());
        let (name, rest) = inner.split_at(end);
        let is_position = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
        if self.depth >= MAX_DEPTH || !(is_variable_name(name) || is_position) {
            return (String::new(), ExpansionKind::Computed);
        }
        let operation = rest.strip_prefix(':').unwrap_or(rest);
        let mut chars = operation.chars();
        let (operator, argument) = (chars.next(), chars.as_str());
        let word = || Self { depth: self.depth + 1, ..Self::new(argument) }.read(WordPlace::Argument);
        let kind = match operator {
            None if rest.is_empty() && !is_position => ExpansionKind::Value,
            Some('-') => ExpansionKind::Default(word()),
            Some('=') => ExpansionKind::Assign(word()),
            Some('+') => ExpansionKind::Alternative(word()),
            Some('?') => ExpansionKind::Required(word()),
            _ => ExpansionKind::Computed,
        };
        (name.to_owned(), kind)
    }
}
