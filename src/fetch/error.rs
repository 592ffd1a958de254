//! What can go wrong in fetching, naming the URL without its secrets.

use std::{io, path::PathBuf};

use crate::oci::Digest;

/// Why a download or a git operation failed. Every `url` is shown without its secrets.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("not a usable URL ({why}): {url}")]
    Url { url: String, why: String },
    #[error("`{url}` was answered with the status {status}")]
    Status { url: String, status: u16 },
    #[error("`{url}` cannot be fetched: {why}")]
    Transport { url: String, why: String },
    #[error("content of `{url}` has the digest {found} instead of {wanted}")]
    Digest { url: String, wanted: Digest, found: Digest },
    #[error("content of `{url}` is longer than {limit} bytes")]
    TooLong { url: String, limit: u64 },
    /// What the caller opened cannot be written.
    #[error("cannot keep the content of `{url}`")]
    Keep { url: String, source: io::Error },
    #[error("git is needed for `{url}`, but cannot be run")]
    NoGit { url: String, source: io::Error },
    #[error("git cannot {action} `{url}`: {words}")]
    Git { action: &'static str, url: String, words: String },
    #[error("git did not {action} `{url}` within {seconds} s")]
    Slow { action: &'static str, url: String, seconds: u64 },
    /// The run was cancelled.
    #[error("`{url}` is not fetched: the run was stopped")]
    Stopped { url: String },
    #[error("repository `{url}` does not contain ref {reference}")]
    NoRef { url: String, reference: String },
    #[error("expected checksum to match {wanted}, got {found}, in `{url}`")]
    Commit { url: String, wanted: String, found: String },
    #[error("invalid subdir {subdir} in `{url}`")]
    Subdir { url: String, subdir: String },
    #[error("cannot {action} `{path}`")]
    File { action: &'static str, path: PathBuf, source: io::Error },
}
