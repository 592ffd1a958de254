//! Tokens of a script ─► its simple commands, each with what stands around it: loops, branches, functions (POSIX.1-2024,
//! Shell Command Language, sections 2.4, 2.9 and 2.10).
//!
//! Nothing is run. What is not understood is noted with its line; what a loop or a branch means for a build is decided in
//! `script`.

use super::{
    token::{ConvertNote, ShellOperator, ShellToken, ShellTokenKind, tokens},
    word::{ExpansionKind, ShellExpansion, Word, WordPart},
};

/// One simple command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ShellCommand {
    /// Of its first word, from 1.
    pub(super) line: usize,
    pub(super) words: Vec<Word>,
    pub(super) input: Option<ShellInput>,
    /// The file that standard output goes to.
    pub(super) output: Option<Word>,
    /// Outermost first.
    pub(super) around: Vec<Surrounding>,
}

/// Where standard input comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ShellInput {
    File(Word),
    Text(Word),
    /// Another command.
    Pipe,
}

/// What stands around a command and decides whether and how often it runs; `line` is where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Surrounding {
    /// A branch of `if` or `case`, or the right side of `||`.
    Branch {
        line: usize,
        word: &'static str,
    },
    /// `for variable in values`.
    For {
        line: usize,
        variable: String,
        values: Vec<Word>,
    },
    /// `while`, `until`.
    Repeat {
        line: usize,
    },
    Function {
        line: usize,
        name: String,
    },
}

/// The commands of a script, in order, and what is not understood.
pub(super) fn commands(script: &str) -> (Vec<ShellCommand>, Vec<ConvertNote>) {
    let (tokens, notes) = tokens(script);
    let mut reader = CommandReader { tokens, at: 0, notes, frames: Vec::new(), commands: Vec::new(), link: Link::None };
    while reader.statement() {}
    for frame in std::mem::take(&mut reader.frames) {
        let text = format!("`{}` is not closed", frame.opened_by);
        reader.notes.push(ConvertNote { line: frame.line, text });
    }
    (reader.commands, reader.notes)
}

/// A compound command that is open.
struct Frame {
    opened_by: &'static str,
    closed_by: &'static str,
    line: usize,
    /// What it is around the commands that come next.
    around: Option<Surrounding>,
    /// Patterns come next, not commands.
    wants_pattern: bool,
}

/// How a command is joined to the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    None,
    Or,
    Pipe,
}

struct CommandReader {
    tokens: Vec<ShellToken>,
    at: usize,
    notes: Vec<ConvertNote>,
    frames: Vec<Frame>,
    commands: Vec<ShellCommand>,
    link: Link,
}

impl CommandReader {
    fn peek(&self, ahead: usize) -> Option<&ShellTokenKind> {
        self.tokens.get(self.at + ahead).map(|token| &token.kind)
    }

    fn line(&self) -> usize {
        self.tokens.get(self.at).or_else(|| self.tokens.last()).map_or(1, |token| token.line)
    }

    fn is_operator(&self, ahead: usize, operator: ShellOperator) -> bool {
        matches!(self.peek(ahead), Some(ShellTokenKind::Operator(found)) if *found == operator)
    }

    /// The word that comes next, if it stands there without quotes or expansions.
    fn bare(&self, ahead: usize) -> Option<&str> {
        match self.peek(ahead)? {
            ShellTokenKind::Word(word) => word.bare(),
            _ => None,
        }
    }

    fn note(&mut self, line: usize, text: impl Into<String>) {
        self.notes.push(ConvertNote { line, text: text.into() });
    }

    /// Reads an operator, a reserved word or a simple command; `false` at the end.
    fn statement(&mut self) -> bool {
        let Some(kind) = self.peek(0) else { return false };
        if self.frames.last().is_some_and(|frame| frame.wants_pattern) {
            self.pattern();
            return true;
        }
        match kind {
            ShellTokenKind::Operator(operator) => {
                let operator = *operator;
                self.operator(operator);
            }
            ShellTokenKind::Word(word) => {
                let word = word.bare().unwrap_or_default().to_owned();
                if !self.reserved(&word) {
                    self.command();
                }
            }
            _ => self.command(),
        }
        true
    }

