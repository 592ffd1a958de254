//! The client of all registries of a run: options, and what is shared between requests.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ffi::OsString,
    path::PathBuf,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{host::Host, http::Clients};
use crate::oci::Digest;

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

/// All registries of a run. Cheap to make; nothing is read or connected before the first request.
#[derive(Clone)]
pub(crate) struct Client {
    pub(super) shared: Arc<Shared>,
}

/// What requests share.
pub(super) struct Shared {
    pub(super) options: ClientOptions,
    pub(super) clients: Clients,
    hosts: Mutex<HashMap<HostKey, Arc<Host>>>,
    /// Repositories known to hold a blob, by registry: they are asked for mounts.
    held: Mutex<HashMap<(String, Digest), BTreeSet<String>>>,
}

/// Domain of a reference, whether insecure is acceptable, and which mirror (`None`: the registry itself).
type HostKey = (String, bool, Option<usize>);

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

impl Client {
    /// A client. Reads nothing, opens nothing.
    pub(crate) fn new(options: ClientOptions) -> Self {
        let shared = Shared { options, clients: Clients::default(), hosts: Mutex::default(), held: Mutex::default() };
        Self { shared: Arc::new(shared) }
    }

    /// How registries are reached, and what came with it: Docker's folder, the user's environment.
    pub(crate) fn options(&self) -> &ClientOptions {
        &self.shared.options
    }

    /// The registry of a domain.
    pub(super) fn origin(&self, domain: &str, insecure: bool) -> Arc<Host> {
        let key = (domain.to_owned(), insecure, None);
        let mut hosts = self.shared.hosts.lock().expect("no holder of this lock panics");
        hosts.entry(key).or_insert_with(|| Arc::new(Host::origin(&self.shared.options, domain, insecure))).clone()
    }

    /// Where a domain's content may be read: its mirrors in order, then the registry itself.
    pub(super) fn readers(&self, domain: &str) -> Vec<Arc<Host>> {
        let mut readers = Vec::new();
        while let Some(host) = self.mirror(domain, readers.len()) {
            readers.push(host);
        }
        readers.push(self.origin(domain, false));
        readers
    }

    fn mirror(&self, domain: &str, index: usize) -> Option<Arc<Host>> {
        let mut hosts = self.shared.hosts.lock().expect("no holder of this lock panics");
        let key = (domain.to_owned(), false, Some(index));
        if let Some(host) = hosts.get(&key) {
            return Some(host.clone());
        }
        let host = Arc::new(Host::mirror(&self.shared.options, domain, index)?);
        hosts.insert(key, host.clone());
        Some(host)
    }

    /// Remembers that a repository holds a blob.
    pub(super) fn note_held(&self, domain: &str, path: &str, digest: Digest) {
        let mut held = self.shared.held.lock().expect("no holder of this lock panics");
        held.entry((domain.to_owned(), digest)).or_default().insert(path.to_owned());
    }

    /// Repositories of a registry known to hold a blob.
    pub(super) fn holders(&self, domain: &str, digest: Digest) -> BTreeSet<String> {
        let held = self.shared.held.lock().expect("no holder of this lock panics");
        held.get(&(domain.to_owned(), digest)).cloned().unwrap_or_default()
    }
}
