//! Arguments, settings, commands.
//!
//! ```text
//! args (clap) ─► settings (with the environment) ─► commands ─► exit code
//! ```
//!
//! Exit codes: 0 success; 1 the definition or the build failed; 2 bad usage; 130 interrupted.

mod affected;
mod affected_args;
mod answer_file;
pub(crate) mod args;
mod build_args;
mod builder_args;
pub(crate) mod builder_choice;
mod command_line;
pub(crate) mod commands;
#[cfg(test)]
mod compared;
mod convert;
pub(crate) mod definition;
mod entitlements;
mod environment;
pub(crate) mod exit;
mod files;
mod first_word;
mod headings;
mod matrix_args;
mod plugin;
mod plugin_args;
mod proxies;
#[cfg(test)]
mod reference;
mod registries;
mod reports;
pub(crate) mod settings;
mod shard;
mod single_id;
mod state;
mod stdin;
mod template;
mod world;

use std::{collections::BTreeMap, ffi::OsString};

use clap::{Parser, ValueEnum as _};

use crate::{
    dispatch::interrupt::{self, Interrupts, WatchEnd},
    report::{Diagnostic, SourceMap},
    sandbox,
    store::{self, HomeDir},
    ui::{log, output, raw_terminal},
};
use affected_args::WantedRevisions;
use args::{Bake, COMMANDS, CacheCommand, CliCommand, DebugArgs, PlanArgs, ProgressArg, RunArgs, WithCommand};
use build_args::BuildArgs;
use builder_choice::BuilderChoice;
use exit::{FAILED, INTERRUPTED, USAGE, write, write_styled};
use first_word::MeantTarget;
use plugin::{Invocation, Plugin, PluginCall};
use plugin_args::{Buildx, BuildxCommand};
use reports::{ReportDefaults, reporting};
use settings::{Environment, ListWhat, Settings};
use shard::ShardChoice;

/// Runs the program; the result is the exit code.
pub fn run() -> u8 {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if let Some(code) = arguments.get(1).and_then(|first| sandbox::helper_main(first)) {
        return code;
    }
    if arguments.get(1).is_some_and(|word| word == store::SYNC_COMMAND) {
        return store::sync_main();
    }
    let mut env = settings::environment();
    let called = arguments.first().and_then(|program| Plugin::of_program(program));
    let call = called.map(|plugin| plugin.call(&arguments, &mut env));
    if let Some(filter) = log_filter(&arguments, &env)
        && let Err(fault) = log::start(filter)
    {
        return bad_usage(&[*fault], settings::color(&env));
    }
    match call {
        None => run_words(arguments, env, Invocation::Program),
        Some(PluginCall::Metadata(text)) => write(&text),
        Some(PluginCall::Bake(arguments)) => run_words(arguments, env, Invocation::Plugin),
        Some(PluginCall::Buildx(arguments)) => match Buildx::read(arguments) {
            Ok(parsed) => run_buildx(parsed, env),
            Err(error) => usage(&error, &env),
        },
    }
}

/// Runs a command of `bake`, or builds targets.
fn run_words(arguments: Vec<OsString>, env: Environment, invocation: Invocation) -> u8 {
    let is_command = arguments.get(1).is_some_and(|word| COMMANDS.iter().any(|(name, _)| word == name));
    if is_command && let Some(MeantTarget { bake, note }) = meant_target(&arguments, &env) {
        output::words(&note);
        return run_bake(bake, env, invocation);
    }
    // `help` alone is about the whole; `help plan` about one command.
    let arguments = match arguments.as_slice() {
        [program, word] if word == "help" => vec![program.clone(), "--help".into()],
        _ => arguments,
    };
    if is_command && arguments[1] != "--help" {
        match WithCommand::try_parse_from(arguments) {
            Ok(parsed) => run_command(parsed.command, env, invocation),
            Err(error) => usage(&error, &env),
        }
    } else {
        match Bake::try_parse_from(arguments) {
            Ok(parsed) => run_bake(parsed, env, invocation),
            Err(error) => usage(&error, &env),
        }
    }
}

