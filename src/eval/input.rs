//! All of the world that evaluation may see.

use std::collections::BTreeMap;

/// What comes in from outside; evaluation reads nothing else.
#[derive(Clone, Debug, Default)]
pub(crate) struct Input {
    /// The process environment, empty when `BUILDX_BAKE_DISABLE_VARS_ENV_LOOKUP` is set.
    pub(crate) env: BTreeMap<String, String>,
    /// `--var NAME=VALUE`, later over earlier.
    pub(crate) vars: BTreeMap<String, String>,
    /// `--set` and the shorthands (`--push`, …) in the order in which they apply, each as written.
    pub(crate) overrides: Vec<String>,
    /// Targets, groups, patterns as typed; empty is `default`.
    pub(crate) names: Vec<String>,
    /// Seconds and nanoseconds since 1970, for `timestamp()`.
    pub(crate) now: (i64, u32),
    /// Seed of `uuidv4()` and `bcrypt()`.
    pub(crate) random: [u8; 32],
    /// For `homedir()`.
    pub(crate) home: String,
    /// `BAKE_CMD_CONTEXT`.
    pub(crate) cmd_context: String,
    /// Absolute working directory.
    pub(crate) cwd: String,
}
