//! Where the Dockerfile of a target comes from.

/// Where the Dockerfile comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DockerfileInput {
    /// Its text.
    Inline(String),
    /// A path in the main context.
    InContext(String),
    /// A path relative to the working directory (`cwd://…`) or absolute.
    Local(String),
    /// An address from which it is downloaded.
    Http(String),
}

impl DockerfileInput {
    /// Whether a `dockerfile` is an address and no path.
    pub(crate) fn is_url(path: &str) -> bool {
        path.starts_with("http://") || path.starts_with("https://")
    }

    /// Parses `dockerfile`.
    pub(crate) fn parse(path: &str) -> Self {
        match path.strip_prefix("cwd://") {
            Some(rest) => Self::Local(rest.to_owned()),
            None if path.starts_with('/') => Self::Local(path.to_owned()),
            None if Self::is_url(path) => Self::Http(path.to_owned()),
            None => Self::InContext(path.to_owned()),
        }
    }
}