/// Runs a command of `docker buildx`.
fn run_buildx(buildx: Buildx, env: Environment) -> u8 {
    let color = settings::color(&env);
    // An option in front of the command counts where the command has none.
    let ahead = buildx.builder.name.clone();
    let or_ahead = |run: &mut RunArgs| {
        if run.builder.builders.is_empty() {
            run.builder.builders.extend(ahead.clone());
        }
    };
    match buildx.command {
        BuildxCommand::Bake(mut bake) => {
            or_ahead(&mut bake.run);
            run_bake(*bake, env, Invocation::Plugin)
        }
        BuildxCommand::Build(mut args) => {
            or_ahead(&mut args.run);
            run_build(*args, env, Invocation::Plugin)
        }
        BuildxCommand::Du(args) => match args.du() {
            Ok(args) => on_state(&env, |home, color| commands::du::run(home, &args, color)),
            Err(fault) => bad_usage(&[*fault], color),
        },
        BuildxCommand::Prune(args) => on_state(&env, |home, color| commands::prune::run(home, &args.into(), color)),
        BuildxCommand::Version => write(&plugin::version()),
        BuildxCommand::Inspect(args) => commands::builders::inspect(&args, buildx.builder.name.as_deref(), &env),
        BuildxCommand::Ls(args) => commands::builders::ls(&args, &env),
        BuildxCommand::Create(args) => commands::builders::create(&args),
        BuildxCommand::Use(_) => commands::builders::prepared("use"),
        BuildxCommand::Rm(_) => commands::builders::prepared("rm"),
        BuildxCommand::Stop { .. } => commands::builders::prepared("stop"),
        BuildxCommand::Install => commands::builders::prepared("install"),
        BuildxCommand::Uninstall => commands::builders::prepared("uninstall"),
        BuildxCommand::History { command, .. } => commands::builders::history(&command, color),
        BuildxCommand::Imagetools { command, .. } => match Settings::new(PlanArgs::default(), None, env) {
            Ok(settings) => commands::imagetools::run(&settings, &command),
            Err(faults) => bad_usage(&faults, color),
        },
    }
}

/// See [`first_word::as_targets`].
fn meant_target(arguments: &[OsString], env: &Environment) -> Option<MeantTarget> {
    let (arguments, env) = (arguments.to_vec(), env.clone());
    let meant = large_stack(move || first_word::as_targets(&arguments, &env)).ok()?.join().ok()?;
    sandbox::wait_for_ended_threads();
    meant
}

/// The filter of the log; it starts before the arguments are parsed, so that it tells of that as well.
fn log_filter<'a>(arguments: &[OsString], env: &'a BTreeMap<String, String>) -> Option<&'a str> {
    let given = env.get("BAKE_LOG").map(String::as_str).filter(|filter| !filter.is_empty());
    given.or_else(|| arguments.iter().skip(1).any(|word| word == "-D" || word == "--debug").then_some("debug"))
}

/// With progress as JSON all that is told on standard error is JSON, faults of the settings as well.
fn tell_programs(run: &RunArgs, env: &Environment) {
    let of_env = || env.get("BUILDKIT_PROGRESS").and_then(|text| ProgressArg::from_str(text, true).ok());
    if run.progress.or_else(of_env) == Some(ProgressArg::Rawjson) {
        output::tell_programs();
    }
}

/// Lowers the priority of this process, and so of all that it starts; one that is low already stays as it is.
fn lower_priority(run: &RunArgs) {
    let Some(wanted) = run.nice else { return };
    let now = rustix::process::getpriority_process(None).unwrap_or(0);
    if wanted > now {
        // Nobody is forbidden to leave the processor to others.
        let _is_allowed = rustix::process::setpriority_process(None, wanted);
    }
}

