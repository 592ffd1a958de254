//! Faults of reading from a build context or from layers.

use std::io;

use crate::{report::Diagnostic, solve::failure::file_fault};

/// Why content of a context or image cannot be selected, read or hashed. Names paths of images and contexts only, never
/// of the store.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContentError {
    #[error("source not found in {of}: {path}")]
    NotFound { path: String, of: String, hint: Option<String> },
    #[error("cannot open the context directory: {folder}")]
    Context {
        folder: String,
        #[source]
        cause: io::Error,
    },
    #[error("malformed pattern{}, {why}: {pattern}", .file.as_ref().map(|file| format!(" in {file}")).unwrap_or_default())]
    BadPattern { pattern: String, why: &'static str, file: Option<String> },
    #[error("a file of {of} changed while it was read: {path}")]
    Changed { path: String, of: String },
    #[error("cannot read from {of}: {path}: {cause}")]
    Read { path: String, of: String, cause: io::Error },
    #[error("the directories of {of} are nested too deep below: {path}")]
    TooDeep { path: String, of: String },
}

impl ContentError {
    /// The help for the user: what to change; `None` if there is nothing to say.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::NotFound { hint, .. } => hint.clone(),
            Self::Changed { .. } => {
                Some("keep it still during the build, or name it in .dockerignore if it is not needed".to_owned())
            }
            Self::Context { .. } | Self::BadPattern { .. } | Self::Read { .. } | Self::TooDeep { .. } => None,
        }
    }

    /// Makes a diagnostic of the error, without a place.
    pub(crate) fn into_diagnostic(self) -> Diagnostic {
        file_fault(&self, self.hint())
    }
}
