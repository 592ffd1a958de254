//! Running steps: one face for our own helper and for container runtimes.

use std::{
    collections::BTreeSet,
    os::fd::BorrowedFd,
    sync::{Mutex, OnceLock, PoisonError},
};

use super::{
    cancel::StepCancel,
    cgroup::{RunCgroup, UnkeptLimit},
    embedded,
    error::SandboxError,
    network::{HostNetworkNotice, NetworkChoice, NetworkPool},
    runtime::{self, Runtime},
    spec::{SandboxSpec, StepOwners, StepStream},
    watch::{Exit, StepStreams},
};

/// The options for all steps of a run: runtime, network, limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SandboxOptions {
    pub(crate) runtime: Runtime,
    pub(crate) network: NetworkChoice,
    /// The largest number of processes and threads of a step; `None` is unlimited. It holds where the system lets us make
    /// control groups.
    pub(crate) pids_limit: Option<u64>,
    /// The most memory that all steps of the run have together, in bytes. It holds where the system lets us make control
    /// groups.
    pub(crate) memory_limit: Option<u64>,
    /// As the user namespace of the process asks for.
    pub(crate) owners: StepOwners,
}

impl Default for SandboxOptions {
    /// Our own helper, in the network of the host without NET_RAW, the usual limit of processes, owners kept by the kernel.
    fn default() -> Self {
        Self {
            runtime: Runtime::Embedded,
            network: NetworkChoice::Host,
            pids_limit: Some(DEFAULT_PIDS_LIMIT),
            memory_limit: None,
            owners: StepOwners::Kept,
        }
    }
}

/// The number of processes that a step may have unless the user sets another limit.
pub(crate) const DEFAULT_PIDS_LIMIT: u64 = 32_768;

/// Runs the steps of one run of `bake`, and keeps what they use one after another: network namespaces.
pub(crate) struct Sandbox {
    runtime: Runtime,
    networks: NetworkPool,
    pids_limit: Option<u64>,
    memory_limit: Option<u64>,
    /// Made by the first step if there is a limit of the run.
    cgroup: OnceLock<RunCgroup>,
    /// The limits of which an [`Exit`] said that they do not hold.
    told_limits: Mutex<BTreeSet<UnkeptLimit>>,
}

impl Sandbox {
    /// A sandbox with these options; nothing is started yet.
    pub(crate) fn new(options: SandboxOptions) -> Self {
        let SandboxOptions { runtime, network, pids_limit, memory_limit, owners: _ } = options;
        let networks = NetworkPool::new(network);
        Self { runtime, networks, pids_limit, memory_limit, cgroup: OnceLock::new(), told_limits: Mutex::default() }
    }

    /// The most memory that all steps have together, in bytes, if it is limited.
    pub(crate) const fn memory_limit(&self) -> Option<u64> {
        self.memory_limit
    }

    /// Runs the command of a step to its end; blocks. `output` receives its streams in pieces of any length, as they come.
    ///
    /// # Errors
    /// When the command was never started, or was cancelled. A command that started and failed is an [`Exit`].
    pub(crate) fn run(
        &self,
        spec: &SandboxSpec,
        output: &mut (dyn FnMut(StepStream, &[u8]) + Send),
        cancel: &StepCancel,
    ) -> Result<Exit, SandboxError> {
        self.run_with(spec, StepStreams { output, user: None }, cancel)
    }

    /// As [`Self::run`]; the standard input of the spec is fed from `user`: a terminal if the step is to have one, which
    /// the caller has put into raw mode.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub(crate) fn run_attached(
        &self,
        spec: &SandboxSpec,
        user: BorrowedFd<'_>,
        output: &mut (dyn FnMut(StepStream, &[u8]) + Send),
        cancel: &StepCancel,
    ) -> Result<Exit, SandboxError> {
        self.run_with(spec, StepStreams { output, user: Some(user) }, cancel)
    }

    fn run_with(
        &self,
        spec: &SandboxSpec,
        streams: StepStreams<'_>,
        cancel: &StepCancel,
    ) -> Result<Exit, SandboxError> {
        if cancel.is_cancelled() {
            return Err(SandboxError::Cancelled);
        }
        let network = {
            let _span = tracing::debug_span!("network of a step").entered();
            self.networks.acquire(spec)?
        };
        let _span = tracing::debug_span!("process of a step", args = ?spec.args).entered();
        let cgroup = self.memory_limit.map(|memory| self.cgroup.get_or_init(|| RunCgroup::make(memory)));
        let limits = (self.pids_limit, cgroup);
        let mut exit = match &self.runtime {
            Runtime::Embedded => embedded::run(spec, &network, limits, streams, cancel),
            Runtime::Program(program) => runtime::run(program, spec, &network, limits, streams, cancel),
        }?;
        exit.unkept_limits.extend(cgroup.into_iter().flat_map(RunCgroup::unkept).cloned());
        let mut told = self.told_limits.lock().unwrap_or_else(PoisonError::into_inner);
        exit.unkept_limits.retain(|limit| told.insert(limit.clone()));
        drop(told);
        Ok(exit)
    }

    /// Takes the reason why steps share the network of the host although the user did not ask for it; `None` if there
    /// is none, or it was taken before.
    pub(crate) fn take_network_notice(&self) -> Option<HostNetworkNotice> {
        self.networks.take_notice()
    }
}
