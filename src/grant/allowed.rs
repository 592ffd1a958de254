//! What the user allows, and paths that were compared with it.
//!
//! [`GrantedRead`] and [`GrantedWrite`] are made by [`Allowed`] alone.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::{Mode, OFlags};

use super::{
    open::{self, ReadFault, beneath_root},
    resolve::{Resolved, resolve},
};

/// The places that may be read, or those that may be written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Allowed {
    /// Real paths; each stands for all below it.
    places: Vec<PathBuf>,
    everything: bool,
}

/// A path that is not allowed: where it really leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Denied(pub(crate) PathBuf);

impl Allowed {
    /// Allows `path`, relative to `cwd`, and what is below it; `*` is everything.
    ///
    /// A path that cannot be resolved allows what its text says.
    pub(crate) fn allow(&mut self, path: &Path, cwd: &Path) {
        if path.as_os_str() == "*" {
            self.everything = true;
        } else {
            self.places.push(resolve(path, cwd).map_or_else(|_| cwd.join(path), |found| found.path()));
        }
    }

    /// Whether nothing needs to be asked.
    pub(crate) fn is_everything(&self) -> bool {
        self.everything
    }

    fn covers(&self, path: &Path) -> bool {
        self.everything || self.places.iter().any(|place| path.starts_with(place))
    }

    /// The handle of a path that is read.
    ///
    /// # Errors
    /// The real path, when it is not allowed.
    pub(crate) fn read(&self, found: Resolved) -> Result<GrantedRead, Denied> {
        let path = found.path();
        if !self.covers(&path) {
            return Err(Denied(path));
        }
        Ok(GrantedRead { path, unnamed: found.unnamed.map(Arc::new) })
    }

    /// The handle of a path that is written.
    ///
    /// # Errors
    /// The real path, when it is not allowed.
    pub(crate) fn write(&self, found: Resolved) -> Result<GrantedWrite, Denied> {
        let path = found.path();
        if !self.covers(&path) {
            return Err(Denied(path));
        }
        Ok(GrantedWrite { path, unnamed: found.unnamed.map(Arc::new) })
    }
}

/// A path that a definition may read.
#[derive(Clone, Debug)]
pub(crate) struct GrantedRead {
    /// Absolute and without symbolic links when it was granted.
    path: PathBuf,
    /// What has no path of its own.
    unnamed: Option<Arc<OwnedFd>>,
}

impl GrantedRead {
    /// Where it is: for messages, and for telling equal places from different ones.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens it as a directory, for `openat`.
    ///
    /// # Errors
    /// When it is missing or no directory, or when a part of its path has become a symbolic link since.
    pub(crate) fn open_dir(&self) -> io::Result<OwnedFd> {
        beneath_root(&self.path, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// Opens it as a regular file. A pipe or a device does not block.
    ///
    /// # Errors
    /// When it is missing, no regular file, or larger than `limit` bytes.
    pub(crate) fn open_file(&self, limit: u64) -> Result<File, ReadFault> {
        open::regular(self.open(OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?, limit)
    }

    /// Reads all of it: a regular file, or a pipe that the user's shell made for it.
    ///
    /// # Errors
    /// When it is missing, neither of them, or larger than `limit` bytes.
    pub(crate) fn read(&self, limit: u64) -> Result<Vec<u8>, ReadFault> {
        match &self.unnamed {
            // A shell's `<(command)`: the user's own process writes it, and waiting for it is meant.
            Some(_) => open::read_to_limit(File::from(self.open(OFlags::RDONLY)?), limit),
            None => open::read_to_limit(self.open_file(limit)?, limit),
        }
    }

    fn open(&self, flags: OFlags) -> io::Result<OwnedFd> {
        match &self.unnamed {
            Some(fd) => {
                let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
                Ok(rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())?)
            }
            None => beneath_root(&self.path, flags),
        }
    }
}

/// A path that a definition may write.
#[derive(Clone, Debug)]
pub(crate) struct GrantedWrite {
    /// Absolute; without symbolic links as far as it existed when it was granted.
    path: PathBuf,
    /// What has no path of its own.
    unnamed: Option<Arc<OwnedFd>>,
}

impl GrantedWrite {
    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens what has no path of its own, such as the pipe behind `/dev/stdout`, for writing; `None` for all else.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn open_unnamed(&self) -> io::Result<Option<File>> {
        let Some(fd) = &self.unnamed else { return Ok(None) };
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        Ok(Some(File::from(rustix::fs::open(path, OFlags::WRONLY | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?)))
    }

    /// Opens the directory, and makes it and what leads to it where missing, with `mode` (less the umask).
    ///
    /// # Errors
    /// When a part of the path is no directory, or has become a symbolic link since it was granted.
    pub(crate) fn make_dir(&self, mode: u32) -> io::Result<OwnedFd> {
        open::make_dirs(&self.path, Mode::from_raw_mode(mode))
    }

    /// Opens the directory if it is there.
    ///
    /// # Errors
    /// As [`GrantedWrite::make_dir`]; also when it is missing.
    pub(crate) fn open_dir(&self) -> io::Result<OwnedFd> {
        beneath_root(&self.path, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// Opens the directory that holds it, made where missing, and tells its name there.
    ///
    /// # Errors
    /// As [`GrantedWrite::make_dir`]; also for `/`, which nothing holds.
    pub(crate) fn make_parent(&self) -> io::Result<(OwnedFd, &Path)> {
        let (Some(parent), Some(name)) = (self.path.parent(), self.path.file_name()) else {
            return Err(rustix::io::Errno::ISDIR.into());
        };
        Ok((open::make_dirs(parent, Mode::from_raw_mode(0o777))?, Path::new(name)))
    }
}
