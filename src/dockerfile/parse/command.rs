//! Arguments that are a command line or a list: the exec form (a JSON array of strings) and the shell form
//! (<https://docs.docker.com/reference/dockerfile/#shell-and-exec-form>), for RUN, CMD, ENTRYPOINT, SHELL and HEALTHCHECK.

use std::ops::Range;

use super::{context::ParseContext, flag::FlagSet};
use crate::{
    dockerfile::{
        fault::fault,
        instruction::{CommandLine, Health, RunInstruction},
        lex, value,
    },
    report::{Diagnostic, Spanned, suggest},
};

/// Parses a JSON array of strings. `Ok(Err(()))` is an array with other elements, `Err` a text that is no array.
pub(super) fn json(text: &str) -> Result<Result<Vec<String>, ()>, serde_json::Error> {
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

/// Whether a text that is not valid JSON was meant as an array: a bracket, a quoted text, then `,`, `]`, another quote
/// or nothing. `[ "$A" = b ]` is a shell test, not an array.
fn looks_like_array(text: &str) -> bool {
    let inner = text[1..].trim_start();
    let Some(quote) = inner.chars().next().filter(|c| matches!(c, '"' | '\'')) else { return false };
    let Some(end) = inner[1..].find(quote) else { return false };
    matches!(inner[end + 2..].trim_start().chars().next(), None | Some(',' | ']' | '"' | '\''))
}

/// Parses a command line in exec form (`["a", "b"]`) or shell form (`a b`): RUN, CMD, ENTRYPOINT, HEALTHCHECK CMD.
///
/// `rest` is the byte range of the arguments in `context.text`, after the keyword and its flags. In shell form the
/// whole range becomes the only element of `args`. A text that looks like an array but is not valid JSON is taken as
/// shell form, as Docker does, and `almost_json` says why, for the check `MalformedJSONArray`
/// (<https://docs.docker.com/reference/dockerfile/#shell-and-exec-form>).
///
/// # Errors
/// When it is a JSON array with an element that is not a string.
pub(super) fn command(context: &ParseContext<'_>, rest: Range<usize>) -> Result<CommandLine, Diagnostic> {
    let (list, almost_json) = array(context, &rest)?;
    let json = list.is_some();
    Ok(CommandLine { args: list.unwrap_or_else(|| vec![context.text[rest].to_owned()]), json, almost_json })
}

/// Words split at blanks, or the elements of an array.
type WordList = (Vec<Spanned<String>>, Option<Spanned<String>>);

/// Parses arguments that are words split at blanks, or the elements of a JSON array: the paths of COPY and ADD, VOLUME.
///
/// The second value says why a text only looks like an array. Every element of an array gets the span of the whole
/// array.
///
/// # Errors
/// When it is a JSON array with an element that is not a string.
pub(super) fn list(context: &ParseContext<'_>, rest: Range<usize>) -> Result<WordList, Diagnostic> {
    let (list, almost_json) = array(context, &rest)?;
    let at = context.place.at(rest.clone());
    let words = match list {
        Some(list) => list.into_iter().map(|it| Spanned::new(it, at)).collect(),
        None => lex::split_blanks(context.text, rest).into_iter().map(|it| context.word(it)).collect(),
    };
    Ok((words, almost_json))
}

/// Parses the arguments of SHELL, which must be a JSON array with at least one string.
///
/// # Errors
/// When they are missing, are not an array, or the array is empty or has an element that is not a string.
pub(super) fn shell(context: &ParseContext<'_>, rest: Range<usize>) -> Result<Vec<String>, Diagnostic> {
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

/// Parses RUN: its command line or here-documents, and the flags `--mount`, `--network` and `--security`.
///
/// The here-documents of `context` move into the result. Mounts stay texts: their variables are expanded in `lower`.
/// Only `from` of a mount is checked here, because it decides which stages are needed.
///
/// # Errors
/// When a value of `--network` or `--security` is unknown, `from` of a mount has a variable, or the command is an array
/// with an element that is not a string.
pub(super) fn run(
    context: &mut ParseContext<'_>,
    rest: Range<usize>,
    flags: &mut FlagSet,
) -> Result<RunInstruction, Diagnostic> {
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

/// Parses HEALTHCHECK: `NONE`, or `CMD` and a command in exec or shell form, with its flags.
///
/// Times are in nanoseconds; 0 means that the flag is missing and the default of the container runtime counts.
///
/// # Errors
/// When the word after the flags is neither `NONE` nor `CMD`, the command is missing, or a flag is no duration of at
/// least 1 ms or no number of retries.
pub(super) fn health(
    context: &ParseContext<'_>,
    rest: Range<usize>,
    flags: &mut FlagSet,
) -> Result<Health, Diagnostic> {
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
