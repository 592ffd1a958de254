//! Text to instructions: keywords, flags, arguments, heredocs (spec/dockerfile.md §2). All faults of a file come in one run.
//!
//! Nothing is expanded and nothing resolved here; [`parse_trigger`] reads one ONBUILD trigger of a base image.

use std::ops::Range;

use super::{
    flag::{self, FlagSet},
    instruction::{
        ArgDef, CommandLine, CopyInstruction, Health, Heredoc, Instruction, InstructionKind, KEYWORDS, Pair,
        ParsedDockerfile, RunInstruction, Stage,
    },
    lex::{self, DockerfileLine, LineReader, SourcePlace},
    value,
};
use crate::report::{Diagnostic, SourceId, Span, Spanned, suggest};

/// Reads a Dockerfile. With faults the result holds what could be read.
pub(crate) fn parse(source: SourceId, text: &str) -> (ParsedDockerfile, Vec<Diagnostic>) {
    let mut reader = LineReader::new(source, text, None);
    let mut file = ParsedDockerfile {
        source,
        escape: '\\',
        syntax: None,
        check: None,
        globals: Vec::new(),
        stages: Vec::new(),
        empty_continuations: Vec::new(),
    };
    let mut faults = Vec::new();
    let mut nothing = true;
    let mut homeless = false;
    while let Some(line) = reader.line() {
        nothing = false;
        match instruction(&line, &mut reader, &mut faults) {
            Some(ParseResult::Stage(stage)) => file.stages.push(*stage),
            Some(ParseResult::Instruction(it)) => match file.stages.last_mut() {
                Some(stage) => stage.instructions.push(it),
                None if matches!(it.kind, InstructionKind::Arg(_)) => file.globals.push(it),
                None if homeless => (),
                None => {
                    homeless = true;
                    let message =
                        format!("no build stage yet, only ARG may come before the first FROM: `{}`", it.keyword);
                    faults.push(fault("bake::dockerfile::no_stage", message, it.at, "before any FROM"));
                }
            },
            None => (),
        }
    }
    file.escape = reader.escape();
    let spanned = |(value, at): (String, Span)| Spanned::new(value, at);
    file.syntax = reader.directives.syntax.take().map(spanned);
    file.check = reader.directives.check.take().map(spanned);
    file.empty_continuations = std::mem::take(&mut reader.empty_continuations);
    let mut all = std::mem::take(&mut reader.faults);
    all.append(&mut faults);
    let whole = Span { source, start: 0, end: 0 };
    if text.is_empty() {
        all.push(fault("bake::dockerfile::empty", "the Dockerfile is empty".to_owned(), whole, "nothing here"));
    } else if nothing && all.is_empty() {
        let message = "the Dockerfile has no instructions".to_owned();
        all.push(fault("bake::dockerfile::empty", message, whole, "only comments and blank lines"));
    } else if file.stages.is_empty() && all.is_empty() {
        let message = "the Dockerfile has no build stage".to_owned();
        all.push(
            fault("bake::dockerfile::no_stage", message, whole, "no FROM in this file")
                .help("begin with `FROM scratch` or an image"),
        );
    }
    if let Some(syntax) = &file.syntax
        && !all.is_empty()
        && let Some(foreign) = foreign_syntax(&syntax.value, Some(syntax.at))
    {
        all.insert(0, foreign);
    }
    all.sort_by_key(|it| it.labels.first().map_or(0, |label| label.at.start));
    (file, all)
}

/// Reads one ONBUILD trigger; all spans are `at`.
pub(crate) fn parse_trigger(text: &str, at: Span) -> Result<Instruction, Vec<Diagnostic>> {
    let mut reader = LineReader::new(at.source, text, Some(at));
    let mut faults = Vec::new();
    let first = reader.line().and_then(|line| instruction(&line, &mut reader, &mut faults));
    let more = reader.line().is_some();
    faults.append(&mut reader.faults);
    match first {
        Some(ParseResult::Instruction(it)) if faults.is_empty() && !more => Ok(it),
        _ => {
            if faults.is_empty() {
                let message = format!("an ONBUILD trigger must be one instruction: `{text}`");
                faults.push(fault("bake::dockerfile::bad_onbuild", message, at, "the base has this trigger"));
            }
            Err(faults)
        }
    }
}

