//! Which program a command runs, under what stands in front of it (`sudo`, `env`, `time`, variables), and which command of
//! `docker` it is.

use super::{
    script::ScriptConverter,
    shell::ShellCommand,
    word::{ExpansionKind, Word},
};

/// A program that runs another one: its name, its options with a value of their own, how many words come before the other
/// program, and whether leaving it out changes how the build runs.
struct Wrapper {
    name: &'static str,
    with_value: &'static str,
    n_words: usize,
    is_told: bool,
}

const WRAPPERS: [Wrapper; 11] = [
    wrapper("builtin", "", 0, false),
    wrapper("command", "", 0, false),
    wrapper("env", "uCS", 0, false),
    wrapper("exec", "a", 0, false),
    wrapper("ionice", "cnpPu", 0, true),
    wrapper("nice", "n", 0, true),
    wrapper("nohup", "", 0, false),
    wrapper("stdbuf", "ioe", 0, true),
    wrapper("sudo", "ugphCTUDRrt", 0, false),
    wrapper("time", "fo", 0, false),
    wrapper("timeout", "sk", 1, true),
];

const fn wrapper(name: &'static str, with_value: &'static str, n_words: usize, is_told: bool) -> Wrapper {
    Wrapper { name, with_value, n_words, is_told }
}

/// Options of `docker` and `docker buildx` in front of the command that take a value.
const GLOBAL_WITH_VALUE: [&str; 10] =
    ["--builder", "--config", "--context", "--host", "--log-level", "--tlscacert", "--tlscert", "--tlskey", "-c", "-H"];

/// A command without what stands in front of its program.
#[derive(Default)]
pub(super) struct Program {
    pub(super) words: Vec<Word>,
    /// `NAME=VALUE` in front of it.
    pub(super) given: Vec<(String, Word)>,
}

