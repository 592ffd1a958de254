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
}

impl DockerfileInput {
    /// Parses `dockerfile`.
    pub(crate) fn parse(path: &str) -> Self {
        match path.strip_prefix("cwd://") {
            Some(rest) => Self::Local(rest.to_owned()),
            None if path.starts_with('/') => Self::Local(path.to_owned()),
            None => Self::InContext(path.to_owned()),
        }
    }
}
