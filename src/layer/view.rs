//! A merged, read-only look at a tree of stacked layer directories, without mounting anything and without privilege.
//!
//! The directories are in the form of overlayfs upper directories: a character device 0/0 hides what is below it, an
//! opaque directory hides the content of the same directory below. Links of the tree are interpreted here, inside the
//! tree; the kernel never follows one for us, so nothing outside the directories can be reached.
//! Nothing is written here (`solve::op`), and no tar is known (`layer::pack`, `layer::unpack`).

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    path::{Path, PathBuf},
};

/// What a name in a tree is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    File,
    Dir,
    Symlink,
    Fifo,
    Socket,
    CharDev,
    BlockDev,
}

/// The metadata of a name in a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    /// Permissions with setuid, setgid and sticky: 07777.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) size: u64,
    /// Seconds and nanoseconds.
    pub(crate) mtime: (i64, u32),
    pub(crate) ctime: (i64, u32),
    /// Major and minor number of a device.
    pub(crate) rdev: (u32, u32),
    pub(crate) nlink: u64,
    pub(crate) dev_ino: (u64, u64),
    /// Index of the directory, bottom first, that the entry was found in. Files of equal `dev_ino` are hard links of
    /// each other only if they are of one layer.
    pub(crate) layer: usize,
}

/// Whether a path that ends in a link means the link or what it points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Follow {
    /// The link. Links before the last name are followed all the same.
    No,
    /// What it points to.
    Last,
}

/// A tree.
#[derive(Debug)]
pub(crate) struct View {
    layers: Vec<PathBuf>,
}

impl View {
    /// The tree of these layer directories, bottom first. None is the empty tree.
    pub(crate) fn open(dirs: &[PathBuf]) -> io::Result<Self> {
        Ok(Self { layers: dirs.to_vec() })
    }

    /// A directory of the host as it is: devices 0/0 and opaque marks mean nothing.
    pub(crate) fn plain(dir: &Path) -> io::Result<Self> {
        Ok(Self { layers: vec![dir.to_owned()] })
    }

    /// What is at a path (absolute or not, it is taken from the root; `..` stops at the root), if there is something.
    pub(crate) fn lookup(&self, _path: impl AsRef<OsStr>, _follow: Follow) -> io::Result<Option<Entry>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The path with all links followed (the last one as `follow` says): absolute, clean, inside the root. What does
    /// not exist keeps its names.
    pub(crate) fn resolve(&self, _path: impl AsRef<OsStr>, _follow: Follow) -> io::Result<PathBuf> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The names in a directory, sorted by their bytes. Links are followed.
    pub(crate) fn read_dir(&self, _path: impl AsRef<OsStr>) -> io::Result<Vec<(OsString, Entry)>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Opens a regular file for reading; links are followed. Anything but a regular file is an error (and never blocks).
    pub(crate) fn open_file(&self, _path: impl AsRef<OsStr>) -> io::Result<File> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The content of a regular file of at most `limit` bytes; a longer one is an error.
    pub(crate) fn read(&self, _path: impl AsRef<OsStr>, _limit: u64) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The text of a link.
    pub(crate) fn read_link(&self, _path: impl AsRef<OsStr>) -> io::Result<OsString> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The extended attributes that belong to the tree (not overlayfs's own), sorted by name. The last link is not followed.
    pub(crate) fn xattrs(&self, _path: impl AsRef<OsStr>) -> io::Result<Vec<(OsString, Vec<u8>)>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