/// The error for a `syntax` other than Docker's own, which is built in.
pub(crate) fn foreign_syntax(value: &str, at: Option<Span>) -> Option<Diagnostic> {
    let image = value.split_whitespace().next().unwrap_or_default();
    let name = image.strip_prefix("docker.io/").unwrap_or(image);
    let name = name.split(['@', ':']).next().unwrap_or_default();
    if matches!(name, "docker/dockerfile" | "docker/dockerfile-upstream" | "dockerfile.v0") {
        return None;
    }
    let message = format!("only the built-in Dockerfile syntax is supported, not a frontend image: {image}");
    let diagnostic = Diagnostic::error("bake::dockerfile::foreign_syntax", message)
        .help("remove the directive, use `docker/dockerfile:1`, or build this target with a BuildKit");
    Some(match at {
        Some(at) => diagnostic.at(at, "asked for here"),
        None => diagnostic,
    })
}

pub(super) fn fault(code: &'static str, message: String, at: Span, label: impl Into<String>) -> Diagnostic {
    Diagnostic::error(code, message).at(at, label)
}

enum ParseResult {
    Stage(Box<Stage>),
    Instruction(Instruction),
}

/// What the readers of single instructions work on.
struct ParseContext<'a> {
    text: &'a str,
    place: &'a SourcePlace,
    escape: char,
    keyword: &'a str,
    /// The whole instruction.
    at: Span,
    heredocs: Vec<Heredoc>,
}

impl ParseContext<'_> {
    fn word(&self, range: Range<usize>) -> Spanned<String> {
        Spanned::new(self.text[range.clone()].to_owned(), self.place.at(range))
    }

    fn fault(&self, code: &'static str, message: impl Into<String>, label: &str) -> Diagnostic {
        fault(code, message.into(), self.at, label)
    }

    fn arguments(&self, wanted: &str) -> Diagnostic {
        let keyword = self.keyword.to_ascii_uppercase();
        self.fault("bake::dockerfile::arguments", format!("{keyword} requires {wanted}"), "this instruction")
    }
}

fn instruction(
    line: &DockerfileLine<'_>,
    reader: &mut LineReader<'_>,
    faults: &mut Vec<Diagnostic>,
) -> Option<ParseResult> {
    let text: &str = &line.text;
    let whole = lex::trim(text, 0..text.len());
    let (keyword, rest) = lex::split_first(text, whole.clone());
    let at = line.place.at(whole.clone());
    let mut context = ParseContext {
        text,
        place: &line.place,
        escape: reader.escape(),
        keyword: &text[keyword.clone()],
        at,
        heredocs: Vec::new(),
    };
    let upper = context.keyword.to_ascii_uppercase();
    let carrier = if upper == "ONBUILD" {
        let (_, rest) = lex::take_flags(text, rest.clone(), context.escape);
        lex::split_first(text, rest)
    } else {
        (keyword.clone(), rest.clone())
    };
    if text.contains("<<") && matches!(text[carrier.0.clone()].to_ascii_uppercase().as_str(), "ADD" | "COPY" | "RUN") {
        context.heredocs = read_heredocs(&context, carrier.1, reader, faults)?;
    }
    if upper == "FROM" {
        return match from(&context, rest) {
            Ok(mut stage) => {
                stage.comments.clone_from(&line.comments);
                Some(ParseResult::Stage(Box::new(stage)))
            }
            Err(fault) => {
                faults.push(fault);
                None
            }
        };
    }
    match kind(&mut context, &upper, keyword, rest) {
        Ok(kind) => Some(ParseResult::Instruction(Instruction {
            keyword: context.keyword.to_owned(),
            at,
            code: match kind {
                InstructionKind::Run(_) | InstructionKind::Copy(_) | InstructionKind::Workdir(_) => {
                    text[whole].to_owned()
                }
                _ => String::new(),
            },
            comments: line.comments.clone(),
            kind,
        })),
        Err(fault) => {
            faults.push(fault);
            None
        }
    }
}

