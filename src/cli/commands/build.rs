//! `bake`: builds a plan. Settings become a run of `dispatch`, its outcome becomes an exit code.

use std::{
    collections::BTreeMap,
    io::IsTerminal as _,
    sync::{Arc, Mutex, OnceLock},
    time::{SystemTime, UNIX_EPOCH},
};

use super::{du, metadata, shell};
use crate::{
    buildkit::builder::{Builder, BuilderName},
    cli::{
        args::{OnErrorArg, ProgressArg},
        builder_choice::{BuilderChoice, connect_setup},
        definition::{self, Planned},
        exit::{FAILED, INTERRUPTED, OK},
        proxies, registries,
        settings::Settings,
        state,
    },
    dispatch::{self, RunEnd, RunOutcome, interrupt::Interrupts, outcome::RunMetadata},
    engine::{
        self, CheckFinding, HeldSlot, Runner, SharedCaches, SolveCancel,
        context::Contexts,
        embedded::{self, EngineSetup},
        fleet::{self, FleetSetup},
    },
    grant::Allowed,
    report::{
        Diagnostic, SourceMap,
        event::{Event, Sink},
    },
    sandbox,
    spec::ExecutionMode,
    store::Store,
    ui::{
        output,
        progress::{ProgressMode, ProgressView, conclusion},
        report as ui_report,
    },
};

/// Builds the plan.
pub(crate) fn run(settings: &Settings, planned: Planned, interrupts: &mut Interrupts) -> u8 {
    on_runtime(settings, build(settings, planned, interrupts))
}

/// Runs asynchronous work to its end.
pub(super) fn on_runtime(settings: &Settings, work: impl Future<Output = u8>) -> u8 {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match runtime {
        Ok(runtime) => {
            let code = runtime.block_on(work);
            // Work that still waits for a lock or a dead connection must not delay the end of the process.
            runtime.shutdown_background();
            code
        }
        Err(error) => {
            let fault = Diagnostic::error("bake::cli::runtime", "the run cannot be started").cause(&error);
            output::diagnostics(&[fault], &SourceMap::default(), settings.color);
            FAILED
        }
    }
}

async fn build(settings: &Settings, planned: Planned, interrupts: &mut Interrupts) -> u8 {
    let mode = match settings.execution.map_or_else(|| planned.evaluated.release(), |mode| Ok(Some(mode))) {
        Ok(mode) => mode.unwrap_or_default(),
        Err(fault) => {
            output::diagnostics(&[*fault], &planned.sources, settings.color);
            return FAILED;
        }
    };
    let hidden = Arc::new(planned.evaluated.hidden.clone());
    let Planned { plan, sources, paths, writable, secret_env, .. } = planned;
    // With SIGXFSZ caught, a limit on the size of files is an error of the write, which names the file.
    let _file_size = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::from_raw(libc::SIGXFSZ));
    let view = ProgressView::start(progress_mode(settings));
    let contexts = Contexts::new(settings.cwd.clone(), paths, sources);
    let (store, findings) = (OnceLock::new(), Mutex::new(Vec::new()));
    // What is wrong with a shared cache is remembered when the engine is prepared anew.
    let caches = SharedCaches::default();
    let held = (settings.on_error != OnErrorArg::Fail).then(HeldSlot::default);
    let prepare = async |sink: Sink| {
        let setup = setup(settings, writable.clone(), &secret_env, sink).map_err(|fault| vec![*fault])?;
        // Of an engine that was lost nothing is held.
        drop(held.as_ref().and_then(HeldSlot::take));
        let setup = EngineSetup { caches: caches.clone(), hidden: hidden.clone(), held: held.clone(), ..setup };
        drop(store.set(setup.store.clone()));
        let mut prepared = embedded::prepare(&plan, setup, &contexts).await?;
        *findings.lock().expect("no holder of this lock panics") = std::mem::take(&mut prepared.findings);
        Ok(prepared)
    };
    ui_report::planned(|| dispatch::outcome::unstarted(&plan));
    let outcome = match &settings.builder {
        BuilderChoice::Embedded => dispatch::run(&plan, mode, prepare, interrupts, view.sink()).await,
        BuilderChoice::Nodes(builders) => {
            let on_nodes = async |sink: Sink| {
                let setup = setup(settings, writable.clone(), &secret_env, sink).map_err(|fault| vec![*fault])?;
                let engine = EngineSetup { hidden: hidden.clone(), ..setup };
                drop(store.set(engine.store.clone()));
                let (jobs, connect) = (settings.jobs, connect_setup(&settings.env));
                let setup = FleetSetup { engine, builders: builders.clone(), connect, jobs };
                let mut prepared = fleet::prepare(&plan, setup, &contexts).await?;
                prepared.warnings.extend(without_effect(settings));
                Ok(prepared)
            };
            dispatch::run(&plan, on_nodes_mode(mode), on_nodes, interrupts, view.sink()).await
        }
    };
    if outcome.end == RunEnd::Abandoned {
        view.abandon();
    } else {
        view.finish();
    }
    ui_report::planned(|| outcome.targets(&plan));
    let findings = findings.into_inner().expect("no holder of this lock panics");
    let code = report(settings, &outcome, &findings, &contexts.sources());
    if outcome.end == RunEnd::Failed
        && let Some(step) = held.and_then(|slot| slot.take())
    {
        match settings.on_error {
            OnErrorArg::Fail => (),
            OnErrorArg::Shell => shell::in_failed(settings, step, interrupts).await,
            OnErrorArg::Keep => shell::keep_failed(settings, step).await,
        }
    }
    if let Some(store) = store.into_inner().filter(|_| outcome.end != RunEnd::Abandoned) {
        keep_within_limits(settings, store);
    }
    code
}

