//! The variables of the environment that decide how a run goes, each read with its fault. `settings.rs` puts them together with
//! the command line.
//!
//! | variable | meaning |
//! | --- | --- |
//! | `BUILDX_BAKE_FILE`, `BUILDX_BAKE_PATH_SEPARATOR` | definition files when there is no `-f` |
//! | `BUILDX_BAKE_FILE_RELATIVE_PATHS` | contexts are relative to the file that names them |
//! | `BUILDX_BAKE_DISABLE_VARS_ENV_LOOKUP` | the environment gives no variable |
//! | `BUILDX_BAKE_ENTITLEMENTS_FS` | false: paths outside the working directory need no grant |
//! | `BAKE_ALLOW_REMOTE_FS_ACCESS` | the same for a definition from a URL |
//! | `BUILDX_BAKE_GIT_AUTH_TOKEN`, `…_HEADER` | to fetch a definition from git |
//! | `SOURCE_DATE_EPOCH` | build argument of every target that has none |
//! | `EXPERIMENTAL_BUILDKIT_SOURCE_POLICY`, `BUILDX_DEFAULT_POLICY` | policies of the peer: a build is refused when one is asked for |
//! | `SSH_AUTH_SOCK` | agent of `ssh` without paths |
//! | `BUILDKIT_PROGRESS` | `--progress` when it is not given |
//! | `BUILDKIT_STEP_LOG_MAX_SIZE`, `BUILDKIT_STEP_LOG_MAX_SPEED` | how much output of a step is shown, in bytes and in bytes a second: 2 MiB and no limit if not set, `-1` for no limit |
//! | `BAKE_STEP_LOG_MAX_SIZE`, `BAKE_STEP_LOG_RUNS` | how much output of a step is kept for `bake log`, in bytes, and of how many runs: 100 MiB and 20 if not set, `-1` for no limit, 0 runs for none |
//! | `BAKE_BUILDER`, `BUILDX_BUILDER` | `--builder` when it is not given: one name or address |
//! | `BUILDX_CONFIG`, `DOCKER_CONFIG`, `DOCKER_CONTEXT`, `DOCKER_HOST`, `DOCKER_TLS`, `DOCKER_TLS_VERIFY`, `DOCKER_CERT_PATH` | builders of buildx, and where Docker is, as for those |
//! | `BAKE_EXECUTION` | `--execution` when it is not given |
//! | `BAKE_CACHE_FROM_DIR` | state directories that are read and never changed, with `:` between them: a warm cache in an image of a CI |
//! | `BAKE_HOME` | state directory; `$XDG_CACHE_HOME/bake` or `~/.cache/bake` without it |
//! | `BAKE_REGISTRIES` | settings of registries; `$XDG_CONFIG_HOME/bake/registries.toml` or `~/.config/bake/registries.toml` without it |
//! | `CONTAINERS_REGISTRIES_CONF` | settings of registries in the form of podman and skopeo, instead of those in the usual places |
//! | `BAKE_RUNTIME` | what runs steps: `embedded` (the default), `runc`, `crun`, or the path of a program like them |
//! | `BAKE_NETWORK` | what connects steps to the outside: `auto` (the default: what works), `pasta`, `slirp4netns`, or `host` for the network of the machine |
//! | `BAKE_MAX_USED_SPACE`, `BAKE_RESERVED_SPACE`, `BAKE_MIN_FREE_SPACE` | limits of room that every run keeps, as the flags of `bake prune` |
//! | `BAKE_PIDS_LIMIT` | how many processes a step may have at once: 32768 if not set, `max` for no limit |
//! | `BAKE_SINGLE_ID` | true: an ordinary user without a range of ids builds with one; owners of files are recorded only |
//! | `BAKE_CACHE`, `BAKE_CACHE_FROM`, `BAKE_CACHE_TO` | caches of all targets that name none: for both, to read, to write |
//! | `BAKE_CACHE_NAMESPACE` | `--cache-namespace` when it is not given |
//! | `BAKE_REPORT` | reports beside those of `--report`, separated by commas |
//! | `GITHUB_ACTIONS`, `GITHUB_STEP_SUMMARY` | annotations on standard error, and a summary at the end of this file |
//! | `DOCKER_BUILD_CHECKS_ANNOTATIONS`, `DOCKER_BUILD_SUMMARY` | false: without these |
//! | `GITHUB_WORKSPACE`, `CI_PROJECT_DIR` | the root that paths in reports are relative to |
//! | `BAKE_LOG` | log for developers on standard error: a level, or modules with levels as in `bake::solve=trace` |
//! | `NO_COLOR`, `CLICOLOR` | colour of messages |

use std::collections::BTreeMap;

use clap::ValueEnum;

