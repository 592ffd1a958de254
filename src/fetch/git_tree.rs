//! Finishes a checked out tree: modes and times that do not depend on this process, `.git` taken out.
//!
//! Links are never followed. Nothing here runs git.

use std::{
    fs, io,
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

/// Deepest folder of a checkout that is walked.
const DEEPEST: usize = 1000;

/// The path that an operation failed at, and the error of the system.
pub(super) type PathFault = (PathBuf, io::Error);

/// Sets modes that do not depend on the umask (files 0644 or 0755, folders 0755) and, if given, the modification time
/// in seconds since 1970.
///
/// # Errors
/// Names the path that cannot be read or changed, or that lies too deep.
pub(super) fn normalise_modes(folder: &Path, time: Option<i64>, depth: usize) -> Result<(), PathFault> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |e| (path, e)
    };
    if depth > DEEPEST {
        return Err((folder.to_owned(), io::Error::other("folders lie too deep")));
    }
    for entry in fs::read_dir(folder).map_err(at(folder))? {
        let path = entry.map_err(at(folder))?.path();
        let meta = fs::symlink_metadata(&path).map_err(at(&path))?;
        if meta.is_dir() {
            normalise_modes(&path, time, depth + 1)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(at(&path))?;
        } else if meta.is_file() {
            let mode = if meta.mode() & 0o100 == 0 { 0o644 } else { 0o755 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(at(&path))?;
        }
        if let Some(time) = time {
            set_time(&path, time).map_err(at(&path))?;
        }
    }
    Ok(())
}

/// Sets access and modification time of a path, in seconds since 1970; of a link itself.
pub(super) fn set_time(path: &Path, seconds: i64) -> io::Result<()> {
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Removes `.git` in a work tree and in its submodules, be it a folder or a file; `depth` is that of `folder` in the
/// tree.
///
/// # Errors
/// The path that cannot be removed, or that lies too deep.
pub(super) fn remove_git_dirs(folder: &Path, depth: usize) -> Result<(), PathFault> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |e| (path, e)
    };
    if depth > DEEPEST {
        return Err((folder.to_owned(), io::Error::other("folders lie too deep")));
    }
    for entry in fs::read_dir(folder).map_err(at(folder))? {
        let entry = entry.map_err(at(folder))?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(at(&entry.path()))?);
        if entry.file_name().as_bytes() == b".git" {
            let removed = if kind.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(at(&path))?;
        } else if kind.is_dir() {
            remove_git_dirs(&path, depth + 1)?;
        }
    }
    Ok(())
}
