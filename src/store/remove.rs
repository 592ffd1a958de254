//! Removes trees of any shape: as deep as a `RUN` can make them, with directories nobody may enter, with few file
//! descriptors. Never follows a symbolic link and never leaves the tree, whatever the names in it.

use std::{
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::Path,
};

use rustix::{
    fs::{self, AtFlags, CWD, Dir, FileType, Mode, OFlags},
    io::Errno,
};

/// Tells one state of a file or directory from another: its device, inode and time of last change.
///
/// A file that was written to, or that another one has replaced, has another identity, even if the kernel gave it the
/// same inode number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileIdentity {
    device: u64,
    inode: u64,
    /// Seconds and nanoseconds of the last change of any kind, which no program can set.
    changed: (i64, i64),
}

impl FileIdentity {
    /// The identity in the `stat` data of a file.
    pub(super) fn of(meta: &std::fs::Metadata) -> Self {
        Self { device: meta.dev(), inode: meta.ino(), changed: (meta.ctime(), meta.ctime_nsec()) }
    }

    /// The identity of what lies at `path`, a link itself and not its target; `None` if nothing does.
    pub(super) fn at(path: &Path) -> Option<Self> {
        std::fs::symlink_metadata(path).ok().map(|meta| Self::of(&meta))
    }
}

/// Removes `path` and all below it; a missing path is no error.
///
/// A directory inside a directory is first moved up to the top, so that neither the stack, the number of open files nor
/// the length of a path grows with the depth.
pub(super) fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::unlinkat(CWD, path, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => (),
        Err(error) => return Err(error.into()),
    }
    match fs::unlinkat(CWD, path, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOTEMPTY | Errno::EXIST) => (),
        Err(error) => return Err(error.into()),
    }
    let top = open_dir(CWD, path)?;
    let mut moved = 0_u64;
    empty(top.as_fd(), top.as_fd(), &mut moved)?;
    // What was moved up is now at the top; emptying it may move more there.
    loop {
        let names = names(top.as_fd())?;
        if names.is_empty() {
            break;
        }
        for (name, _) in names {
            let dir = open_dir(top.as_fd(), name.as_c_str())?;
            empty(top.as_fd(), dir.as_fd(), &mut moved)?;
            gone(fs::unlinkat(&top, &*name, AtFlags::REMOVEDIR))?;
        }
    }
    gone(fs::unlinkat(CWD, path, AtFlags::REMOVEDIR)).map_err(io::Error::from)
}

/// Removes what is in `dir`; directories in it that are not empty are moved to `top`.
fn empty(top: BorrowedFd<'_>, dir: BorrowedFd<'_>, moved: &mut u64) -> io::Result<()> {
    for (name, kind) in names(dir)? {
        if kind != FileType::Directory {
            match fs::unlinkat(dir, &*name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => continue,
                Err(Errno::ISDIR | Errno::PERM) => (),
                Err(error) => return Err(error.into()),
            }
        }
        match fs::unlinkat(dir, &*name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => continue,
            Err(Errno::NOTEMPTY | Errno::EXIST) => (),
            Err(error) => return Err(error.into()),
        }
        loop {
            *moved += 1;
            let place = format!(".removed-{moved}");
            match fs::renameat_with(dir, &*name, top, place.as_str(), fs::RenameFlags::NOREPLACE) {
                Err(Errno::EXIST) => (),
                // A directory that is not writable for us cannot be moved: `..` of it would change.
                Err(Errno::ACCESS) => fs::chmodat(dir, &*name, Mode::RWXU, AtFlags::empty())?,
                other => break gone(other)?,
            }
        }
    }
    Ok(())
}

fn open_dir<P: rustix::path::Arg + Copy>(at: BorrowedFd<'_>, path: P) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match fs::openat(at, path, flags, Mode::empty()) {
        Err(Errno::ACCESS) => {
            fs::chmodat(at, path, Mode::RWXU, AtFlags::empty())?;
            fs::openat(at, path, flags, Mode::empty())
        }
        other => {
            let dir = other?;
            // Without the write bit nothing in it can be removed by a user who is not root.
            let mode = Mode::from_raw_mode(fs::fstat(&dir)?.st_mode);
            if !mode.contains(Mode::RWXU) {
                fs::fchmod(&dir, Mode::RWXU).or_else(|error| if error == Errno::PERM { Ok(()) } else { Err(error) })?;
            }
            Ok(dir)
        }
    }
}

fn names(dir: BorrowedFd<'_>) -> io::Result<Vec<(std::ffi::CString, FileType)>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push((entry.file_name().to_owned(), entry.file_type()));
        }
    }
    Ok(names)
}

fn gone(result: rustix::io::Result<()>) -> rustix::io::Result<()> {
    result.or_else(|error| if error == Errno::NOENT { Ok(()) } else { Err(error) })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn trees_deeper_than_any_path_go_and_links_are_not_followed() {
        let temp = tempfile::tempdir().unwrap();
        let kept = temp.path().join("kept");
        fs::create_dir(&kept).unwrap();
        fs::write(kept.join("f"), "x").unwrap();
        let top = temp.path().join("top");
        fs::create_dir(&top).unwrap();
        std::os::unix::fs::symlink(&kept, top.join("link")).unwrap();
        let mut dir = open_dir(CWD, top.as_path()).unwrap();
        for depth in 0..2000 {
            rustix::fs::mkdirat(&dir, "deep-directory", Mode::RWXU).unwrap();
            if depth % 7 == 0 {
                rustix::fs::mkdirat(&dir, "other", Mode::RWXU).unwrap();
            }
            dir = open_dir(dir.as_fd(), "deep-directory").unwrap();
        }
        drop(dir);
        fs::set_permissions(&top, std::os::unix::fs::PermissionsExt::from_mode(0o500)).unwrap();
        remove_tree(&top).unwrap();
        assert!(!top.exists());
        assert!(kept.join("f").exists());
        remove_tree(&top).unwrap();
        remove_tree(&kept.join("f")).unwrap();
        assert!(!kept.join("f").exists());
    }
}
