//! What a solver may touch: the store, the network, the sandbox, the user's directories, and where events go.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::OnceCell;

use super::{
    blocking::blocking,
    cancel::SolveCancel,
    failure::{SolveFailure, store_failure},
    locals::Locals,
    op::held::HeldSlot,
    runner::Runner,
    schedule::slots::Slots,
    shared::SharedCaches,
    tree::SolvedTree,
};
use crate::{
    fetch::{GitCommandFn, GitSecrets, HttpClient},
    grant::GrantedRead,
    layer,
    objects::ObjectStores,
    oci::Digest,
    registry,
    report::{Hidden, event::Sink},
    spec::{SecretOrigin, StepLogLimits},
    store::{KeyLock, Store},
};

/// Everything outside the graph that solving uses: store, sandbox, clients, clock, progress, cancellation.
pub(crate) struct SolveWorld {
    pub(crate) store: Store,
    /// How many steps run at a time.
    pub(crate) slots: Slots,
    pub(crate) runner: Arc<Runner>,
    pub(crate) sink: Sink,
    /// How much output of a step is passed on to it.
    pub(crate) step_log: StepLogLimits,
    /// What output of steps must not hold, beside the secrets of each.
    pub(crate) hidden: Arc<Hidden>,
    pub(crate) sources: SourceFetcher,
    pub(crate) locals: Locals,
    /// Where the first step that fails is put, with its files; without, nothing is kept of it.
    pub(crate) held: Option<HeldSlot>,
    pub(crate) cancel: SolveCancel,
    pub(crate) caches: SharedCaches,
    /// The environment of the user, for secrets and agents.
    pub(crate) env: Arc<BTreeMap<String, String>>,
    /// What secrets take of variables: the environment, and below it what the definition gives.
    pub(crate) secret_env: Arc<BTreeMap<String, String>>,
    /// Proxies that steps get without asking for them, by the name of their variable; never part of a key.
    pub(crate) proxies: Arc<BTreeMap<String, String>>,
    /// The current time, RFC 3339 with nanoseconds.
    pub(crate) now: fn() -> String,
    /// Seconds from 1970 to the start of the run.
    pub(crate) begun: i64,
}

/// The clients that fetch git and HTTP sources, and what they have fetched in this run.
pub(crate) struct SourceFetcher {
    pub(crate) client: Arc<registry::Client>,
    pub(crate) objects: ObjectStores,
    pub(crate) limits: layer::UnpackLimits,
    pub(crate) http: HttpClient,
    pub(crate) command: GitCommandFn,
    pub(crate) git_secrets: GitSecrets,
    /// Git and http sources that were asked for in this run, by the digest of the vertex.
    pub(crate) fetched: Mutex<HashMap<Digest, FetchedOnce>>,
}

/// A git or http source, fetched once in a run.
pub(crate) type FetchedOnce = Arc<OnceCell<FetchedSource>>;

/// What a git or http source was in this run.
#[derive(Clone, Debug)]
pub(crate) struct FetchedSource {
    pub(crate) tree: SolvedTree,
    /// The id of the commit, or the digest of the file.
    pub(crate) pin: String,
    /// When the server says that the file was last modified, in seconds since 1970. Not known of a commit: its tree says it.
    pub(crate) modified: Option<i64>,
}

/// The secrets and agents that a vertex may use beside its inputs: those of the build that first asked for it.
#[derive(Debug, Default)]
pub(crate) struct SolveScope {
    /// Where the values of secrets are, by id.
    pub(crate) secrets: HashMap<String, SecretSource>,
    /// Agents, by id: the socket of one, or private keys. Without any it is the agent of the environment.
    pub(crate) ssh: HashMap<String, Vec<GrantedRead>>,
    /// Names: of all processes that have one of them in common, one runs at a time.
    pub(crate) concurrency: BTreeSet<Arc<str>>,
}

/// The place where the value of a secret is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SecretSource {
    File(GrantedRead),
    Env(String),
}

impl SecretSource {
    /// The source without the right to read it, as steps are told apart by it.
    pub(crate) fn origin(&self) -> SecretOrigin {
        match self {
            Self::File(path) => SecretOrigin::File(path.path().to_owned()),
            Self::Env(name) => SecretOrigin::Env(name.clone()),
        }
    }
}

impl SourceFetcher {
    /// The commit or digest of a source that was fetched in this run, by the digest of its vertex.
    pub(crate) fn pin(&self, vertex: &Digest) -> Option<String> {
        let fetched = self.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        Some(fetched.get(vertex)?.get()?.pin.clone())
    }

    /// When a file that was fetched in this run was last modified, by the digest of its vertex; `None` if its server does
    /// not say so.
    pub(crate) fn modified(&self, vertex: &Digest) -> Option<i64> {
        let fetched = self.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        fetched.get(vertex)?.get()?.modified
    }
}

impl SolveWorld {
    /// Locks `key`, waiting until no other task and no other process works on it; held until the lock is dropped.
    ///
    /// # Errors
    /// When the state directory cannot be written, or the run is cancelled meanwhile.
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