impl ScriptConverter<'_> {
    /// A command that is neither an assignment nor a declaration.
    pub(super) fn program(&mut self, command: &ShellCommand) {
        let program = self.unwrapped(command);
        let Some(first) = program.words.first() else { return };
        let name = first.plain().map(|name| name.rsplit('/').next().unwrap_or(name).to_owned());
        let rest = &program.words[1..];
        match name.as_deref() {
            Some("docker" | "podman" | "nerdctl") => self.docker(command, rest, &program),
            Some("docker-buildx") => self.buildx(command, rest, &program),
            Some("buildah")
                if rest.first().and_then(Word::bare).is_some_and(|word| matches!(word, "bud" | "build")) =>
            {
                self.build(command, &rest[1..], &program.given);
            }
            Some("bake") if rest.first().and_then(Word::bare) == Some("build") => {
                self.build(command, &rest[1..], &program.given);
            }
            Some("docker-compose") => self.compose(command.line),
            Some(_) => self.other_program(command, first.plain().unwrap_or_default()),
            None => {
                let text = format!("a command that only the shell knows is not translated: {}", first.written());
                self.note(command.line, text);
            }
        }
    }

    /// The program and its arguments, without `sudo`, `env` and their like.
    fn unwrapped(&mut self, command: &ShellCommand) -> Program {
        let mut words = command.words.clone();
        let mut given = Vec::new();
        loop {
            while let Some((name, value)) = words.first().and_then(Word::assignment) {
                given.push((name.to_owned(), value));
                words.remove(0);
            }
            let Some(first) = words.first() else { break };
            if let Some(program) = self.program_of_variable(first, &words[1..], command.line) {
                words.splice(..1, program.split_whitespace().map(Word::literal));
                continue;
            }
            let name = first.plain().map(|name| name.rsplit('/').next().unwrap_or(name)).unwrap_or_default();
            let Some(wrapper) = WRAPPERS.iter().find(|it| it.name == name) else { break };
            let n_options = n_options(&words[1..], wrapper.with_value);
            let asks =
                name == "command" && words[1..=n_options].iter().any(|word| matches!(word.plain(), Some("-v" | "-V")));
            let n_words = 1 + n_options + wrapper.n_words;
            // `command -v docker` asks whether there is one; `env` alone prints.
            if asks || words.len() <= n_words {
                let silent = Word::literal(":");
                return Program { words: vec![silent], given };
            }
            if wrapper.is_told {
                self.note(command.line, format!("`{name}` is left out: give it to `bake`"));
            }
            words.drain(..n_words);
        }
        Program { words, given }
    }

    /// The program that a variable in front of arguments stands for.
    fn program_of_variable(&mut self, first: &Word, rest: &[Word], line: usize) -> Option<String> {
        let expansion = first.lone_expansion()?;
        if let Some(text) = self.literal_value(expansion) {
            return Some(text);
        }
        let is_build =
            rest.first().and_then(Word::bare).is_some_and(|word| matches!(word, "build" | "buildx" | "image"));
        let is_variable = matches!(expansion.kind, ExpansionKind::Value | ExpansionKind::Default(_));
        if !(is_build && is_variable) {
            return None;
        }
        self.note(line, format!("`{}` is taken for `docker`", expansion.written));
        Some("docker".to_owned())
    }

    /// `docker` with these arguments.
    fn docker(&mut self, command: &ShellCommand, words: &[Word], program: &Program) {
        let words = self.after_global_options(words, command.line);
        let name = |ix: usize| words.get(ix).and_then(Word::bare);
        let line = command.line;
        match (name(0), name(1)) {
            (Some("build"), _) => self.build(command, &words[1..], &program.given),
            (Some("image" | "builder"), Some("build")) => self.build(command, &words[2..], &program.given),
            (Some("buildx"), _) => self.buildx(command, &words[1..], program),
            (Some("tag"), _) => self.tag(&words[1..], line),
            (Some("image"), Some("tag")) => self.tag(&words[2..], line),
            (Some("push"), _) | (Some("image"), Some("push")) => {
                self.note(line, "`docker push` is not translated: `bake --push` pushes what it builds");
            }
            (Some("compose"), _) => self.compose(line),
            (Some(name), _) => self.note(line, format!("`docker {name}` is not translated")),
            (None, _) if words.is_empty() => (),
            (None, _) => self.note(line, "a command of `docker` that only the shell knows is not translated"),
        }
    }

    /// `docker buildx` with these arguments.
    fn buildx(&mut self, command: &ShellCommand, words: &[Word], program: &Program) {
        let words = self.after_global_options(words, command.line);
        let line = command.line;
        match words.first().and_then(Word::bare) {
            Some("build" | "b") => self.build(command, &words[1..], &program.given),
            Some("bake" | "f") => {
                self.note(line, "`docker buildx bake` is not translated: it reads a bake file already");
            }
            Some(name @ ("create" | "use" | "inspect" | "ls" | "rm" | "stop" | "version" | "install")) => {
                self.note(line, format!("`docker buildx {name}` is left out: `bake` needs no builder"));
            }
            Some(name) => self.note(line, format!("`docker buildx {name}` is not translated")),
            None if words.is_empty() => (),
            None => self.note(line, "a command of `docker buildx` that only the shell knows is not translated"),
        }
    }

    fn compose(&mut self, line: usize) {
        self.note(line, "`docker compose` is not translated: convert its file, as in `bake convert compose.yaml`");
    }

    /// The words after the options that belong to `docker` itself; each of them is told.
    fn after_global_options<'w>(&mut self, words: &'w [Word], line: usize) -> &'w [Word] {
        let mut rest = words;
        while let Some(text) = rest.first().and_then(first_text).filter(|text| text.starts_with('-')) {
            let (name, has_value) = text.split_once('=').map_or((text, false), |(name, _)| (name, true));
            let why = match name {
                "--builder" => "name it with `bake --builder`",
                "-D" | "--debug" => "write `bake --debug`",
                "-c" | "--context" => "set `DOCKER_CONTEXT` for `bake`",
                "-H" | "--host" => "set `DOCKER_HOST` for `bake`",
                "--config" => "set `DOCKER_CONFIG` for `bake`",
                _ => "it says how `docker` itself runs",
            };
            self.note(line, format!("`{name}` is left out: {why}"));
            let n_words = if !has_value && GLOBAL_WITH_VALUE.contains(&name) { 2 } else { 1 };
            rest = &rest[n_words.min(rest.len())..];
        }
        rest
    }
}

/// The text that a word begins with.
fn first_text(word: &Word) -> Option<&str> {
    match word.parts.first() {
        Some(super::word::WordPart::Text(text)) => Some(text),
        _ => None,
    }
}

/// How many words the options of a program take; `with_value` are the letters of those whose value is a word of its own.
fn n_options(words: &[Word], with_value: &str) -> usize {
    let mut n = 0;
    while let Some(text) = words.get(n).and_then(first_text).filter(|text| text.starts_with('-')) {
        n += 1;
        if text == "--" {
            break;
        }
        let is_letter = text.len() == 2 && words[n - 1].plain().is_some();
        n += usize::from(is_letter && with_value.contains(&text[1..]));
    }
    n.min(words.len())
}
