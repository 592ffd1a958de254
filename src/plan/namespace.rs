//! The namespace of the cache mounts of a build: builds of content from elsewhere do not share cache mounts with those of
//! this machine, where they could leave files for them.
//!
//! Which folder a cache mount has is decided in `solve`.

use std::{borrow::Cow, collections::BTreeSet};

/// Whose cache mounts a build uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum CacheNamespace {
    /// Those of all builds whose definition and contexts lie on this machine.
    #[default]
    Shared,
    /// Those of builds of content from the same addresses. Never empty.
    From(BTreeSet<String>),
    /// Those of the name that the user chose.
    Named(String),
}

impl CacheNamespace {
    /// Adds an address that content comes from, a git repository or a URL. Its reference, query and credentials do not
    /// count: all branches of a repository share their cache mounts.
    pub(super) fn add_origin(&mut self, url: &str) {
        self.join(&Self::From(BTreeSet::from([address(url)])));
    }

    /// Takes over where the content of another build comes from.
    pub(super) fn join(&mut self, other: &Self) {
        match (self, other) {
            (Self::Named(_), _) | (_, Self::Shared | Self::Named(_)) => (),
            (Self::From(mine), Self::From(theirs)) => mine.extend(theirs.iter().cloned()),
            (mine @ Self::Shared, theirs) => *mine = theirs.clone(),
        }
    }

    /// One text for each namespace; empty for the shared one.
    pub(crate) fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Shared => Cow::Borrowed(""),
            // An address has no space in it, see `address`.
            Self::From(addresses) => {
                let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
                Cow::Owned(format!("from:{}", addresses.join(" ")))
            }
            Self::Named(name) => Cow::Owned(format!("named:{name}")),
        }
    }
}

/// A URL without user, query and fragment, and without spaces.
fn address(url: &str) -> String {
    let bare = url.split(['#', '?']).next().unwrap_or(url);
    let bare = match bare.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            format!("{}://{}{path}", scheme.to_ascii_lowercase(), host.to_ascii_lowercase())
        }
        // `user@host:path`, as scp has it: the user is part of the address.
        None => bare.to_owned(),
    };
    bare.trim_end_matches('/').replace(char::is_whitespace, "%20")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_what_stays_the_same() {
        for (url, expected) in [
            ("https://h/a.git", "https://h/a.git"),
            ("HTTPS://User:P@w@H/a.git/?ref=x#y", "https://h/a.git"),
            ("ssh://git@h:22/a", "ssh://h:22/a"),
            ("git@github.com:a/b#v1", "git@github.com:a/b"),
            ("https://h", "https://h"),
            ("https://h/a b", "https://h/a%20b"),
        ] {
            assert_eq!(address(url), expected);
        }
    }
}
