//! The directory that a layer is unpacked into: an overlayfs upper directory above the layers below it.
//!
//! Every path is walked here, name by name, from an open directory, through this layer and those below. Symbolic links are
//! interpreted inside that tree, as they are in a container; the kernel is never asked to follow one. So nothing outside
//! `root` can be reached, whatever the archive says.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ffi::OsStr,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    rc::Rc,
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, XattrFlags},
    io::Errno,
};

use super::{
    error::LayerError,
    view::{EntryKind, Follow, LayerView, ViewEntry, at, owners},
};

use crate::archive::{ArchiveError, TarMember};

type DestResult<T> = std::result::Result<T, LayerError>;

/// The most links that are followed on the way to one entry: the limit of the kernel, see path_resolution(7).
const MAX_LINKS: usize = 40;
/// Longest path, as for system calls.
const MAX_PATH: usize = 4095;
const MAX_NAME: usize = 255;
/// Bytes of paths of directories that are remembered until the end. Directories deep below each other can have paths far
/// longer than the headers that made them. The images of distributions need a hundredth of it.
const MAX_REMEMBERED: usize = 256 << 20;
/// Directories kept open for the next entries.
const KEPT_OPEN: usize = 8;

/// The tree that a layer is unpacked into: an overlayfs upper directory, above the layers below.
///
/// Every path is opened below its root, so that no link of the archive leads out of it.
pub(super) struct UnpackDest {
    root: OwnedFd,
    /// The layers below; `None` if there are none.
    lowers: Option<LayerView>,
    open: HashMap<Vec<u8>, Rc<UnpackFolder>>,
    /// Directories that hide what is below them.
    opaque: BTreeSet<PathBuf>,
    /// Times of directories, set at the end: making entries changes them.
    times: BTreeMap<PathBuf, (i64, u32)>,
    /// Bytes of the paths in `opaque` and `times`.
    remembered: usize,
}

/// An open directory of the tree that is unpacked to.
pub(super) struct UnpackFolder {
    fd: OwnedFd,
    /// From the root, without links.
    path: PathBuf,
    /// Whether the same directory below shows through.
    merged: bool,
}

/// Owner, mode, times and attributes of an entry.
pub(super) struct Metadata<'a> {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: (i64, u32),
    pub(super) xattrs: &'a [(Vec<u8>, Vec<u8>)],
}

impl<'a> Metadata<'a> {
    /// The metadata of a member of an archive.
    pub(super) fn of(member: &'a TarMember) -> Self {
        let TarMember { mode, uid, gid, mtime, xattrs, .. } = member;
        Self { mode: *mode, uid: *uid, gid: *gid, mtime: *mtime, xattrs }
    }

    fn of_entry(entry: &ViewEntry, xattrs: &'a [(Vec<u8>, Vec<u8>)]) -> Self {
        Self { mode: entry.mode, uid: entry.uid, gid: entry.gid, mtime: entry.mtime, xattrs }
    }
}

/// Splits a path of an archive into names from the root; `..` stops at the root.
///
/// # Errors
/// When a name has more than 255 bytes, or the path more than 4095: the kernel would refuse them.
pub(super) fn names(path: &[u8]) -> DestResult<Vec<&[u8]>> {
    let mut names = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => (),
            b".." => drop(names.pop()),
            _ if name.len() > MAX_NAME => return Err(LayerError::entry("a name is longer than 255 bytes", path)),
            _ => names.push(name),
        }
    }
    if names.iter().map(|name| name.len() + 1).sum::<usize>() > MAX_PATH {
        return Err(LayerError::entry("the path is longer than 4095 bytes", path));
    }
    Ok(names)
}

impl UnpackDest {
    /// Opens `root`, an empty directory of the host, as the place of a layer above `lowers` (bottom first).
    pub(super) fn open(root: &Path, lowers: &[PathBuf]) -> DestResult<Self> {
        let shown = root.as_os_str().as_bytes();
        let lowers = match lowers {
            [] => None,
            lowers => Some(LayerView::open(lowers).map_err(LayerError::io("open the layers below", shown))?),
        };
        let root = at::host_dir(root).map_err(LayerError::io("open", shown))?;
        let (open, opaque, times) = (HashMap::new(), BTreeSet::new(), BTreeMap::new());
        Ok(Self { root, lowers, open, opaque, times, remembered: 0 })
    }

