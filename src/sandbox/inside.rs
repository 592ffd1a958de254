//! Paths inside the root of the container: looked up so that neither `..` nor any link leads out of it, and made where
//! they are missing. What was made only to be mounted on is noted, for [`super::stubs`] to remove it afterwards.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::{
    fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid},
    fs::{chownat, fstat, mkdirat, openat, openat2, readlinkat},
    io::{Errno, Result},
};

use super::stubs::{MadeStubs, Stub, StubParent, restore_mtime};

/// Links followed in one look-up, as in the kernel.
const MAX_LINKS: usize = 40;

/// The root of the container, in which paths are opened without ever leaving it.
pub(super) struct Inside {
    root: OwnedFd,
    made: MadeStubs,
}

/// What is made where a path is missing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Make {
    /// A directory to mount on, removed again afterwards.
    MountDir,
    /// A file to mount on, removed again afterwards.
    MountFile,
    /// A directory that stays, as do its parents.
    Dir { uid: u32, gid: u32 },
}

/// An opened place in the root of the container.
pub(super) struct RootPlace {
    pub(super) fd: OwnedFd,
    /// Its path below the root without links, no `/` in front; known only if it had to be walked.
    path: Vec<u8>,
}

impl Inside {
    /// Takes over the descriptor of the root directory.
    pub(super) fn new(root: OwnedFd) -> Self {
        Self { root, made: MadeStubs::default() }
    }

    /// The descriptor of the root directory.
    pub(super) fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// The stubs that were made to be mounted on so far.
    pub(super) fn into_made(self) -> MadeStubs {
        self.made
    }

    /// Opens for reference (`O_PATH`) what exists at `path`, links followed.
    pub(super) fn find(&self, path: &str) -> Result<OwnedFd> {
        find(self.root.as_fd(), path)
    }

    /// Reads a regular file of at most `limit` bytes; `None` if it does not exist.
    pub(super) fn read(&self, path: &str, limit: u64) -> std::io::Result<Option<Vec<u8>>> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = match openat2(&self.root, path, flags, Mode::empty(), in_root()) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let stat = fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(std::io::Error::other("it is not a regular file"));
        }
        if u64::try_from(stat.st_size).unwrap_or(u64::MAX) > limit {
            return Err(std::io::Error::other(format!("it is larger than {limit} bytes")));
        }
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut std::io::Read::take(std::fs::File::from(file), limit), &mut content)?;
        Ok(Some(content))
    }

    /// Opens for reference (`O_PATH`) what is at `path`; what is missing is made.
    pub(super) fn find_or_make(&mut self, path: &str, make: Make) -> Result<OwnedFd> {
        match self.find(path) {
            Err(Errno::NOENT) => Ok(self.walk(path, make)?.fd),
            other => other,
        }
    }

    /// Looks up one name after the other: openat2(2) would not say which of them are missing.
    fn walk(&mut self, path: &str, make: Make) -> Result<RootPlace> {
        let mut todo: Vec<Vec<u8>> = Vec::new();
        push_names(&mut todo, path.as_bytes());
        let mut stack: Vec<RootPlace> = Vec::new();
        let mut links = 0;
        while let Some(name) = todo.pop() {
            if name == b".." {
                stack.pop();
                continue;
            }
            let here = stack.last().map_or(self.root.as_fd(), |it| it.fd.as_fd());
            let fd = match openat(here, &name[..], O_HERE, Mode::empty()) {
                Err(Errno::NOENT) => self.make(&stack, &name, todo.is_empty(), make)?,
                other => other?,
            };
            if FileType::from_raw_mode(fstat(&fd)?.st_mode) == FileType::Symlink {
                links += 1;
                let link = readlinkat(&fd, "", Vec::new())?.into_bytes();
                if links > MAX_LINKS {
                    return Err(Errno::LOOP);
                }
                if link.starts_with(b"/") {
                    stack.clear();
                }
                push_names(&mut todo, &link);
                continue;
            }
            let path = join(stack.last(), &name);
            stack.push(RootPlace { fd, path });
        }
        match stack.pop() {
            Some(place) => Ok(place),
            None => Ok(RootPlace { fd: self.root.try_clone().map_err(to_errno)?, path: Vec::new() }),
        }
    }

    fn make(&mut self, stack: &[RootPlace], name: &[u8], last: bool, make: Make) -> Result<OwnedFd> {
        let here = stack.last().map_or(self.root.as_fd(), |it| it.fd.as_fd());
        let is_file = last && make == Make::MountFile;
        let path = join(stack.last(), name);
        let before = fstat(here)?;
        if !matches!(make, Make::Dir { .. }) {
            for (place, fd) in std::iter::once((&[][..], self.root.as_fd())).chain(places(stack)) {
                note_parent(&mut self.made, place, fd)?;
            }
            self.made.stubs.push(Stub { path, dir: !is_file });
        }
        if is_file {
            openat(here, name, OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC, Mode::from(0o644))?;
        } else {
            mkdirat(here, name, Mode::from(0o755))?;
        }
        if let Make::Dir { uid, gid } = make {
            chownat(here, name, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), AtFlags::SYMLINK_NOFOLLOW)?;
        } else {
            restore_mtime(here, &before)?;
        }
        openat(here, name, O_HERE, Mode::empty())
    }
}

const O_HERE: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens for reference (`O_PATH`) what exists at `path` below `root`; links are followed, but never lead outside.
pub(super) fn find(root: BorrowedFd<'_>, path: &str) -> Result<OwnedFd> {
    openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), in_root())
}

fn in_root() -> ResolveFlags {
    ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS
}

fn note_parent(made: &mut MadeStubs, path: &[u8], fd: BorrowedFd<'_>) -> Result<()> {
    let known = made.parents.iter().any(|it| it.path == path) || made.stubs.iter().any(|it| it.path == path);
    if !known {
        let stat = fstat(fd)?;
        made.parents.push(StubParent {
            path: path.to_vec(),
            mode: stat.st_mode,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: (stat.st_mtime, stat.st_mtime_nsec.cast_signed()),
        });
    }
    Ok(())
}

fn places(stack: &[RootPlace]) -> impl Iterator<Item = (&[u8], BorrowedFd<'_>)> {
    stack.iter().map(|it| (&it.path[..], it.fd.as_fd()))
}

fn join(parent: Option<&RootPlace>, name: &[u8]) -> Vec<u8> {
    match parent {
        Some(place) => [&place.path[..], b"/", name].concat(),
        None => name.to_vec(),
    }
}

/// Puts the names of `path` on top of `todo`, the first one uppermost.
fn push_names(todo: &mut Vec<Vec<u8>>, path: &[u8]) {
    let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".");
    let at = todo.len();
    todo.extend(names.map(<[u8]>::to_vec));
    todo[at..].reverse();
}

fn to_errno(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}
