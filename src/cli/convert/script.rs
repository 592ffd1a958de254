//! Commands of a script as blocks of a bake file: each `docker build` becomes a target, each variable of the shell one of the
//! bake file. What is not translated is noted with its line; `target` has what belongs to one build.
//!
//! Nothing is evaluated: a variable in an argument is a variable in the attribute, wherever it stands. Only loops over words
//! that the script has are gone through.

use std::collections::{BTreeSet, HashMap};

use indexmap::IndexMap;

use super::{
    link::{DockerfileReader, link},
    shell::{ShellCommand, Surrounding, commands},
    target::ScriptTarget,
    token::ConvertNote,
    variables::{AssignedValue, with_variables},
    word::{ExpansionKind, ShellExpansion, Word, WordPart, is_variable_name},
};
use crate::{
    definition::kept::{KeptPart, KeptVariables, ReferenceOperation, VariableReference, has_reference},
    eval::print::bake_file::{BakeBlock, BakeFile, BakeValue},
};

/// The bake file of a script, and what is not in it. `read` gives the text of a Dockerfile.
pub(crate) fn convert(script: &str, read: &DockerfileReader<'_>) -> (BakeFile, Vec<ConvertNote>) {
    let (commands, notes) = commands(script);
    let mut converter = ScriptConverter { notes, n_repeats: 1, read: Some(read), ..ScriptConverter::default() };
    let functions = commands.iter().flat_map(|command| &command.around).filter_map(|around| match around {
        Surrounding::Function { name, .. } => Some(name.clone()),
        _ => None,
    });
    converter.functions = functions.collect();
    converter.run(&commands, 0);
    converter.finish()
}

/// Loops are gone through as long as they make no more rounds than this.
const MAX_ROUNDS: usize = 200;

/// Commands that say nothing about what is built.
const WITHOUT_MEANING: [&str; 22] = [
    ":", "[", "clear", "date", "echo", "exit", "false", "hash", "printf", "pwd", "return", "set", "shift", "shopt",
    "sleep", "test", "trap", "true", "type", "umask", "wait", "which",
];

#[derive(Default)]
pub(super) struct ScriptConverter<'r> {
    pub(super) read: Option<&'r DockerfileReader<'r>>,
    pub(super) kept: KeptVariables,
    pub(super) targets: Vec<ScriptTarget>,
    /// By the name in the bake file.
    assigned: IndexMap<String, AssignedValue>,
    /// The variable of the bake file for one of the shell that was set again.
    names: HashMap<String, String>,
    /// The variables of the bake file that are used.
    used: BTreeSet<String>,
    /// The variables of loops with their values, innermost last.
    rounds: Vec<(String, String)>,
    n_repeats: usize,
    /// What only a shell can know, with the name of its variable.
    computed: IndexMap<String, String>,
    functions: BTreeSet<String>,
    notes: Vec<ConvertNote>,
}