    fn operator(&mut self, operator: ShellOperator) {
        let line = self.line();
        self.at += 1;
        self.link = match operator {
            ShellOperator::Or => Link::Or,
            ShellOperator::Pipe => Link::Pipe,
            // A line that ends after `||` or `|` goes on.
            ShellOperator::End
                if self.at > 1 && (self.is_after(ShellOperator::Or) || self.is_after(ShellOperator::Pipe)) =>
            {
                self.link
            }
            ShellOperator::Open => self.link,
            _ => Link::None,
        };
        match operator {
            ShellOperator::Open => self.open("(", ")", line, None),
            ShellOperator::Close => self.close(")", line),
            ShellOperator::CaseEnd => match self.frames.last_mut() {
                Some(frame) if frame.opened_by == "case" => frame.wants_pattern = true,
                _ => self.note(line, "`;;` outside of `case` is not understood"),
            },
            _ => (),
        }
    }

    /// Whether the operator before the one that was taken last is this one.
    fn is_after(&self, operator: ShellOperator) -> bool {
        let before = self.at.checked_sub(2).and_then(|at| self.tokens.get(at));
        matches!(before, Some(ShellToken { kind: ShellTokenKind::Operator(found), .. }) if *found == operator)
    }

    fn open(&mut self, opened_by: &'static str, closed_by: &'static str, line: usize, around: Option<Surrounding>) {
        // What is on the right of `||` runs only sometimes, also as a group.
        let around = around.or_else(|| {
            let is_or = std::mem::replace(&mut self.link, Link::None) == Link::Or;
            is_or.then_some(Surrounding::Branch { line, word: "||" })
        });
        self.frames.push(Frame { opened_by, closed_by, line, around, wants_pattern: false });
    }

    fn close(&mut self, closed_by: &str, line: usize) {
        match self.frames.last() {
            Some(frame) if frame.closed_by == closed_by => drop(self.frames.pop()),
            _ => self.note(line, format!("`{closed_by}` closes nothing here")),
        }
        self.after_close();
    }

    /// Functions end with the compound command that is their body.
    fn after_close(&mut self) {
        if self.frames.last().is_some_and(|frame| frame.opened_by == "function") {
            self.frames.pop();
        }
    }

    /// Reads a reserved word and what belongs to it; `false` if it is none.
    fn reserved(&mut self, word: &str) -> bool {
        let line = self.line();
        match word {
            "if" => self.open("if", "fi", line, None),
            "while" | "until" => self.open("while", "done", line, None),
            "{" => self.open("{", "}", line, None),
            "then" | "else" | "elif" => match self.frames.last_mut() {
                Some(frame) if frame.opened_by == "if" => {
                    frame.around = Some(Surrounding::Branch { line: frame.line, word: "if" });
                }
                _ => self.note(line, format!("`{word}` outside of `if` is not understood")),
            },
            "do" => match self.frames.last_mut() {
                Some(frame) if frame.opened_by == "while" => {
                    frame.around = Some(Surrounding::Repeat { line: frame.line });
                }
                Some(frame) if frame.opened_by == "for" => (),
                _ => self.note(line, "`do` outside of a loop is not understood"),
            },
            "fi" | "done" | "}" | "esac" => {
                self.at += 1;
                let word = ["fi", "done", "}", "esac"].into_iter().find(|it| *it == word).unwrap_or_default();
                self.close(word, line);
                return true;
            }
            "for" | "select" => {
                self.loop_head(line);
                return true;
            }
            "case" => {
                self.case_head(line);
                return true;
            }
            "[[" => {
                while self.bare(0).is_none_or(|word| word != "]]") && self.peek(0).is_some() {
                    self.at += 1;
                }
            }
            "function" => {
                let name = self.bare(1).unwrap_or_default().to_owned();
                self.at += 2;
                if self.is_operator(0, ShellOperator::Open) && self.is_operator(1, ShellOperator::Close) {
                    self.at += 2;
                }
                self.frames.push(function(line, name));
                return true;
            }
            "!" => {
                self.note(line, "`!` is left out: a failure of the build is a failure of `bake`");
            }
            "time" if self.bare(1) == Some("-p") => self.at += 1,
            "time" => (),
            name if self.is_operator(1, ShellOperator::Open) && self.is_operator(2, ShellOperator::Close) => {
                let frame = function(line, name.to_owned());
                self.frames.push(frame);
                self.at += 3;
                return true;
            }
            _ => return false,
        }
        self.at += 1;
        true
    }

