//! Opening without following symbolic links, and reading what must be a file.
//!
//! Nothing is decided here about who may read what.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::{AsFd as _, OwnedFd},
    path::{Component, Path},
};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat, openat2},
    io::Errno,
};
use thiserror::Error;

/// Why a file could not be read.
#[derive(Debug, Error)]
pub(crate) enum ReadFault {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it is {0}, not a file")]
    NoFile(&'static str),
    #[error("it has more than {0} bytes")]
    TooLarge(u64),
}

impl ReadFault {
    /// Whether the file is not there.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::Io(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory))
    }
}

/// Reads a regular file that the user named. A pipe, a device or a socket does not block, and nothing without an end is
/// read.
///
/// # Errors
/// When it is missing, no regular file, or larger than `limit` bytes.
pub(crate) fn read_file(path: &Path, limit: u64) -> Result<Vec<u8>, ReadFault> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = openat(CWD, path, flags, Mode::empty()).map_err(io::Error::from)?;
    read_to_limit(regular(file, limit)?, limit)
}

/// The file of a descriptor that must be a regular one.
pub(super) fn regular(file: OwnedFd, limit: u64) -> Result<File, ReadFault> {
    let stat = fstat(&file).map_err(io::Error::from)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => (),
        FileType::Directory => return Err(ReadFault::NoFile("a directory")),
        FileType::Fifo => return Err(ReadFault::NoFile("a named pipe")),
        FileType::Socket => return Err(ReadFault::NoFile("a socket")),
        _ => return Err(ReadFault::NoFile("a device")),
    }
    if u64::try_from(stat.st_size).is_ok_and(|size| size > limit) {
        return Err(ReadFault::TooLarge(limit));
    }
    Ok(File::from(file))
}

/// All that a file holds. Files of `/proc` say that they are empty, and a file can grow: `limit` holds for what is read.
pub(super) fn read_to_limit(file: File, limit: u64) -> Result<Vec<u8>, ReadFault> {
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit { Err(ReadFault::TooLarge(limit)) } else { Ok(bytes) }
}

/// Opens an absolute path in which no symbolic link may stand.
pub(super) fn beneath_root(path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC;
    let how = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match openat2(CWD, path, flags, Mode::empty(), how) {
        // Kernels before 5.6, and filters of containers that do not know the call.
        Err(Errno::NOSYS | Errno::PERM) => step_by_step(path, flags),
        found => Ok(found?),
    }
}

/// The same, a component at a time.
fn step_by_step(path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let mut dir = openat(CWD, "/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let names: Vec<_> = path.components().filter(|part| matches!(part, Component::Normal(_))).collect();
    let Some((last, parents)) = names.split_last() else {
        return Ok(openat(&dir, ".", flags, Mode::empty())?);
    };
    for name in parents {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        dir = openat(&dir, Path::new(name), flags, Mode::empty())?;
    }
    Ok(openat(&dir, Path::new(last), flags | OFlags::NOFOLLOW, Mode::empty())?)
}

/// Opens an absolute directory, made where missing, without following a symbolic link.
pub(super) fn make_dirs(path: &Path, mode: Mode) -> io::Result<OwnedFd> {
    const DIR: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);
    match beneath_root(path, DIR) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => (),
        found => return found,
    }
    let parent = make_dirs(path.parent().ok_or(Errno::NOENT)?, mode)?;
    let name = path.file_name().ok_or(Errno::NOENT)?;
    match mkdirat(parent.as_fd(), name, mode) {
        Ok(()) | Err(Errno::EXIST) => (),
        Err(error) => return Err(error.into()),
    }
    Ok(openat(&parent, name, DIR | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;
    use crate::grant::{Allowed, resolve};

    #[test]
    fn what_became_a_link_after_the_grant_is_not_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().canonicalize().expect("it exists");
        let mut allowed = Allowed::default();
        allowed.allow(Path::new("."), &root);
        let file = allowed.write(resolve(Path::new("out/evil/x"), &root).expect("resolved")).expect("allowed");
        let secret = allowed.read(resolve(Path::new("out/s"), &root).expect("resolved")).expect("allowed");
        fs::create_dir(root.join("out")).expect("writable");
        symlink("/tmp", root.join("out/evil")).expect("writable");
        symlink("/etc/passwd", root.join("out/s")).expect("writable");
        file.make_parent().expect_err("a link stands in the way");
        assert!(matches!(secret.read(9), Err(ReadFault::Io(_))));
        let denied = allowed.read(resolve(Path::new("out/s"), &root).expect("resolved")).expect_err("outside");
        assert_eq!(denied.0, Path::new("/etc/passwd"));
    }

    #[test]
    fn only_files_of_a_size_are_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        fs::write(&path, "12345").expect("writable");
        assert_eq!(read_file(&path, 5).expect("small enough"), b"12345");
        assert_eq!(read_file(&path, 4).expect_err("too large").to_string(), "it has more than 4 bytes");
        assert_eq!(read_file(folder.path(), 4).expect_err("a folder").to_string(), "it is a directory, not a file");
        assert_eq!(
            read_file(Path::new("/dev/zero"), 4).expect_err("endless").to_string(),
            "it is a device, not a file"
        );
        assert!(read_file(&folder.path().join("none"), 4).expect_err("missing").is_missing());
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("writable");
        assert_eq!(read_file(&pipe, 4).expect_err("a pipe").to_string(), "it is a named pipe, not a file");
    }

    #[test]
    fn both_ways_to_open_refuse_links() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().canonicalize().expect("it exists");
        fs::create_dir(root.join("real")).expect("writable");
        fs::write(root.join("real/file"), "").expect("writable");
        symlink("real", root.join("link")).expect("writable");
        for open in [beneath_root, step_by_step] {
            open(&root.join("real/file"), OFlags::RDONLY).expect("no link");
            open(&root.join("link/file"), OFlags::RDONLY).expect_err("a link on the way");
            open(&root.join("link"), OFlags::RDONLY).expect_err("a link at the end");
        }
    }
}
