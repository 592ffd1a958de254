//! Opening without following symbolic links, and reading what must be a file.
//!
//! Nothing is decided here about who may read what.

use std::{
    fmt,
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
    #[error("it is {0}, not a regular file")]
    NoFile(SpecialFile),
    /// The limit in bytes.
    #[error("it is larger than {}", Size(*.0))]
    TooLarge(u64),
}

impl ReadFault {
    /// Whether the file is not there.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::Io(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory))
    }
}

/// What can stand under a name instead of a regular file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SpecialFile {
    Directory,
    NamedPipe,
    Socket,
    Device,
}

impl fmt::Display for SpecialFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Directory => "a directory",
            Self::NamedPipe => "a named pipe",
            Self::Socket => "a socket",
            Self::Device => "a device",
        })
    }
}

/// A limit as a reader wants it: in the largest unit that divides it.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
        match units.into_iter().find(|(bits, _)| self.0 > 0 && self.0.trailing_zeros() >= *bits) {
            Some((bits, unit)) => write!(f, "{} {unit}", self.0 >> bits),
            None => write!(f, "{} bytes", self.0),
        }
    }
}

/// Reads a regular file that the user named. A pipe, a device or a socket does not block, and nothing without an end is
/// read.
///
/// # Errors
/// When it is missing, no regular file, or larger than `limit` bytes.
pub(crate) fn read_file(path: &Path, limit: u64) -> Result<Vec<u8>, ReadFault> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = openat(CWD, path, flags, Mode::empty()).map_err(|errno| open_fault(path, errno.into()))?;
    read_to_limit(regular(file, limit)?, limit)
}

/// Like [`read_file`], but waits for the content of a pipe that the user's shell hands over: `<(command)` appears as
/// `/dev/fd/N`.
///
/// # Errors
/// As [`read_file`]; a pipe under any other name is refused.
pub(crate) fn read_file_or_shell_pipe(path: &Path, limit: u64) -> Result<Vec<u8>, ReadFault> {
    let is_from_shell =
        path.starts_with("/dev/fd") || path.starts_with("/proc/self/fd") || path == Path::new("/dev/stdin");
    match read_file(path, limit) {
        // The user's own process writes it, and waiting for it is meant.
        Err(ReadFault::NoFile(special)) if is_from_shell && special != SpecialFile::Directory => {
            let flags = OFlags::RDONLY | OFlags::NOCTTY | OFlags::CLOEXEC;
            let file = openat(CWD, path, flags, Mode::empty()).map_err(io::Error::from)?;
            read_to_limit(File::from(file), limit)
        }
        read => read,
    }
}

/// Names what stands at a path that could not be opened: a socket cannot be opened at all (ENXIO), nor can a device
/// without a driver.
pub(super) fn open_fault(path: &Path, error: io::Error) -> ReadFault {
    let is_absent = matches!(Errno::from_io_error(&error), Some(Errno::NXIO | Errno::NODEV));
    match rustix::fs::lstat(path).map(|stat| FileType::from_raw_mode(stat.st_mode)) {
        Ok(FileType::Socket) => ReadFault::NoFile(SpecialFile::Socket),
        Ok(FileType::CharacterDevice | FileType::BlockDevice) if is_absent => ReadFault::NoFile(SpecialFile::Device),
        _ => ReadFault::Io(error),
    }
}