/// Reads the bodies that the line announces. `None` if one has no end.
fn read_heredocs(
    context: &ParseContext<'_>,
    arguments: Range<usize>,
    reader: &mut LineReader<'_>,
    faults: &mut Vec<Diagnostic>,
) -> Option<Vec<Heredoc>> {
    let (_, arguments) = lex::take_flags(context.text, arguments, context.escape);
    let arguments = &context.text[arguments];
    if arguments.starts_with('[') && matches!(json(arguments), Ok(Ok(_))) {
        return Some(Vec::new());
    }
    let mut heredocs = Vec::new();
    for (name, expand, strip_tabs) in lex::heredoc_words(context.text).iter().filter_map(|it| lex::heredoc_mark(it)) {
        let Some(body) = reader.heredoc(&name, strip_tabs) else {
            let message = format!("unterminated heredoc, no line is: {name}");
            let fault = context.fault("bake::dockerfile::unterminated_heredoc", message, "begins here");
            faults.push(fault.help(format!("end it with a line that is only `{name}`")));
            return None;
        };
        heredocs.push(Heredoc { name, body: body.to_owned(), expand, strip_tabs });
    }
    Some(heredocs)
}

fn from(context: &ParseContext<'_>, rest: Range<usize>) -> Result<Stage, Diagnostic> {
    let (flags, rest) = lex::take_flags(context.text, rest, context.escape);
    let mut flags = FlagSet::read(flags, flag::FROM, context.place)?;
    let words: Vec<Spanned<String>> =
        lex::split_blanks(context.text, rest).into_iter().map(|it| context.word(it)).collect();
    let (image, name) = match words.as_slice() {
        [image] => (image, None),
        [image, keyword, name] if keyword.value.eq_ignore_ascii_case("as") => (image, Some((keyword, name))),
        _ => {
            let message = "FROM requires either one or three arguments: `FROM image` or `FROM image AS name`";
            return Err(context.fault("bake::dockerfile::arguments", message, &format!("{} arguments", words.len())));
        }
    };
    if let Some((_, name)) = name {
        let lower = name.value.to_lowercase();
        let fine = lower.starts_with(|c: char| c.is_ascii_lowercase())
            && lower.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.'));
        if !fine {
            let message = format!("invalid name for a build stage: {}", name.value);
            return Err(fault("bake::dockerfile::bad_stage_name", message, name.at, "this name")
                .help("names begin with a letter and are made of letters, digits, `-`, `_` and `.`"));
        }
    }
    Ok(Stage {
        image: image.clone(),
        name: name.map(|(_, name)| Spanned::new(name.value.to_lowercase(), name.at)),
        written_name: name.map(|(_, name)| name.value.clone()),
        written_as: name.map(|(keyword, _)| keyword.value.clone()),
        platform: flags.text("platform"),
        keyword: context.keyword.to_owned(),
        at: context.at,
        comments: Vec::new(),
        instructions: Vec::new(),
    })
}

