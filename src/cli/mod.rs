//! Arguments, settings, commands.
//!
//! ```text
//! args (clap) ─► settings (with the environment) ─► commands ─► exit code
//! ```
//!
//! Exit codes: 0 success; 1 the definition or the build failed; 2 bad usage; 130 interrupted.

pub(crate) mod args;
pub(crate) mod commands;
pub(crate) mod definition;
mod entitlements;
mod files;
#[cfg(test)]
mod reference;
pub(crate) mod settings;
mod state;
mod world;

use std::{collections::BTreeMap, ffi::OsString, path::Path};

use clap::Parser;

use crate::{
    dispatch::interrupt::{self, Interrupts, WatchEnd},
    report::{Diagnostic, SourceMap},
    sandbox,
    ui::{log, output},
};
use args::{Bake, COMMANDS, CacheCommand, CliCommand, WithCommand};
use settings::{ListWhat, Settings};

/// Exit code: success.
pub(crate) const OK: u8 = 0;
/// Exit code: the definition or the build failed.
pub(crate) const FAILED: u8 = 1;
/// Exit code: bad usage.
pub(crate) const USAGE: u8 = 2;
/// Exit code: interrupted by SIGINT or SIGTERM.
pub(crate) const INTERRUPTED: u8 = 130;

/// Runs the program; the result is the exit code.
pub fn run() -> u8 {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if let Some(code) = arguments.get(1).and_then(|first| sandbox::helper_main(first)) {
        return code;
    }
    let env = settings::environment();
    // `help` alone is about the whole; `help plan` about one command.
    let arguments = match arguments.as_slice() {
        [program, word] if word == "help" => vec![program.clone(), "--help".into()],
        _ => arguments,
    };
    if let Some(filter) = log_filter(&arguments, &env)
        && let Err(fault) = log::start(filter)
    {
        return bad_usage(&[*fault], settings::color(&env));
    }
    let is_command = arguments.get(1).and_then(|it| it.to_str()).is_some_and(|it| COMMANDS.contains(&it));
    if is_command {
        match WithCommand::try_parse_from(arguments) {
            Ok(parsed) => run_command(parsed.command, env),
            Err(error) => usage(&error, &env),
        }
    } else {
        match Bake::try_parse_from(arguments) {
            Ok(parsed) => run_bake(parsed, env),
            Err(error) => usage(&error, &env),
        }
    }
}

/// The filter of the log; it starts before the arguments are parsed, so that it tells of that as well.
fn log_filter<'a>(arguments: &[OsString], env: &'a BTreeMap<String, String>) -> Option<&'a str> {
    let given = env.get("BAKE_LOG").map(String::as_str).filter(|filter| !filter.is_empty());
    given.or_else(|| arguments.iter().skip(1).any(|word| word == "-D" || word == "--debug").then_some("debug"))
}

fn run_bake(bake: Bake, env: BTreeMap<String, String>) -> u8 {
    let color = settings::color(&env);
    let list = match (&bake.list, bake.list_targets, bake.list_variables) {
        (Some(text), _, _) => ListWhat::parse(text).map(Some),
        (None, true, _) => Ok(Some(ListWhat { variables: false, json: false })),
        (None, _, true) => Ok(Some(ListWhat { variables: true, json: false })),
        (None, false, false) => Ok(None),
    };
    let list = match list {
        Ok(list) => list,
        Err(diagnostic) => return bad_usage(&[*diagnostic], color),
    };
    let settings = match Settings::new(bake.plan, Some(bake.run), env) {
        Ok(settings) => settings,
        Err(faults) => return bad_usage(&faults, color),
    };
    // Namespaces can be entered only while there is one thread.
    if list.is_none()
        && !bake.print
        && let Err(code) = enter_namespace(color)
    {
        return code;
    }
    if list.is_some() || bake.print {
        sandbox::allocate_for_one_thread();
    }
    match list {
        Some(what) => on_large_stack(move || commands::list::run(&settings, what)),
        None if bake.print => on_large_stack(move || commands::print::run(&settings)),
        None => interruptible(move |interrupts| build_or_call(&settings, interrupts)),
    }
}

fn build_or_call(settings: &Settings, interrupts: &mut Interrupts) -> u8 {
    let planned = match definition::allowed(settings) {
        Ok(planned) => planned,
        Err(code) => return code,
    };
    let conclude = definition::concluding(&planned.evaluated.aside);
    conclude(if commands::call::is_wanted(&planned.plan) {
        commands::call::run(settings, planned, interrupts)
    } else {
        commands::build::run(settings, planned, interrupts)
    })
}

/// Enters the namespace in which the files of the state directory are ours.
fn enter_namespace(color: bool) -> Result<(), u8> {
    sandbox::enter_user_namespace().map_err(|diagnosis| {
        let fault = Diagnostic::error("bake::sandbox::refused", diagnosis.problem).help(diagnosis.help);
        output::diagnostics(&[fault], &SourceMap::default(), color);
        FAILED
    })
}