impl ScriptConverter<'_> {
    pub(super) fn note(&mut self, line: usize, text: impl Into<String>) {
        let note = ConvertNote { line, text: text.into() };
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Goes through commands; loops around them that stand further out than `depth` are being gone through already.
    fn run(&mut self, commands: &[ShellCommand], depth: usize) {
        let mut rest = commands;
        while let Some(first) = rest.first() {
            let is_loop = |around: &Surrounding| matches!(around, Surrounding::For { .. });
            let Some(ix) = (depth..first.around.len()).find(|ix| is_loop(&first.around[*ix])) else {
                self.command(first);
                rest = &rest[1..];
                continue;
            };
            let around = &first.around[ix];
            let (body, after) = rest.split_at(rest.iter().take_while(|it| it.around.get(ix) == Some(around)).count());
            if let Surrounding::For { line, variable, values } = around {
                self.rounds(*line, variable, values, body, ix + 1);
            }
            rest = after;
        }
    }

    /// Goes through the body of a loop, once for each value if the script has them.
    fn rounds(&mut self, line: usize, variable: &str, values: &[Word], body: &[ShellCommand], depth: usize) {
        let known: Option<Vec<String>> =
            values.iter().map(|word| self.loop_values(word)).collect::<Option<Vec<_>>>().map(|it| it.concat());
        let n_repeats = self.n_repeats;
        match known.filter(|known| known.len() * n_repeats <= MAX_ROUNDS) {
            Some(known) => {
                self.n_repeats *= known.len().max(1);
                for value in known {
                    self.rounds.push((variable.to_owned(), value));
                    self.run(body, depth);
                    self.rounds.pop();
                }
                self.n_repeats = n_repeats;
            }
            None => {
                let text = format!(
                    "the values of the loop are not known here: it is read once, with `{variable}` as a variable to set"
                );
                self.note(line, text);
                self.run(body, depth);
            }
        }
    }

    /// The values that a word of a loop stands for, if the script has them.
    fn loop_values(&self, word: &Word) -> Option<Vec<String>> {
        if let Some(text) = word.plain().filter(|_| !word.is_pattern) {
            return Some(vec![text.to_owned()]);
        }
        let text = self.literal_value(word.lone_expansion()?)?;
        Some(if word.is_quoted { vec![text] } else { text.split_whitespace().map(str::to_owned).collect() })
    }

    /// The value of an expansion, if the script has it as a text.
    pub(super) fn literal_value(&self, expansion: &ShellExpansion) -> Option<String> {
        let plain = match &expansion.kind {
            ExpansionKind::Value => None,
            ExpansionKind::Default(word) | ExpansionKind::Assign(word) => word.plain(),
            _ => return None,
        };
        if let Some((_, value)) = self.rounds.iter().rev().find(|(name, _)| *name == expansion.name) {
            return Some(value.clone());
        }
        match self.assigned.get(self.name(&expansion.name)) {
            Some(AssignedValue::Text(text)) => (!has_reference(text)).then(|| text.clone()),
            Some(AssignedValue::Computed) => None,
            None => plain.map(str::to_owned),
        }
    }

    /// The variable of the bake file for one of the shell.
    fn name<'n>(&'n self, name: &'n str) -> &'n str {
        self.names.get(name).map_or(name, String::as_str)
    }

    fn command(&mut self, command: &ShellCommand) {
        let first = command.words.first().and_then(Word::bare);
        if matches!(first, Some("export" | "readonly" | "local" | "declare" | "typeset")) {
            return self.declaration(command);
        }
        if command.words.iter().all(|word| word.assignment().is_some()) {
            for (name, value) in command.words.iter().filter_map(Word::assignment) {
                self.assign(name, &value, command);
            }
            return;
        }
        // `: ${NAME:=value}` gives a variable its value.
        if first == Some(":") {
            for word in &command.words {
                self.text(word, command.line);
            }
            return;
        }
        self.program(command);
    }

    /// `export NAME=VALUE` and its like.
    fn declaration(&mut self, command: &ShellCommand) {
        for word in &command.words[1..] {
            match (word.assignment(), word.plain()) {
                (Some((name, value)), _) => self.assign(name, &value, command),
                (None, Some(text)) if text.starts_with('-') || is_variable_name(text) => (),
                _ => self.note(command.line, "what is declared here is not known: its variables have no value"),
            }
        }
    }

    /// `NAME=VALUE` as a command of its own.
    fn assign(&mut self, name: &str, value: &Word, command: &ShellCommand) {
        let line = command.line;
        for around in &command.around {
            let place = match around {
                Surrounding::Branch { line, word } => format!("in a branch of `{word}` (line {line})"),
                Surrounding::Repeat { line } => format!("in a loop (line {line})"),
                Surrounding::Function { name, .. } => format!("in the function `{name}`"),
                Surrounding::For { .. } => continue,
            };
            self.note(line, format!("`{name}` is set {place}: the variable has this value in any case"));
        }
        let known = self.assigned.get(self.name(name)).cloned();
        let assigned = match value.lone_expansion() {
            // What it has already, or what the environment gives it, comes before its default.
            Some(ShellExpansion {
                name: of,
                kind: ExpansionKind::Default(default) | ExpansionKind::Assign(default),
                ..
            }) if of == name => {
                if known.as_ref().is_some_and(|known| *known != AssignedValue::Text(String::new())) {
                    return;
                }
                AssignedValue::Text(self.text(default, line))
            }
            Some(ShellExpansion { name: of, kind: ExpansionKind::Default(default), written })
                if !is_variable_name(of) =>
            {
                let note =
                    format!("`{written}` is not known: the variable `{name}` has its default, set another with --var");
                self.note(line, note);
                AssignedValue::Text(self.text(default, line))
            }
            Some(ShellExpansion { kind: ExpansionKind::Computed, written, .. }) => {
                let note = format!(
                    "`{written}` is not run: the variable `{name}` has no default, set it with --var or in the environment"
                );
                self.note(line, note);
                AssignedValue::Computed
            }
            _ => AssignedValue::Text(self.text(value, line)),
        };
        let current = self.name(name).to_owned();
        let is_other = known.is_some() && self.used.contains(&current) && known.as_ref() != Some(&assigned);
        let of_itself = matches!(&assigned, AssignedValue::Text(text) if self.refers_to(text, &current));
        let key = if is_other || of_itself || (known.is_none() && self.used.contains(&current)) {
            let numbered = (2..).map(|n| format!("{name}_{n}"));
            let is_free = |key: &String| !self.assigned.contains_key(key) && !self.used.contains(key);
            numbered.into_iter().find(is_free).unwrap_or(current)
        } else {
            current
        };
        self.names.insert(name.to_owned(), key.clone());
        self.assigned.insert(key, assigned);
    }

    fn refers_to(&self, text: &str, name: &str) -> bool {
        self.kept
            .parts(text)
            .iter()
            .any(|part| matches!(part, KeptPart::Reference(reference) if reference.name == name))
    }

    /// A word as one text that keeps its variables.
    pub(super) fn text(&mut self, word: &Word, line: usize) -> String {
        let mut text = String::new();
        for part in &word.parts {
            match part {
                WordPart::Text(more) => text.push_str(more),
                WordPart::Expansion(expansion) => text.push_str(&self.expansion(expansion, line)),
            }
        }
        text
    }

    fn expansion(&mut self, expansion: &ShellExpansion, line: usize) -> String {
        let ShellExpansion { name, kind, written } = expansion;
        if let Some((_, value)) = self.rounds.iter().rev().find(|(of, _)| of == name).cloned() {
            return match kind {
                ExpansionKind::Alternative(word) if !value.is_empty() => self.text(word, line),
                ExpansionKind::Default(word) | ExpansionKind::Assign(word) if value.is_empty() => self.text(word, line),
                ExpansionKind::Computed => self.computed(written, None, line),
                _ => value,
            };
        }
        match kind {
            ExpansionKind::Computed => self.computed(written, None, line),
            ExpansionKind::Default(word) | ExpansionKind::Assign(word) if !is_variable_name(name) => {
                let default = self.text(word, line);
                self.computed(&format!("${name}"), Some(default), line)
            }
            _ if !is_variable_name(name) => self.computed(written, None, line),
            ExpansionKind::Value => self.refer(name, ReferenceOperation::Value),
            ExpansionKind::Default(word) => {
                let default = self.text(word, line);
                self.refer(name, ReferenceOperation::Default(default))
            }
            ExpansionKind::Assign(word) => {
                let default = self.text(word, line);
                let key = self.name(name).to_owned();
                if !self.assigned.contains_key(&key) && !self.used.contains(&key) {
                    self.assigned.insert(key, AssignedValue::Text(default));
                    return self.refer(name, ReferenceOperation::Value);
                }
                self.refer(name, ReferenceOperation::Default(default))
            }
            ExpansionKind::Alternative(word) => {
                let text = self.text(word, line);
                self.refer(name, ReferenceOperation::Alternative(text))
            }
            ExpansionKind::Required(word) => {
                let why = self.text(word, line);
                let why = if why.is_empty() { String::new() } else { format!(": {}", self.kept.shown(&why)) };
                self.note(line, format!("the variable `{name}` has to be set, which is not checked{why}"));
                self.refer(name, ReferenceOperation::Value)
            }
        }
    }

    /// A reference to a variable of the shell.
    pub(super) fn refer(&mut self, name: &str, operation: ReferenceOperation) -> String {
        let name = self.name(name).to_owned();
        self.used.insert(name.clone());
        self.kept.keep(VariableReference { name, operation })
    }

    /// What `--build-arg NAME` gives: the value of the script, or that of the environment.
    pub(super) fn look_up(&mut self, name: &str) -> String {
        let is_set = self.assigned.contains_key(self.name(name));
        self.refer(name, if is_set { ReferenceOperation::Value } else { ReferenceOperation::Lookup })
    }

    /// A variable for what only a shell can know.
    fn computed(&mut self, written: &str, default: Option<String>, line: usize) -> String {
        let name = self.computed.get(written).cloned().unwrap_or_else(|| {
            let name = name_for(written);
            let is_free = |name: &String| !self.assigned.contains_key(name) && !self.used.contains(name);
            let numbered = (2..).map(|n| format!("{name}_{n}"));
            std::iter::once(name.clone()).chain(numbered).find(is_free).unwrap_or(name)
        });
        self.computed.insert(written.to_owned(), name.clone());
        let what = if written.starts_with("$(") || written.starts_with('`') { "run" } else { "known" };
        let note = format!("`{written}` is not {what}: set the variable `{name}` with --var or in the environment");
        self.note(line, note);
        let value = default.map_or(AssignedValue::Computed, AssignedValue::Text);
        self.assigned.entry(name.clone()).or_insert(value);
        self.refer(&name, ReferenceOperation::Value)
    }

    /// A program that is no part of the translation.
    pub(super) fn other_program(&mut self, command: &ShellCommand, name: &str) {
        let line = command.line;
        let writes_file = command.output.as_ref().is_some_and(|file| file.plain() != Some("/dev/null"));
        if self.functions.contains(name) {
            self.note(line, format!("`{name}` is a function of the script: its call is not followed"));
        } else if matches!(name, "cd" | "pushd" | "popd") {
            self.note(line, format!("`{name}` is not followed: paths of later lines are taken as they are written"));
        } else if matches!(name, "." | "source") {
            self.note(line, format!("`{name}` is not followed: convert the file that it reads as well"));
        } else if !WITHOUT_MEANING.contains(&name) || writes_file {
            self.note(line, format!("`{name}` is not translated: a bake file runs no commands of the host"));
        }
    }

    /// Gives an image another name: `docker tag IMAGE NAME`.
    pub(super) fn tag(&mut self, words: &[Word], line: usize) {
        let texts: Vec<String> = words.iter().map(|word| self.text(word, line)).collect();
        if let [image, name] = texts.as_slice()
            && let Some(target) = self.targets.iter_mut().rev().find(|target| target.has_tag(image))
        {
            return target.add_tag(name);
        }
        self.note(line, "`docker tag` is not translated: no command before it builds the image");
    }

    fn finish(mut self) -> (BakeFile, Vec<ConvertNote>) {
        let linked = self.read.map(|read| link(&mut self.targets, &self.kept, read));
        for note in linked.into_iter().flatten() {
            self.note(note.line, note.text);
        }
        let Self { kept, targets, assigned, mut notes, .. } = self;
        let mut blocks = Vec::new();
        if !targets.is_empty() {
            let names = targets.iter().map(|target| BakeValue::literal(target.label.as_str())).collect();
            let attributes = vec![("targets".to_owned(), BakeValue::List(names))];
            blocks.push(BakeBlock { kind: "group", label: "default".to_owned(), attributes });
        }
        blocks.extend(targets.into_iter().map(ScriptTarget::block));
        notes.sort_by_key(|note| note.line);
        let file = if blocks.is_empty() { BakeFile::default() } else { with_variables(&kept, &assigned, blocks) };
        (file, notes)
    }
}