fn kind(
    context: &mut ParseContext<'_>,
    upper: &str,
    keyword: Range<usize>,
    rest: Range<usize>,
) -> Result<InstructionKind, Diagnostic> {
    let text = context.text;
    if upper == "ONBUILD" {
        return onbuild(context, keyword, rest);
    }
    let (flags, rest) = lex::take_flags(text, rest, context.escape);
    let known = match upper {
        "RUN" => flag::RUN,
        "COPY" => flag::COPY,
        "ADD" => flag::ADD,
        "HEALTHCHECK" => flag::HEALTHCHECK,
        _ => flag::NONE,
    };
    if !KEYWORDS.contains(&upper) {
        let message = format!("unknown instruction: {}", context.keyword);
        let fault =
            fault("bake::dockerfile::unknown_instruction", message, context.place.at(keyword), "not an instruction");
        return Err(match suggest::did_you_mean(upper, KEYWORDS.iter().copied()) {
            Some(help) => fault.help(help),
            None => fault,
        });
    }
    let mut flags = FlagSet::read(flags, known, context.place)?;
    let one = |context: &ParseContext<'_>| {
        if rest.is_empty() { Err(context.arguments("exactly one argument")) } else { Ok(context.word(rest.clone())) }
    };
    Ok(match upper {
        "ARG" => InstructionKind::Arg(args(context, rest)?),
        "ENV" => InstructionKind::Env(pairs(context, rest)?),
        "LABEL" => InstructionKind::Label(pairs(context, rest)?),
        "RUN" => InstructionKind::Run(Box::new(run(context, rest, &mut flags)?)),
        "COPY" | "ADD" => InstructionKind::Copy(Box::new(copy(context, rest, upper == "ADD", &mut flags)?)),
        "CMD" => InstructionKind::Cmd(command(context, rest)?),
        "ENTRYPOINT" => InstructionKind::Entrypoint(command(context, rest)?),
        "SHELL" => InstructionKind::Shell(shell(context, rest)?),
        "HEALTHCHECK" => InstructionKind::Healthcheck(health(context, rest, &mut flags)?),
        "EXPOSE" => {
            let mut ports: Vec<_> = lex::split_blanks(text, rest).into_iter().map(|it| context.word(it)).collect();
            if ports.is_empty() {
                return Err(context.arguments("at least one argument"));
            }
            ports.sort_by(|a, b| a.value.cmp(&b.value));
            InstructionKind::Expose(ports)
        }
        "VOLUME" => {
            let (volumes, _) = list(context, rest)?;
            if volumes.is_empty() {
                return Err(context.arguments("at least one argument"));
            }
            let volumes: Vec<_> =
                volumes.into_iter().map(|it| Spanned::new(it.value.trim().to_owned(), it.at)).collect();
            if let Some(empty) = volumes.iter().find(|it| it.value.is_empty()) {
                let message = "a VOLUME can not be an empty string".to_owned();
                return Err(fault("bake::dockerfile::arguments", message, empty.at, "empty"));
            }
            InstructionKind::Volume(volumes)
        }
        "USER" => InstructionKind::User(one(context)?),
        "WORKDIR" => InstructionKind::Workdir(one(context)?),
        "STOPSIGNAL" => InstructionKind::StopSignal(one(context)?),
        _ => InstructionKind::Maintainer(one(context)?.value),
    })
}

fn onbuild(
    context: &mut ParseContext<'_>,
    keyword: Range<usize>,
    rest: Range<usize>,
) -> Result<InstructionKind, Diagnostic> {
    let (flags, inner) = lex::take_flags(context.text, rest.clone(), context.escape);
    FlagSet::read(flags, flag::NONE, context.place)?;
    if inner.is_empty() {
        return Err(context.arguments("at least one argument"));
    }
    let (word, inner_rest) = lex::split_first(context.text, inner.clone());
    let trigger = context.text[word.clone()].to_ascii_uppercase();
    if matches!(trigger.as_str(), "ONBUILD" | "FROM" | "MAINTAINER") {
        let message = format!("{trigger} is not allowed as an ONBUILD trigger");
        return Err(fault("bake::dockerfile::bad_onbuild", message, context.place.at(word), "not allowed here"));
    }
    let heredocs = context.heredocs.clone();
    // Read for its faults; the text is what is kept.
    kind(context, &trigger, word, inner_rest)?;
    let mut text = context.text[keyword.end..].trim_start().to_owned();
    for heredoc in heredocs {
        text.push('\n');
        text.push_str(&heredoc.body);
        text.push_str(&heredoc.name);
    }
    Ok(InstructionKind::Onbuild(text))
}

fn args(context: &ParseContext<'_>, rest: Range<usize>) -> Result<Vec<ArgDef>, Diagnostic> {
    let words = lex::split_words(context.text, rest, context.escape);
    if words.is_empty() {
        return Err(context.arguments("at least one argument"));
    }
    words
        .into_iter()
        .map(|range| {
            let at = context.place.at(range.clone());
            let word = &context.text[range];
            let (name, default) = match word.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (word.to_owned(), None),
            };
            if name.is_empty() {
                let message = "names of ARG can not be blank".to_owned();
                return Err(fault("bake::dockerfile::blank_name", message, at, "no name before the `=`"));
            }
            Ok(ArgDef { name, default, at })
        })
        .collect()
}

