//! All of the world that evaluation may see.

use std::collections::BTreeMap;

use crate::report::{SourceId, Spanned};

/// What comes in from outside; evaluation reads nothing else.
#[derive(Clone, Debug, Default)]
pub(crate) struct Input {
    /// The process environment, empty when `BUILDX_BAKE_DISABLE_VARS_ENV_LOOKUP` is set.
    pub(crate) env: BTreeMap<String, String>,
    /// `--var NAME=VALUE`, later over earlier.
    pub(crate) vars: BTreeMap<String, String>,
    /// `--set` and the shorthands (`--push`, …) in the order in which they apply: each as `PATTERN.KEY=VALUE`, with the
    /// place of the argument, whose text is exactly this.
    pub(crate) overrides: Vec<Spanned<String>>,
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
    /// With `BUILDX_BAKE_FILE_RELATIVE_PATHS`: the folder of each definition file that has one.
    pub(crate) folders: BTreeMap<SourceId, String>,
    /// URL of the definition, when it lies elsewhere: relative contexts are relative to it.
    pub(crate) remote: Option<String>,
    /// `SOURCE_DATE_EPOCH`, a build argument of every target that has none.
    pub(crate) source_date_epoch: Option<String>,
}