use super::args::ProgressArg;
use crate::{
    report::{Diagnostic, Severity, suggest},
    sandbox,
    spec::{self, ExecutionMode, StepLogLimits, boolean},
    store::SpaceLimits,
};

/// Environment variables that are on or off.
pub(super) struct Switches {
    pub(super) relative_paths: bool,
    pub(super) no_env_lookup: bool,
    pub(super) check_fs_entitlements: bool,
    pub(super) allow_remote_fs: bool,
}

impl Switches {
    pub(super) fn new(
        env: &BTreeMap<String, String>,
        faults: &mut Vec<Diagnostic>,
        warnings: &mut Vec<Diagnostic>,
    ) -> Self {
        // The peer takes a bad value of this one for false.
        let mut bad = Vec::new();
        let no_env_lookup = switch(env, "BUILDX_BAKE_DISABLE_VARS_ENV_LOOKUP", false, &mut bad);
        warnings.extend(bad.into_iter().map(|fault| Diagnostic { severity: Severity::Warning, ..fault }));
        Self {
            relative_paths: switch(env, "BUILDX_BAKE_FILE_RELATIVE_PATHS", false, faults),
            no_env_lookup,
            check_fs_entitlements: switch(env, "BUILDX_BAKE_ENTITLEMENTS_FS", true, faults),
            allow_remote_fs: switch(env, "BAKE_ALLOW_REMOTE_FS_ACCESS", false, faults),
        }
    }
}

/// The value of one switch; `default` if the variable is not set, is empty or is not a boolean.
fn switch(env: &BTreeMap<String, String>, name: &str, default: bool, faults: &mut Vec<Diagnostic>) -> bool {
    let Some(text) = env.get(name).filter(|text| !text.is_empty()) else { return default };
    boolean(text).unwrap_or_else(|_| {
        let message = format!("the environment variable `{name}` is not a boolean: {text}");
        faults.push(Diagnostic::error("bake::cli::bad_switch", message).help("write 1 or 0, true or false"));
        default
    })
}

/// What `BUILDKIT_PROGRESS` asks for.
pub(super) fn progress(env: &BTreeMap<String, String>, faults: &mut Vec<Diagnostic>) -> ProgressArg {
    let Some(text) = env.get("BUILDKIT_PROGRESS").filter(|it| !it.is_empty()) else { return ProgressArg::Auto };
    ProgressArg::from_str(text, true).unwrap_or_else(|_| {
        faults.push(
            Diagnostic::error(
                "bake::cli::bad_progress",
                format!("`BUILDKIT_PROGRESS` is not a way to show progress: {text}"),
            )
            .help("known: auto, plain, tty, rawjson, quiet, none"),
        );
        ProgressArg::Auto
    })
}

/// What `--execution`, else `BAKE_EXECUTION`, asks for.
pub(super) fn execution(
    flag: Option<&str>,
    env: &BTreeMap<String, String>,
    faults: &mut Vec<Diagnostic>,
) -> Option<ExecutionMode> {
    let variable = env.get("BAKE_EXECUTION").map(String::as_str).filter(|text| !text.is_empty());
    let (text, named_by) = flag.map(|text| (text, "--execution")).or(variable.map(|text| (text, "BAKE_EXECUTION")))?;
    match ExecutionMode::parse(text) {
        Ok(mode) => Some(mode),
        Err(fault) => {
            faults.push(from_fault("bake::cli::bad_execution", named_by, fault));
            None
        }
    }
}

/// What `BAKE_RUNTIME` asks for.
fn runtime(env: &BTreeMap<String, String>, faults: &mut Vec<Diagnostic>) -> sandbox::Runtime {
    let Some(name) = env.get("BAKE_RUNTIME").filter(|it| !it.is_empty()) else { return sandbox::Runtime::Embedded };
    let path = env.get("PATH").map(String::as_str).unwrap_or_default();
    sandbox::Runtime::find(name, path).unwrap_or_else(|| {
        let help = suggest::did_you_mean(name, ["embedded", "runc", "crun"]).unwrap_or_else(|| match name.as_str() {
            "runc" | "crun" => format!("install it, as in `apt-get install {name}`, or unset `BAKE_RUNTIME`"),
            _ => "write `runc`, `crun`, the path of a program like them, or `embedded`".to_owned(),
        });
        faults.push(
            Diagnostic::error("bake::cli::no_runtime", format!("the program of `BAKE_RUNTIME` is not there: {name}"))
                .help(help),
        );
        sandbox::Runtime::Embedded
    })
}

