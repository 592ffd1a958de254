//! A script as tokens: words, operators, redirections with what they lead to, here-documents with their text (POSIX.1-2024,
//! Shell Command Language, sections 2.3 and 2.7).

use super::word::{ExpansionKind, ScriptText, ShellExpansion, Word, WordPart};

/// A token and the line that it begins on, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ShellToken {
    pub(super) line: usize,
    pub(super) kind: ShellTokenKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ShellTokenKind {
    Word(Word),
    Operator(ShellOperator),
    /// `< FILE`
    Input(Word),
    /// `<<END`, `<<< text`
    InputText(Word),
    /// `> FILE` of standard output.
    Output(Word),
    /// A redirection of something else, or to an open file.
    OtherRedirect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ShellOperator {
    /// The end of a line, `;`.
    End,
    /// `&`
    Background,
    /// `&&`
    And,
    /// `||`
    Or,
    /// `|`, `|&`
    Pipe,
    Open,
    Close,
    /// `;;`, `;&`
    CaseEnd,
}

/// Something in a script that is not understood or not translated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConvertNote {
    /// From 1.
    pub(crate) line: usize,
    pub(crate) text: String,
}

/// The tokens of a script, and what is not closed in it.
pub(super) fn tokens(script: &str) -> (Vec<ShellToken>, Vec<ConvertNote>) {
    let mut reader = TokenReader { text: ScriptText::new(script), tokens: Vec::new(), documents: Vec::new() };
    while reader.token() {}
    reader.documents();
    let unclosed = reader.text.unclosed.map(|line| ConvertNote {
        line,
        text: "a quote or bracket is not closed: what follows it is taken for a part of it".to_owned(),
    });
    (reader.tokens, unclosed.into_iter().collect())
}

/// A here-document whose text comes after the line.
struct PendingDocument {
    /// Of its token.
    ix: usize,
    end: String,
    is_quoted: bool,
    strips_tabs: bool,
}

struct TokenReader {
    text: ScriptText,
    tokens: Vec<ShellToken>,
    documents: Vec<PendingDocument>,
}

impl TokenReader {
    fn push(&mut self, line: usize, kind: ShellTokenKind) {
        self.tokens.push(ShellToken { line, kind });
    }

    fn operator(&mut self, length: usize, operator: ShellOperator) {
        let line = self.text.line;
        (0..length).for_each(|_| self.text.skip());
        self.push(line, ShellTokenKind::Operator(operator));
    }

    /// Reads the next token; `false` at the end.
    fn token(&mut self) -> bool {
        let Some(c) = self.text.peek(0) else { return false };
        let next = self.text.peek(1);
        match c {
            '\\' if next == Some('\n') => {
                self.text.take();
                self.text.take();
            }
            '\n' => {
                self.operator(1, ShellOperator::End);
                self.documents();
            }
            ';' if matches!(next, Some(';' | '&')) => self.operator(2, ShellOperator::CaseEnd),
            ';' => self.operator(1, ShellOperator::End),
            '&' if next == Some('&') => self.operator(2, ShellOperator::And),
            '&' if next == Some('>') => {
                self.text.take();
                self.redirect(Some(1));
            }
            '&' => self.operator(1, ShellOperator::Background),
            '|' if next == Some('|') => self.operator(2, ShellOperator::Or),
            '|' if next == Some('&') => self.operator(2, ShellOperator::Pipe),
            '|' => self.operator(1, ShellOperator::Pipe),
            '(' if next == Some('(') && self.begins_command() => {
                let line = self.text.line;
                let inner = self.text.take_brackets('(', ')');
                self.push(line, ShellTokenKind::Word(computed(format!("({inner})"))));
            }
            '(' => self.operator(1, ShellOperator::Open),
            ')' => self.operator(1, ShellOperator::Close),
            '<' | '>' if next == Some('(') => {
                let line = self.text.line;
                self.text.take();
                let inner = self.text.take_brackets('(', ')');
                self.push(line, ShellTokenKind::Word(computed(format!("{c}({inner})"))));
            }
            '<' | '>' => self.redirect(None),
            c if c.is_whitespace() => self.text.skip(),
            '#' => while self.text.peek(0).is_some_and(|c| c != '\n') && self.text.take().is_some() {},
            _ => self.word(),
        }
        true
    }