/// Runs a command that maintains the state directory.
fn on_state(env: &BTreeMap<String, String>, work: impl FnOnce(&Path, bool) -> u8) -> u8 {
    let color = settings::color(env);
    match enter_namespace(color) {
        Ok(()) => work(&settings::bake_home(env), color),
        Err(code) => code,
    }
}

fn run_command(command: CliCommand, env: BTreeMap<String, String>) -> u8 {
    let color = settings::color(&env);
    match command {
        CliCommand::Plan { plan, format } => match Settings::new(*plan, None, env) {
            Ok(settings) => on_large_stack(move || commands::plan::run(&settings, format)),
            Err(faults) => bad_usage(&faults, color),
        },
        CliCommand::Check { plan, format } => match Settings::new(*plan, None, env) {
            Ok(settings) => on_large_stack(move || commands::check::run(&settings, format)),
            Err(faults) => bad_usage(&faults, color),
        },
        CliCommand::Fmt(args) => on_large_stack(move || commands::fmt::run(&args, color)),
        CliCommand::Du { format } => on_state(&env, |home, color| commands::du::run(home, format, color)),
        CliCommand::Prune(args) => on_state(&env, |home, color| commands::prune::run(home, &args, color)),
        CliCommand::Cache { command: CacheCommand::Verify } => on_state(&env, commands::verify::run),
        CliCommand::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut args::whole(), "bake", &mut text);
            write(&String::from_utf8_lossy(&text))
        }
        CliCommand::Version => write(&format!("bake {}\n", env!("CARGO_PKG_VERSION"))),
    }
}

/// Runs work on a thread with a large stack, because evaluation follows the nesting of what it reads. Only the part of the
/// stack that is touched takes memory.
fn on_large_stack(work: impl FnOnce() -> u8 + Send + 'static) -> u8 {
    match large_stack(work) {
        Ok(thread) => thread.join().unwrap_or(FAILED),
        Err(code) => code,
    }
}

/// As [`on_large_stack`], and this thread meanwhile watches for SIGINT and SIGTERM.
fn interruptible(work: impl FnOnce(&mut Interrupts) -> u8 + Send + 'static) -> u8 {
    let (sender, mut interrupts) = interrupt::interrupts();
    let (done, ended) = tokio::sync::oneshot::channel();
    // Nobody takes the result of work that was left behind.
    let thread = large_stack(move || {
        let _left_behind = done.send(work(&mut interrupts));
    });
    if let Err(code) = thread {
        return code;
    }
    match interrupt::watch(ended, &sender) {
        Ok(WatchEnd::Done(code)) => code,
        Ok(WatchEnd::Panicked) => FAILED,
        Ok(WatchEnd::Interrupted) => {
            output::words("interrupted\n");
            INTERRUPTED
        }
        Err(error) => {
            output::words(&format!("bake: signals cannot be watched: {error}\n"));
            FAILED
        }
    }
}

/// Starts a thread with a large stack.
///
/// # Errors
/// The exit code, when it cannot be started; that has been reported.
fn large_stack<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<std::thread::JoinHandle<T>, u8> {
    const STACK: usize = 256 << 20;
    std::thread::Builder::new().name("bake".to_owned()).stack_size(STACK).spawn(work).map_err(|error| {
        output::words(&format!("bake: a thread cannot be started: {error}\n"));
        FAILED
    })
}

/// Writes text to standard output; the exit code.
pub(crate) fn write(text: &str) -> u8 {
    written(output::data(text))
}

/// Writes JSON to standard output; the exit code.
pub(crate) fn write_json(text: &str) -> u8 {
    written(output::json(text))
}

/// Writes text with colours of our own to standard output; the exit code.
pub(crate) fn write_styled(text: &str) -> u8 {
    written(output::styled_data(text))
}

/// The exit code of a command that wrote its result; a fault is reported.
fn written(result: std::io::Result<()>) -> u8 {
    match result {
        Ok(()) => OK,
        Err(error) => {
            output::words(&format!("bake: standard output cannot be written: {error}\n"));
            FAILED
        }
    }
}

fn bad_usage(faults: &[Diagnostic], color: bool) -> u8 {
    output::diagnostics(faults, &SourceMap::default(), color);
    USAGE
}

/// Shows a message of clap: help goes to standard output, faults to standard error.
fn usage(error: &clap::Error, env: &BTreeMap<String, String>) -> u8 {
    let rendered = error.render();
    if error.use_stderr() {
        output::words(&rendered.to_string());
        return USAGE;
    }
    let styled = settings::color(env) && output::stdout_is_terminal();
    write_styled(&if styled { rendered.ansi().to_string() } else { rendered.to_string() })
}