    /// A descriptor of the directory that is unpacked to.
    pub(super) fn root(&self) -> DestResult<OwnedFd> {
        self.root.try_clone().map_err(LayerError::io("open", b"/"))
    }

    /// Opens the directory with this path in the archive; a missing one is made, with the metadata that it has below.
    ///
    /// `mtime` is the time of directories that are nowhere below either.
    pub(super) fn folder(&mut self, names: &[&[u8]], mtime: (i64, u32)) -> DestResult<Rc<UnpackFolder>> {
        let key = names.join(&b'/');
        if let Some(folder) = self.open.get(&key) {
            return Ok(Rc::clone(folder));
        }
        let folder = Rc::new(self.walk(names, mtime)?);
        if self.open.len() >= KEPT_OPEN {
            self.open.clear();
        }
        self.open.insert(key, Rc::clone(&folder));
        Ok(folder)
    }

    /// To be called when a directory or link was removed: it may have been on the way to an open directory.
    fn forget_open(&mut self) {
        self.open.clear();
    }

    fn walk(&mut self, names: &[&[u8]], mtime: (i64, u32)) -> DestResult<UnpackFolder> {
        let shown = names.join(&b'/');
        let mut here = self.at(PathBuf::new(), &shown)?;
        let mut todo: Vec<Vec<u8>> = names.iter().rev().map(|name| name.to_vec()).collect();
        let mut links = 0;
        while let Some(name) = todo.pop() {
            match name.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    let parent = here.path.parent().map(Path::to_owned).unwrap_or_default();
                    here = self.at(parent, &shown)?;
                    continue;
                }
                name if name.len() > MAX_NAME || here.path.as_os_str().len() + name.len() > MAX_PATH => {
                    return Err(LayerError::entry("the path is longer than 4095 bytes", &shown));
                }
                _ => (),
            }
            let name = OsStr::from_bytes(&name);
            let path = here.path.join(name);
            let target = match self.what(&here, name, &shown)? {
                DestEntryKind::Ours(EntryKind::Dir) => None,
                DestEntryKind::Ours(EntryKind::Symlink) => {
                    Some(at::read_link(here.fd.as_fd(), name).map_err(LayerError::io("read the link", &shown))?)
                }
                DestEntryKind::Below(entry) if entry.kind == EntryKind::Symlink => {
                    let lowers = self.lowers.as_ref().expect("the entry was found in it");
                    Some(lowers.read_link(&path).map_err(LayerError::io("read the link", &shown))?)
                }
                DestEntryKind::Below(entry) if entry.kind == EntryKind::Dir => {
                    self.copy_folder(&here, name, &entry)?;
                    None
                }
                DestEntryKind::Whiteout => {
                    unlink(&here, name, &shown)?;
                    self.make_folder(&here, name, &default_folder(mtime))?;
                    self.hide_below(&path)?;
                    None
                }
                DestEntryKind::Nothing => {
                    self.make_folder(&here, name, &default_folder(mtime))?;
                    None
                }
                DestEntryKind::Ours(_) | DestEntryKind::Below(_) => {
                    return Err(LayerError::entry("a parent directory is no directory", &shown));
                }
            };
            match target {
                None => here = self.at(path, &shown)?,
                Some(target) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(LayerError::entry("too many links on the way", &shown));
                    }
                    let target = target.as_bytes();
                    if target.starts_with(b"/") {
                        here = self.at(PathBuf::new(), &shown)?;
                    }
                    todo.extend(target.split(|byte| *byte == b'/').rev().map(<[u8]>::to_vec));
                    if todo.len() > MAX_PATH {
                        return Err(LayerError::entry("the path is longer than 4095 bytes", &shown));
                    }
                }
            }
        }
        Ok(here)
    }

    /// The directory at a path without links.
    fn at(&self, path: PathBuf, shown: &[u8]) -> DestResult<UnpackFolder> {
        let fd = at::dir(self.root.as_fd(), &path).map_err(LayerError::io("open the directory of", shown))?;
        let merged = self.lowers.is_some()
            && (self.opaque.is_empty() || !path.ancestors().any(|parent| self.opaque.contains(parent)));
        Ok(UnpackFolder { fd, path, merged })
    }

    fn what(&self, folder: &UnpackFolder, name: &OsStr, shown: &[u8]) -> DestResult<DestEntryKind> {
        if let Some(stat) = at::stat(folder.fd.as_fd(), name).map_err(LayerError::io("look at", shown))? {
            let entry = at::entry(&stat, 0);
            let whiteout = entry.kind == EntryKind::CharDev && entry.rdev == (0, 0);
            return Ok(if whiteout { DestEntryKind::Whiteout } else { DestEntryKind::Ours(entry.kind) });
        }
        match &self.lowers {
            Some(lowers) if folder.merged => {
                let found = lowers.lookup(folder.path.join(name), Follow::No);
                let found = found.map_err(LayerError::io("look below for", shown))?;
                Ok(found.map_or(DestEntryKind::Nothing, DestEntryKind::Below))
            }
            _ => Ok(DestEntryKind::Nothing),
        }
    }

    /// A directory that exists below, without its content.
    fn copy_folder(&mut self, folder: &UnpackFolder, name: &OsStr, entry: &ViewEntry) -> DestResult<()> {
        let path = folder.path.join(name);
        let xattrs = self.xattrs_below(&path)?;
        self.make_folder(folder, name, &Metadata::of_entry(entry, &xattrs))
    }

    fn xattrs_below(&self, path: &Path) -> DestResult<Vec<(Vec<u8>, Vec<u8>)>> {
        let Some(lowers) = &self.lowers else { return Ok(Vec::new()) };
        let found =
            lowers.xattrs(path).map_err(LayerError::io("read the attributes of", path.as_os_str().as_bytes()))?;
        Ok(found.into_iter().map(|(name, value)| (name.as_bytes().to_owned(), value)).collect())
    }

    fn make_folder(&mut self, folder: &UnpackFolder, name: &OsStr, metadata: &Metadata<'_>) -> DestResult<()> {
        let path = folder.path.join(name);
        let shown = path.as_os_str().as_bytes();
        let made = rustix::fs::mkdirat(&folder.fd, name, Mode::RWXU);
        made.map_err(LayerError::io("make the directory", shown))?;
        let dir = at::dir(folder.fd.as_fd(), Path::new(name)).map_err(LayerError::io("open", shown))?;
        self.set_folder(dir.as_fd(), path, metadata)
    }

    /// Makes the directory of an archive entry, or sets the metadata of the one that is there.
    pub(super) fn put_folder(
        &mut self,
        folder: &UnpackFolder,
        name: &OsStr,
        metadata: &Metadata<'_>,
    ) -> DestResult<()> {
        let path = folder.path.join(name);
        let shown = path.as_os_str().as_bytes().to_owned();
        match self.what(folder, name, &shown)? {
            DestEntryKind::Ours(EntryKind::Dir) => {
                let dir = at::dir(folder.fd.as_fd(), Path::new(name)).map_err(LayerError::io("open", &shown))?;
                self.set_folder(dir.as_fd(), path, metadata)
            }
            DestEntryKind::Ours(_) | DestEntryKind::Whiteout => {
                unlink(folder, name, &shown)?;
                self.forget_open();
                self.make_folder(folder, name, metadata)?;
                // What it replaces has hidden what is below.
                self.hide_below(&path)
            }
            DestEntryKind::Below(_) | DestEntryKind::Nothing => self.make_folder(folder, name, metadata),
        }
    }

    /// Sets the metadata of the root itself.
    pub(super) fn put_root(&mut self, metadata: &Metadata<'_>) -> DestResult<()> {
        let root = self.root()?;
        self.set_folder(root.as_fd(), PathBuf::new(), metadata)
    }

    fn set_folder(&mut self, dir: BorrowedFd<'_>, path: PathBuf, metadata: &Metadata<'_>) -> DestResult<()> {
        set_metadata(dir, metadata, path.as_os_str().as_bytes())?;
        self.remember(&path)?;
        self.times.insert(path, metadata.mtime);
        Ok(())
    }

    /// Counts a path that is kept until the end.
    fn remember(&mut self, path: &Path) -> DestResult<()> {
        self.remembered = self.remembered.saturating_add(path.as_os_str().len());
        if self.remembered > MAX_REMEMBERED {
            let (what, limit) = ("bytes of paths of directories", MAX_REMEMBERED as u64);
            return Err(ArchiveError::Limit { what, limit }.into());
        }
        Ok(())
    }

    /// Removes what is at `name`, a directory with all that is in it, to make room for an entry that is not a
    /// directory.
    pub(super) fn clear(&mut self, folder: &UnpackFolder, name: &OsStr) -> DestResult<()> {
        let path = folder.path.join(name);
        let shown = path.as_os_str().as_bytes();
        match at::stat(folder.fd.as_fd(), name).map_err(LayerError::io("look at", shown))? {
            None => Ok(()),
            Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                self.forget_open();
                self.remove_folder(path)
            }
            Some(stat) => {
                if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
                    self.forget_open();
                }
                unlink(folder, name, shown)
            }
        }
    }

    /// Removes a directory with everything in it.
    fn remove_folder(&mut self, path: PathBuf) -> DestResult<()> {
        self.times.retain(|other, _| !other.starts_with(&path));
        self.opaque.retain(|other| !other.starts_with(&path));
        let fail = |path: &Path| LayerError::io::<std::io::Error>("remove", path.as_os_str().as_bytes());
        let mut found = vec![path];
        let mut next = 0;
        while next < found.len() {
            let path = found[next].clone();
            next += 1;
            let dir = at::dir(self.root.as_fd(), &path).map_err(fail(&path))?;
            for name in at::names(dir.as_fd()).map_err(fail(&path))? {
                match rustix::fs::unlinkat(&dir, &name, AtFlags::empty()) {
                    Ok(()) => (),
                    Err(Errno::ISDIR | Errno::PERM) => found.push(path.join(name)),
                    Err(error) => return Err(fail(&path.join(name))(error.into())),
                }
            }
        }
        for path in found.iter().rev() {
            let parent = path.parent().unwrap_or(Path::new(""));
            let dir = at::dir(self.root.as_fd(), parent).map_err(fail(path))?;
            let name = path.file_name().expect("the root is never removed");
            rustix::fs::unlinkat(&dir, name, AtFlags::REMOVEDIR).map_err(|error| fail(path)(error.into()))?;
        }
        Ok(())
    }

    /// `.wh.NAME`: hides the entry of that name in the layers below. An entry of this layer stays.
    pub(super) fn whiteout(&mut self, folder: &UnpackFolder, name: &OsStr) -> DestResult<()> {
        let path = folder.path.join(name);
        let shown = path.as_os_str().as_bytes();
        match at::stat(folder.fd.as_fd(), name).map_err(LayerError::io("look at", shown))? {
            None => rustix::fs::mknodat(&folder.fd, name, FileType::CharacterDevice, Mode::empty(), 0)
                .map_err(LayerError::io("make the whiteout", shown)),
            Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => self.hide_below(&path),
            Some(_) => Ok(()),
        }
    }

    /// Hides all that the layers below have in a directory (`.wh..wh..opq`, OCI image spec, layer.md, opaque whiteout).
    pub(super) fn opaque(&mut self, folder: &UnpackFolder) -> DestResult<()> {
        self.hide_below(&folder.path.clone())
    }

    fn hide_below(&mut self, path: &Path) -> DestResult<()> {
        let shown = path.as_os_str().as_bytes();
        let dir = at::dir(self.root.as_fd(), path).map_err(LayerError::io("open", shown))?;
        let set = rustix::fs::fsetxattr(&dir, at::opaque_xattr(), b"y", XattrFlags::empty());
        set.map_err(LayerError::io("make opaque", shown))?;
        self.remember(path)?;
        self.opaque.insert(path.to_owned());
        self.forget_open();
        Ok(())
    }

    /// Makes `name` in `folder` a hard link to `target`, replacing what is there (OCI image spec, layer.md,
    /// "Hardlinks").
    ///
    /// `target` is a path from the root, name by name; links among its parents are followed inside the tree, a link at
    /// its end is linked itself. A target that only the layers below have is first copied into this layer, as overlayfs
    /// does. A link to itself is left as it is. `shown` is the path in the archive, for errors.
    ///
    /// # Errors
    /// When the target is missing, hidden by a whiteout, a directory, or a device or pipe of a layer below.
    pub(super) fn hard_link(
        &mut self,
        folder: &UnpackFolder,
        name: &OsStr,
        target: &[&[u8]],
        shown: &[u8],
    ) -> DestResult<()> {
        let Some((last, parents)) = target.split_last() else {
            return Err(LayerError::entry("a hard link to a directory", shown));
        };
        let from = self.folder(parents, (0, 0))?;
        let last = OsStr::from_bytes(last);
        match self.what(&from, last, shown)? {
            DestEntryKind::Ours(EntryKind::Dir) => return Err(LayerError::entry("a hard link to a directory", shown)),
            DestEntryKind::Ours(_) => (),
            DestEntryKind::Below(entry) => self.copy_up(&from, last, &entry, shown)?,
            DestEntryKind::Whiteout | DestEntryKind::Nothing => {
                return Err(LayerError::entry("a hard link to what does not exist", shown));
            }
        }
        if from.path == folder.path && last == name {
            return Ok(());
        }
        self.clear(folder, name)?;
        rustix::fs::linkat(&from.fd, last, &folder.fd, name, AtFlags::empty())
            .map_err(LayerError::io("make the hard link", shown))
    }

    /// A file or link from below, with all that belongs to it.
    fn copy_up(&mut self, folder: &UnpackFolder, name: &OsStr, entry: &ViewEntry, shown: &[u8]) -> DestResult<()> {
        let path = folder.path.join(name);
        let lowers = self.lowers.as_ref().expect("the entry was found in it");
        let xattrs = self.xattrs_below(&path)?;
        let metadata = Metadata::of_entry(entry, &xattrs);
        match entry.kind {
            EntryKind::File => {
                let mut source = lowers.open_file(&path).map_err(LayerError::io("open", shown))?;
                let mut file = new_file(folder, name, shown)?;
                std::io::copy(&mut source, &mut file).map_err(LayerError::io("copy", shown))?;
                set_metadata(file.as_fd(), &metadata, shown)?;
                set_times(file.as_fd(), metadata.mtime, shown)
            }
            EntryKind::Symlink => {
                let target = lowers.read_link(&path).map_err(LayerError::io("read the link", shown))?;
                symlink(folder, name, target.as_bytes(), &metadata, shown)
            }
            _ => Err(LayerError::entry("a hard link to what is no file", shown)),
        }
    }

    /// Sets the modification times of the directories, which every entry made in them has changed. Call it last.
    pub(super) fn finish(self) -> DestResult<()> {
        for (path, mtime) in &self.times {
            let shown = path.as_os_str().as_bytes();
            let dir = at::dir(self.root.as_fd(), path).map_err(LayerError::io("open", shown))?;
            set_times(dir.as_fd(), *mtime, shown)?;
        }
        Ok(())
    }
}

