//! `bake`: builds a plan.

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
    },
    dispatch::{self, RunOutcome},
    engine::{
        Runner, Setup, SolveCancel,
        context::Contexts,
        embedded::{self, Ready},
    },
    grant::Allowed,
    registry,
    report::{Diagnostic, SourceMap},
    sandbox,
    store::Store,
    ui::{
        output,
        progress::{ProgressMode, ProgressView as Drawing, Summary, conclusion},
    },
};

/// Builds the plan.
pub(crate) fn run(settings: &Settings, planned: Planned) -> u8 {
    on_runtime(settings, build(settings, planned))
}

/// Runs asynchronous work to its end.
pub(super) fn on_runtime(settings: &Settings, work: impl Future<Output = u8>) -> u8 {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match runtime {
        Ok(runtime) => {
            let code = runtime.block_on(work);
            // What still waits for a lock or a dead connection must not hold us up.
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

async fn build(settings: &Settings, planned: Planned) -> u8 {
    if let Some(code) = attempt(settings, &planned, true).await {
        return code;
    }
    output::words("a damaged layer was found in the cache and taken away: building again\n");
    attempt(settings, &planned, false).await.unwrap_or(FAILED)
}

/// Runs the plan once; `None` when a layer of the cache was damaged and `may_repeat`.
async fn attempt(settings: &Settings, planned: &Planned, may_repeat: bool) -> Option<u8> {
    let Planned { plan, sources, writable, .. } = planned;
    let drawing = Drawing::start(mode(settings));
    let contexts = Contexts::new(settings.cwd.clone(), sources.clone());
    let setup = match setup(settings, writable, &drawing) {
        Ok(setup) => setup,
        Err(fault) => {
            drop(drawing.finish());
            return definition::check(settings, vec![*fault], &contexts.sources()).err().or(Some(FAILED));
        }
    };
    // A limit on the size of files is then an error of the write that names the file, not a death without a word.
    let _file_size = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::from_raw(libc::SIGXFSZ));
    let cancel = setup.cancel.clone();
    let interrupted = tokio::spawn(async move {
        interrupt().await;
        cancel.cancel();
    });
    let ready = match embedded::prepare(plan, setup, &contexts).await {
        Ok(ready) => ready,
        Err(faults) => {
            drop(drawing.finish());
            return definition::check(settings, faults, &contexts.sources()).err().or(Some(FAILED));
        }
    };
    let warnings = ready.warnings.clone();
    let mut outcome = dispatch::run(plan, &ready).await;
    finish(&ready, &mut outcome);
    let was_interrupted = interrupted.is_finished();
    interrupted.abort();
    drop(ready);
    outcome.warnings.splice(0..0, warnings);
    let mut summary = drawing.finish();
    if may_repeat && !was_interrupted && outcome.snapshot_gone {
        return None;
    }
    summary.wrote.sort();
    Some(conclude(settings, &outcome, &summary, &contexts.sources(), was_interrupted))
}

/// Writes back what was learnt; a state folder that cannot be written costs the next run time, not this one its result.
fn finish(ready: &Ready, outcome: &mut RunOutcome) {
    if let Err(error) = ready.finish() {
        let warning = Diagnostic::warning("bake::store::failed", "the state folder could not be brought up to date");
        outcome.warnings.push(warning.cause(&error));
    }
}

fn conclude(
    settings: &Settings,
    outcome: &RunOutcome,
    summary: &Summary,
    sources: &SourceMap,
    was_interrupted: bool,
) -> u8 {
    let mut told: Vec<Diagnostic> = outcome.warnings.clone();
    told.extend(summary.warnings.iter().map(|it| (**it).clone()));
    told.extend(outcome.faults.iter().map(|it| (**it).clone()));
    if was_interrupted {
        output::diagnostics(&told, sources, settings.color);
        output::words("interrupted\n");
        return INTERRUPTED;
    }
    if let Err(code) = definition::check(settings, told, sources) {
        return code;
    }
    if outcome.cancelled {
        output::words("cancelled\n");
        return FAILED;
    }
    if let Some(path) = &settings.metadata_file
        && let Err(fault) = write_metadata(path, outcome)
    {
        return definition::check(settings, vec![*fault], sources).err().unwrap_or(FAILED);
    }
    if settings.progress != ProgressArg::Quiet && settings.progress != ProgressArg::Rawjson {
        output::words(&conclusion(summary));
    }
    OK
}

pub(super) fn mode(settings: &Settings) -> ProgressMode {
    match settings.progress {
        ProgressArg::Plain => ProgressMode::Plain,
        ProgressArg::Tty => ProgressMode::Tty,
        ProgressArg::Rawjson => ProgressMode::RawJson,
        ProgressArg::Quiet | ProgressArg::None => ProgressMode::Quiet,
        ProgressArg::Auto if std::io::stderr().is_terminal() => ProgressMode::Tty,
        ProgressArg::Auto => ProgressMode::Plain,
    }
}

pub(super) fn setup(settings: &Settings, writable: &Allowed, drawing: &Drawing) -> Result<Setup, Box<Diagnostic>> {
    let store = Store::open(&settings.bake_home).and_then(|store| store.hold().map(|()| store));
    let store = store.map_err(|error| {
        let fault = Diagnostic::error("bake::store::failed", "the state folder cannot be used").cause(&error);
        Box::new(fault.help("$BAKE_HOME names another place for it"))
    })?;
    let cancel = SolveCancel::new().map_err(|error| {
        Box::new(Diagnostic::error("bake::cli::cancel", "the run cannot be made stoppable").cause(&error))
    })?;
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(Setup {
        store,
        client: client(settings),
        sink: drawing.sink(),
        jobs: settings.jobs.unwrap_or_else(|| cores.max(4)),
        runner: Arc::new(Runner::new(settings.runtime.clone())),
        env: Arc::new(settings.env.clone()),
        cwd: settings.cwd.clone(),
        cancel,
        command: |program| sandbox::command(program),
        now: || jiff::Timestamp::now().to_string(),
        epoch_now: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
        writable: writable.clone(),
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

/// Returns when the user wants to stop.
pub(super) async fn interrupt() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut int), Ok(mut term)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = int.recv() => (),
        _ = term.recv() => (),
    }
}

/// Writes the metadata file, whole or not at all.
pub(super) fn write_metadata(path: &Path, outcome: &RunOutcome) -> Result<(), Box<Diagnostic>> {
    let all: Map<String, Value> =
        outcome.metadata.iter().map(|(target, it)| (target.clone(), Value::Object(it.clone()))).collect();
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