/// A warning of options that a builder knows nothing of.
fn without_effect(settings: &Settings) -> Option<Diagnostic> {
    let given = [
        (settings.on_error != OnErrorArg::Fail, "--on-error"),
        (settings.sandbox.memory_limit.is_some(), "--max-memory"),
    ];
    let names: Vec<&str> = given.into_iter().filter(|(is_given, _)| *is_given).map(|(_, name)| name).collect();
    let message = format!("a builder knows nothing of it: {}", names.join(", "));
    let warning = Diagnostic::warning("bake::fleet::no_effect", message);
    (!names.is_empty()).then(|| warning.help("it works with `--builder embedded`"))
}

/// A run on nodes shows its results when all of them are there.
const fn on_nodes_mode(mode: ExecutionMode) -> ExecutionMode {
    match mode {
        ExecutionMode::FailFast | ExecutionMode::DeferOutput => ExecutionMode::DeferOutput,
        ExecutionMode::DeferError => ExecutionMode::DeferError,
    }
}

/// Removes what was not used for the longest time if the state directory takes more room than it may. That is told; a fault
/// is a warning: the build is done.
fn keep_within_limits(settings: &Settings, store: Store) {
    match store.keep_within(settings.space) {
        Ok(None) => (),
        Ok(Some(pruned)) => {
            if settings.progress != ProgressArg::Quiet && settings.progress != ProgressArg::Rawjson {
                output::words(&format!("removed {} from the cache to keep its limits\n", du::human(pruned.bytes)));
            }
        }
        Err(error) => {
            let message = "the limits of the state directory could not be kept";
            let warning = Diagnostic::warning("bake::cli::limits", message).cause(&error);
            output::diagnostics(&[warning], &SourceMap::default(), settings.color);
        }
    }
}

/// Shows the outcome of a run; the exit code.
fn report(settings: &Settings, outcome: &RunOutcome, findings: &[CheckFinding], sources: &SourceMap) -> u8 {
    if matches!(outcome.end, RunEnd::Interrupted | RunEnd::Abandoned) {
        output::diagnostics(&outcome.diagnostics, sources, settings.color);
        output::words("interrupted\n");
        return INTERRUPTED;
    }
    if let Err(code) = definition::check(settings, outcome.diagnostics.clone(), sources) {
        return code;
    }
    match outcome.end {
        RunEnd::Failed => return FAILED,
        RunEnd::Cancelled => {
            output::words("cancelled\n");
            return FAILED;
        }
        RunEnd::Succeeded | RunEnd::Interrupted | RunEnd::Abandoned => (),
    }
    let written = match write_answers(settings, &outcome.metadata, findings, sources) {
        Ok(code) => code,
        Err(fault) => return definition::check(settings, vec![*fault], sources).err().unwrap_or(FAILED),
    };
    if settings.progress != ProgressArg::Quiet && settings.progress != ProgressArg::Rawjson {
        output::words(&conclusion(&outcome.summary));
    }
    written
}

