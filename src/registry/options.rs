//! How registries are reached, as the caller sets it: credentials, mirrors, certificates, limits. Data alone.

use std::{collections::BTreeMap, ffi::OsString, path::PathBuf, process::Command, time::Duration};

use super::settings::HostSettings;

/// Folders of other tools with settings and certificates by host.
const CERTIFICATE_FOLDERS: [&str; 3] = ["/etc/containerd/certs.d", "/etc/docker/certs.d", "/etc/containers/certs.d"];

/// Makes a command of a program (`sandbox::command`): clean environment, closed descriptors.
pub(crate) type CredentialCommandFn = fn(&std::ffi::OsStr) -> Command;

/// A function that is called with the bytes done so far of one transfer; it is called often and must be quick.
pub(crate) type TransferProgress<'a> = &'a (dyn Fn(u64) + Send + Sync);

/// The options of a registry client: hosts, mirrors, credentials, limits.
#[derive(Clone)]
pub(crate) struct ClientOptions {
    /// `$DOCKER_CONFIG` or `~/.docker`; its `config.json` is read when first needed.
    pub(crate) docker_config: Option<PathBuf>,
    /// Further files with `auths`, such as podman's `auth.json`, in order.
    pub(crate) auth_files: Vec<PathBuf>,
    /// Environment of credential helpers (PATH, HOME, …).
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) command: CredentialCommandFn,
    /// By host as written in references (`docker.io`, `localhost:5000`).
    pub(crate) hosts: BTreeMap<String, HostSettings>,
    /// Folders with a subfolder per host that holds `hosts.toml`, `*.crt`, `*.cert`, `*.key`: `/etc/docker/certs.d`.
    pub(crate) certificate_folders: Vec<PathBuf>,
    /// How long an operation goes on trying without making progress.
    pub(crate) retry_budget: Duration,
    /// Transfers at a time per registry.
    pub(crate) parallel: usize,
}

impl ClientOptions {
    /// Nothing but defaults: no credentials, no mirrors.
    pub(crate) fn new(command: CredentialCommandFn) -> Self {
        Self {
            docker_config: None,
            auth_files: Vec::new(),
            env: Vec::new(),
            command,
            hosts: BTreeMap::new(),
            certificate_folders: CERTIFICATE_FOLDERS.map(PathBuf::from).into(),
            retry_budget: Duration::from_secs(45),
            parallel: 4,
        }
    }
}
