//! Finds the git work tree that holds a folder. Git itself is not asked.

use std::{os::unix::fs::MetadataExt as _, path::Path};

/// The git work tree that holds a folder: the nearest folder above it, or itself, that has an entry `.git`.
///
/// An entry of another user counts only if the folder is that user's as well, or if it is root's: whoever may write `/tmp`
/// must not turn it into a work tree around the folders of others (CVE-2022-24765 is git's own case).
pub(crate) fn work_tree(folder: &Path) -> Option<&Path> {
    let trusted = [0, rustix::process::geteuid().as_raw()];
    let owner = std::fs::metadata(folder).ok()?.uid();
    folder.ancestors().find(|parent| {
        let entry = parent.join(".git").symlink_metadata();
        entry.is_ok_and(|entry| entry.uid() == owner || trusted.contains(&entry.uid()))
    })
}
