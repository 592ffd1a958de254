//! Where a path really is: symbolic links and `..` are followed as the kernel follows them, as far as the path exists.
//!
//! Nothing is read or written here, and nothing is decided.

use std::{
    ffi::OsString,
    fs, io,
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    io::Errno,
};

use super::past::PastTree;

/// As many symbolic links as the kernel follows in one path (Linux `MAXSYMLINKS`).
const MOST_LINKS: usize = 40;

/// Where a path leads.
#[derive(Debug)]
pub(crate) struct ResolvedPath {
    /// Absolute, without symbolic links, `.` and `..`; for what has no path of its own, the path that was asked for.
    pub(super) existing: PathBuf,
    /// The names below `existing` that are not there.
    pub(super) missing: Vec<OsString>,
    /// What has no path of its own, such as the pipe that a shell passes as `/dev/fd/63`.
    pub(super) unnamed: Option<OwnedFd>,
    /// The state of the work tree that it was resolved in, if that is not the one on the disk.
    pub(super) past: Option<Arc<PastTree>>,
}

impl ResolvedPath {
    /// The whole path, as it is shown and compared with what is allowed.
    pub(crate) fn path(&self) -> PathBuf {
        let mut path = self.existing.clone();
        path.extend(&self.missing);
        path
    }
}

/// Resolves `path`, which is relative to `cwd`.
///
/// `..` behind a name that does not exist takes that name back. A link whose target does not exist leads to that target,
/// as it does for the kernel when it creates a file.
///
/// # Errors
/// When a part of the path cannot be looked at or is no directory, or when too many links follow each other.
pub(crate) fn resolve(path: &Path, cwd: &Path) -> io::Result<ResolvedPath> {
    let mut wanted = cwd.join(path);
    for _ in 0..MOST_LINKS {
        match look(&wanted)? {
            Look::Resolved(resolved) => return Ok(resolved),
            Look::DanglingLink(next) => wanted = next,
        }
    }
    Err(Errno::LOOP.into())
}

/// Resolves `path`, which is relative to `cwd`, in a past state of the work tree, or else on the disk.
///
/// # Errors
/// As [`resolve`].
pub(crate) fn resolve_in(past: Option<&Arc<PastTree>>, path: &Path, cwd: &Path) -> io::Result<ResolvedPath> {
    let Some(past) = past else { return resolve(path, cwd) };
    let (existing, missing) = past.resolve(&cwd.join(path))?;
    Ok(ResolvedPath { existing, missing, unnamed: None, past: Some(past.clone()) })
}

enum Look {
    Resolved(ResolvedPath),
    /// A link without a target stands in the way: the path with the link replaced.
    DanglingLink(PathBuf),
}

/// Finds the longest part of `wanted` that exists.
fn look(wanted: &Path) -> io::Result<Look> {
    let mut missing: Vec<Component<'_>> = Vec::new();
    let mut prefix = wanted;
    let found = loop {
        match openat(CWD, prefix, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
            Ok(found) => break found,
            Err(Errno::NOENT) => (),
            Err(error) => return Err(error.into()),
        }
        let mut components = prefix.components();
        let last = components.next_back().ok_or(Errno::NOENT)?;
        if let Component::Normal(_) = last
            && let Ok(target) = fs::read_link(prefix)
        {
            let mut next = components.as_path().join(target);
            next.extend(missing.iter().rev());
            return Ok(Look::DanglingLink(next));
        }
        missing.push(last);
        prefix = components.as_path();
    };
    let real = fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd()))?;
    if !real.is_absolute() {
        if !missing.is_empty() {
            return Err(Errno::NOTDIR.into());
        }
        return Ok(Look::Resolved(ResolvedPath {
            existing: wanted.to_owned(),
            missing: Vec::new(),
            unnamed: Some(found),
            past: None,
        }));
    }
    if !missing.is_empty() && !fs::metadata(&real)?.is_dir() {
        return Err(Errno::NOTDIR.into());
    }
    Ok(Look::Resolved(below(real, &missing)))
}

/// `existing` with the components that are not there, the last one first, behind it.
fn below(mut existing: PathBuf, reversed: &[Component<'_>]) -> ResolvedPath {
    let mut missing: Vec<OsString> = Vec::new();
    for part in reversed.iter().rev() {
        match part {
            Component::Normal(name) => missing.push(name.to_os_string()),
            Component::ParentDir if missing.pop().is_none() => {
                existing.pop();
            }
            _ => (),
        }
    }
    ResolvedPath { existing, missing, unnamed: None, past: None }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A folder with `real/deep`, `link -> real/deep` and `gone -> real/new`.
    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().canonicalize().expect("it exists");
        fs::create_dir_all(root.join("real/deep")).expect("writable");
        symlink("real/deep", root.join("link")).expect("writable");
        symlink("real/new", root.join("gone")).expect("writable");
        (folder, root)
    }

    #[test]
    fn links_and_parents_are_followed_as_the_kernel_does() {
        let (_folder, root) = folder();
        let path = |text: &str| resolve(Path::new(text), &root).map(|found| found.path()).map_err(|error| error.kind());
        assert_eq!(path("link/../x"), Ok(root.join("real/x")));
        assert_eq!(path("link/.."), Ok(root.join("real")));
        assert_eq!(path("link/new/file"), Ok(root.join("real/deep/new/file")));
        assert_eq!(path("gone/file"), Ok(root.join("real/new/file")));
        assert_eq!(path("new/../x"), Ok(root.join("x")));
        assert_eq!(path("../.."), Ok(root.parent().and_then(Path::parent).expect("deep enough").to_owned()));
    }

    #[test]
    fn what_cannot_be_resolved_is_an_error() {
        let (_folder, root) = folder();
        symlink("loop", root.join("loop")).expect("writable");
        fs::write(root.join("file"), "").expect("writable");
        for text in ["loop", "loop/x", "file/x"] {
            resolve(Path::new(text), &root).expect_err(text);
        }
    }

    #[test]
    fn a_pipe_keeps_the_path_that_was_asked_for() {
        let (reader, _writer) = std::io::pipe().expect("a pipe");
        let path = PathBuf::from(format!("/dev/fd/{}", reader.as_raw_fd()));
        let found = resolve(&path, Path::new("/")).expect("it is open");
        assert_eq!(found.path(), path);
        assert!(found.unnamed.is_some());
    }
}
