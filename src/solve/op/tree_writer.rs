//! Writes the upper directory of a new layer, in overlayfs form, above a tree that is only read.
//!
//! The upper and the lower tree are seen merged, as a mount would show them. A directory of the lower tree that
//! gets a child is first made in the upper one with its mode, owner and attributes. Every path is resolved here, inside the tree.
//! What is written where is decided by `op::file`, `op::copy`, `op::archive`.

use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, XattrFlags},
    io::Errno,
};

use super::{
    dir_times::{DirTimes, IMPLIED_DIR_TIME},
    error::{FileError, write_error},
};
use crate::layer::{
    copy_data,
    view::{
        self, EntryKind, Follow, LayerView, LocateWalk, Location, ViewEntry, at, locate::locate, owners, read_limited,
    },
};

/// `layer` of entries that are in the upper directory.
const UPPER: usize = usize::MAX;

/// Writes the layer of a file operation: the upper directory, above the tree that is changed.
///
/// Every path is opened name by name below the root, so that links in the tree do not lead out of it.
pub(crate) struct TreeWriter {
    upper: OwnedFd,
    lower: LayerView,
    /// Device and inode of the layers below.
    lower_ids: Vec<(u64, u64)>,
    /// Directories of the upper one that hide those below.
    opaque: Mutex<HashSet<PathBuf>>,
    dir_times: DirTimes,
    no_reflink: AtomicBool,
    no_copy_range: AtomicBool,
}

/// A directory of the merged tree, for reading.
#[derive(Clone, Debug)]
pub(crate) struct WriteFolder {
    path: PathBuf,
    upper: bool,
    lower: Option<view::ViewFolder>,
}

/// A directory of the upper directory, open for writing.
pub(crate) struct WriteDest {
    fd: OwnedFd,
    /// From the root, without a leading slash.
    path: PathBuf,
    lower: Option<view::ViewFolder>,
    /// It was made just now and the lower tree has no such directory: only names that were written since are taken.
    fresh: bool,
}

/// The mode and owner that a new directory or file gets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MadeEntry {
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
}

impl AsFd for WriteDest {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl WriteDest {
    /// The path of a name in this directory as the image has it, for messages.
    pub(crate) fn shown(&self, name: &OsStr) -> String {
        format!("/{}", self.path.join(name).display())
    }
}

impl TreeWriter {
    /// Starts a layer in `upper`, an empty directory, above the tree `lower`; that is the empty tree for `COPY --link`.
    pub(crate) fn new(upper: &Path, lower: LayerView) -> io::Result<Self> {
        let writer = Self::continued(upper, lower)?;
        if !writer.is_alone() {
            // The root of the topmost layer is what a mount shows as the root.
            let root = writer.lower.root_entry()?;
            // In a user namespace with one id it stays ours.
            owners::give(&writer.upper, root.uid, root.gid).ok();
            rustix::fs::fchmod(&writer.upper, Mode::from_raw_mode(root.mode))?;
            writer.dir_times.keep(PathBuf::new(), root.mtime);
        }
        Ok(writer)
    }

    /// Goes on with the layer in `upper`, which something else has written.
    pub(super) fn continued(upper: &Path, lower: LayerView) -> io::Result<Self> {
        Ok(Self {
            upper: at::host_dir(upper)?,
            lower_ids: lower.layer_ids()?,
            lower,
            opaque: Mutex::default(),
            dir_times: DirTimes::default(),
            no_reflink: AtomicBool::new(false),
            no_copy_range: AtomicBool::new(false),
        })
    }

    /// Follows a path of the merged tree.
    pub(crate) fn locate(&self, path: &str, follow: Follow) -> Result<Location<WriteFolder>, FileError> {
        locate(self, OsStr::new(path), follow).map_err(|cause| write_error(path, cause))
    }

    /// The text of a small regular file of the merged tree; bytes that are not UTF-8 are replaced.
    pub(crate) fn read_small(&self, path: &str, limit: u64) -> io::Result<String> {
        let place = locate(self, OsStr::new(path), Follow::Last)?;
        let (Some(entry), Some(parent), Some(name)) = (&place.entry, &place.parent, place.name()) else {
            return Err(Errno::NOENT.into());
        };
        let file = match (entry.layer, &parent.lower) {
            (UPPER, _) => at::file(self.upper.as_fd(), &parent.path.join(name))?,
            (_, Some(lower)) => self.lower.file(lower, name, entry)?,
            _ => return Err(Errno::NOENT.into()),
        };
        Ok(String::from_utf8_lossy(&read_limited(file, limit)?).into_owned())
    }

