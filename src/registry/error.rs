//! What can go wrong between us and a registry or a layout folder, naming the request and the place.
//!
//! A server's text is cleaned of control characters and cut before it gets here; no variant ever carries a secret.

use std::{fmt, io, path::PathBuf};

use serde::Deserialize;

use super::http::clean;
use crate::oci::{Digest, Platform};

/// What a request was about, for messages: registry, repository, and tag, digest or upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestTarget(Box<Parts>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Parts {
    registry: String,
    repository: String,
    reference: String,
}

impl RequestTarget {
    /// A target. `registry` is the host as the user knows it (`docker.io`, not `registry-1.docker.io`), `reference` a
    /// tag or digest.
    pub(super) fn new(registry: &str, repository: &str, reference: &str) -> Self {
        let (registry, repository) = (registry.to_owned(), repository.to_owned());
        Self(Box::new(Parts { registry, repository, reference: reference.to_owned() }))
    }
}

impl fmt::Display for RequestTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parts { registry, repository, reference } = &*self.0;
        match reference.as_str() {
            "" => write!(f, "{registry}/{repository}"),
            digest if digest.contains(':') => write!(f, "{registry}/{repository}@{digest}"),
            tag => write!(f, "{registry}/{repository}:{tag}"),
        }
    }
}

/// Why a request to a registry, or reading an OCI layout folder, failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegistryError {
    /// The registry answered, but not with what was asked.
    #[error("{method} `{target}` was answered with {status}{}", words(.message))]
    Status { method: &'static str, target: RequestTarget, status: u16, message: String },
    /// No usable answer came.
    #[error("{method} `{target}` failed: {cause}")]
    Transport { method: &'static str, target: RequestTarget, cause: String },
    /// No token or credentials could be had.
    #[error("{method} `{target}` needs authentication at `{realm}`: {why}")]
    Auth { method: &'static str, target: RequestTarget, realm: String, why: String },
    /// The content is not what its digest says.
    #[error("content of `{target}` has the digest {found} instead of {wanted}")]
    Digest { target: RequestTarget, wanted: Digest, found: Digest },
    /// The content is not as long as announced, or longer than can be accepted.
    #[error("content of `{target}` is {found} instead of {wanted} bytes long")]
    Size { target: RequestTarget, wanted: String, found: String },
    /// A manifest, index or config cannot be read.
    #[error("`{target}` is not usable: {why}")]
    Document { target: RequestTarget, why: String },
    /// An index has no manifest for the platform.
    #[error("`{target}` has no image for the platform `{wanted}`; it has {}", list(.available))]
    Platform { target: RequestTarget, wanted: Box<Platform>, available: Vec<String> },
    /// A credential helper or file failed.
    #[error("credentials for `{registry}`: {why}")]
    Credentials { registry: String, why: String },
    /// A folder is not an OCI layout, or lacks something.
    #[error("OCI layout `{folder}`: {why}")]
    Layout { folder: PathBuf, why: String },
    /// A layout has no image of a name, or several; `names` are the tags and names that it has.
    #[error("OCI layout `{folder}`: {why}")]
    LayoutName { folder: PathBuf, why: String, wanted: Option<String>, names: Vec<String> },
    /// A file of ours.
    #[error("cannot {action} `{path}`")]
    File { action: &'static str, path: PathBuf, source: io::Error },
    /// The caller's source of a blob gave up; the text is the caller's.
    #[error("blob {digest}: {why}")]
    Source { digest: Digest, why: String },
}

impl RegistryError {
    /// Whether the registry refused for good: neither a fault of the moment nor one of the credentials.
    pub(crate) const fn is_refusal(&self) -> bool {
        match self {
            Self::Status { status, .. } => *status >= 400 && *status < 500 && !matches!(*status, 401 | 403 | 408 | 429),
            _ => false,
        }
    }

    /// Whether the registry says that it has no such thing.
    pub(crate) const fn is_absent(&self) -> bool {
        matches!(self, Self::Status { status: 404, .. })
    }

    /// Whether the same request may succeed a little later.
    pub(super) const fn is_transient(&self) -> bool {
        match self {
            Self::Transport { .. } => true,
            Self::Status { status, .. } => *status >= 500 || matches!(*status, 408 | 429),
            _ => false,
        }
    }
}

/// The text of a registry's error document: `CODE (message)` of each error, cleaned; empty when it is none.
///
/// The document is that of the OCI distribution spec, section "Error Codes".
pub(super) fn registry_words(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        errors: Vec<Fault>,
        #[serde(default)]
        details: Option<String>,
    }
    #[derive(Deserialize)]
    struct Fault {
        #[serde(default)]
        code: Option<String>,
        #[serde(default)]
        message: Option<String>,
    }
    let Ok(answer) = serde_json::from_slice::<Answer>(body) else { return String::new() };
    let faults = answer.errors.into_iter().take(3).map(|fault| match (fault.code, fault.message) {
        (Some(code), Some(message)) if !message.is_empty() => format!("{code} ({message})"),
        (Some(code), _) => code,
        (None, message) => message.unwrap_or_default(),
    });
    let words: Vec<String> = faults.chain(answer.details).filter(|it| !it.is_empty()).collect();
    clean(&words.join(", "))
}

fn words(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

fn list(names: &[String]) -> String {
    const SHOWN: usize = 12;
    match names.len() {
        0 => "none".to_owned(),
        n if n > SHOWN => format!("{} and {} more", names[..SHOWN].join(", "), n - SHOWN),
        _ => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_registries_are_read_and_cleaned() {
        let body = br#"{"errors":[{"code":"DENIED","message":"no \u001b[31m way"},{"code":"X"}]}"#;
        assert_eq!(registry_words(body), "DENIED (no  [31m way), X");
        assert_eq!(registry_words(b"<html>"), "");
        assert_eq!(registry_words("[".repeat(100_000).as_bytes()), "");
    }
}
