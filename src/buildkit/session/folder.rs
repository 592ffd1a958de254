//! Writing a folder that a daemon describes: nothing outside of it, whatever the daemon says.
//!
//! Paths are checked by their text first (relative, clean, in order, each once, below folders of this transfer) and then
//! opened without following a link, so that a link of the transfer or of the folder leads nowhere. Files are made in a
//! temporary folder and renamed when they are whole. Modes and times of folders are set at the end, from the bottom up.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Write as _},
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::{
    fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags},
    io::Errno,
};
use tonic::Status;

use super::{
    packet::{FileStat, unix_mode},
    sent_path::SentPaths,
};
use crate::{
    layer::view::at,
    spec::local::{FileOwner, LocalAccess, SpecialFiles},
};

/// Files that are written at the same time. Daemons send at most a handful in parts.
const MOST_OPEN: usize = 64;
/// Removing a deeper folder of the user would exhaust the stack.
const DEEPEST: usize = 512;
/// The set-user-ID and set-group-ID bits.
const SPECIAL_BITS: u32 = 0o6000;
/// The extended attribute that holds file capabilities (`capabilities(7)`).
const CAPABILITIES: &str = "security.capability";

/// Tells apart what is made in one temporary folder: a daemon sends the trees of several platforms at the same time.
static MADE: AtomicU64 = AtomicU64::new(0);

/// Whether the file at a path, relative to the folder, is known to have the content that a description stands for. Such a
/// file is left as it is and does not travel.
pub(crate) type IsUnchanged = Box<dyn Fn(&Path, &FileStat) -> bool + Send + Sync>;

/// Where the files of a folder are written.
pub(crate) struct FolderTarget {
    /// The folder, open for reading.
    pub(crate) root: OwnedFd,
    /// An empty folder on the same file system, in which files are made. The caller removes it, with what a transfer that
    /// failed has left there.
    pub(crate) temporary: OwnedFd,
    /// A folder in which files lie that do not travel if they are unchanged: these are missing in `root` then. Without one,
    /// unchanged files are those of `root`.
    pub(crate) kept: Option<OwnedFd>,
    pub(crate) access: LocalAccess,
}

/// What was written.
#[derive(Debug, Default)]
pub(crate) struct WrittenFolder {
    /// Every path that the daemon described, as it did; in its order.
    pub(crate) entries: Vec<FileStat>,
    /// Files whose content travelled.
    pub(crate) files: usize,
    pub(crate) bytes: u64,
    /// Paths that were left out (devices) or lost their special bits.
    pub(crate) dropped: BTreeSet<PathBuf>,
}

impl WrittenFolder {
    /// Adds what another transfer has written into the same folder.
    pub(super) fn add(&mut self, more: Self) {
        self.entries.extend(more.entries);
        self.files += more.files;
        self.bytes += more.bytes;
        self.dropped.extend(more.dropped);
    }
}

/// A file whose content was requested.
struct AwaitedFile {
    stat: FileStat,
    open: Option<OpenFile>,
}

struct OpenFile {
    file: File,
    /// Its name in the temporary folder.
    name: String,
    size: u64,
}

/// Writes one folder.
pub(super) struct FolderWriter<'a> {
    target: &'a FolderTarget,
    is_unchanged: &'a IsUnchanged,
    paths: SentPaths,
    next: u32,
    awaited: HashMap<u32, AwaitedFile>,
    n_open: usize,
    /// Paths of regular files of this transfer, to which hard links may lead.
    files: HashSet<PathBuf>,
    /// Path and the file that it is, made at the end, when all files are there.
    links: Vec<(PathBuf, PathBuf)>,
    folders: Vec<FileStat>,
    is_described: bool,
    written: WrittenFolder,
}

impl<'a> FolderWriter<'a> {
    pub(super) fn new(target: &'a FolderTarget, is_unchanged: &'a IsUnchanged) -> Self {
        Self {
            target,
            is_unchanged,
            paths: SentPaths::default(),
            next: 0,
            awaited: HashMap::new(),
            n_open: 0,
            files: HashSet::new(),
            links: Vec::new(),
            folders: Vec::new(),
            is_described: false,
            written: WrittenFolder::default(),
        }
    }