/// What a name of the merged tree is: the entry of this layer, else that of a layer below.
enum DestEntryKind {
    Ours(EntryKind),
    /// Hides what is below.
    Whiteout,
    Below(ViewEntry),
    Nothing,
}

fn default_folder(mtime: (i64, u32)) -> Metadata<'static> {
    Metadata { mode: 0o755, uid: 0, gid: 0, mtime, xattrs: &[] }
}

fn unlink(folder: &UnpackFolder, name: &OsStr, shown: &[u8]) -> DestResult<()> {
    rustix::fs::unlinkat(&folder.fd, name, AtFlags::empty()).map_err(LayerError::io("remove", shown))
}

/// Creates the empty file `name` in `folder`, where nothing of that name may be.
pub(super) fn new_file(folder: &UnpackFolder, name: &OsStr, shown: &[u8]) -> DestResult<std::fs::File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&folder.fd, name, flags, Mode::RUSR | Mode::WUSR);
    Ok(file.map_err(LayerError::io("make", shown))?.into())
}

/// Sets owner, mode and extended attributes of an open file or directory; not its times (see [`set_times`]).
///
/// The order matters: chown(2) clears set-user-ID and capabilities. Attributes that an archive may not set are left out
/// ([`is_kept`]), as are all of them where the file system has none, and `security.capability` where we may not set it.
/// `shown` is the path in the archive, for errors.
///
/// # Errors
/// Those of the system; also when the user or group id is 2^32-1, which to chown(2) means "leave it".
pub(super) fn set_metadata(fd: BorrowedFd<'_>, metadata: &Metadata<'_>, shown: &[u8]) -> DestResult<()> {
    let (uid, gid) = ids(metadata, shown)?;
    owners::give(fd, uid, gid).map_err(|error| owner(error, metadata, shown))?;
    rustix::fs::fchmod(fd, Mode::from_raw_mode(metadata.mode)).map_err(LayerError::io("set the mode of", shown))?;
    for (name, value) in metadata.xattrs.iter().filter(|(name, _)| is_kept(name)) {
        match rustix::fs::fsetxattr(fd, OsStr::from_bytes(name), value, XattrFlags::empty()) {
            // Not every file system has attributes, and setting capabilities needs a privilege.
            Ok(()) | Err(Errno::NOTSUP) => (),
            Err(Errno::PERM) if name == b"security.capability" => (),
            Err(error) => return Err(LayerError::io("set an attribute of", shown)(error)),
        }
    }
    Ok(())
}

