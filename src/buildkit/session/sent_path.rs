//! Paths that a daemon sends, checked by their text: relative, clean, in the order that the protocol has, each below a
//! folder that was sent before.

use std::{
    ffi::OsString,
    os::unix::ffi::OsStringExt as _,
    path::{Component, Path, PathBuf},
};

use tonic::Status;

/// Longest path in bytes.
const LONGEST: usize = 32 << 10;
/// Longest name in bytes: that of Linux file systems.
const LONGEST_NAME: usize = 255;
/// How many names a path may have.
const DEEPEST: usize = 512;
/// How many paths a folder may have.
const MOST: u64 = 20_000_000;
/// How names begin that our own temporary folders have, in the top folder.
const TEMPORARY: &[u8] = b".bake-tmp-";

/// The paths of a transfer so far. Order is by the bytes of names in each folder, and a folder's content follows it.
#[derive(Default)]
pub(super) struct SentPaths {
    /// The folders on the way to the last path; the last name that was sent in each.
    open: Vec<(PathBuf, Vec<u8>)>,
    count: u64,
}

impl SentPaths {
    /// Checks the next path.
    ///
    /// # Errors
    /// It is none that an honest daemon sends.
    pub(super) fn check(&mut self, bytes: &[u8], is_dir: bool) -> Result<PathBuf, Status> {
        let refused = |why: &str| Err(Status::invalid_argument(format!("{why}: {:?}", String::from_utf8_lossy(bytes))));
        self.count += 1;
        if self.count > MOST {
            return refused("too many paths");
        }
        if bytes.is_empty() || bytes.len() > LONGEST || bytes.contains(&0) {
            return refused("not a path");
        }
        let names: Vec<&[u8]> = bytes.split(|byte| *byte == b'/').collect();
        if names.len() > DEEPEST || names.iter().any(|name| name.len() > LONGEST_NAME) {
            return refused("a path that is too long");
        }
        if names.iter().any(|name| matches!(*name, b"" | b"." | b"..")) {
            return refused("a path that is not relative and clean");
        }
        if names[0].starts_with(TEMPORARY) {
            return refused("a name that only our temporary folders have");
        }
        let path = PathBuf::from(OsString::from_vec(bytes.to_vec()));
        debug_assert!(path.components().all(|part| matches!(part, Component::Normal(_))));
        if self.open.is_empty() {
            self.open.push((PathBuf::new(), Vec::new()));
        }
        let parent = path.parent().unwrap_or_else(|| Path::new(""));
        let Some(level) = self.open.iter().rposition(|(folder, _)| folder == parent) else {
            return refused("a path whose folder was not sent before it");
        };
        self.open.truncate(level + 1);
        let name = names[names.len() - 1];
        let last = &mut self.open[level].1;
        if last.as_slice() >= name {
            return refused("a path out of order");
        }
        *last = name.to_vec();
        if is_dir {
            self.open.push((path.clone(), Vec::new()));
        }
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_honest_paths_pass() {
        let check = |paths: &[(&str, bool)]| {
            let mut sent = SentPaths::default();
            paths.iter().map(|(path, is_dir)| sent.check(path.as_bytes(), *is_dir).is_ok()).collect::<Vec<_>>()
        };
        assert_eq!(check(&[("a", true), ("a/b", false), ("a-b", false), ("b", true), ("b/\u{e4}", false)]), [true; 5]);
        for path in ["", "/", "/etc", "../x", "a/../b", "a/", "./a", "a//b", "..", "a\0", ".bake-tmp-1", "x/y"] {
            assert!(!check(&[("a", true), (path, false)])[1], "{path}");
        }
        assert_eq!(check(&[("a", false), ("a/b", false)]), [true, false], "below a file");
        assert_eq!(check(&[("b", false), ("a", false)]), [true, false], "out of order");
        assert_eq!(check(&[("a", true), ("a", false)]), [true, false], "twice");
        assert_eq!(check(&[("a", true), ("b", false), ("a/x", false)]), [true, true, false], "a folder left");
        assert_eq!(check(&[(&"n".repeat(256), false)]), [false]);
        let mut sent = SentPaths::default();
        let deep = |n: usize| vec!["d"; n].join("/");
        assert!((1..=512).all(|n| sent.check(deep(n).as_bytes(), true).is_ok()));
        assert!(sent.check(deep(513).as_bytes(), true).is_err());
    }
}