/// What `BAKE_NETWORK` asks for.
fn network(env: &BTreeMap<String, String>, faults: &mut Vec<Diagnostic>) -> sandbox::NetworkChoice {
    let name = env.get("BAKE_NETWORK").filter(|name| !name.is_empty()).map_or("auto", String::as_str);
    let path = env.get("PATH").map(String::as_str).unwrap_or_default();
    sandbox::NetworkChoice::find(name, path).unwrap_or_else(|| {
        let help = match name {
            "pasta" => "install it, as in `apt-get install passt`, or unset `BAKE_NETWORK`".to_owned(),
            "slirp4netns" => "install it, as in `apt-get install slirp4netns`, or unset `BAKE_NETWORK`".to_owned(),
            _ => suggest::did_you_mean(name, sandbox::NetworkChoice::NAMES)
                .unwrap_or_else(|| "write `auto`, `pasta`, `slirp4netns` or `host`".to_owned()),
        };
        let message = format!("`BAKE_NETWORK` names no way to the network that is there: {name}");
        faults.push(Diagnostic::error("bake::cli::no_network", message).help(help));
        sandbox::NetworkChoice::Host
    })
}

/// The limits of room that the environment sets.
pub(super) fn space_limits(env: &BTreeMap<String, String>, faults: &mut Vec<Diagnostic>) -> SpaceLimits {
    let mut limit = |name: &str| {
        let text = env.get(name).filter(|text| !text.is_empty())?;
        let parsed = spec::size::parse(text);
        if parsed.is_err() {
            let fault = Diagnostic::error("bake::cli::bad_size", format!("`{name}` is not a size: {text}"));
            faults.push(fault.help("write a number and k, m, g or t, as in 10gb"));
        }
        parsed.ok()
    };
    SpaceLimits {
        max_used: limit("BAKE_MAX_USED_SPACE"),
        reserved: limit("BAKE_RESERVED_SPACE"),
        min_free: limit("BAKE_MIN_FREE_SPACE"),
    }
}

/// The limits of the output of steps that the environment sets.
pub(super) fn step_log(env: &BTreeMap<String, String>, faults: &mut Vec<Diagnostic>) -> StepLogLimits {
    let mut limit = |name: &str, default: Option<u64>| {
        let Some(text) = env.get(name).filter(|text| !text.is_empty()) else { return default };
        StepLogLimits::parse(text).unwrap_or_else(|_| {
            let fault = Diagnostic::error("bake::cli::bad_size", format!("`{name}` is not a size: {text}"));
            faults.push(fault.help("write a number of bytes, as in 10485760 or 10m, or -1 for no limit"));
            default
        })
    };
    let StepLogLimits { size, speed, kept_size, kept_runs } = StepLogLimits::default();
    let limits = StepLogLimits {
        size: limit("BUILDKIT_STEP_LOG_MAX_SIZE", size),
        speed: limit("BUILDKIT_STEP_LOG_MAX_SPEED", speed),
        kept_size: limit("BAKE_STEP_LOG_MAX_SIZE", kept_size),
        kept_runs,
    };
    const RUNS: &str = "BAKE_STEP_LOG_RUNS";
    match env.get(RUNS).filter(|text| !text.is_empty()).map(|text| (text, text.parse())) {
        None => limits,
        Some((_, Ok(kept_runs))) => StepLogLimits { kept_runs, ..limits },
        Some((text, Err(_))) => {
            let fault = Diagnostic::error("bake::cli::bad_number", format!("`{RUNS}` is not a number: {text}"));
            faults.push(fault.help("write how many runs, or 0 to keep no output"));
            limits
        }
    }
}

/// What `BAKE_PIDS_LIMIT` asks for; `None` is no limit.
fn pids_limit(env: &BTreeMap<String, String>, faults: &mut Vec<Diagnostic>) -> Option<u64> {
    match env.get("BAKE_PIDS_LIMIT").map(String::as_str).filter(|text| !text.is_empty()) {
        None => Some(sandbox::DEFAULT_PIDS_LIMIT),
        Some("max") => None,
        Some(text) => text.parse().ok().filter(|limit| *limit > 0).or_else(|| {
            let message = format!("`BAKE_PIDS_LIMIT` is not a number of processes: {text}");
            let fault = Diagnostic::error("bake::cli::bad_pids_limit", message);
            faults.push(fault.help("write a number from 1 on, or `max` for no limit"));
            None
        }),
    }
}

/// How steps run.
pub(super) fn sandbox_options(env: &BTreeMap<String, String>, faults: &mut Vec<Diagnostic>) -> sandbox::SandboxOptions {
    sandbox::SandboxOptions {
        runtime: runtime(env, faults),
        network: network(env, faults),
        pids_limit: pids_limit(env, faults),
        memory_limit: None,
        ..sandbox::SandboxOptions::default()
    }
}

/// The diagnostic of a value of a flag or variable.
pub(super) fn from_fault(code: &'static str, flag: &str, fault: spec::OptionFault) -> Diagnostic {
    let mut diagnostic = Diagnostic::error(code, format!("`{flag}`: {}", fault.message));
    diagnostic.help = fault.help;
    diagnostic
}
