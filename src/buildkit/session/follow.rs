//! `followpaths`: paths with wildcards whose symbolic links are followed, as patterns of what is to be sent.
//!
//! A link is read as if the folder were the root of the file system: it never leads out.

use std::{
    collections::BTreeSet,
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use rustix::fs::FileType;

use crate::{
    layer::view::at,
    spec::{path, pattern::Patterns},
};

/// Links that are followed for one path, as the kernel's limit is.
const MOST_LINKS: usize = 40;

/// The patterns of what these paths lead to, and of the links on the way; `None` when that is the whole folder.
///
/// # Errors
/// A folder cannot be read. What is missing is no error: its path stays a pattern.
pub(super) fn follow(root: &OwnedFd, paths: &[String]) -> io::Result<Option<Vec<String>>> {
    let mut following = FollowedLinks { root, patterns: BTreeSet::new(), seen: BTreeSet::new() };
    for path in paths {
        following.add(path, MOST_LINKS)?;
    }
    if following.patterns.contains(".") {
        return Ok(None);
    }
    let mut found = Vec::<String>::new();
    for pattern in following.patterns {
        let is_covered = |last: &String| pattern.strip_prefix(last.as_str()).is_some_and(|rest| rest.starts_with('/'));
        if !found.iter().rev().take(1).any(is_covered) {
            found.push(pattern);
        }
    }
    Ok(Some(found))
}

struct FollowedLinks<'a> {
    root: &'a OwnedFd,
    patterns: BTreeSet<String>,
    /// Paths that were added.
    seen: BTreeSet<String>,
}

impl FollowedLinks<'_> {
    fn add(&mut self, path: &str, links_left: usize) -> io::Result<()> {
        let path = inside(path);
        if !self.seen.insert(path.clone()) {
            return Ok(());
        }
        let ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
        for end in ends {
            let current = &path[..end];
            let targets = self.targets(current)?;
            if targets.is_empty() {
                continue;
            }
            self.patterns.insert(current.to_owned());
            if links_left > 0 {
                for target in targets {
                    self.add(&format!("{target}{}", &path[end..]), links_left - 1)?;
                }
            }
            // Other names that a wildcard matches are no links.
            if !has_wildcard(current) {
                return Ok(());
            }
        }
        self.patterns.insert(path);
        Ok(())
    }

    /// Where the links at a path lead to; only its last part may have wildcards.
    fn targets(&self, path: &str) -> io::Result<Vec<String>> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let dir = match at::dir(self.root.as_fd(), Path::new(parent)) {
            Err(error) if at::is_absent(&error) => return Ok(Vec::new()),
            dir => dir?,
        };
        let mut targets = Vec::new();
        let mut add = |name: &std::ffi::OsStr| -> io::Result<()> {
            let stat = at::stat(dir.as_fd(), name)?;
            if stat.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink) {
                let text = at::read_link(dir.as_fd(), name)?;
                // A target that is no text can match no pattern.
                if let Some(text) = text.to_str() {
                    targets.push(if text.starts_with('/') { text.to_owned() } else { format!("{parent}/{text}") });
                }
            }
            Ok(())
        };
        if !has_wildcard(name) {
            add(name.as_ref())?;
            return Ok(targets);
        }
        let Ok(pattern) = Patterns::new(&[name]) else { return Ok(targets) };
        let mut names = at::names(dir.as_fd())?;
        names.sort_unstable();
        names.retain(|name| std::str::from_utf8(name.as_bytes()).is_ok_and(|name| pattern.matches(name)));
        names.iter().try_for_each(|name| add(name))?;
        Ok(targets)
    }
}

/// A path as it is below the root: relative, without `.` and `..`; `.` for the root itself.
fn inside(text: &str) -> String {
    let path = path::clean(&format!("/{text}"));
    let path = path.trim_start_matches('/');
    if path.is_empty() { ".".to_owned() } else { path.to_owned() }
}

fn has_wildcard(text: &str) -> bool {
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            '*' | '?' | '[' => return true,
            _ => (),
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_followed_within_the_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("real/deep")).expect("writable");
        std::fs::write(at("real/deep/file"), "").expect("writable");
        let links = [
            ("link", "real"),
            ("absolute", "/real/deep"),
            ("out", "../../etc/passwd"),
            ("loop", "loop"),
            ("grow", "grow/x"),
            ("one-a", "real/deep/file"),
            ("one-b", "missing"),
            ("self", "."),
        ];
        for (name, target) in links {
            symlink(target, at(name)).expect("writable");
        }
        let root = at::host_dir(folder.path()).expect("there");
        let of = |paths: &[&str]| {
            let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
            follow(&root, &paths).expect("readable").map(|found| found.join(" "))
        };
        let table: &[(&[&str], &str)] = &[
            (&["real/deep/file"], "real/deep/file"),
            (&["/real"], "real"),
            (&["link/deep/file", "link/deep/other"], "link real/deep/file real/deep/other"),
            (&["absolute/file"], "absolute real/deep/file"),
            (&["out"], "etc/passwd out"),
            (&["../../x"], "x"),
            (&["loop"], "loop"),
            (&["one-*"], "missing one-* one-a real/deep/file"),
            (&["missing/x", "real", "real/deep"], "missing/x real"),
        ];
        for (paths, wanted) in table {
            let found = of(paths).expect("not the whole folder");
            let mut found: Vec<&str> = found.split(' ').collect();
            found.retain(|path| *path != "one-a");
            let wanted: Vec<&str> = wanted.split(' ').filter(|path| *path != "one-a").collect();
            assert_eq!(found, wanted, "{paths:?}");
        }
        assert_eq!(of(&["."]), None);
        assert_eq!(of(&["self"]), None);
        assert!(of(&["grow"]).is_some(), "it ends");
    }
}
