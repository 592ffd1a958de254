//! What the user allows, and paths that were compared with it.
//!
//! [`GrantedRead`] and [`GrantedWrite`] are made by [`Allowed`] alone; a path that a killed release was granted is taken up
//! again by [`GrantedWrite::of_journal`].

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, unlinkat};

use super::{
    open::{self, ReadFault, SpecialFile, beneath_root},
    past::{PastKind, PastTree},
    resolve::{ResolvedPath, resolve},
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

impl Denied {
    /// The flag that allows it to be read, as it is typed in a shell.
    pub(crate) fn read_flag(&self) -> String {
        format!("--allow=fs.read={}", self.typed_path())
    }

    /// The flag that allows it to be written, as it is typed in a shell.
    pub(crate) fn write_flag(&self) -> String {
        format!("--allow=fs.write={}", self.typed_path())
    }

    fn typed_path(&self) -> String {
        let text = self.0.display().to_string();
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,".contains(c);
        if text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
    }
}

impl Allowed {
    /// Allows `path` and everything below it; the path `*` allows everything.
    ///
    /// A relative path starts at `cwd`. Symbolic links are resolved now: a link that is changed later does not change
    /// what is allowed. The path need not exist. If it cannot be resolved (no permission, a loop of links), `cwd`
    /// joined with `path` is allowed as it is written, with any `..` in it.
    pub(crate) fn allow(&mut self, path: &Path, cwd: &Path) {
        if path.as_os_str() == "*" {
            self.everything = true;
        } else {
            self.places.push(resolve(path, cwd).map_or_else(|_| cwd.join(path), |found| found.path()));
        }
    }

    /// Whether it allows a path that has no symbolic links.
    pub(crate) fn covers(&self, path: &Path) -> bool {
        self.everything || self.places.iter().any(|place| path.starts_with(place))
    }

    /// Grants reading of a resolved path: returns the handle through which alone it can be opened.
    ///
    /// # Errors
    /// The real path, when it is not allowed.
    pub(crate) fn read(&self, found: ResolvedPath) -> Result<GrantedRead, Denied> {
        let path = found.path();
        if !self.covers(&path) {
            return Err(Denied(path));
        }
        let opening = match (found.past, found.unnamed) {
            (Some(past), _) => Opening::InPast(past),
            (None, Some(fd)) => Opening::Unnamed(Arc::new(fd)),
            (None, None) => Opening::ByPath,
        };
        Ok(GrantedRead { path, opening })
    }

    /// Grants writing to a resolved path: returns the handle through which alone it can be opened.
    ///
    /// # Errors
    /// The real path, when it is not allowed.
    pub(crate) fn write(&self, found: ResolvedPath) -> Result<GrantedWrite, Denied> {
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
    opening: Opening,
}

#[derive(Clone, Debug)]
enum Opening {
    ByPath,
    /// What has no path of its own.
    Unnamed(Arc<OwnedFd>),
    /// As it was in a past state of the work tree.
    InPast(Arc<PastTree>),
    /// Why it cannot be opened.
    Refused(io::ErrorKind),
}

impl PartialEq for GrantedRead {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl Eq for GrantedRead {}

impl GrantedRead {
    /// A path that was not granted or cannot be followed to its end: opening it is this error.
    pub(super) fn refused(path: PathBuf, why: io::ErrorKind) -> Self {
        Self { path, opening: Opening::Refused(why) }
    }

    /// Whether it was looked at and is not allowed.
    pub(crate) fn is_denied(&self) -> bool {
        matches!(self.opening, Opening::Refused(io::ErrorKind::PermissionDenied))
    }

    /// Where it is: for messages, and for telling equal places from different ones.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens it as a directory, for `openat`.
    ///
    /// # Errors
    /// When it is missing or no directory, or when a part of its path has become a symbolic link since.
    pub(crate) fn open_dir(&self) -> io::Result<OwnedFd> {
        self.open(OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// Checks that it is a directory that can be opened.
    ///
    /// # Errors
    /// As [`open_dir`](Self::open_dir).
    pub(crate) fn check_dir(&self) -> io::Result<()> {
        match self.past_kind() {
            None => self.open_dir().map(drop),
            Some(Ok(PastKind::Folder)) => Ok(()),
            Some(Ok(PastKind::Missing)) => Err(io::ErrorKind::NotFound.into()),
            Some(Ok(_)) => Err(io::ErrorKind::NotADirectory.into()),
            Some(Err(error)) => Err(error),
        }
    }

    /// The past state of the work tree that it is read from, if it is not read from the disk.
    pub(crate) fn past(&self) -> Option<&PastTree> {
        if let Opening::InPast(past) = &self.opening { Some(past) } else { None }
    }

    fn past_kind(&self) -> Option<io::Result<PastKind>> {
        self.past().map(|past| past.kind(&self.path))
    }

    /// Whether anything is there.
    pub(crate) fn exists(&self) -> bool {
        if let Some(kind) = self.past_kind() {
            return !matches!(kind, Ok(PastKind::Missing));
        }
        !matches!(self.open(OFlags::PATH), Err(error) if error.kind() == io::ErrorKind::NotFound)
    }

    /// Whether anything is beside it whose name is its own with this ending.
    pub(crate) fn has_beside(&self, ending: &str) -> bool {
        let mut beside = self.path.clone().into_os_string();
        beside.push(ending);
        if let Some(past) = self.past() {
            return !matches!(past.kind(Path::new(&beside)), Ok(PastKind::Missing));
        }
        let opened = beneath_root(Path::new(&beside), OFlags::PATH);
        !matches!(opened, Err(error) if error.kind() == io::ErrorKind::NotFound)
    }

    /// Whether it is a regular file.
    pub(crate) fn is_file(&self) -> bool {
        if let Some(kind) = self.past_kind() {
            return matches!(kind, Ok(PastKind::File));
        }
        let stat = self.open(OFlags::PATH).and_then(|file| Ok(rustix::fs::fstat(file)?));
        stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
    }

    /// Reads all of it: a regular file, or a pipe that the user's shell made for it.
    ///
    /// # Errors
    /// When it is missing, neither of them, or larger than `limit` bytes.
    pub(crate) fn read(&self, limit: u64) -> Result<Vec<u8>, ReadFault> {
        match &self.opening {
            // A shell's `<(command)`: the user's own process writes it, and waiting for it is meant.
            Opening::Unnamed(_) => open::read_to_limit(File::from(self.open(OFlags::RDONLY)?), limit),
            Opening::InPast(past) => match past.read(&self.path, limit) {
                Ok(Some(bytes)) => Ok(bytes),
                // The disk has the same.
                Ok(None) => {
                    open::read_to_limit(open::regular(self.open(OFlags::RDONLY | OFlags::NONBLOCK)?, limit)?, limit)
                }
                Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                    Err(ReadFault::NoFile(SpecialFile::Directory))
                }
                Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Err(ReadFault::TooLarge(limit)),
                Err(error) => Err(error.into()),
            },
            Opening::ByPath | Opening::Refused(_) => {
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
                let file = self.open(flags).map_err(|error| open::open_fault(&self.path, error))?;
                open::read_to_limit(open::regular(file, limit)?, limit)
            }
        }
    }

    fn open(&self, flags: OFlags) -> io::Result<OwnedFd> {
        match &self.opening {
            // Asked for in the past only where the disk has the same.
            Opening::ByPath | Opening::InPast(_) => beneath_root(&self.path, flags),
            Opening::Unnamed(fd) => {
                let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
                Ok(rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())?)
            }
            Opening::Refused(why) => Err((*why).into()),
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

    /// Opens the directory that holds it if it is there, and tells its name there.
    ///
    /// # Errors
    /// As [`GrantedWrite::make_parent`]; also when the directory is missing.
    pub(crate) fn open_parent(&self) -> io::Result<(OwnedFd, &Path)> {
        let (Some(parent), Some(name)) = (self.path.parent(), self.path.file_name()) else {
            return Err(rustix::io::Errno::ISDIR.into());
        };
        Ok((beneath_root(parent, OFlags::RDONLY | OFlags::DIRECTORY)?, Path::new(name)))
    }

    /// How many of the directories that lead to it are missing.
    pub(crate) fn missing_parents(&self) -> usize {
        let is_missing = |path: &&Path| {
            let opened = beneath_root(path, OFlags::PATH | OFlags::DIRECTORY);
            opened.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
        };
        self.path.ancestors().skip(1).take_while(is_missing).count()
    }

    /// Removes the innermost `n` of the directories that lead to it, as far as they are empty.
    pub(crate) fn remove_empty_parents(&self, n: usize) {
        for path in self.path.ancestors().skip(1).take(n) {
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return };
            let removed = beneath_root(parent, OFlags::PATH | OFlags::DIRECTORY)
                .and_then(|dir| Ok(unlinkat(&dir, name, AtFlags::REMOVEDIR)?));
            if removed.is_err() {
                return;
            }
        }
    }

    /// The handle of a path that was granted to an earlier process, which wrote it into a journal of the state directory:
    /// only the user can write there. As with every handle, a symbolic link that has come into the path since is refused
    /// when it is opened.
    pub(crate) const fn of_journal(path: PathBuf) -> Self {
        Self { path, unnamed: None }
    }
}
