//! `bake`: builds a plan. Settings become a run of `dispatch`, its outcome becomes an exit code.

use std::{
    io::IsTerminal as _,
    path::Path,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Map, Value};

use crate::{
    cli::{
        FAILED, INTERRUPTED, OK,
        args::ProgressArg,
        definition::{self, Planned},
        settings::Settings,
        state,
    },
    dispatch::{self, RunEnd, RunOutcome, interrupt::Interrupts, outcome::RunMetadata},
    engine::{
        Runner, SolveCancel,
        context::Contexts,
        embedded::{self, EngineSetup},
    },
    grant::Allowed,
    registry,
    report::{
        Diagnostic, SourceMap,
        event::{Event, Sink},
    },
    sandbox,
    ui::{
        output,
        progress::{ProgressMode, ProgressView, conclusion},
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
    let Planned { plan, sources, paths, writable, .. } = planned;
    // With SIGXFSZ caught, a limit on the size of files is an error of the write, which names the file.
    let _file_size = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::from_raw(libc::SIGXFSZ));
    let view = ProgressView::start(progress_mode(settings));
    let contexts = Contexts::new(settings.cwd.clone(), paths, sources);
    let prepare = async |sink: Sink| {
        let setup = setup(settings, writable.clone(), sink).map_err(|fault| vec![*fault])?;
        embedded::prepare(&plan, setup, &contexts).await
    };
    let outcome = dispatch::run(&plan, prepare, interrupts, view.sink()).await;
    if outcome.end == RunEnd::Abandoned {
        view.abandon();
    } else {
        view.finish();
    }
    report(settings, &outcome, &contexts.sources())
}

/// Shows the outcome of a run; the exit code.
fn report(settings: &Settings, outcome: &RunOutcome, sources: &SourceMap) -> u8 {
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
    if let Some(path) = &settings.metadata_file
        && let Err(fault) = write_metadata(path, &outcome.metadata)
    {
        return definition::check(settings, vec![*fault], sources).err().unwrap_or(FAILED);
    }
    if settings.progress != ProgressArg::Quiet && settings.progress != ProgressArg::Rawjson {
        output::words(&conclusion(&outcome.summary));
    }
    OK
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

/// What the embedded engine needs; it reports its events to `sink`.
///
/// # Errors
/// When the state folder cannot be used.
pub(super) fn setup(settings: &Settings, writable: Allowed, sink: Sink) -> Result<EngineSetup, Box<Diagnostic>> {
    let home = settings.bake_home.open().and_then(|home| home.store.hold().map(|()| home));
    let home = home.map_err(|error| {
        let fault = Diagnostic::error("bake::store::failed", "the state folder cannot be used").cause(&error);
        Box::new(fault.help("$BAKE_HOME names another place for it"))
    })?;
    let cancel = SolveCancel::new().map_err(|error| {
        Box::new(Diagnostic::error("bake::cli::cancel", "the run cannot be made stoppable").cause(&error))
    })?;
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    if let Some(warning) = state::foreign_owner(&settings.bake_home, home.foreign_owner) {
        sink(Event::Warning(Arc::new(warning)));
    }
    Ok(EngineSetup {
        store: home.store,
        client: client(settings),
        sink,
        jobs: settings.jobs.unwrap_or_else(|| cores.max(4)),
        runner: Arc::new(Runner::new(settings.sandbox.clone())),
        env: Arc::new(settings.env.clone()),
        cwd: settings.cwd.clone(),
        cancel,
        command: |program| sandbox::command(program),
        now: || jiff::Timestamp::now().to_string(),
        epoch_now: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
        writable,
    })
}

fn client(settings: &Settings) -> registry::Client {
    let mut options = registry::ClientOptions::new(|program| sandbox::command(program));
    let folder = settings.env.get("DOCKER_CONFIG").filter(|it| !it.is_empty());
    options.docker_config = Some(folder.map_or_else(|| Path::new(&settings.home).join(".docker"), |it| it.into()));
    let podman = |folder: &String| Path::new(folder).join("containers/auth.json");
    let podman = settings.env.get("XDG_RUNTIME_DIR").filter(|it| !it.is_empty()).map(podman);
    options.auth_files = settings.env.get("REGISTRY_AUTH_FILE").map(Into::into).into_iter().chain(podman).collect();
    options.env = settings.env.iter().map(|(name, value)| (name.into(), value.into())).collect();
    registry::Client::new(options)
}

/// Writes the metadata file atomically.
pub(super) fn write_metadata(path: &Path, metadata: &RunMetadata) -> Result<(), Box<Diagnostic>> {
    let all: Map<String, Value> =
        metadata.iter().map(|(target, answers)| (target.clone(), Value::Object(answers.clone()))).collect();
    let text = serde_json::to_string_pretty(&Value::Object(all)).expect("metadata is plain data");
    let failed = |error: &dyn std::error::Error| {
        let mut fault = Diagnostic::error(
            "bake::cli::metadata_file",
            format!("the metadata file cannot be written: {}", path.display()),
        );
        fault.causes.push(error.to_string());
        Box::new(fault)
    };
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(|e| failed(&e))?;
    std::io::Write::write_all(&mut file, (text + "\n").as_bytes()).map_err(|e| failed(&e))?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file().set_permissions(mode).map_err(|e| failed(&e))?;
    file.persist(path).map_err(|e| failed(&e))?;
    Ok(())
}
