//! How registries are reached, as the caller sets it: credentials, mirrors, certificates, limits. Data alone.

use std::{collections::BTreeMap, ffi::OsString, path::PathBuf, process::Command, time::Duration};

/// Makes a command of a program (`sandbox::command`): clean environment, closed descriptors.
pub(crate) type HelperCommandFn = fn(&std::ffi::OsStr) -> Command;

/// Told the bytes done so far of one transfer; called often, must be quick.
pub(crate) type TransferProgress<'a> = &'a (dyn Fn(u64) + Send + Sync);

/// How registries are reached.
#[derive(Clone)]
pub(crate) struct ClientOptions {
    /// `$DOCKER_CONFIG` or `~/.docker`; its `config.json` is read when first needed.
    pub(crate) docker_config: Option<PathBuf>,
    /// Further files with `auths`, such as podman's `auth.json`, in order.
    pub(crate) auth_files: Vec<PathBuf>,
    /// Environment of credential helpers (PATH, HOME, …).
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) command: HelperCommandFn,
    /// By host as written in references (`docker.io`, `localhost:5000`).
    pub(crate) hosts: BTreeMap<String, HostOptions>,
    /// Folders with a subfolder per host that holds `*.crt`, `*.cert`, `*.key`: `/etc/docker/certs.d`.
    pub(crate) certificate_folders: Vec<PathBuf>,
    /// How long an operation goes on trying without making progress.
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

impl ClientOptions {
    /// Nothing but defaults: no credentials, no mirrors.
    pub(crate) fn new(command: HelperCommandFn) -> Self {
        Self {
            docker_config: None,
            auth_files: Vec::new(),
            env: Vec::new(),
            command,
            hosts: BTreeMap::new(),
            certificate_folders: vec!["/etc/docker/certs.d".into(), "/etc/containers/certs.d".into()],
            retry_budget: Duration::from_secs(45),
            parallel: 4,
        }
    }
}