    /// Takes the description of the next path; returns the id of a file whose content is to be requested.
    pub(super) fn describe(&mut self, stat: FileStat) -> Result<Option<u32>, Status> {
        let (kind, _) = unix_mode(stat.mode);
        if self.is_described {
            return Err(Status::invalid_argument("a description after the last"));
        }
        let path = self.paths.check(&stat.path, kind == FileType::Directory)?;
        let id = self.next;
        self.next = id.checked_add(1).ok_or_else(|| Status::resource_exhausted("too many files"))?;
        self.written.entries.push(stat.clone());
        let fault = |error| cannot_write(&path, &error);
        match kind {
            FileType::Directory => {
                self.make_folder(&path).map_err(fault)?;
                self.folders.push(stat);
            }
            FileType::Symlink => self.make_symlink(&path, &stat).map_err(fault)?,
            FileType::RegularFile if !stat.link.is_empty() => {
                let first = PathBuf::from(OsString::from_vec(stat.link));
                if !self.files.contains(&first) {
                    let why = format!("{} is a link to {}, which was not sent", path.display(), first.display());
                    return Err(Status::invalid_argument(why));
                }
                self.links.push((path, first));
            }
            FileType::RegularFile => {
                self.files.insert(path.clone());
                let is_special = unix_mode(stat.mode).1 & SPECIAL_BITS != 0 || stat.xattrs.contains_key(CAPABILITIES);
                if is_special && self.target.access.special == SpecialFiles::Drop {
                    self.written.dropped.insert(path.clone());
                }
                if (self.is_unchanged)(&path, &stat) && self.has_file(&path, &stat).map_err(fault)? {
                    return Ok(None);
                }
                self.awaited.insert(id, AwaitedFile { stat, open: None });
                return Ok(Some(id));
            }
            FileType::BlockDevice | FileType::CharacterDevice | FileType::Fifo => {
                self.make_node(&path, &stat, kind).map_err(fault)?;
            }
            FileType::Socket | FileType::Unknown => {
                return Err(Status::invalid_argument(format!("{} is of a kind that is not written", path.display())));
            }
        }
        Ok(None)
    }

    /// Notes that all paths were described.
    pub(super) fn end_descriptions(&mut self) -> Result<(), Status> {
        if std::mem::replace(&mut self.is_described, true) {
            return Err(Status::invalid_argument("the descriptions ended twice"));
        }
        Ok(())
    }

    /// Takes a part of the content of a file; an empty one ends it.
    pub(super) fn data(&mut self, id: u32, data: &[u8]) -> Result<(), Status> {
        let unasked = || Status::invalid_argument("content that was not requested");
        let mut awaited = self.awaited.remove(&id).ok_or_else(unasked)?;
        let path = PathBuf::from(OsString::from_vec(awaited.stat.path.clone()));
        let fault = |error| cannot_write(&path, &error);
        let mut open = match awaited.open.take() {
            Some(open) => open,
            None if self.n_open == MOST_OPEN => return Err(Status::resource_exhausted("too many files at once")),
            None => {
                self.n_open += 1;
                Self::create(self.target).map_err(fault)?
            }
        };
        open.file.write_all(data).map_err(fault)?;
        open.size += data.len() as u64;
        let has_size = |size: i64| u64::try_from(size).is_ok_and(|size| open.size == size);
        if i128::from(open.size) > i128::from(awaited.stat.size) || data.is_empty() && !has_size(awaited.stat.size) {
            let why = format!("{} is not {} bytes long, as described", path.display(), awaited.stat.size);
            return Err(Status::invalid_argument(why));
        }
        if !data.is_empty() {
            awaited.open = Some(open);
            self.awaited.insert(id, awaited);
            return Ok(());
        }
        self.n_open -= 1;
        self.written.files += 1;
        self.written.bytes += open.size;
        self.complete(&path, &awaited.stat, &open).map_err(fault)
    }

    /// Whether nothing more is to come.
    pub(super) fn is_complete(&self) -> bool {
        self.is_described && self.awaited.is_empty()
    }