    /// Whether the layer with this device and inode is one of those below.
    pub(crate) fn is_below(&self, id: (u64, u64)) -> bool {
        self.lower_ids.contains(&id)
    }

    /// Whether the lower tree is empty.
    pub(crate) fn is_alone(&self) -> bool {
        self.lower_ids.is_empty()
    }

    /// Opens the root for writing.
    pub(crate) fn root_dest(&self) -> io::Result<WriteDest> {
        let fd = at::dir(self.upper.as_fd(), Path::new(""))?;
        Ok(WriteDest { fd, path: PathBuf::new(), lower: Some(self.lower.root()), fresh: false })
    }

    /// Opens the directory at a path without links for writing. Missing ones are made with mode and owner of `made`.
    pub(crate) fn make_dirs(&self, path: &Path, made: MadeEntry) -> Result<WriteDest, FileError> {
        self.make_dirs_below(self.root_dest().map_err(|cause| write_error("/", cause))?, path, made)
    }

    /// As [`make_dirs`](Self::make_dirs), for a path below `dest`.
    pub(crate) fn make_dirs_below(
        &self,
        mut dest: WriteDest,
        path: &Path,
        made: MadeEntry,
    ) -> Result<WriteDest, FileError> {
        for name in path.iter().filter(|it| *it != "/") {
            dest = match self.existing(&dest, name)? {
                Some(entry) if entry.kind == EntryKind::Dir => self.open_dir(&dest, name, &entry)?,
                Some(_) => return Err(FileError::NotDirectory { path: dest.shown(name) }),
                None => self.make_dir(&dest, name, made)?,
            };
        }
        Ok(dest)
    }

    /// The entry that a name in a directory has now.
    pub(crate) fn existing(&self, dest: &WriteDest, name: &OsStr) -> Result<Option<ViewEntry>, FileError> {
        let find = || -> io::Result<_> {
            if let Some(stat) = at::stat(dest.fd.as_fd(), name)? {
                let entry = at::entry(&stat, UPPER);
                return Ok((!is_whiteout(&entry)).then_some(entry));
            }
            match &dest.lower {
                Some(lower) if !dest.fresh => self.lower.child(lower, name),
                _ => Ok(None),
            }
        };
        find().map_err(|cause| write_error(&dest.shown(name), cause))
    }

    /// Opens a directory that `existing` found, for writing; one of the lower tree is first made in the upper one.
    pub(crate) fn open_dir(&self, dest: &WriteDest, name: &OsStr, entry: &ViewEntry) -> Result<WriteDest, FileError> {
        let open = || -> io::Result<WriteDest> {
            let path = dest.path.join(name);
            if entry.layer == UPPER {
                let fd = at::dir(dest.fd.as_fd(), Path::new(name))?;
                let lower = if self.is_opaque(&path) { None } else { self.lower_dir(dest, name)? };
                return Ok(WriteDest { fd, path, lower, fresh: false });
            }
            let lower = self.lower_dir(dest, name)?;
            let fd = new_dir(dest, name)?;
            owners::give(&fd, entry.uid, entry.gid)?;
            rustix::fs::fchmod(&fd, Mode::from_raw_mode(entry.mode))?;
            if let Some(parent) = &dest.lower {
                set_xattrs(&fd, &self.lower.xattrs_of(parent, name, entry)?);
            }
            self.dir_times.keep(path.clone(), entry.mtime);
            Ok(WriteDest { fd, path, lower, fresh: false })
        };
        open().map_err(|cause| write_error(&dest.shown(name), cause))
    }

    /// Opens a directory of the upper one, which shows the content of `lower`. It keeps its time, whatever is made in it.
    pub(super) fn reopen(&self, path: &Path, lower: view::ViewFolder) -> io::Result<WriteDest> {
        let fd = at::dir(self.upper.as_fd(), path)?;
        self.dir_times.fix(path.to_owned(), at::entry(&rustix::fs::fstat(&fd)?, UPPER).mtime);
        Ok(WriteDest { fd, path: path.to_owned(), lower: Some(lower), fresh: false })
    }

