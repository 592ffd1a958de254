//! The client of all registries of a run: options, and what is shared between requests.

use std::{collections::BTreeMap, ffi::OsString, path::PathBuf, process::Command, sync::Arc, time::Duration};

/// Makes a command of a program (`sandbox::command`): clean environment, closed descriptors.
pub(crate) type CommandFn = fn(&std::ffi::OsStr) -> Command;

/// Told the bytes done so far of one transfer; called often, must be quick.
pub(crate) type Progress<'a> = &'a (dyn Fn(u64) + Send + Sync);

/// How registries are reached.
#[derive(Clone)]
pub(crate) struct Options {
    /// `$DOCKER_CONFIG` or `~/.docker`; its `config.json` is read when first needed.
    pub(crate) docker_config: Option<PathBuf>,
    /// Further files with `auths`, such as podman's `auth.json`, in order.
    pub(crate) auth_files: Vec<PathBuf>,
    /// Environment of credential helpers (PATH, HOME, …).
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) command: CommandFn,
    /// By host as written in references (`docker.io`, `localhost:5000`).
    pub(crate) hosts: BTreeMap<String, HostOptions>,
    /// Folders with a subfolder per host that holds `*.crt`, `*.cert`, `*.key`: `/etc/docker/certs.d`.
    pub(crate) certificate_folders: Vec<PathBuf>,
    /// Time that one request may spend in waiting for retries.
    pub(crate) retry_budget: Duration,
    /// Transfers at a time per registry.
    pub(crate) parallel: usize,
}

/// Settings of one registry.
#[derive(Clone, Debug, Default)]
pub(crate) struct HostOptions {
    /// Plain HTTP only.
    pub(crate) http: bool,
    /// No verification of certificates; plain HTTP where the answer is not TLS.
    pub(crate) insecure: bool,
    /// Tried first, for reading only.
    pub(crate) mirrors: Vec<Mirror>,
    /// PEM files of further certificate authorities.
    pub(crate) ca: Vec<PathBuf>,
}

/// `host[/path]`: the path is put after `/v2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mirror {
    pub(crate) host: String,
    pub(crate) path: String,
}

/// All registries of a run. Cheap to make; nothing is read or connected before the first request.
#[derive(Clone)]
pub(crate) struct Client {
    pub(super) shared: Arc<Shared>,
}

/// What requests share.
pub(super) struct Shared {
    pub(super) options: Options,
}

impl Options {
    /// Nothing but defaults: no credentials, no mirrors.
    pub(crate) fn new(command: CommandFn) -> Self {
        Self {
            docker_config: None,
            auth_files: Vec::new(),
            env: Vec::new(),
            command,
            hosts: BTreeMap::new(),
            certificate_folders: vec!["/etc/docker/certs.d".into(), "/etc/containers/certs.d".into()],
            retry_budget: Duration::from_secs(60),
            parallel: 4,
        }
    }
}

impl Client {
    /// A client. Reads nothing, opens nothing.
    pub(crate) fn new(options: Options) -> Self {
        Self { shared: Arc::new(Shared { options }) }
    }
}