/// The file of a descriptor that must be a regular one.
pub(super) fn regular(file: OwnedFd, limit: u64) -> Result<File, ReadFault> {
    let stat = fstat(&file).map_err(io::Error::from)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => (),
        FileType::Directory => return Err(ReadFault::NoFile(SpecialFile::Directory)),
        FileType::Fifo => return Err(ReadFault::NoFile(SpecialFile::NamedPipe)),
        FileType::Socket => return Err(ReadFault::NoFile(SpecialFile::Socket)),
        _ => return Err(ReadFault::NoFile(SpecialFile::Device)),
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

/// Opens a directory by the path of a [`GrantedRead`](super::GrantedRead), as data that went through the graph has it.
///
/// # Errors
/// When it is missing or no directory, or when a part of its path has become a symbolic link.
pub(crate) fn open_real_dir(path: &Path) -> io::Result<OwnedFd> {
    beneath_root(path, OFlags::RDONLY | OFlags::DIRECTORY)
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
    let root = openat(CWD, "/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    steps(root, path, flags)
}

/// Opens a path below a directory, a component at a time and without following a link.
fn steps(mut dir: OwnedFd, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
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

/// Opens a file below a folder whose content is not trusted: symbolic links are followed as long as they stay in the folder
/// (kernels before 5.6: not at all). What is opened need not be a regular file; a pipe does not block.
///
/// # Errors
/// When it is missing, or (`CrossesDevices`) leads out of the folder.
pub(crate) fn open_beneath(folder: &OwnedFd, name: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    match openat2(folder, name, flags, Mode::empty(), how) {
        Err(Errno::NOSYS | Errno::PERM) => Ok(File::from(steps(folder.try_clone()?, name, flags)?)),
        opened => Ok(File::from(opened?)),
    }
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
        assert_eq!(read_file(&path, 4).expect_err("too large").to_string(), "it is larger than 4 bytes");
        assert_eq!(
            read_file(folder.path(), 4).expect_err("a folder").to_string(),
            "it is a directory, not a regular file"
        );
        assert_eq!(
            read_file(Path::new("/dev/zero"), 4).expect_err("endless").to_string(),
            "it is a device, not a regular file"
        );
        assert!(read_file(&folder.path().join("none"), 4).expect_err("missing").is_missing());
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("writable");
        assert_eq!(read_file(&pipe, 4).expect_err("a pipe").to_string(), "it is a named pipe, not a regular file");
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

    #[test]
    fn links_are_followed_within_an_untrusted_folder() {
        let outside = tempfile::tempdir().expect("a folder");
        let root = outside.path().canonicalize().expect("it exists");
        fs::create_dir_all(root.join("in/sub")).expect("writable");
        fs::write(root.join("in/file"), "inside").expect("writable");
        fs::write(root.join("file"), "outside").expect("writable");
        symlink("../file", root.join("in/sub/inside")).expect("writable");
        symlink("../../file", root.join("in/sub/outside")).expect("writable");
        symlink(root.join("in/file"), root.join("in/absolute")).expect("writable");
        let folder = open_real_dir(&root.join("in")).expect("a folder");
        let open = |name: &str| open_beneath(&folder, Path::new(name));
        open("sub/inside").expect("it stays in the folder");
        for name in ["sub/outside", "absolute", "../file"] {
            assert_eq!(open(name).expect_err("it leads out").kind(), io::ErrorKind::CrossesDevices, "{name}");
        }
    }

    #[test]
    fn only_regular_files_within_the_limit_are_read() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("file");
        std::fs::write(&path, b"12345").expect("writable");
        assert_eq!(read_file(&path, 5).expect("at the limit"), b"12345");
        let fault = |path: &Path, limit: u64| read_file(path, limit).expect_err("refused").to_string();
        assert_eq!(fault(&path, 4), "it is larger than 4 bytes");
        assert_eq!(fault(folder.path(), 1), "it is a directory, not a regular file");
        assert_eq!(fault(Path::new("/dev/zero"), 1 << 20), "it is a device, not a regular file");
        // Its length is said to be zero.
        assert_eq!(fault(Path::new("/proc/self/maps"), 8), "it is larger than 8 bytes");
        assert_eq!(ReadFault::TooLarge(512 << 20).to_string(), "it is larger than 512 MiB");
    }

    #[test]
    fn a_pipe_or_socket_is_refused_at_once() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (pipe, socket) = (folder.path().join("pipe"), folder.path().join("socket"));
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a pipe");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
        for read in [read_file, read_file_or_shell_pipe] {
            let fault = |path: &Path| read(path, 1).expect_err("refused").to_string();
            assert_eq!(fault(&pipe), "it is a named pipe, not a regular file");
            assert_eq!(fault(&socket), "it is a socket, not a regular file");
        }
    }
}