    /// Makes a directory where `existing` found nothing.
    pub(crate) fn make_dir(&self, dest: &WriteDest, name: &OsStr, made: MadeEntry) -> Result<WriteDest, FileError> {
        let make = || -> io::Result<WriteDest> {
            let path = dest.path.join(name);
            let fd = new_dir(dest, name)?;
            // A directory below that something in between hid must stay hidden.
            let hidden = !dest.fresh && self.lower_dir(dest, name)?.is_some();
            let mut opaque = self.opaque.lock().unwrap_or_else(PoisonError::into_inner);
            if hidden {
                rustix::fs::fsetxattr(&fd, at::opaque_xattr(), b"y", XattrFlags::empty())?;
                opaque.insert(path.clone());
            } else {
                opaque.remove(&path);
            }
            drop(opaque);
            Ok(WriteDest { fd, path, lower: None, fresh: true })
        };
        let dir = make().map_err(|cause| write_error(&dest.shown(name), cause))?;
        self.dress_dir(&dir, made)?;
        self.dir_times.entry_made(&dest.path);
        self.dir_times.fix(dir.path.clone(), IMPLIED_DIR_TIME);
        Ok(dir)
    }

    /// Sets mode and owner of a directory.
    pub(crate) fn dress_dir(&self, dir: &WriteDest, made: MadeEntry) -> Result<(), FileError> {
        let shown = dir.shown(OsStr::new(""));
        own(&shown, made.owner, |uid, gid| owners::give(&dir.fd, uid, gid))?;
        rustix::fs::fchmod(&dir.fd, Mode::from_raw_mode(made.mode)).map_err(|cause| write_error(&shown, cause.into()))
    }

    /// Sets the mode of a directory; its owner stays.
    pub(crate) fn set_dir_mode(&self, dir: &WriteDest, mode: u32) -> Result<(), FileError> {
        rustix::fs::fchmod(&dir.fd, Mode::from_raw_mode(mode))
            .map_err(|cause| write_error(&dir.shown(OsStr::new("")), cause.into()))
    }

    /// Sets extended attributes of a directory; one that cannot be set is left out.
    pub(crate) fn set_dir_xattrs(&self, dir: &WriteDest, xattrs: &[(OsString, Vec<u8>)]) {
        set_xattrs(&dir.fd, xattrs);
    }

    /// Notes the modification time of a directory, which [`finish`](Self::finish) sets.
    pub(crate) fn set_dir_time(&self, dir: &WriteDest, mtime: (i64, u32)) {
        self.dir_times.fix(dir.path.clone(), mtime);
    }

    /// Sets the modification times of directories (`dir_times`). Call it when everything is written.
    pub(crate) fn finish(&self) -> Result<(), FileError> {
        for (path, mtime) in self.dir_times.take() {
            match at::dir(self.upper.as_fd(), &path) {
                Ok(dir) => rustix::fs::futimens(&dir, &timestamps(mtime)).map_err(io::Error::from),
                // Something replaced it since.
                Err(err) if at::is_absent(&err) => Ok(()),
                Err(err) => Err(err),
            }
            .map_err(|cause| write_error(&format!("/{}", path.display()), cause))?;
        }
        Ok(())
    }

    /// Removes the entry in the way of something that is not a directory. A directory in its place is an error.
    pub(crate) fn clear(&self, dest: &WriteDest, name: &OsStr) -> Result<(), FileError> {
        match self.existing(dest, name)? {
            Some(entry) if entry.kind == EntryKind::Dir => Err(FileError::IsDirectory { path: dest.shown(name) }),
            Some(entry) if entry.layer == UPPER => rustix::fs::unlinkat(&dest.fd, name, AtFlags::empty())
                .map_err(|cause| write_error(&dest.shown(name), cause.into())),
            _ => Ok(()),
        }
    }

    /// Removes the entry of this name with everything in it. The caller puts something new there, which is what hides
    /// an entry of the lower tree.
    pub(crate) fn remove(&self, dest: &WriteDest, name: &OsStr, entry: &ViewEntry) -> Result<(), FileError> {
        if entry.layer != UPPER {
            return Ok(());
        }
        remove_all(&dest.fd, name).map_err(|cause| write_error(&dest.shown(name), cause))?;
        let path = dest.path.join(name);
        self.opaque.lock().unwrap_or_else(PoisonError::into_inner).retain(|it| !it.starts_with(&path));
        self.dir_times.forget(&path);
        Ok(())
    }

    /// Makes an empty file under a name that is free.
    pub(crate) fn create(&self, dest: &WriteDest, name: &OsStr) -> Result<File, FileError> {
        self.dir_times.entry_made(&dest.path);
        self.new_file(dest, name)
    }