/// Whether an archive may set this extended attribute: `user.*` and `security.capability`.
///
/// `user.overlay.*` is left out, because overlayfs would take it for its own and an archive could change what the
/// layers below show; so is what `bake` would take for its own.
pub(super) fn is_kept(name: &[u8]) -> bool {
    name == b"security.capability"
        || name.starts_with(b"user.")
            && name.len() > 5
            && name.len() <= 255
            && !name.starts_with(b"user.overlay.")
            && !name.starts_with(owners::OWN_PREFIX)
}

/// Sets access and modification time of an open file or directory to `mtime` (seconds since 1970, nanoseconds). `shown`
/// is the path in the archive, for errors.
pub(super) fn set_times(fd: BorrowedFd<'_>, mtime: (i64, u32), shown: &[u8]) -> DestResult<()> {
    rustix::fs::futimens(fd, &timestamps(mtime)).map_err(LayerError::io("set the time of", shown))
}

fn timestamps((seconds, nanoseconds): (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}

fn ids(metadata: &Metadata<'_>, shown: &[u8]) -> DestResult<(u32, u32)> {
    // chown(2) takes the largest id to mean "do not change".
    if metadata.uid == u32::MAX || metadata.gid == u32::MAX {
        return Err(owner(Errno::INVAL, metadata, shown));
    }
    Ok((metadata.uid, metadata.gid))
}

fn owner(error: Errno, metadata: &Metadata<'_>, shown: &[u8]) -> LayerError {
    LayerError::Owner { entry: shown.to_owned(), uid: metadata.uid, gid: metadata.gid, source: error.into() }
}

/// Creates the symbolic link `name` in `folder`, where nothing of that name may be, with owner, time and attributes.
pub(super) fn symlink(
    folder: &UnpackFolder,
    name: &OsStr,
    target: &[u8],
    metadata: &Metadata<'_>,
    shown: &[u8],
) -> DestResult<()> {
    let made = rustix::fs::symlinkat(OsStr::from_bytes(target), &folder.fd, name);
    made.map_err(LayerError::io("make the link", shown))?;
    set_closed(folder, name, metadata, shown)
}

/// Makes a device or a named pipe under a name that is free. A device that this process may not make, as in a user
/// namespace, is left out.
pub(super) fn node(
    folder: &UnpackFolder,
    name: &OsStr,
    kind: FileType,
    device: (u32, u32),
    metadata: &Metadata<'_>,
    shown: &[u8],
) -> DestResult<()> {
    let mode = Mode::from_raw_mode(metadata.mode & 0o777);
    match rustix::fs::mknodat(&folder.fd, name, kind, mode, rustix::fs::makedev(device.0, device.1)) {
        Err(Errno::PERM) if kind != FileType::Fifo => return Ok(()),
        other => other.map_err(LayerError::io("make", shown))?,
    }
    set_closed(folder, name, metadata, shown)?;
    // The change of owner has cleared setuid, and the umask has cut the mode. The name is not a link: it was just made.
    let mode = Mode::from_raw_mode(metadata.mode);
    rustix::fs::chmodat(&folder.fd, name, mode, AtFlags::empty()).map_err(LayerError::io("set the mode of", shown))
}

/// Sets the owner of an entry that must not be opened, such as a link or a device.
fn set_closed(folder: &UnpackFolder, name: &OsStr, metadata: &Metadata<'_>, shown: &[u8]) -> DestResult<()> {
    let (uid, gid) = ids(metadata, shown)?;
    owners::give_at(folder.fd.as_fd(), name, uid, gid).map_err(|error| owner(error, metadata, shown))?;
    rustix::fs::utimensat(&folder.fd, name, &timestamps(metadata.mtime), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(LayerError::io("set the time of", shown))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_paths_that_are_remembered_are_bounded_together() {
        let dir = tempfile::tempdir().unwrap();
        let mut dest = UnpackDest::open(dir.path(), &[]).unwrap();
        let path = PathBuf::from("d".repeat(MAX_PATH));
        for _ in 0..MAX_REMEMBERED / MAX_PATH {
            dest.remember(&path).unwrap();
        }
        assert!(matches!(dest.remember(&path), Err(LayerError::Archive(ArchiveError::Limit { .. }))));
    }
}
