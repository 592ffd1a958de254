//! One instruction: its keyword, flags, arguments and heredocs. Nothing is expanded and nothing resolved here.

use std::ops::Range;

use super::{
    command::{command, health, json, list, run, shell},
    context::ParseContext,
    copy::copy,
    flag::{self, FlagSet},
};
use crate::{
    dockerfile::{
        fault::fault,
        instruction::{ArgDef, Heredoc, Instruction, InstructionKind, KEYWORDS, Pair, Stage},
        lex::{self, DockerfileLine, LineReader},
    },
    report::{Diagnostic, Spanned, suggest},
};

/// What one logical line adds to a Dockerfile: a new stage (FROM) or an instruction of the last one.
pub(super) enum ParseResult {
    Stage(Box<Stage>),
    Instruction(Instruction),
}

/// Parses one logical line with its here-documents, whose bodies are read from `reader`.
///
/// `None` if the line has a fault, which is then in `faults`; parsing goes on with the next line.
pub(super) fn instruction(
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

/// Reads the heredoc bodies that the line announces. `None` after recording an error if one has no end.
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

/// Parses the flags and arguments of an instruction whose keyword in upper case is `upper`.
///
/// `keyword` and `rest` are the byte ranges of the keyword and of what follows it. Also used for the instruction in
/// ONBUILD.
///
/// # Errors
/// For an unknown keyword (the help names the nearest), and for flags and arguments that the instruction does not take.
pub(super) fn kind(
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
    // Parsed only to report its errors; the text is kept.
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
