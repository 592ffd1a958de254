//! What a solver may touch: the store, the network, the sandbox, the user's directories, and where events go.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::{Arc, Mutex},
};

use tokio::sync::OnceCell;

use super::{
    blocking::blocking,
    cancel::SolveCancel,
    failure::{SolveFailure, store_failure},
    locals::Locals,
    runner::Runner,
    schedule::slots::Slots,
    tree::SolvedTree,
};
use crate::{
    fetch::{GitCommandFn, GitSecrets, HttpClient},
    layer,
    oci::Digest,
    registry,
    report::event::Sink,
    store::{KeyLock, Store},
};

/// The world of a solver.
pub(crate) struct SolveWorld {
    pub(crate) store: Store,
    /// How many steps run at a time.
    pub(crate) slots: Slots,
    pub(crate) runner: Arc<Runner>,
    pub(crate) sink: Sink,
    pub(crate) sources: SourceFetcher,
    pub(crate) locals: Locals,
    pub(crate) cancel: SolveCancel,
    /// The environment of the user, for secrets and agents.
    pub(crate) env: Arc<BTreeMap<String, String>>,
    /// The current time, RFC 3339 with nanoseconds.
    pub(crate) now: fn() -> String,
}

/// Clients for what is not in the store.
pub(crate) struct SourceFetcher {
    pub(crate) client: Arc<registry::Client>,
    pub(crate) limits: layer::UnpackLimits,
    pub(crate) http: HttpClient,
    pub(crate) command: GitCommandFn,
    pub(crate) git_secrets: GitSecrets,
    /// Git and http sources that were asked for in this run, by the digest of the vertex.
    pub(crate) fetched: Mutex<HashMap<Digest, FetchedOnce>>,
}

/// The tree of a git or http source, made once in a run.
pub(crate) type FetchedOnce = Arc<OnceCell<SolvedTree>>;

/// What a vertex may use beside its inputs: that of the build that first asked for it.
#[derive(Debug, Default)]
pub(crate) struct SolveScope {
    /// Where the values of secrets are, by id.
    pub(crate) secrets: HashMap<String, SecretSource>,
    /// Agent sockets, by id; `None` is that of the environment.
    pub(crate) ssh: HashMap<String, Option<String>>,
    /// Prefix of the ids of cache mounts.
    pub(crate) cache_namespace: String,
}

/// Where the value of a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SecretSource {
    File(PathBuf),
    Env(String),
}

impl std::fmt::Display for SecretSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Env(name) => write!(f, "env {name}"),
        }
    }
}

impl SolveWorld {
    /// Waits until no other task and no other process works on `key`, and holds it until the lock is dropped.
    ///
    /// # Errors
    /// When the state folder cannot be written, or the run is cancelled meanwhile.
    pub(super) async fn lock(&self, key: &Digest) -> Result<KeyLock, SolveFailure> {
        if let Some(lock) = self.store.try_lock(key).map_err(|error| store_failure(&error))? {
            return Ok(lock);
        }
        let (store, key) = (self.store.clone(), *key);
        tokio::select! {
            lock = blocking(move || store.lock(&key).map_err(|error| store_failure(&error))) => lock,
            () = self.cancel.cancelled() => Err(SolveFailure::Cancelled),
        }
    }
}
