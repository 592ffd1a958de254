//! Running steps: one face for our own helper and for container runtimes.

use super::{
    cancel::StepCancel,
    embedded,
    error::SandboxError,
    network::{HostNetworkNotice, NetworkChoice, NetworkPool},
    runtime::{self, Runtime},
    spec::Spec,
    watch::{Exit, StepStream},
};

/// How the steps of a run are to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SandboxOptions {
    pub(crate) runtime: Runtime,
    pub(crate) network: NetworkChoice,
    /// The largest number of processes and threads of a step; `None` is unlimited. It holds where the system lets us make
    /// control groups.
    pub(crate) pids_limit: Option<u64>,
}

impl Default for SandboxOptions {
    /// Our own helper, in the network of the host without NET_RAW, and the usual limit of processes.
    fn default() -> Self {
        Self { runtime: Runtime::Embedded, network: NetworkChoice::Host, pids_limit: Some(DEFAULT_PIDS_LIMIT) }
    }
}

/// The limit of processes that a step has unless the user sets another.
pub(crate) const DEFAULT_PIDS_LIMIT: u64 = 32_768;

/// Runs the steps of one run of `bake`, and keeps what they use one after another: network namespaces.
pub(crate) struct Sandbox {
    runtime: Runtime,
    networks: NetworkPool,
    pids_limit: Option<u64>,
}

impl Sandbox {
    /// Starts nothing yet.
    pub(crate) fn new(options: SandboxOptions) -> Self {
        let SandboxOptions { runtime, network, pids_limit } = options;
        Self { runtime, networks: NetworkPool::new(network), pids_limit }
    }

    /// Runs the command of a step to its end; blocks. `output` receives its streams in pieces of any length, as they come.
    ///
    /// # Errors
    /// When the command was never started, or was cancelled. A command that started and failed is an [`Exit`].
    pub(crate) fn run(
        &self,
        spec: &Spec,
        output: &mut (dyn FnMut(StepStream, &[u8]) + Send),
        cancel: &StepCancel,
    ) -> Result<Exit, SandboxError> {
        if cancel.is_cancelled() {
            return Err(SandboxError::Cancelled);
        }
        let network = self.networks.acquire(spec)?;
        match &self.runtime {
            Runtime::Embedded => embedded::run(spec, &network, self.pids_limit, output, cancel),
            Runtime::Program(program) => runtime::run(program, spec, &network, self.pids_limit, output, cancel),
        }
    }

    /// Why steps share the network of the host although the user did not ask for it: returned once.
    pub(crate) fn take_network_notice(&self) -> Option<HostNetworkNotice> {
        self.networks.take_notice()
    }
}