/// `key=value …` or the old form `KEY the rest`.
fn pairs(context: &ParseContext<'_>, rest: Range<usize>) -> Result<Vec<Pair>, Diagnostic> {
    let words = lex::split_words(context.text, rest.clone(), context.escape);
    let Some(first) = words.first() else { return Err(context.arguments("at least one argument")) };
    if !context.text[first.clone()].contains('=') {
        let (key, value) = lex::split_first(context.text, rest.clone());
        if value.is_empty() {
            let keyword = context.keyword.to_ascii_uppercase();
            return Err(context
                .fault(
                    "bake::dockerfile::arguments",
                    format!("{keyword} must have two arguments"),
                    "a value is missing",
                )
                .help(format!("write `{keyword} {}=value`", &context.text[key])));
        }
        let at = context.place.at(rest);
        let (key, value) = (context.text[key].to_owned(), context.text[value].to_owned());
        return Ok(vec![Pair { key, value, legacy: true, at }]);
    }
    words
        .into_iter()
        .map(|range| {
            let at = context.place.at(range.clone());
            let word = &context.text[range];
            let Some((key, value)) = word.split_once('=') else {
                let message = format!("no `=` in this word, the form is name=value: {word}");
                return Err(fault("bake::dockerfile::arguments", message, at, "this word")
                    .help("put quotes around a value with blanks"));
            };
            if key.is_empty() {
                let message = format!("names of {} can not be blank", context.keyword.to_ascii_uppercase());
                return Err(fault("bake::dockerfile::blank_name", message, at, "no name before the `=`"));
            }
            Ok(Pair { key: key.to_owned(), value: value.to_owned(), legacy: false, at })
        })
        .collect()
}

/// Why a text is not an array of strings: `Ok(Err(_))` when it is an array of other things.
fn json(text: &str) -> Result<Result<Vec<String>, ()>, serde_json::Error> {
    let values: Vec<serde_json::Value> = serde_json::from_str(text)?;
    let strings = values.into_iter().map(|value| match value {
        serde_json::Value::String(text) => Ok(text),
        _ => Err(()),
    });
    Ok(strings.collect())
}

/// An array of strings, or, if the text only looks like one, why it is none.
type MaybeArray = (Option<Vec<String>>, Option<Spanned<String>>);

fn array(context: &ParseContext<'_>, rest: &Range<usize>) -> Result<MaybeArray, Diagnostic> {
    let text = &context.text[rest.clone()];
    if !text.starts_with('[') {
        return Ok((None, None));
    }
    match json(text) {
        Ok(Ok(list)) => Ok((Some(list), None)),
        Ok(Err(())) => {
            let message = "arrays in JSON form must be made of strings only".to_owned();
            Err(fault("bake::dockerfile::json_not_strings", message, context.place.at(rest.clone()), "this array"))
        }
        Err(why) if looks_like_array(text) => {
            let line = text.split('\n').nth(why.line().saturating_sub(1)).unwrap_or_default();
            let column = why.column().saturating_sub(1).min(line.len().saturating_sub(1));
            let start = rest.start + column;
            let start = (rest.start..=start).rev().find(|it| context.text.is_char_boundary(*it)).unwrap_or(rest.start);
            let end = (start + 1..=rest.end).find(|it| context.text.is_char_boundary(*it)).unwrap_or(rest.end);
            let why = why.to_string();
            let why = why.split(" at line ").next().unwrap_or_default().to_owned();
            Ok((None, Some(Spanned::new(why, context.place.at(start..end)))))
        }
        Err(_) => Ok((None, None)),
    }
}

/// A bracket, a quoted text, then what an array has: `,`, `]`, another quote or nothing. `[ "$A" = b ]` is a test.
fn looks_like_array(text: &str) -> bool {
    let inner = text[1..].trim_start();
    let Some(quote) = inner.chars().next().filter(|c| matches!(c, '"' | '\'')) else { return false };
    let Some(end) = inner[1..].find(quote) else { return false };
    matches!(inner[end + 2..].trim_start().chars().next(), None | Some(',' | ']' | '"' | '\''))
}