/// Builds targets, or shows what there is.
fn run_bake(bake: Bake, env: Environment, invocation: Invocation) -> u8 {
    tell_programs(&bake.run, &env);
    lower_priority(&bake.run);
    let shows = bake.list.is_some() || bake.list_targets || bake.list_variables || bake.print.is_some();
    let defaults = if shows { ReportDefaults::Nothing } else { ReportDefaults::OfService };
    let reports = bake.run.reports.clone();
    reporting(&reports, env, defaults, |env| build_or_show(bake, env, invocation))
}

fn build_or_show(bake: Bake, env: Environment, invocation: Invocation) -> u8 {
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
    let unbuilt = Unbuilt {
        metadata_file: bake.run.metadata_file.clone(),
        is_printed: bake.print == Some(args::PrintFormat::Json),
    };
    let mut settings = match Settings::new(bake.plan, Some(bake.run), env) {
        Ok(settings) => settings,
        Err(faults) => return bad_usage(&faults, color),
    };
    settings.choose_builder_of(invocation);
    if let Some(since) = bake.since {
        let wanted = WantedRevisions { since, until: None, is_direct: bake.direct };
        settings = match restricted(settings, move |settings| commands::affected::restrict(settings, &wanted)) {
            Ok(settings) => settings,
            Err(code) => return without_work(code, &unbuilt, color),
        };
    }
    if let Some(shard) = bake.shard {
        let shard = ShardChoice { wave: bake.wave.map(std::num::NonZero::get), ..shard };
        settings = match restricted(settings, move |settings| commands::matrix::restrict(settings, shard)) {
            Ok(settings) => settings,
            Err(code) => return without_work(code, &unbuilt, color),
        };
    }
    // Namespaces can be entered only while there is one thread.
    if list.is_none()
        && bake.print.is_none()
        && let Err(code) = enter_namespace_of_build(&mut settings)
    {
        return code;
    }
    if list.is_some() || bake.print.is_some() {
        sandbox::allocate_for_one_thread();
    }
    match list {
        Some(what) => on_large_stack(move || commands::list::run(&settings, what)),
        None => match bake.print {
            Some(format) => on_large_stack(move || commands::print::run(&settings, format)),
            None => interruptible(move |interrupts| {
                let loads_by_default = loads_by_default(&settings, invocation);
                build_or_call(&Settings { loads_by_default, ..settings }, interrupts)
            }),
        },
    }
}

/// What is answered where there is nothing to build: as little, in the same form.
struct Unbuilt {
    metadata_file: Option<String>,
    /// As JSON; a bake file of no targets is empty.
    is_printed: bool,
}

/// Answers a command of whose targets none was chosen; `code` says whether that is all.
fn without_work(code: u8, unbuilt: &Unbuilt, color: bool) -> u8 {
    if code != exit::OK {
        return code;
    }
    if let Some(path) = &unbuilt.metadata_file
        && let Err(fault) = commands::metadata::write_json(std::path::Path::new(path), &serde_json::json!({}))
    {
        output::diagnostics(&[*fault], &SourceMap::default(), color);
        return FAILED;
    }
    if unbuilt.is_printed { write("{\n  \"target\": {}\n}\n") } else { code }
}

/// The settings with a part of the targets instead of those that were named, as `choose` makes them.
fn restricted(
    mut settings: Settings,
    choose: impl FnOnce(&mut Settings) -> Result<(), u8> + Send + 'static,
) -> Result<Settings, u8> {
    let thread = large_stack(move || choose(&mut settings).map(|()| settings))?;
    let restricted = thread.join().unwrap_or(Err(FAILED));
    sandbox::wait_for_ended_threads();
    restricted
}

/// `bake build`.
fn run_build(args: BuildArgs, env: Environment, invocation: Invocation) -> u8 {
    tell_programs(&args.run, &env);
    lower_priority(&args.run);
    let defaults = if args.print.is_some() { ReportDefaults::Nothing } else { ReportDefaults::OfService };
    let reports = args.run.reports.clone();
    reporting(&reports, env, defaults, |env| build_command_line(args, env, invocation))
}