/// A name for the variable of something that the shell computes: `$(git rev-parse HEAD)` is `GIT_REV_PARSE_HEAD`.
fn name_for(written: &str) -> String {
    let words: Vec<String> = written
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_uppercase)
        .collect();
    let name = words.join("_");
    let is_command = written.starts_with("$(") || written.starts_with('`');
    match name.bytes().next() {
        None => "ARGUMENTS".to_owned(),
        Some(byte) if byte.is_ascii_digit() => format!("ARG_{name}"),
        Some(_) if is_command => name,
        // `${TAG%-*}` is not the variable `TAG`.
        Some(_) => format!("PART_OF_{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bake file of a script, then the notes.
    fn shown(script: &str) -> String {
        let (file, notes) = convert(script, &|_| Err("there is no such file".to_owned()));
        let notes = notes.into_iter().map(|note| format!("{}: {}\n", note.line, note.text));
        format!("{}{}", file.to_hcl(), notes.collect::<String>())
    }

    #[test]
    fn a_script_becomes_targets_variables_and_a_group() {
        let script = "#!/bin/sh\nset -e\nTAG=${TAG:-v1}\nSHA=$(git rev-parse HEAD)\n\
            DOCKER_BUILDKIT=1 docker build -t \"reg/app:$TAG\" --build-arg SHA=$SHA -f docker/Dockerfile .\n\
            docker buildx build --push --platform linux/amd64,linux/arm64 -t reg/web:1 --progress=plain https://x/y.git\n";
        let expected = r#"variable "TAG" {
  default = "v1"
}

variable "SHA" {}

group "default" {
  targets = [
    "app",
    "web"
  ]
}

target "app" {
  dockerfile = "docker/Dockerfile"
  args = {
    SHA = "${SHA}"
  }
  tags = [
    "reg/app:${TAG}"
  ]
}

target "web" {
  context = "https://x/y.git"
  tags = [
    "reg/web:1"
  ]
  platforms = [
    "linux/amd64",
    "linux/arm64"
  ]
  output = [
    "type=registry"
  ]
}
4: `$(git rev-parse HEAD)` is not run: the variable `SHA` has no default, set it with --var or in the environment
6: `--progress` is left out: give it to `bake`
"#;
        assert_eq!(shown(script), expected);
    }

    #[test]
    fn what_cannot_be_read_is_noted_with_its_line() {
        let (file, notes) = convert("docker build --frobnicate .\n\ncd sub\ndocker push x\n", &|_| Err(String::new()));
        assert!(file.blocks.is_empty());
        let lines: Vec<usize> = notes.iter().map(|note| note.line).collect();
        assert_eq!(lines, [1, 3, 4]);
    }
}