    /// `for NAME in WORD…`
    fn loop_head(&mut self, line: usize) {
        self.at += 1;
        let variable = self.bare(0).unwrap_or_default().to_owned();
        if variable.is_empty() || !super::word::is_variable_name(&variable) {
            self.note(line, "the loop is not understood: its commands are read as if they ran once");
        }
        self.at += usize::from(self.peek(0).is_some());
        let mut values = Vec::new();
        while self.is_operator(0, ShellOperator::End) && self.bare(1) == Some("in") {
            self.at += 1;
        }
        if self.bare(0) == Some("in") {
            self.at += 1;
            while let Some(ShellTokenKind::Word(word)) = self.peek(0) {
                values.push(word.clone());
                self.at += 1;
            }
        } else {
            let all = ShellExpansion { name: "@".to_owned(), kind: ExpansionKind::Computed, written: "$@".to_owned() };
            values.push(Word { parts: vec![WordPart::Expansion(all)], ..Word::default() });
        }
        let around = Surrounding::For { line, variable, values };
        self.open("for", "done", line, Some(around));
    }

    /// `case WORD in`
    fn case_head(&mut self, line: usize) {
        while self.peek(0).is_some() && self.bare(0) != Some("in") {
            self.at += 1;
        }
        self.at += usize::from(self.peek(0).is_some());
        self.open("case", "esac", line, Some(Surrounding::Branch { line, word: "case" }));
        if let Some(frame) = self.frames.last_mut() {
            frame.wants_pattern = true;
        }
    }

    /// The patterns of a branch of `case`, up to `)`; or `esac`.
    fn pattern(&mut self) {
        if self.bare(0) == Some("esac") {
            let line = self.line();
            self.at += 1;
            return self.close("esac", line);
        }
        let is_end = self.is_operator(0, ShellOperator::Close);
        self.at += 1;
        if let Some(frame) = self.frames.last_mut().filter(|_| is_end) {
            frame.wants_pattern = false;
        }
    }

    /// A simple command, up to the operator that ends it.
    fn command(&mut self) {
        let link = std::mem::replace(&mut self.link, Link::None);
        let mut command = ShellCommand { line: self.line(), ..ShellCommand::default() };
        if link == Link::Pipe {
            command.input = Some(ShellInput::Pipe);
        }
        while let Some(token) = self.tokens.get(self.at) {
            match &token.kind {
                ShellTokenKind::Word(word) => {
                    if command.words.is_empty() {
                        command.line = token.line;
                    }
                    command.words.push(word.clone());
                }
                ShellTokenKind::Input(file) => command.input = Some(ShellInput::File(file.clone())),
                ShellTokenKind::InputText(text) => command.input = Some(ShellInput::Text(text.clone())),
                ShellTokenKind::Output(file) => command.output = Some(file.clone()),
                ShellTokenKind::OtherRedirect => (),
                ShellTokenKind::Operator(_) => break,
            }
            self.at += 1;
        }
        // Redirections alone belong to the compound command before them.
        if command.words.is_empty() {
            return;
        }
        command.around = self.frames.iter().filter_map(|frame| frame.around.clone()).collect();
        if link == Link::Or {
            command.around.push(Surrounding::Branch { line: command.line, word: "||" });
        }
        self.commands.push(command);
    }
}

