//! `ssh`: which agent or keys a step may use.

/// One agent (no paths: that of `SSH_AUTH_SOCK`; a socket) or set of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ssh {
    /// Of several with one id the last counts.
    pub(crate) id: String,
    pub(crate) paths: Vec<String>,
}

impl Ssh {
    /// Reads `id` or `id=path[,path…]`; no quoting.
    pub(crate) fn parse(text: &str) -> Self {
        match text.split_once('=') {
            Some((id, paths)) => Self {
                id: id.to_owned(),
                paths: paths.split(',').filter(|it| !it.is_empty()).map(str::to_owned).collect(),
            },
            None => Self { id: text.to_owned(), paths: Vec::new() },
        }
    }
}
