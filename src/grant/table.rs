//! The granted paths of a plan, by the texts that the plan has for them.
//!
//! Whoever opens a file for a definition asks here. What is not in the table was not checked: opening it is refused.

use std::{collections::HashMap, io, path::PathBuf};

use super::{Denied, GrantedRead};

/// All paths of a plan that may be read.
#[derive(Clone, Debug, Default)]
pub(crate) struct HostPaths {
    reads: HashMap<String, GrantedRead>,
}

impl HostPaths {
    /// Remembers a path that may be read, or why it cannot be followed to its end.
    pub(crate) fn add_read(&mut self, text: &str, granted: io::Result<GrantedRead>) {
        let handle = granted.unwrap_or_else(|error| GrantedRead::refused(PathBuf::from(text), error.kind()));
        self.reads.insert(text.to_owned(), handle);
    }

    /// Remembers where a path leads that may not be read.
    pub(crate) fn deny_read(&mut self, text: &str, Denied(real): &Denied) {
        self.reads.insert(text.to_owned(), GrantedRead::refused(real.clone(), io::ErrorKind::PermissionDenied));
    }

    /// The handle of a path that is read.
    pub(crate) fn read(&self, text: &str) -> GrantedRead {
        let refused = || GrantedRead::refused(PathBuf::from(text), io::ErrorKind::PermissionDenied);
        self.reads.get(text).cloned().unwrap_or_else(refused)
    }
}