fn command(context: &ParseContext<'_>, rest: Range<usize>) -> Result<CommandLine, Diagnostic> {
    let (list, almost_json) = array(context, &rest)?;
    let json = list.is_some();
    Ok(CommandLine { args: list.unwrap_or_else(|| vec![context.text[rest].to_owned()]), json, almost_json })
}

/// Words split at blanks, or the elements of an array.
type WordReader = (Vec<Spanned<String>>, Option<Spanned<String>>);

fn list(context: &ParseContext<'_>, rest: Range<usize>) -> Result<WordReader, Diagnostic> {
    let (list, almost_json) = array(context, &rest)?;
    let at = context.place.at(rest.clone());
    let words = match list {
        Some(list) => list.into_iter().map(|it| Spanned::new(it, at)).collect(),
        None => lex::split_blanks(context.text, rest).into_iter().map(|it| context.word(it)).collect(),
    };
    Ok((words, almost_json))
}

fn shell(context: &ParseContext<'_>, rest: Range<usize>) -> Result<Vec<String>, Diagnostic> {
    match array(context, &rest)?.0 {
        Some(list) if !list.is_empty() => Ok(list),
        None if !rest.is_empty() => {
            let message = format!("SHELL requires its arguments in JSON form: {}", &context.text[rest]);
            let fault = context.fault("bake::dockerfile::arguments", message, "not an array");
            Err(fault.help("write `SHELL [\"/bin/sh\", \"-c\"]`"))
        }
        _ => Err(context.arguments("at least one argument")),
    }
}

fn run(context: &mut ParseContext<'_>, rest: Range<usize>, flags: &mut FlagSet) -> Result<RunInstruction, Diagnostic> {
    let command = command(context, rest)?;
    for (flag, known) in [("network", &["default", "none", "host"][..]), ("security", &["sandbox", "insecure"])] {
        if let Some(value) = flags.peek(flag)
            && !known.contains(&value.value.as_str())
        {
            let message = format!("unknown value for `--{flag}`, not one of {}: {}", known.join(", "), value.value);
            let fault = fault("bake::dockerfile::bad_flag_value", message, value.at, "this value");
            return Err(match suggest::did_you_mean(&value.value, known.iter().copied()) {
                Some(help) => fault.help(help),
                None => fault,
            });
        }
    }
    let mounts = flags.list("mount");
    for mount in &mounts {
        check_mount_from(mount)?;
    }
    let is_heredoc = !command.json && command.args.len() == 1 && lex::heredoc_mark(&command.args[0]).is_some();
    Ok(RunInstruction {
        is_heredoc: is_heredoc && !context.heredocs.is_empty(),
        command,
        heredocs: std::mem::take(&mut context.heredocs),
        mounts,
        network: flags.text("network"),
        security: flags.text("security"),
    })
}

fn check_mount_from(mount: &Spanned<String>) -> Result<(), Diagnostic> {
    let fields =
        value::csv(&mount.value).map_err(|why| fault("bake::dockerfile::bad_mount", why, mount.at, "this mount"))?;
    for field in fields {
        let Some((key, value)) = field.split_once('=') else { continue };
        if key.eq_ignore_ascii_case("from") && value.find('$').is_some_and(|at| at + 1 != value.len()) {
            let message = format!("`from` of a mount can not have variables: {value}");
            return Err(fault("bake::dockerfile::variable_in_from", message, mount.at, "this mount")
                .help(format!("define a stage `FROM {value} AS name` and use its name")));
        }
    }
    Ok(())
}