fn build_command_line(args: BuildArgs, env: Environment, invocation: Invocation) -> u8 {
    let color = settings::color(&env);
    let mut settings = match commands::command_line::settings(&args, env) {
        Ok(settings) => settings,
        Err(faults) => return bad_usage(&faults, color),
    };
    settings.choose_builder_of(invocation);
    if let Some(format) = args.print {
        return on_large_stack(move || match commands::command_line::add_target(&mut settings, &args) {
            Ok(_) => commands::print::run(&settings, format),
            Err(code) => code,
        });
    }
    if let Err(code) = enter_namespace_of_build(&mut settings) {
        return code;
    }
    interruptible(move |interrupts| {
        settings.loads_by_default = loads_by_default(&settings, invocation);
        match commands::command_line::add_target(&mut settings, &args) {
            Ok(_held) => build_or_call(&settings, interrupts),
            Err(code) => code,
        }
    })
}

/// `bake debug`.
fn run_debug(args: DebugArgs, env: Environment) -> u8 {
    let color = settings::color(&env);
    let DebugArgs { plan, step, progress, jobs, command } = args;
    // Nothing becomes of the result.
    let plan = PlanArgs { push: None, load: None, sbom: None, provenance: None, call: None, check: false, ..*plan };
    let run = RunArgs { progress, jobs, ..RunArgs::default() };
    tell_programs(&run, &env);
    let mut settings = match Settings::new(plan, Some(run), env) {
        Ok(settings) => settings,
        Err(faults) => return bad_usage(&faults, color),
    };
    if let Err(code) = enter_namespace_of_build(&mut settings) {
        return code;
    }
    let command = (!command.is_empty()).then_some(command);
    interruptible(move |interrupts| commands::debug::run(settings, step, command, interrupts))
}

/// Whether targets without an output are loaded: as the builder is set, else as the container engine answers. That is asked, so
/// it wants to be in the namespace already.
fn loads_by_default(settings: &Settings, invocation: Invocation) -> bool {
    match &settings.builder {
        BuilderChoice::Nodes(names) => commands::build::builder_loads(settings, names),
        BuilderChoice::Embedded => invocation == Invocation::Plugin && commands::build::engine_answers(settings),
    }
}

fn build_or_call(settings: &Settings, interrupts: &mut Interrupts) -> u8 {
    let planned = match definition::allowed(settings) {
        Ok(planned) => planned,
        Err(code) => return code,
    };
    let conclude = definition::concluding(&planned.evaluated.unneeded_faults);
    conclude(if commands::call::is_wanted(&planned.plan) {
        commands::call::run(settings, planned, interrupts)
    } else {
        commands::build::run(settings, planned, interrupts)
    })
}

/// Enters the namespace in which the files of the state directory are ours. Returns what becomes of the owners of files.
fn enter_namespace(env: &Environment, color: bool) -> Result<sandbox::StepOwners, u8> {
    match sandbox::enter_user_namespace() {
        Ok(ids) => Ok(single_id::owners(ids, env)),
        Err(diagnosis) => {
            let fault = Diagnostic::error("bake::sandbox::refused", diagnosis.problem).help(diagnosis.help);
            output::diagnostics(&[fault], &SourceMap::default(), color);
            Err(FAILED)
        }
    }
}

/// As [`enter_namespace`], and makes the settings those of builds in it.
fn enter_namespace_of_build(settings: &mut Settings) -> Result<(), u8> {
    let owners = enter_namespace(&settings.env, settings.color)?;
    settings.sandbox.owners = owners;
    settings.bake_home = single_id::home(settings.bake_home.clone(), owners);
    Ok(())
}

/// Runs a command that maintains the state directory.
fn on_state(env: &BTreeMap<String, String>, work: impl FnOnce(&HomeDir, bool) -> u8) -> u8 {
    on_owned_state(env, |home, _, color| work(home, color))
}