    /// Makes hard links, and sets modes and times of folders.
    pub(super) fn finish(mut self) -> Result<WrittenFolder, Status> {
        for (path, first) in std::mem::take(&mut self.links) {
            self.bring(&first).map_err(|error| cannot_write(&first, &error))?;
            self.make_link(&path, &first).map_err(|error| cannot_write(&path, &error))?;
        }
        for stat in std::mem::take(&mut self.folders).iter().rev() {
            let path = Path::new(OsStr::from_bytes(&stat.path));
            let set = || {
                let dir = at::dir(self.target.root.as_fd(), path)?;
                self.set_owner(&dir)?;
                rustix::fs::fchmod(&dir, self.mode(stat))?;
                io::Result::Ok(rustix::fs::futimens(&dir, &times(stat))?)
            };
            set().map_err(|error| cannot_write(path, &error))?;
        }
        Ok(self.written)
    }

    /// Copies a file that did not travel from where it is kept, for the links that lead to it.
    fn bring(&self, path: &Path) -> io::Result<()> {
        let Some(kept) = &self.target.kept else { return Ok(()) };
        if at::stat_beneath(self.target.root.as_fd(), path)?.is_some() {
            return Ok(());
        }
        let mut from = crate::grant::open_beneath(kept, path)?;
        let (parent, name) = self.parent(path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let stat = rustix::fs::fstat(&from)?;
        let to = rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o600))?;
        let mut to = File::from(to);
        io::copy(&mut from, &mut to)?;
        rustix::fs::fchmod(&to, Mode::from_raw_mode(stat.st_mode))?;
        to.set_modified(from.metadata()?.modified()?)
    }

    /// The folder of a path, open, and the name there.
    fn parent<'p>(&self, path: &'p Path) -> io::Result<(OwnedFd, &'p OsStr)> {
        let name = path.file_name().ok_or(Errno::INVAL)?;
        let parent = path.parent().unwrap_or_else(|| Path::new(""));
        Ok((at::dir(self.target.root.as_fd(), parent)?, name))
    }

    /// Whether a regular file of this size, mode and time is at a path.
    #[expect(clippy::unnecessary_cast, reason = "the fields differ between architectures")]
    fn has_file(&self, path: &Path, stat: &FileStat) -> io::Result<bool> {
        let place = self.target.kept.as_ref().unwrap_or(&self.target.root);
        let found = at::stat_beneath(place.as_fd(), path)?;
        Ok(found.is_some_and(|found| {
            let modified = (found.st_mtime as i64, found.st_mtime_nsec as i64);
            FileType::from_raw_mode(found.st_mode) == FileType::RegularFile
                && found.st_size == stat.size
                && found.st_mode & 0o7777 == self.mode(stat).bits()
                && modified == (stat.modified.div_euclid(1_000_000_000), stat.modified.rem_euclid(1_000_000_000))
        }))
    }

    fn create(target: &FolderTarget) -> io::Result<OpenFile> {
        let name = new_name();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&target.temporary, &name, flags, Mode::from_raw_mode(0o600))?;
        Ok(OpenFile { file: file.into(), name, size: 0 })
    }

    fn complete(&self, path: &Path, stat: &FileStat, open: &OpenFile) -> io::Result<()> {
        for (name, value) in stat.xattrs.iter().filter(|(name, _)| at::is_content_xattr(name.as_bytes())) {
            if name != CAPABILITIES || self.target.access.special == SpecialFiles::Keep {
                // Kept where the file system and our rights allow.
                rustix::fs::fsetxattr(&open.file, name, value, XattrFlags::empty()).ok();
            }
        }
        self.set_owner(&open.file)?;
        rustix::fs::fchmod(&open.file, self.mode(stat))?;
        rustix::fs::futimens(&open.file, &times(stat))?;
        self.place(&open.name, path)
    }

    /// Renames what was made in the temporary folder, in place of what has its name.
    fn place(&self, made: &str, path: &Path) -> io::Result<()> {
        let (dir, name) = self.parent(path)?;
        if at::stat(dir.as_fd(), name)?.is_some_and(|stat| is_folder(&stat)) {
            remove(&dir, name, 0)?;
        }
        Ok(rustix::fs::renameat(&self.target.temporary, made, &dir, name)?)
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        let (dir, name) = self.parent(path)?;
        match at::stat(dir.as_fd(), name)? {
            Some(stat) if is_folder(&stat) => return Ok(()),
            Some(_) => rustix::fs::unlinkat(&dir, name, AtFlags::empty())?,
            None => {}
        }
        match rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn make_symlink(&self, path: &Path, stat: &FileStat) -> io::Result<()> {
        let text = OsStr::from_bytes(&stat.link);
        let (dir, name) = self.parent(path)?;
        if at::read_link(dir.as_fd(), name).is_ok_and(|found| found == text) {
            self.set_owner_of(&dir, name)?;
        } else {
            let made = new_name();
            rustix::fs::symlinkat(text, &self.target.temporary, &made)?;
            self.set_owner_of(&self.target.temporary, OsStr::new(&made))?;
            self.place(&made, path)?;
        }
        Ok(rustix::fs::utimensat(&dir, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    fn make_node(&mut self, path: &Path, stat: &FileStat, kind: FileType) -> io::Result<()> {
        if kind != FileType::Fifo && self.target.access.special == SpecialFiles::Drop {
            self.written.dropped.insert(path.to_owned());
            return Ok(());
        }
        let number = |number: i64| u32::try_from(number).map_err(|_| io::Error::from(Errno::INVAL));
        let device = rustix::fs::makedev(number(stat.device_major)?, number(stat.device_minor)?);
        let (temporary, made) = (&self.target.temporary, new_name());
        rustix::fs::mknodat(temporary, &made, kind, Mode::from_raw_mode(0o600), device)?;
        self.set_owner_of(temporary, OsStr::new(&made))?;
        rustix::fs::chmodat(temporary, &made, self.mode(stat), AtFlags::empty())?;
        rustix::fs::utimensat(temporary, &made, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?;
        self.place(&made, path)
    }

    fn make_link(&self, path: &Path, first: &Path) -> io::Result<()> {
        let ((from, from_name), (dir, name)) = (self.parent(first)?, self.parent(path)?);
        let (first, there) = (at::stat(from.as_fd(), from_name)?, at::stat(dir.as_fd(), name)?);
        let same = |a: &rustix::fs::Stat, b: &rustix::fs::Stat| (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino);
        if first.zip(there).is_some_and(|(first, there)| same(&first, &there)) {
            return Ok(());
        }
        let made = new_name();
        rustix::fs::linkat(&from, from_name, &self.target.temporary, &made, AtFlags::empty())?;
        self.place(&made, path)
    }

    /// The permission bits that a path gets.
    fn mode(&self, stat: &FileStat) -> Mode {
        let (kind, mut mode) = unix_mode(stat.mode);
        if let Some(change) = &self.target.access.chmod {
            mode = change.apply(mode, kind == FileType::Directory).unwrap_or(mode);
        }
        if kind != FileType::Directory && self.target.access.special == SpecialFiles::Drop {
            mode &= !SPECIAL_BITS;
        }
        Mode::from_raw_mode(mode)
    }

    /// Sets the owner that was asked for; without one, everything is ours.
    fn set_owner(&self, file: impl AsFd) -> io::Result<()> {
        let Some(FileOwner { uid, gid }) = self.target.access.chown else { return Ok(()) };
        Ok(rustix::fs::fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?)
    }

    fn set_owner_of(&self, dir: &OwnedFd, name: &OsStr) -> io::Result<()> {
        let Some(FileOwner { uid, gid }) = self.target.access.chown else { return Ok(()) };
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        Ok(rustix::fs::chownat(dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?)
    }
}

/// A name in a temporary folder that no other transfer uses.
fn new_name() -> String {
    MADE.fetch_add(1, Ordering::Relaxed).to_string()
}

fn cannot_write(path: &Path, error: &io::Error) -> Status {
    Status::failed_precondition(format!("cannot write {}: {error}", path.display()))
}

fn is_folder(stat: &rustix::fs::Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

fn times(stat: &FileStat) -> Timestamps {
    let (second, nano) = (stat.modified.div_euclid(1_000_000_000), stat.modified.rem_euclid(1_000_000_000));
    let time = Timespec { tv_sec: second, tv_nsec: nano as _ };
    Timestamps { last_access: time, last_modification: time }
}

/// Removes a name with everything below it; no link is followed.
fn remove(dir: &OwnedFd, name: &OsStr, depth: usize) -> io::Result<()> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(Errno::NOENT) => return Ok(()),
        result => return Ok(result?),
    }
    if depth > DEEPEST {
        return Err(io::Error::other("folders lie too deep"));
    }
    let below = at::dir(dir.as_fd(), Path::new(name))?;
    for inner in at::names(below.as_fd())? {
        remove(&below, &inner, depth + 1)?;
    }
    Ok(rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)?)
}