    fn new_file(&self, dest: &WriteDest, name: &OsStr) -> Result<File, FileError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&dest.fd, name, flags, Mode::from_raw_mode(0o600))
            .map(File::from)
            .map_err(|cause| write_error(&dest.shown(name), cause.into()))
    }

    /// Sets owner, mode, attributes and time of an open file.
    pub(crate) fn dress_file(
        &self,
        (dest, name): (&WriteDest, &OsStr),
        file: &File,
        made: MadeEntry,
        xattrs: &[(OsString, Vec<u8>)],
        mtime: (i64, u32),
    ) -> Result<(), FileError> {
        let failed = |cause: Errno| write_error(&dest.shown(name), cause.into());
        own(&dest.shown(name), made.owner, |uid, gid| owners::give(file, uid, gid))?;
        rustix::fs::fchmod(file, Mode::from_raw_mode(made.mode)).map_err(failed)?;
        set_xattrs(file, xattrs);
        rustix::fs::futimens(file, &timestamps(mtime)).map_err(failed)
    }

    /// Sets owner, mode (links have none) and time of an entry that cannot be opened.
    pub(crate) fn dress(
        &self,
        (dest, name): (&WriteDest, &OsStr),
        kind: EntryKind,
        made: MadeEntry,
        mtime: (i64, u32),
    ) -> Result<(), FileError> {
        let failed = |cause: Errno| write_error(&dest.shown(name), cause.into());
        own(&dest.shown(name), made.owner, |uid, gid| owners::give_at(dest.fd.as_fd(), name, uid, gid))?;
        if kind != EntryKind::Symlink {
            rustix::fs::chmodat(&dest.fd, name, Mode::from_raw_mode(made.mode), AtFlags::empty()).map_err(failed)?;
        }
        rustix::fs::utimensat(&dest.fd, name, &timestamps(mtime), AtFlags::SYMLINK_NOFOLLOW).map_err(failed)
    }

    /// Makes a symbolic link with this text under a name that is free.
    pub(crate) fn symlink(&self, dest: &WriteDest, name: &OsStr, text: &OsStr) -> Result<(), FileError> {
        self.dir_times.entry_made(&dest.path);
        self.new_symlink(dest, name, text)
    }

    fn new_symlink(&self, dest: &WriteDest, name: &OsStr, text: &OsStr) -> Result<(), FileError> {
        rustix::fs::symlinkat(text, &dest.fd, name).map_err(|cause| write_error(&dest.shown(name), cause.into()))
    }

    /// Makes a device, fifo or socket under a name that is free.
    pub(crate) fn make_node(
        &self,
        dest: &WriteDest,
        name: &OsStr,
        kind: EntryKind,
        rdev: (u32, u32),
    ) -> Result<(), FileError> {
        let shown = dest.shown(name);
        let file_type = match kind {
            EntryKind::Fifo => FileType::Fifo,
            EntryKind::Socket => FileType::Socket,
            EntryKind::BlockDev => FileType::BlockDevice,
            // In a layer this device marks a deleted entry.
            EntryKind::CharDev if rdev == (0, 0) => return Err(FileError::WhiteoutDevice { path: shown }),
            EntryKind::CharDev => FileType::CharacterDevice,
            EntryKind::File | EntryKind::Dir | EntryKind::Symlink => {
                return Err(write_error(&shown, Errno::INVAL.into()));
            }
        };
        self.dir_times.entry_made(&dest.path);
        let device = rustix::fs::makedev(rdev.0, rdev.1);
        rustix::fs::mknodat(&dest.fd, name, file_type, Mode::from_raw_mode(0o600), device).map_err(|cause| {
            let device = matches!(kind, EntryKind::CharDev | EntryKind::BlockDev);
            if device && cause == Errno::PERM {
                FileError::DeviceForbidden { path: shown }
            } else {
                write_error(&shown, cause.into())
            }
        })
    }

    /// Makes an entry of the lower tree, which is no directory, part of the upper one: by a hard link, or else as
    /// [`raise`](Self::raise) does.
    pub(super) fn share(&self, dest: &WriteDest, name: &OsStr, entry: &ViewEntry) -> Result<(), FileError> {
        let link = || -> io::Result<()> {
            let lower = dest.lower.as_ref().ok_or(Errno::NOENT)?;
            let from = self.lower.layer_dir(lower, entry.layer)?;
            Ok(rustix::fs::linkat(&from, name, &dest.fd, name, AtFlags::empty())?)
        };
        // It may have as many links as the file system allows.
        link().or_else(|_| self.raise(dest, name, entry))
    }

    /// Copies what `existing` found in the lower tree, if it is no directory, into the upper one, as it is.
    pub(crate) fn raise(&self, dest: &WriteDest, name: &OsStr, entry: &ViewEntry) -> Result<(), FileError> {
        if entry.layer == UPPER {
            return Ok(());
        }
        let failed = |cause| write_error(&dest.shown(name), cause);
        let made = MadeEntry { mode: entry.mode, owner: (entry.uid, entry.gid) };
        let lower = dest.lower.as_ref().ok_or_else(|| failed(Errno::NOENT.into()))?;
        match entry.kind {
            EntryKind::File => {
                let from = self.lower.file(lower, name, entry).map_err(failed)?;
                let file = self.new_file(dest, name)?;
                self.transfer(&from, &file, entry.size).map_err(failed)?;
                self.dress_file((dest, name), &file, made, &at::xattrs(&from).map_err(failed)?, entry.mtime)
            }
            EntryKind::Symlink => {
                let text = self.lower.link_text(lower, name, entry).map_err(failed)?;
                self.new_symlink(dest, name, &text)?;
                self.dress((dest, name), entry.kind, made, entry.mtime)
            }
            EntryKind::Dir => Err(failed(Errno::PERM.into())),
            kind => {
                self.make_node(dest, name, kind, entry.rdev)?;
                self.dress((dest, name), kind, made, entry.mtime)
            }
        }
    }

    /// Makes a hard link to the file of the upper directory at `first`, a path without links.
    pub(crate) fn link_upper(&self, first: &Path, dest: &WriteDest, name: &OsStr) -> Result<(), FileError> {
        self.dir_times.entry_made(&dest.path);
        let link = || -> io::Result<()> {
            let (parent, file) = (first.parent().unwrap_or(Path::new("")), first.file_name().unwrap_or_default());
            let parent = at::dir(self.upper.as_fd(), parent)?;
            Ok(rustix::fs::linkat(&parent, file, &dest.fd, name, AtFlags::empty())?)
        };
        link().map_err(|cause| write_error(&dest.shown(name), cause))
    }

    /// Tries to hard-link a file of a snapshot instead of copying it; false if it cannot be, or the file has other
    /// links already.
    pub(crate) fn link_from(&self, dir: &OwnedFd, from: &OsStr, dest: &WriteDest, name: &OsStr) -> bool {
        if rustix::fs::linkat(dir, from, &dest.fd, name, AtFlags::empty()).is_err() {
            return false;
        }
        let links = at::stat(dest.fd.as_fd(), name).ok().flatten().map(|it| at::entry(&it, 0).nlink);
        // Another build took the same file at the same moment: two names of one image might share it.
        if links != Some(2) {
            return rustix::fs::unlinkat(&dest.fd, name, AtFlags::empty()).is_err();
        }
        self.dir_times.entry_made(&dest.path);
        true
    }

    /// The path of a name from the root, for [`link_upper`](Self::link_upper).
    pub(crate) fn path_of(&self, dest: &WriteDest, name: &OsStr) -> PathBuf {
        dest.path.join(name)
    }

    /// Copies the data of a file into an empty one, in the cheapest way the file systems offer.
    pub(crate) fn transfer(&self, from: &File, to: &File, size: u64) -> io::Result<()> {
        if size > SMALL && !self.no_reflink.load(Ordering::Relaxed) {
            match rustix::fs::ioctl_ficlone(to, from) {
                Ok(()) => return Ok(()),
                Err(_) => self.no_reflink.store(true, Ordering::Relaxed),
            }
        }
        copy_data(from, to, size, &self.no_copy_range)
    }

    fn is_opaque(&self, path: &Path) -> bool {
        self.opaque.lock().unwrap_or_else(PoisonError::into_inner).contains(path)
    }

    /// The lower directory of this name, whether or not the upper one hides it.
    fn lower_dir(&self, dest: &WriteDest, name: &OsStr) -> io::Result<Option<view::ViewFolder>> {
        let Some(lower) = &dest.lower else { return Ok(None) };
        match self.lower.child(lower, name)? {
            Some(entry) if entry.kind == EntryKind::Dir => self.lower.enter(lower, name).map(Some),
            _ => Ok(None),
        }
    }
}

