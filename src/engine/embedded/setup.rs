//! What the embedded engine needs of the world.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use crate::{
    grant::Allowed,
    registry,
    report::event::Sink,
    solve::{
        cancel::SolveCancel,
        locals::Locals,
        runner::Runner,
        schedule::slots::Slots,
        world::{SolveWorld, SourceFetcher},
    },
    store::Store,
};

/// What the embedded engine is given by its caller: nothing here reads the environment or a clock by itself.
pub(crate) struct EngineSetup {
    pub(crate) store: Store,
    pub(crate) client: registry::Client,
    pub(crate) sink: Sink,
    /// How many steps run at a time; 0 counts as 1.
    pub(crate) jobs: usize,
    /// Runs the process of a step.
    pub(crate) runner: Arc<Runner>,
    /// The environment of the user.
    pub(crate) env: Arc<BTreeMap<String, String>>,
    /// Absolute working directory: what relative paths of outputs start from.
    pub(crate) cwd: PathBuf,
    /// Stops the steps of this engine.
    pub(crate) cancel: SolveCancel,
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
            sources: SourceFetcher {
                client: Arc::new(self.client.clone()),
                limits: crate::layer::UnpackLimits::default(),
                http: crate::fetch::HttpClient::default(),
                command: self.command,
                git_secrets: crate::fetch::GitSecrets::default(),
                fetched: std::sync::Mutex::default(),
            },
            cancel: self.cancel.clone(),
            env: self.env.clone(),
            now: self.now,
        }
    }
}
