//! The folder in which files are made, and removing: of a name with all below it, of all that is not to be kept.

use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::{
    fs::{AtFlags, FileType, FlockOperation, Mode, flock},
    io::Errno,
};

use super::attributes::is;
use crate::{
    export::{built::DEEPEST_FOLDER, write::dest::WriteFault},
    layer::view::at,
};

/// A directory is being written while somebody holds this lock of it.
const LOCK: FlockOperation = FlockOperation::NonBlockingLockExclusive;

/// How the names of temporary folders begin. A name in the destination that begins so is never exported over.
pub(crate) const TEMPORARY: &str = ".bake-tmp-";

/// The error for folders that lie deeper than [`DEEPEST_FOLDER`]: recursion into them would exhaust the stack.
pub(super) fn too_deep() -> io::Error {
    io::Error::other("folders lie too deep")
}

/// A folder `.bake-tmp-PID-RANDOM` in the destination, in which files are made before they are renamed to their places.
///
/// It is locked (flock) while its maker lives, and removed with all it holds when dropped. [`make`](Self::make) removes
/// those that killed exports have left.
pub(super) struct TemporaryFolder<'a> {
    /// The destination.
    root: &'a OwnedFd,
    name: OsString,
    /// The folder itself, open; mode 0700.
    pub(super) dir: OwnedFd,
    /// Number of the next file.
    next: AtomicU64,
}

impl<'a> TemporaryFolder<'a> {
    /// Makes and locks a folder of a new name in `root`; first removes those whose maker is gone.
    pub(super) fn make(root: &'a OwnedFd) -> io::Result<Self> {
        let (name, dir) = make_locked(root.as_fd(), OsStr::new(TEMPORARY), 0o700)?;
        Ok(Self { root, name, dir, next: AtomicU64::new(0) })
    }

    /// A new name in the folder: `0`, `1`, ….
    pub(super) fn next_name(&self) -> String {
        self.next.fetch_add(1, Ordering::Relaxed).to_string()
    }
}

impl Drop for TemporaryFolder<'_> {
    fn drop(&mut self) {
        remove(self.root.as_fd(), &self.name, 0).ok();
    }
}

/// Makes an empty directory in `dir` whose name begins with `stem`, locked as long as the returned descriptor is open, and
/// removes those that killed processes left. `mode` is less the umask.
pub(crate) fn make_locked(dir: BorrowedFd<'_>, stem: &OsStr, mode: u32) -> io::Result<(OsString, OwnedFd)> {
    for left in at::names(dir)? {
        let is_dead = left.as_bytes().starts_with(stem.as_bytes())
            && at::dir(dir, Path::new(&left)).is_ok_and(|found| flock(&found, LOCK).is_ok());
        if is_dead {
            remove(dir, &left, 0).ok();
        }
    }
    loop {
        let mut name = stem.to_owned();
        name.push(format!("{}-{:08x}", std::process::id(), getrandom::u32().unwrap_or(0)));
        rustix::fs::mkdirat(dir, &name, Mode::from_raw_mode(mode))?;
        // Before it was locked, somebody else may have taken it for one that was left.
        let Ok(made) = at::dir(dir, Path::new(&name)) else { continue };
        match flock(&made, LOCK) {
            Err(Errno::WOULDBLOCK) => continue,
            result => result?,
        }
        let ours = rustix::fs::fstat(&made)?;
        if at::stat(dir, &name)?.is_some_and(|there| there.st_ino == ours.st_ino) {
            return Ok((name, made));
        }
    }
}

/// Removes `name` in `dir` with everything below it; no link is followed. A missing name is no error. `depth` is 0 at
/// the call.
pub(crate) fn remove(dir: BorrowedFd<'_>, name: &OsStr, depth: usize) -> io::Result<()> {
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

/// Removes every file and folder below `root` whose path, relative to it, is not in `keep` (mode `delete` of a local
/// export). Temporary folders of exports stay.
pub(super) fn remove_others(root: BorrowedFd<'_>, keep: &HashSet<&Path>) -> Result<(), WriteFault> {
    each_other(root, Path::new(""), keep, 0, &mut |dir, name, _| remove(dir, name, 0))
}

/// Calls `other` for each name below `root` whose path is not in `keep`: with its directory, the name there, and its path
/// relative to `root`. Temporary folders of exports are left out.
///
/// `path` and the paths in `keep` are relative to `root`; `depth` is the number of names in `path`.
pub(super) fn each_other(
    root: BorrowedFd<'_>,
    path: &Path,
    keep: &HashSet<&Path>,
    depth: usize,
    other: &mut dyn FnMut(BorrowedFd<'_>, &OsStr, &Path) -> io::Result<()>,
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
            other(dir.as_fd(), &name, &inner).map_err(|e| (inner.clone(), e))?;
        } else if at::stat(dir.as_fd(), &name).map_err(fail)?.is_some_and(|it| is(&it, FileType::Directory)) {
            each_other(root, &inner, keep, depth + 1, other)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_the_living_are_never_swept() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = at::host_dir(folder.path()).expect("there");
        std::fs::create_dir(folder.path().join(".bake-tmp-dead")).expect("writable");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let (name, held) = make_locked(root.as_fd(), OsStr::new(TEMPORARY), 0o700).expect("made");
                        let file = std::fs::File::from(
                            rustix::fs::openat(&held, "x", rustix::fs::OFlags::CREATE, Mode::from_raw_mode(0o600))
                                .expect("it is there"),
                        );
                        drop(file);
                        assert!(folder.path().join(&name).join("x").exists());
                        remove(root.as_fd(), &name, 0).expect("ours");
                    }
                });
            }
        });
        assert_eq!(std::fs::read_dir(folder.path()).expect("there").count(), 0);
    }
}
