//! Input files that a user or a definition names: bake files, Dockerfiles, ignore files, variables files, secrets.
//!
//! A name may lead to anything: a named pipe without a writer, a terminal, `/dev/zero`. So a file is opened without
//! blocking, its kind is read from the open descriptor (not from the path, which may change in between), and no more than
//! the given limit is read. Messages are made by the caller, who knows what the file is for.

use std::{
    fmt,
    fs::File,
    io::{self, Read as _},
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    path::Path,
};

use rustix::fs::OFlags;

/// Why an input file was not read. Written so that it follows "FILE:" or stands as the cause of another error.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InputFileError {
    #[error("there is no such file")]
    Missing,
    #[error("it is {0}, not a regular file")]
    NotRegular(SpecialFile),
    /// The limit in bytes.
    #[error("it is larger than {}", Size(*.0))]
    TooLarge(u64),
    #[error("{0}")]
    Io(#[source] io::Error),
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

/// Reads a whole regular file of at most `limit` bytes. Links are followed. Never waits for a writer.
///
/// # Errors
/// When there is no regular file of this name, when it is larger than `limit`, or when reading fails.
pub(crate) fn read_input_file(path: &Path, limit: u64) -> Result<Vec<u8>, InputFileError> {
    read(path, limit, false)
}

/// Like [`read_input_file`], but waits for the content of a descriptor that the shell hands over: `<(command)` appears as
/// `/dev/fd/N`, and may be a pipe.
///
/// # Errors
/// As [`read_input_file`]; a pipe under any other name is refused.
pub(crate) fn read_input_file_or_shell_pipe(path: &Path, limit: u64) -> Result<Vec<u8>, InputFileError> {
    let is_from_shell =
        path.starts_with("/dev/fd") || path.starts_with("/proc/self/fd") || path == Path::new("/dev/stdin");
    read(path, limit, is_from_shell)
}

fn read(path: &Path, limit: u64, is_from_shell: bool) -> Result<Vec<u8>, InputFileError> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let opened = File::options().read(true).custom_flags(flags.bits().cast_signed()).open(path);
    let file = opened.map_err(|error| open_error(path, error))?;
    let metadata = file.metadata().map_err(InputFileError::Io)?;
    if let Some(special) = special_file(metadata.file_type()) {
        if !is_from_shell || special == SpecialFile::Directory {
            return Err(InputFileError::NotRegular(special));
        }
        // The writer at the other end may be slower than we are.
        let blocking = rustix::fs::fcntl_getfl(&file).map(|flags| flags - OFlags::NONBLOCK);
        blocking
            .and_then(|flags| rustix::fs::fcntl_setfl(&file, flags))
            .map_err(|error| InputFileError::Io(error.into()))?;
    } else if metadata.len() > limit {
        return Err(InputFileError::TooLarge(limit));
    }
    // Files of /proc say that they are empty, and others may grow: the limit holds for what is read.
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0) + 1);
    file.take(limit + 1).read_to_end(&mut bytes).map_err(InputFileError::Io)?;
    if bytes.len() as u64 > limit { Err(InputFileError::TooLarge(limit)) } else { Ok(bytes) }
}

fn special_file(kind: std::fs::FileType) -> Option<SpecialFile> {
    if kind.is_file() {
        None
    } else if kind.is_dir() {
        Some(SpecialFile::Directory)
    } else if kind.is_fifo() {
        Some(SpecialFile::NamedPipe)
    } else if kind.is_socket() {
        Some(SpecialFile::Socket)
    } else {
        Some(SpecialFile::Device)
    }
}

fn open_error(path: &Path, error: io::Error) -> InputFileError {
    match error.kind() {
        io::ErrorKind::NotFound => InputFileError::Missing,
        // A socket cannot be opened at all (ENXIO), nor can a device without a driver.
        _ => match std::fs::metadata(path).ok().and_then(|metadata| special_file(metadata.file_type())) {
            Some(special @ (SpecialFile::Socket | SpecialFile::Device)) => InputFileError::NotRegular(special),
            _ => InputFileError::Io(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_within_the_limit_are_read() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("file");
        std::fs::write(&path, b"12345").expect("writable");
        assert_eq!(read_input_file(&path, 5).expect("at the limit"), b"12345");
        let fault = |path: &Path, limit: u64| read_input_file(path, limit).expect_err("refused").to_string();
        assert_eq!(fault(&path, 4), "it is larger than 4 bytes");
        assert_eq!(fault(folder.path(), 1), "it is a directory, not a regular file");
        assert_eq!(fault(&folder.path().join("none"), 1), "there is no such file");
        assert_eq!(fault(Path::new("/dev/zero"), 1 << 20), "it is a device, not a regular file");
        // Its length is said to be zero.
        assert_eq!(fault(Path::new("/proc/self/maps"), 8), "it is larger than 8 bytes");
        assert_eq!(InputFileError::TooLarge(512 << 20).to_string(), "it is larger than 512 MiB");
    }

    #[test]
    fn a_pipe_or_socket_is_refused_at_once() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (pipe, socket) = (folder.path().join("pipe"), folder.path().join("socket"));
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a pipe");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
        for read in [read_input_file, read_input_file_or_shell_pipe] {
            let fault = |path: &Path| read(path, 1).expect_err("refused").to_string();
            assert_eq!(fault(&pipe), "it is a named pipe, not a regular file");
            assert_eq!(fault(&socket), "it is a socket, not a regular file");
        }
    }
}