/// Sharing blocks is not tried for files up to this size: copying them costs less.
const SMALL: u64 = 64 * 1024;

impl LocateWalk for TreeWriter {
    type Folder = WriteFolder;

    fn root(&self) -> WriteFolder {
        WriteFolder { path: PathBuf::new(), upper: true, lower: Some(self.lower.root()) }
    }

    fn root_entry(&self) -> io::Result<ViewEntry> {
        Ok(at::entry(&rustix::fs::fstat(&self.upper)?, UPPER))
    }

    fn child(&self, folder: &WriteFolder, name: &OsStr) -> io::Result<Option<ViewEntry>> {
        if folder.upper
            && let Some(stat) = at::stat_beneath(self.upper.as_fd(), &folder.path.join(name))?
        {
            let entry = at::entry(&stat, UPPER);
            return Ok((!is_whiteout(&entry)).then_some(entry));
        }
        match &folder.lower {
            Some(lower) => self.lower.child(lower, name),
            None => Ok(None),
        }
    }

    fn enter(&self, folder: &WriteFolder, name: &OsStr) -> io::Result<WriteFolder> {
        let path = folder.path.join(name);
        let upper = folder.upper && at::stat_beneath(self.upper.as_fd(), &path)?.is_some();
        let lower = match &folder.lower {
            Some(lower) if !(upper && self.is_opaque(&path)) => match self.lower.child(lower, name)? {
                Some(entry) if entry.kind == EntryKind::Dir => Some(self.lower.enter(lower, name)?),
                _ => None,
            },
            _ => None,
        };
        Ok(WriteFolder { path, upper, lower })
    }

