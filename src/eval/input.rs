//! The input of evaluation: everything that it may see of the world beside the definition.

use std::{collections::BTreeMap, fmt, sync::Arc};

use super::value::types::Value;
use crate::{
    definition::origin::DefinitionOrigin,
    report::{SourceId, Span, Spanned},
};

/// A value of a variables file, and its place.
#[derive(Clone, Debug)]
pub(crate) struct FileValue {
    pub(crate) value: Value,
    pub(crate) at: Span,
    /// The value is untyped text and is converted as that of `--var` is.
    pub(crate) is_text: bool,
}

/// File access of expressions (`file()`, `fileexists()`, `fileset()`). Paths are relative to the working directory; `origin`
/// is that of the file whose expression asks; an error is a message that names the path.
pub(crate) trait FileReader: fmt::Debug + Send + Sync {
    /// The text of a file of at most `limit` bytes.
    ///
    /// # Errors
    /// When it cannot be read, must not be read, is too large, or is not UTF-8 text.
    fn read(&self, path: &str, origin: &DefinitionOrigin, limit: usize) -> Result<String, String>;

    /// Whether there is a file.
    ///
    /// # Errors
    /// When it may not be looked at.
    fn exists(&self, path: &str, origin: &DefinitionOrigin) -> Result<bool, String>;

    /// The files below a folder whose path from there matches a pattern, sorted.
    ///
    /// # Errors
    /// When the folder cannot or may not be read, or the pattern is invalid.
    fn list(&self, folder: &str, origin: &DefinitionOrigin, pattern: &str) -> Result<Vec<String>, String>;
}

/// Variables of the environment that give caches to targets that name none: one cache a line, and the place of the text. An
/// empty text means no caches; `None` is a variable that is not set.
#[derive(Clone, Debug, Default)]
pub(crate) struct CacheVariables {
    /// `BAKE_CACHE`: read and written.
    pub(crate) both: Option<Spanned<String>>,
    /// `BAKE_CACHE_FROM`: in the place of what `both` says about reading.
    pub(crate) from: Option<Spanned<String>>,
    /// `BAKE_CACHE_TO`: in the place of what `both` says about writing.
    pub(crate) to: Option<Spanned<String>>,
}

/// Everything outside the definition that evaluation may see: environment, overrides, requested names, clock, random
/// seed, files.
#[derive(Clone, Debug, Default)]
pub(crate) struct Input {
    /// The process environment, empty when `BUILDX_BAKE_DISABLE_VARS_ENV_LOOKUP` is set.
    pub(crate) env: BTreeMap<String, String>,
    /// `--var NAME=VALUE`, later over earlier.
    pub(crate) vars: BTreeMap<String, String>,
    /// Values of variables files, later files over earlier ones.
    pub(crate) var_values: BTreeMap<String, FileValue>,
    /// `--set` and the shorthands (`--push`, …) in the order in which they apply: each as `PATTERN.KEY=VALUE`, with the
    /// place of the argument, whose text is exactly this.
    pub(crate) overrides: Vec<Spanned<String>>,
    /// Targets, groups, patterns as typed; empty is `default`.
    pub(crate) names: Vec<String>,
    /// Seconds and nanoseconds since 1970, for `timestamp()`.
    pub(crate) now: (i64, u32),
    /// Seed of `uuidv4()` and `bcrypt()`.
    pub(crate) random: [u8; 32],
    /// For `file()` and its like; without it they fail.
    pub(crate) files: Option<Arc<dyn FileReader>>,
    /// For `homedir()`.
    pub(crate) home: String,
    /// `BAKE_CMD_CONTEXT`.
    pub(crate) cmd_context: String,
    /// With `BUILDX_BAKE_FILE_RELATIVE_PATHS`: the folder of each definition file that has one.
    pub(crate) folders: BTreeMap<SourceId, String>,
    /// Where each file of the definition comes from; other texts are those of the command line.
    pub(crate) origins: BTreeMap<SourceId, DefinitionOrigin>,
    /// URL of the definition, when it lies elsewhere: relative contexts are relative to it.
    pub(crate) remote: Option<String>,
    /// `SOURCE_DATE_EPOCH`, a build argument of every target that has none.
    pub(crate) source_date_epoch: Option<String>,
    /// Caches of all targets that name none.
    pub(crate) caches: CacheVariables,
    /// Targets without an output are loaded into the container engine of the machine, as by the `docker` driver of the peer.
    pub(crate) loads_by_default: bool,
    /// `BUILDX_NO_DEFAULT_ATTESTATIONS`: nothing is attested unless a target asks for it.
    pub(crate) no_default_attestations: bool,
}
