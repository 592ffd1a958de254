//! What of the world connections need: the environment, Docker's configuration, how programs are run. Nothing connects here.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use super::docker_host::DockerWorld;

/// What of the world connections need.
#[derive(Clone)]
pub(crate) struct ConnectSetup {
    /// The user's environment, which programs get.
    pub(crate) env: Arc<BTreeMap<String, String>>,
    /// The folder of Docker's configuration.
    pub(crate) docker_config: Option<PathBuf>,
    /// Makes the command of a program, as `sandbox::command` does.
    pub(crate) command: fn(&std::ffi::OsStr) -> std::process::Command,
    /// A container that does not run is started; else it is not reached.
    pub(crate) starts_containers: bool,
}

impl ConnectSetup {
    /// A variable of the environment; `None` if it is not set or empty.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        self.env.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Asks where Docker daemons are.
    pub(crate) fn docker<T>(&self, ask: impl FnOnce(&DockerWorld<'_>) -> T) -> T {
        let variable = |name: &str| self.variable(name).map(str::to_owned);
        ask(&DockerWorld { variable: &variable, config: self.docker_config.as_deref() })
    }
}