/// Writes what the exporters answered to where the user wants it; the exit code.
fn write_answers(
    settings: &Settings,
    metadata: &RunMetadata,
    findings: &[CheckFinding],
    sources: &SourceMap,
) -> Result<u8, Box<Diagnostic>> {
    if let Some(path) = &settings.metadata_file {
        metadata::write_of_run(path, settings, metadata, findings, sources)?;
    }
    match metadata.values().next() {
        Some(of_target) if settings.command_line.is_some() => settings.image_id.write(of_target),
        _ => Ok(OK),
    }
}

/// How progress is shown.
pub(super) fn progress_mode(settings: &Settings) -> ProgressMode {
    match settings.progress {
        ProgressArg::Plain => ProgressMode::Plain,
        ProgressArg::Tty => ProgressMode::Tty,
        ProgressArg::Rawjson => ProgressMode::RawJson,
        ProgressArg::Quiet | ProgressArg::None => ProgressMode::Quiet,
        ProgressArg::Auto if std::io::stderr().is_terminal() => ProgressMode::Tty,
        ProgressArg::Auto => ProgressMode::Plain,
    }
}

/// What the embedded engine needs; it reports its events to `sink`. `secret_env`: variables for secrets that the definition
/// gives.
///
/// # Errors
/// When the state directory cannot be used.
pub(super) fn setup(
    settings: &Settings,
    writable: Allowed,
    secret_env: &BTreeMap<String, String>,
    sink: Sink,
) -> Result<EngineSetup, Box<Diagnostic>> {
    let home = settings.bake_home.open().and_then(|home| home.store.hold().map(|()| home));
    let home = home.map_err(|error| {
        let fault = Diagnostic::error("bake::store::failed", "the state directory cannot be used").cause(&error);
        Box::new(fault.help(error.help()))
    })?;
    let cancel = SolveCancel::new().map_err(|error| {
        Box::new(Diagnostic::error("bake::cli::cancel", "the run cannot be made stoppable").cause(&error))
    })?;
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    if let Some(warning) = state::foreign_owner(&settings.bake_home, home.foreign_owner) {
        sink(Event::Warning(Arc::new(warning)));
    }
    state::unusable(&home.unusable).for_each(|warning| sink(Event::Warning(Arc::new(warning))));
    let client = registries::client(settings, &sink)?;
    let proxies = proxies::of_docker_config(settings).unwrap_or_else(|warning| {
        sink(Event::Warning(Arc::from(warning)));
        BTreeMap::new()
    });
    let env = Arc::new(settings.env.clone());
    // The environment goes before what the definition gives.
    let mut secret_env = secret_env.clone();
    secret_env.extend(settings.env.clone());
    Ok(EngineSetup {
        store: home.store,
        client,
        sink,
        step_log: settings.step_log,
        hidden: Arc::default(),
        jobs: settings.jobs.unwrap_or_else(|| cores.max(4)),
        runner: Arc::new(Runner::new(settings.sandbox.clone())),
        env,
        secret_env: Arc::new(secret_env),
        proxies: Arc::new(proxies),
        cwd: settings.cwd.clone(),
        held: None,
        cancel,
        caches: SharedCaches::default(),
        command: |program| sandbox::command(program),
        now: || jiff::Timestamp::now().to_string(),
        epoch_now: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
        writable,
    })
}

/// Whether a builder loads what has no output: that of a Docker context, or one with the driver option `default-load`.
pub(crate) fn builder_loads(settings: &Settings, names: &[BuilderName]) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let setup = connect_setup(&settings.env);
    // What is wrong with it is told by the build that follows.
    runtime.is_ok_and(|it| it.block_on(Builder::fleet(names, &setup)).is_ok_and(|builder| builder.default_load))
}

/// Whether the container engine answers into which `type=docker` loads.
pub(crate) fn engine_answers(settings: &Settings) -> bool {
    let quiet: Sink = Arc::new(|_| ());
    // Settings that cannot be read are told by the build that follows.
    let Ok(client) = registries::client(settings, &quiet) else { return false };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.is_ok_and(|runtime| runtime.block_on(engine::engine_answers(client.options())))
}