    fn begins_command(&self) -> bool {
        self.tokens.last().is_none_or(|token| match &token.kind {
            ShellTokenKind::Operator(operator) => *operator != ShellOperator::Close,
            ShellTokenKind::Word(word) => {
                matches!(word.bare(), Some("if" | "while" | "until" | "then" | "do" | "for" | "!"))
            }
            _ => false,
        })
    }

    fn word(&mut self) {
        let line = self.text.line;
        let mut word = self.text.word();
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if let (Some(number), Some('<' | '>')) = (word.bare().filter(|text| is_number(text)), self.text.peek(0)) {
            // The number of a file descriptor.
            let number = number.parse().ok();
            return self.redirect(number.or(Some(u32::MAX)));
        }
        // `NAME=(a b)`.
        if self.text.peek(0) == Some('(')
            && matches!(word.parts.last(), Some(WordPart::Text(text)) if text.ends_with('='))
        {
            let inner = self.text.take_brackets('(', ')');
            word.parts.extend(computed(format!("({inner})")).parts);
        }
        // A character that begins no word, such as a lone carriage return, must not stop the reader.
        if word == Word::default() {
            self.text.take();
            return;
        }
        self.push(line, ShellTokenKind::Word(word));
    }

    /// A redirection, of the file descriptor `of` if one is written.
    fn redirect(&mut self, of: Option<u32>) {
        let line = self.text.line;
        let mut mark = String::new();
        while let Some(c) = self.text.peek(0).filter(|c| matches!(c, '<' | '>' | '&' | '|')) {
            if mark.len() == 3 || (c == '|' && mark != ">") {
                break;
            }
            mark.push(c);
            self.text.take();
        }
        let strips_tabs = mark == "<<" && self.text.peek(0) == Some('-');
        if strips_tabs {
            self.text.take();
        }
        while self.text.peek(0).is_some_and(|c| c == ' ' || c == '\t') {
            self.text.take();
        }
        let target = self.text.word();
        let is_input = of.is_none_or(|number| number == 0);
        let is_output = of.is_none_or(|number| number == 1);
        let kind = match mark.as_str() {
            "<" if is_input => ShellTokenKind::Input(target),
            "<<<" if is_input => {
                let mut parts = target.parts;
                parts.push(WordPart::Text("\n".to_owned()));
                ShellTokenKind::InputText(Word { parts, ..Word::default() })
            }
            "<<" => {
                let end = target.written();
                let ix = self.tokens.len();
                self.documents.push(PendingDocument { ix, end, is_quoted: target.is_quoted, strips_tabs });
                if is_input { ShellTokenKind::InputText(Word::default()) } else { ShellTokenKind::OtherRedirect }
            }
            ">" | ">>" | ">|" | "&>" | "&>>" if is_output => ShellTokenKind::Output(target),
            _ => ShellTokenKind::OtherRedirect,
        };
        self.push(line, kind);
    }

    /// Reads the texts of the here-documents of the line that has ended.
    fn documents(&mut self) {
        for document in std::mem::take(&mut self.documents) {
            let line = self.text.line;
            let mut text = String::new();
            loop {
                let Some(line_text) = self.text.take_line() else {
                    self.text.unclosed.get_or_insert(line.saturating_sub(1));
                    break;
                };
                let shown = if document.strips_tabs { line_text.trim_start_matches('\t') } else { &line_text };
                if shown == document.end {
                    break;
                }
                text.push_str(shown);
                text.push('\n');
            }
            let word = if document.is_quoted { Word::literal(text) } else { ScriptText::document(&text) };
            if let Some(ShellToken { kind: ShellTokenKind::InputText(body), .. }) = self.tokens.get_mut(document.ix) {
                *body = word;
            }
        }
    }
}

/// A word that only a shell can know.
fn computed(written: String) -> Word {
    let expansion = ShellExpansion { name: String::new(), kind: ExpansionKind::Computed, written };
    Word { parts: vec![WordPart::Expansion(expansion)], ..Word::default() }
}