fn function(line: usize, name: String) -> Frame {
    let around = Some(Surrounding::Function { line, name });
    Frame { opened_by: "function", closed_by: "", line, around, wants_pattern: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(word: &Word) -> String {
        let part = |part: &WordPart| match part {
            WordPart::Text(text) => text.clone(),
            WordPart::Expansion(ShellExpansion { name, kind, written }) => match kind {
                ExpansionKind::Value => format!("<{name}>"),
                ExpansionKind::Default(text) => format!("<{name}:-{}>", self::word(text)),
                ExpansionKind::Assign(text) => format!("<{name}:={}>", self::word(text)),
                ExpansionKind::Alternative(text) => format!("<{name}:+{}>", self::word(text)),
                ExpansionKind::Required(text) => format!("<{name}:?{}>", self::word(text)),
                ExpansionKind::Computed => format!("<<{written}>>"),
            },
        };
        word.parts.iter().map(part).collect()
    }

    /// Each command on a line: its line number, what is around it, its words in brackets; then the notes.
    fn shown(script: &str) -> String {
        let around = |around: &Surrounding| match around {
            Surrounding::Branch { word, .. } => format!("{word} "),
            Surrounding::For { variable, values, .. } => {
                format!("for {variable} in {} ", values.iter().map(word).collect::<Vec<_>>().join(","))
            }
            Surrounding::Repeat { .. } => "repeat ".to_owned(),
            Surrounding::Function { name, .. } => format!("{name}() "),
        };
        let command = |it: &ShellCommand| {
            let input = match &it.input {
                Some(ShellInput::File(file)) => format!(" < {}", word(file)),
                Some(ShellInput::Text(text)) => format!(" << {:?}", word(text)),
                Some(ShellInput::Pipe) => " |".to_owned(),
                None => String::new(),
            };
            let output = it.output.as_ref().map(|file| format!(" > {}", word(file))).unwrap_or_default();
            let words: Vec<String> = it.words.iter().map(|it| format!("[{}]", word(it))).collect();
            format!(
                "{}: {}{}{input}{output}",
                it.line,
                it.around.iter().map(around).collect::<String>(),
                words.join(" ")
            )
        };
        let (commands, notes) = commands(script);
        let notes = notes.iter().map(|note| format!("{}! {}", note.line, note.text));
        commands.iter().map(command).chain(notes).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn words_quotes_and_variables() {
        assert_eq!(shown("a 'b $c' \"d $e\" f\\ g ''"), "1: [a] [b $c] [d <e>] [f g] []");
        assert_eq!(shown("a ${B} ${C:-d}x $"), "1: [a] [<B>] [<C:-d>x] [$]");
        assert_eq!(shown("a:$(git rev-parse --short HEAD)"), "1: [a:<<$(git rev-parse --short HEAD)>>]");
        assert_eq!(shown("x \"$1\" `date`"), "1: [x] [<<$1>>] [<<`date`>>]");
        assert_eq!(shown("x $'a\\nb\\x41' ${#T} ${T%-*} ${1:-d} ${A:-${B:-c}}"), {
            "1: [x] [a\nbA] [<<${#T}>>] [<<${T%-*}>>] [<1:-d>] [<A:-<B:-c>>]"
        });
        assert_eq!(shown(": ${B:=x} A=(1 2) ~/y"), "1: [:] [<B:=x>] [A=<<(1 2)>>] [<HOME>/y]");
    }

    #[test]
    fn lists_redirections_and_documents() {
        assert_eq!(shown("# no\na \\\n  b # c\nd && e;f"), "2: [a] [b]\n4: [d]\n4: [e]\n4: [f]");
        assert_eq!(shown("a - < Dockerfile > log 2>&1"), "1: [a] [-] < Dockerfile > log");
        assert_eq!(
            shown("a <<E b\nx $Y\nE\nc <<-'F'\n\t$z\n\tF\nd"),
            "1: [a] [b] << \"x <Y>\\n\"\n4: [c] << \"$z\\n\"\n7: [d]"
        );
        assert_eq!(shown("a | b || c"), "1: [a]\n1: [b] |\n1: || [c]");
        assert_eq!(shown("a 2> x &> y\nb >&2"), "1: [a] > y\n2: [b]");
    }

    #[test]
    fn compound_commands_are_around_their_commands() {
        assert_eq!(shown("if a; then b; else c; fi; d"), "1: [a]\n1: if [b]\n1: if [c]\n1: [d]");
        assert_eq!(shown("for v in 1 $X\ndo\n  b\ndone\nc"), "3: for v in 1,<X> [b]\n5: [c]");
        assert_eq!(shown("while a; do b; done < f"), "1: [a]\n1: repeat [b]");
        assert_eq!(shown("case $x in a|b) c;; *) d ;; esac\ne"), "1: case [c]\n1: case [d]\n2: [e]");
        assert_eq!(shown("f() {\n a\n}\nfunction g { b; }\n(c && d)"), "2: f() [a]\n4: g() [b]\n5: [c]\n5: [d]");
        assert_eq!(shown("if [[ a && b < c ]]; then time -p d; fi"), "1: if [d]");
        assert_eq!(shown("a || { b; c; }\n((x++))"), "1: [a]\n1: || [b]\n1: || [c]\n2: [<<((x++))>>]");
    }

    #[test]
    fn what_is_not_closed_is_noted() {
        assert_eq!(shown("if a; then\n b"), "1: [a]\n2: if [b]\n1! `if` is not closed");
        assert_eq!(shown("a\nb 'c"), {
            "1: [a]\n2: [b] [c]\n2! a quote or bracket is not closed: what follows it is taken for a part of it"
        });
        assert_eq!(shown("a; fi"), "1: [a]\n1! `fi` closes nothing here");
    }
}