/// As [`on_state`], for a command to which it matters what becomes of owners.
fn on_owned_state(env: &BTreeMap<String, String>, work: impl FnOnce(&HomeDir, sandbox::StepOwners, bool) -> u8) -> u8 {
    let color = settings::color(env);
    match enter_namespace(env, color) {
        Ok(owners) => work(&single_id::home(settings::bake_home(env), owners), owners, color),
        Err(code) => code,
    }
}

fn run_command(command: CliCommand, env: Environment, invocation: Invocation) -> u8 {
    let color = settings::color(&env);
    match command {
        CliCommand::Build(args) => run_build(*args, env, invocation),
        CliCommand::Convert(args) => on_large_stack(move || commands::convert::run(&args, env, color)),
        CliCommand::Plan { plan, format } => match Settings::new(*plan, None, env) {
            Ok(settings) => on_large_stack(move || commands::plan::run(&settings, format)),
            Err(faults) => bad_usage(&faults, color),
        },
        CliCommand::Explain { plan, json } => match Settings::new(*plan, None, env) {
            Ok(mut settings) => match enter_namespace_of_build(&mut settings) {
                Ok(()) => on_large_stack(move || commands::explain::run(&settings, json)),
                Err(code) => code,
            },
            Err(faults) => bad_usage(&faults, color),
        },
        CliCommand::Affected(args) => {
            let (wanted, format) = (args.revisions(), args.format);
            match Settings::new(args.plan, None, env) {
                Ok(settings) => on_large_stack(move || commands::affected::run(&settings, &wanted, format)),
                Err(faults) => bad_usage(&faults, color),
            }
        }
        CliCommand::Matrix { plan, args } => match Settings::new(*plan, None, env) {
            Ok(mut settings) => match enter_namespace_of_build(&mut settings) {
                Ok(()) => on_large_stack(move || commands::matrix::run(&settings, &args)),
                Err(code) => code,
            },
            Err(faults) => bad_usage(&faults, color),
        },
        CliCommand::Merge { plan, args } => match Settings::new(*plan, None, env) {
            Ok(settings) => on_large_stack(move || commands::merge::run(&settings, &args)),
            Err(faults) => bad_usage(&faults, color),
        },
        CliCommand::Check { plan, format, reports } => {
            reporting(&reports, env, ReportDefaults::OfService, |env| match Settings::new(*plan, None, env) {
                Ok(settings) => on_large_stack(move || commands::check::run(&settings, format)),
                Err(faults) => bad_usage(&faults, color),
            })
        }
        CliCommand::Builders(args) => commands::builder_list::run(&args, &env),
        CliCommand::Fmt(args) => on_large_stack(move || commands::fmt::run(&args, color)),
        CliCommand::Debug(args) => run_debug(args, env),
        CliCommand::Log(args) => on_state(&env, |home, color| commands::log::run(home, &args, color)),
        CliCommand::Du(args) => on_state(&env, |home, color| commands::du::run(home, &args, color)),
        CliCommand::Prune(args) => on_state(&env, |home, color| commands::prune::run(home, &args, color)),
        CliCommand::Cache { command: CacheCommand::Verify { repair } } => {
            on_state(&env, |home, color| commands::verify::run(home, repair, color))
        }
        CliCommand::Cache { command: CacheCommand::Export { file } } => {
            on_owned_state(&env, |home, owners, color| commands::store_archive::export(home, owners, &file, color))
        }
        CliCommand::Cache { command: CacheCommand::Import { file } } => {
            on_owned_state(&env, |home, owners, color| commands::store_archive::import(home, owners, &file, color))
        }
        CliCommand::Cache { command: CacheCommand::Releases { abandon } } => {
            on_state(&env, |home, color| commands::releases::run(home, abandon, color))
        }
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
            raw_terminal::leave();
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
