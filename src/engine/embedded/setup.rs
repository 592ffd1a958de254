//! What the embedded engine needs of the world.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use crate::{
    grant::Allowed,
    objects::ObjectStores,
    registry,
    report::{Hidden, event::Sink},
    solve::{
        cancel::SolveCancel,
        locals::Locals,
        op::held::HeldSlot,
        runner::Runner,
        schedule::slots::Slots,
        shared::SharedCaches,
        world::{SolveWorld, SourceFetcher},
    },
    spec::StepLogLimits,
    store::Store,
};

/// The resources and settings of the embedded engine, passed in by its caller: nothing here reads the environment or a
/// clock by itself.
pub(crate) struct EngineSetup {
    pub(crate) store: Store,
    pub(crate) client: registry::Client,
    pub(crate) sink: Sink,
    /// How much output of a step is shown.
    pub(crate) step_log: StepLogLimits,
    /// What output of steps must not hold, beside the secrets of each.
    pub(crate) hidden: Arc<Hidden>,
    /// How many steps run at a time; 0 counts as 1.
    pub(crate) jobs: usize,
    /// Runs the process of a step.
    pub(crate) runner: Arc<Runner>,
    /// The environment of the user.
    pub(crate) env: Arc<BTreeMap<String, String>>,
    /// What secrets take of variables: the environment, and below it what the definition gives.
    pub(crate) secret_env: Arc<BTreeMap<String, String>>,
    /// Proxies that builds get beside their arguments, by the name of their variable.
    pub(crate) proxies: Arc<BTreeMap<String, String>>,
    /// Absolute working directory: what relative paths of outputs start from.
    pub(crate) cwd: PathBuf,
    /// Where the first step that fails is put, with its files; without, nothing is kept of it.
    pub(crate) held: Option<HeldSlot>,
    /// Stops the steps of this engine.
    pub(crate) cancel: SolveCancel,
    /// The shared caches of the run: the same in every preparation of its engine.
    pub(crate) caches: SharedCaches,
    /// Makes the command of another program (git, a credential helper).
    pub(crate) command: crate::fetch::GitCommandFn,
    /// The time, in RFC 3339 with nanoseconds.
    pub(crate) now: fn() -> String,
    /// Seconds from 1970 to the start of the run.
    pub(crate) epoch_now: i64,
    /// What the plan may write on this machine, as the check of entitlements found it.
    pub(crate) writable: Allowed,
}

impl EngineSetup {
    /// The same as the solver takes it.
    pub(crate) fn world(&self) -> SolveWorld {
        SolveWorld {
            locals: Locals::new(self.store.clone()),
            store: self.store.clone(),
            slots: Slots::new(self.jobs),
            runner: self.runner.clone(),
            sink: self.sink.clone(),
            step_log: self.step_log,
            hidden: self.hidden.clone(),
            sources: SourceFetcher {
                client: Arc::new(self.client.clone()),
                objects: ObjectStores::new(self.env.clone()),
                limits: crate::layer::UnpackLimits::default(),
                http: crate::fetch::HttpClient::default(),
                command: self.command,
                git_secrets: crate::fetch::GitSecrets::default(),
                fetched: std::sync::Mutex::default(),
            },
            held: self.held.clone(),
            cancel: self.cancel.clone(),
            caches: self.caches.clone(),
            env: self.env.clone(),
            secret_env: self.secret_env.clone(),
            proxies: self.proxies.clone(),
            now: self.now,
            begun: self.epoch_now,
        }
    }
}