    fn link_text(&self, folder: &WriteFolder, name: &OsStr, entry: &ViewEntry) -> io::Result<OsString> {
        match &folder.lower {
            _ if entry.layer == UPPER => at::read_link(at::dir(self.upper.as_fd(), &folder.path)?.as_fd(), name),
            Some(lower) => self.lower.link_text(lower, name, entry),
            None => Err(Errno::NOENT.into()),
        }
    }
}

fn is_whiteout(entry: &ViewEntry) -> bool {
    entry.kind == EntryKind::CharDev && entry.rdev == (0, 0)
}

fn new_dir(dest: &WriteDest, name: &OsStr) -> io::Result<OwnedFd> {
    rustix::fs::mkdirat(&dest.fd, name, Mode::from_raw_mode(0o700))?;
    at::dir(dest.fd.as_fd(), Path::new(name))
}

/// Removes a name with everything in it. Not by recursion: the tree may be of any depth.
fn remove_all(dir: &OwnedFd, name: &OsStr) -> io::Result<()> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => (),
        other => return Ok(other?),
    }
    let mut todo = vec![(PathBuf::from(name), false)];
    while let Some((path, emptied)) = todo.pop() {
        let (parent, last) = (path.parent().unwrap_or(Path::new("")), path.file_name().unwrap_or_default());
        if emptied {
            rustix::fs::unlinkat(at::dir(dir.as_fd(), parent)?, last, AtFlags::REMOVEDIR)?;
            continue;
        }
        let fd = at::dir(dir.as_fd(), &path)?;
        todo.push((path.clone(), true));
        for name in at::names(fd.as_fd())? {
            match rustix::fs::unlinkat(&fd, &name, AtFlags::empty()) {
                Err(Errno::ISDIR) => todo.push((path.join(name), false)),
                other => other?,
            }
        }
    }
    Ok(())
}

/// Changes an owner. A missing permission is an error of its own, because the user can do something about it.
fn own(shown: &str, owner: (u32, u32), change: impl Fn(u32, u32) -> rustix::io::Result<()>) -> Result<(), FileError> {
    match change(owner.0, owner.1) {
        Err(Errno::INVAL | Errno::PERM) => {
            Err(FileError::OwnerForbidden { path: shown.to_owned(), uid: owner.0, gid: owner.1 })
        }
        other => other.map_err(|cause| write_error(shown, cause.into())),
    }
}

fn set_xattrs(file: impl AsFd, xattrs: &[(OsString, Vec<u8>)]) {
    for (name, value) in xattrs {
        // Not every file system takes every attribute; the image is complete without it.
        rustix::fs::fsetxattr(file.as_fd(), name.as_os_str(), value, XattrFlags::empty()).ok();
    }
}

fn timestamps((seconds, nanoseconds): (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}
