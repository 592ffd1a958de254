//! The folder in which files are made, and removing: of a name with all below it, of all that is not to be kept.

use std::{
    collections::HashSet,
    ffi::OsStr,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::{
    fs::{AtFlags, FileType, FlockOperation, Mode},
    io::Errno,
};

use super::attributes::is;
use crate::{
    export::{built::DEEPEST_FOLDER, write::dest::WriteFault},
    layer::view::at,
};

/// How the names of what is half made begin.
pub(super) const TEMPORARY: &str = ".bake-tmp-";

pub(super) fn too_deep() -> io::Error {
    io::Error::other("folders lie too deep")
}

/// The folder in which new files are made; removed at the end.
pub(super) struct TemporaryFolder<'a> {
    root: &'a OwnedFd,
    name: String,
    pub(super) dir: OwnedFd,
    next: AtomicU64,
}

impl<'a> TemporaryFolder<'a> {
    pub(super) fn make(root: &'a OwnedFd) -> io::Result<Self> {
        for name in at::names(root.as_fd())? {
            if !name.as_bytes().starts_with(TEMPORARY.as_bytes()) {
                continue;
            }
            // Left by an export that was killed, unless its maker still holds it.
            let dead = at::dir(root.as_fd(), Path::new(&name))
                .is_ok_and(|dir| rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive).is_ok());
            if dead {
                remove(root.as_fd(), &name, 0).ok();
            }
        }
        let name = format!("{TEMPORARY}{}-{:08x}", std::process::id(), getrandom::u32().unwrap_or(0));
        rustix::fs::mkdirat(root, &name, Mode::from_raw_mode(0o700))?;
        let dir = at::dir(root.as_fd(), Path::new(&name))?;
        rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self { root, name, dir, next: AtomicU64::new(0) })
    }

    pub(super) fn name(&self) -> String {
        self.next.fetch_add(1, Ordering::Relaxed).to_string()
    }
}

impl Drop for TemporaryFolder<'_> {
    fn drop(&mut self) {
        remove(self.root.as_fd(), OsStr::new(&self.name), 0).ok();
    }
}

/// Removes a name and all below it, following no link.
pub(super) fn remove(dir: BorrowedFd<'_>, name: &OsStr, depth: usize) -> io::Result<()> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(Errno::NOENT) => return Ok(()),
        result => return Ok(result?),
    }
    if depth > DEEPEST_FOLDER {
        return Err(too_deep());
    }
    let below = at::dir(dir, Path::new(name))?;
    for inner in at::names(below.as_fd())? {
        remove(below.as_fd(), &inner, depth + 1)?;
    }
    Ok(rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)?)
}

/// Removes what is not to be kept.
pub(super) fn remove_others(
    root: BorrowedFd<'_>,
    path: &Path,
    keep: &HashSet<&Path>,
    depth: usize,
) -> Result<(), WriteFault> {
    let fail = |e| (path.to_owned(), e);
    if depth > DEEPEST_FOLDER {
        return Err(fail(too_deep()));
    }
    let dir = at::dir(root, path).map_err(fail)?;
    for name in at::names(dir.as_fd()).map_err(fail)? {
        let inner = path.join(&name);
        let ours = path.as_os_str().is_empty() && name.as_bytes().starts_with(TEMPORARY.as_bytes());
        if ours {
            continue;
        }
        if !keep.contains(inner.as_path()) {
            remove(dir.as_fd(), &name, 0).map_err(|e| (inner, e))?;
        } else if at::stat(dir.as_fd(), &name).map_err(fail)?.is_some_and(|it| is(&it, FileType::Directory)) {
            remove_others(root, &inner, keep, depth + 1)?;
        }
    }
    Ok(())
}