fn copy(
    context: &mut ParseContext<'_>,
    rest: Range<usize>,
    is_add: bool,
    flags: &mut FlagSet,
) -> Result<CopyInstruction, Diagnostic> {
    let keyword = if is_add { "ADD" } else { "COPY" };
    let (mut words, almost_json) = list(context, rest)?;
    let dest = words.pop().filter(|_| !words.is_empty());
    let Some(dest) = dest else {
        return Err(context.arguments("at least two arguments, the last one is the destination"));
    };
    if lex::heredoc_mark(&dest.value).is_some() {
        let message = format!("{keyword} cannot have a heredoc as its destination: {}", dest.value);
        return Err(fault("bake::dockerfile::heredoc_destination", message, dest.at, "the destination"));
    }
    let bodies = std::mem::take(&mut context.heredocs);
    let mut sources = Vec::new();
    let mut heredocs = Vec::new();
    for word in words {
        let body = lex::heredoc_mark(&word.value).and_then(|(name, ..)| bodies.iter().rfind(|it| it.name == name));
        match body {
            Some(body) => heredocs.push(body.clone()),
            None => sources.push(word),
        }
    }
    if let Some(from) = flags.peek("from")
        && let Some(at) = from.value.find('$')
        && at + 1 != from.value.len()
    {
        let message = format!("`--from` can not have variables: {}", from.value);
        return Err(fault("bake::dockerfile::variable_in_from", message, from.at, "this flag")
            .help(format!("define a stage `FROM {} AS name` and use its name", from.value)));
    }
    if let Some(from) = flags.peek("from").filter(|it| it.value.trim().is_empty()) {
        return Err(fault("bake::dockerfile::bad_flag_value", "`--from` is empty".to_owned(), from.at, "this flag"));
    }
    Ok(CopyInstruction {
        is_add,
        sources,
        heredocs,
        dest,
        from: flags.text("from"),
        chown: flags.text("chown"),
        chmod: flags.text("chmod"),
        checksum: flags.text("checksum"),
        exclude: flags.list("exclude"),
        link: flags.boolean("link").unwrap_or(false),
        parents: flags.boolean("parents").unwrap_or(false),
        keep_git_dir: flags.boolean("keep-git-dir"),
        unpack: flags.boolean("unpack"),
        almost_json,
    })
}

fn health(context: &ParseContext<'_>, rest: Range<usize>, flags: &mut FlagSet) -> Result<Health, Diagnostic> {
    if rest.is_empty() {
        return Err(context.arguments("at least one argument"));
    }
    let (word, rest) = lex::split_first(context.text, rest);
    let mut health = Health {
        test: vec!["NONE".to_owned()],
        interval: 0,
        timeout: 0,
        start_period: 0,
        start_interval: 0,
        retries: 0,
        almost_json: None,
    };
    match context.text[word.clone()].to_ascii_uppercase().as_str() {
        "NONE" if rest.is_empty() => return Ok(health),
        "NONE" => {
            let message = "HEALTHCHECK NONE takes no arguments";
            return Err(context.fault("bake::dockerfile::arguments", message, "this instruction"));
        }
        "CMD" => {
            let command = command(context, rest.clone())?;
            if rest.is_empty() || command.args.is_empty() {
                let message = "a command is missing after HEALTHCHECK CMD";
                return Err(context.fault("bake::dockerfile::arguments", message, "this instruction"));
            }
            health.test = vec![if command.json { "CMD" } else { "CMD-SHELL" }.to_owned()];
            health.test.extend(command.args);
            health.almost_json = command.almost_json;
        }
        _ => {
            let message = format!("unknown type of HEALTHCHECK, not CMD or NONE: {}", &context.text[word.clone()]);
            return Err(fault("bake::dockerfile::bad_healthcheck", message, context.place.at(word), "this word")
                .help("write `HEALTHCHECK CMD command`"));
        }
    }
    let mut time = |flag: &str| -> Result<i64, Diagnostic> {
        let Some(text) = flags.text(flag) else { return Ok(0) };
        let bad =
            |why| fault("bake::dockerfile::bad_healthcheck", format!("bad `--{flag}`, {why}"), text.at, "this flag");
        match value::duration(&text.value).map_err(bad)? {
            ns if ns != 0 && ns < 1_000_000 => Err(bad(format!("it can not be less than 1ms: {}", text.value))),
            ns => Ok(ns),
        }
    };
    health.interval = time("interval")?;
    health.timeout = time("timeout")?;
    health.start_period = time("start-period")?;
    health.start_interval = time("start-interval")?;
    if let Some(retries) = flags.text("retries") {
        health.retries = retries.value.parse::<i32>().ok().filter(|it| *it >= 0).map(i64::from).ok_or_else(|| {
            let message = format!("bad `--retries`, not a number of 0 or more: {}", retries.value);
            fault("bake::dockerfile::bad_healthcheck", message, retries.at, "this flag")
        })?;
    }
    Ok(health)
}
