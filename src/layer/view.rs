//! A merged, read-only look at a tree of stacked layer directories, without mounting anything and without privilege.
//!
//! The directories are in the form of overlayfs upper directories: a character device 0/0 hides what is below it, an
//! opaque directory hides the content of the same directory below. Links are interpreted here, inside the tree;
//! the kernel is never asked to follow one, so nothing outside the directories can be reached.
//! Nothing is written here (`solve::op`), and no tar is known (`layer::pack`, `layer::unpack`).

pub(crate) mod at;
pub(crate) mod locate;
pub(crate) mod owners;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
};

pub(crate) use locate::{LocateWalk, Location};

use rustix::io::Errno;

/// The type of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum EntryKind {
    File,
    Dir,
    Symlink,
    Fifo,
    Socket,
    CharDev,
    BlockDev,
}

/// The metadata of one name in a tree, as `lstat` gives it, and the layer that it is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ViewEntry {
    pub(crate) kind: EntryKind,
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

/// A read-only view of stacked layer directories as one tree, without mounting them; or of one plain directory.
#[derive(Debug)]
pub(crate) struct LayerView {
    /// Bottom first.
    layers: Vec<OwnedFd>,
    /// The layers are in overlayfs form, against directories as they are.
    overlay: bool,
}

/// A directory of a [`LayerView`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ViewFolder {
    /// From the root, without links and without a leading slash; empty for the root.
    path: PathBuf,
    /// The layers whose directories make up this one, topmost first.
    layers: Arc<[usize]>,
}

impl ViewFolder {
    /// The path from the root, without a leading slash.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl LayerView {
    /// The merged tree of layer directories, bottom first; without any it is the empty tree.
    pub(crate) fn open(dirs: &[PathBuf]) -> io::Result<Self> {
        let layers = dirs.iter().map(|dir| at::host_dir(dir)).collect::<io::Result<_>>()?;
        Ok(Self { layers, overlay: true })
    }

    /// Opens a directory of the host as it is: devices 0/0 and opaque marks mean nothing.
    pub(crate) fn plain(dir: &Path) -> io::Result<Self> {
        Ok(Self { layers: vec![at::host_dir(dir)?], overlay: false })
    }

    /// Whether it is made of layers in overlayfs form, which never change.
    pub(crate) fn is_layers(&self) -> bool {
        self.overlay
    }

    /// Device and inode of each layer directory, bottom first.
    pub(crate) fn layer_ids(&self) -> io::Result<Vec<(u64, u64)>> {
        self.layers.iter().map(|dir| Ok(at::entry(&rustix::fs::fstat(dir)?, 0).dev_ino)).collect()
    }

    /// The entry at a path, if there is one. The path is taken from the root, absolute or not; `..` stops at the root.
    pub(crate) fn lookup(&self, path: impl AsRef<OsStr>, follow: Follow) -> io::Result<Option<ViewEntry>> {
        Ok(self.locate(path, follow)?.entry)
    }

    /// Follows a path through the tree: the directory it leads to, and the name in it.
    pub(crate) fn locate(&self, path: impl AsRef<OsStr>, follow: Follow) -> io::Result<Location<ViewFolder>> {
        locate::locate(self, path.as_ref(), follow)
    }

    /// Lists a directory by its path, the names sorted by their bytes. Links are followed.
    pub(crate) fn read_dir(&self, path: impl AsRef<OsStr>) -> io::Result<Vec<(OsString, ViewEntry)>> {
        let place = self.locate(path, Follow::Last)?;
        match place.folder(self)? {
            Some(folder) => self.list(&folder),
            None if place.entry.is_some() => Err(Errno::NOTDIR.into()),
            None => Err(Errno::NOENT.into()),
        }
    }

    /// Opens a regular file for reading; links are followed. Anything but a regular file is an error (and never blocks).
    pub(crate) fn open_file(&self, path: impl AsRef<OsStr>) -> io::Result<File> {
        let place = self.locate(path, Follow::Last)?;
        match (&place.entry, &place.parent, place.name()) {
            (Some(entry), Some(parent), Some(name)) => self.file(parent, name, entry),
            (Some(_), ..) => Err(Errno::ISDIR.into()),
            (None, ..) => Err(Errno::NOENT.into()),
        }
    }

    /// The content of a regular file of at most `limit` bytes; a longer one is an error.
    pub(crate) fn read(&self, path: impl AsRef<OsStr>, limit: u64) -> io::Result<Vec<u8>> {
        read_limited(self.open_file(path)?, limit)
    }

    /// Reads the text of a symbolic link.
    pub(crate) fn read_link(&self, path: impl AsRef<OsStr>) -> io::Result<OsString> {
        let place = self.locate(path, Follow::No)?;
        match (&place.entry, &place.parent, place.name()) {
            (Some(entry), Some(parent), Some(name)) if entry.kind == EntryKind::Symlink => {
                self.link_text(parent, name, entry)
            }
            (Some(_), ..) => Err(Errno::INVAL.into()),
            (None, ..) => Err(Errno::NOENT.into()),
        }
    }

    /// The extended attributes that belong to the tree (not overlayfs's own), sorted by name. The last link is not followed.
    pub(crate) fn xattrs(&self, path: impl AsRef<OsStr>) -> io::Result<Vec<(OsString, Vec<u8>)>> {
        let place = self.locate(path, Follow::No)?;
        match (&place.entry, &place.parent, place.name()) {
            (Some(entry), Some(parent), Some(name)) => self.xattrs_of(parent, name, entry),
            (Some(_), ..) => self.layers.last().map_or_else(|| Ok(Vec::new()), at::xattrs),
            (None, ..) => Err(Errno::NOENT.into()),
        }
    }

    /// Lists an open directory, the names sorted by their bytes.
    pub(crate) fn list(&self, folder: &ViewFolder) -> io::Result<Vec<(OsString, ViewEntry)>> {
        if let [layer] = *folder.layers {
            let mut found = self.list_layer(folder, layer)?;
            found.retain(|(_, entry)| !self.is_whiteout(entry));
            found.sort_unstable_by(|a, b| a.0.cmp(&b.0));
            return Ok(found);
        }
        let mut merged = BTreeMap::new();
        for &layer in &*folder.layers {
            for (name, entry) in self.list_layer(folder, layer)? {
                merged.entry(name).or_insert(entry);
            }
        }
        merged.retain(|_, entry| !self.is_whiteout(entry));
        Ok(merged.into_iter().collect())
    }

    /// Opens the regular file `name`, which `child` or `list` found.
    pub(crate) fn file(&self, folder: &ViewFolder, name: &OsStr, entry: &ViewEntry) -> io::Result<File> {
        at::file(self.layer(entry.layer)?, &folder.path.join(name))
    }

    /// The extended attributes of `name`, which `child` or `list` found, sorted by name.
    pub(crate) fn xattrs_of(
        &self,
        folder: &ViewFolder,
        name: &OsStr,
        entry: &ViewEntry,
    ) -> io::Result<Vec<(OsString, Vec<u8>)>> {
        match entry.kind {
            EntryKind::Dir => at::xattrs(at::dir(self.layer(entry.layer)?, &folder.path.join(name))?),
            EntryKind::File => at::xattrs(self.file(folder, name, entry)?),
            _ => at::xattrs_of(at::dir(self.layer(entry.layer)?, &folder.path)?.as_fd(), name),
        }
    }

    /// Opens the directory of one layer that is merged into `folder`.
    pub(crate) fn layer_dir(&self, folder: &ViewFolder, layer: usize) -> io::Result<OwnedFd> {
        at::dir(self.layer(layer)?, &folder.path)
    }

    fn layer(&self, layer: usize) -> io::Result<std::os::fd::BorrowedFd<'_>> {
        Ok(self.layers.get(layer).ok_or(Errno::NOENT)?.as_fd())
    }

    fn list_layer(&self, folder: &ViewFolder, layer: usize) -> io::Result<Vec<(OsString, ViewEntry)>> {
        let dir = self.layer_dir(folder, layer)?;
        let names = at::names(dir.as_fd())?;
        let mut found = Vec::with_capacity(names.len());
        for name in names {
            if let Some(stat) = at::stat(dir.as_fd(), &name)? {
                found.push((name, at::entry(&stat, layer)));
            }
        }
        Ok(found)
    }

    fn is_whiteout(&self, entry: &ViewEntry) -> bool {
        self.overlay && entry.kind == EntryKind::CharDev && entry.rdev == (0, 0)
    }
}

impl LocateWalk for LayerView {
    type Folder = ViewFolder;

    fn root(&self) -> ViewFolder {
        ViewFolder { path: PathBuf::new(), layers: (0..self.layers.len()).rev().collect() }
    }

    fn root_entry(&self) -> io::Result<ViewEntry> {
        match self.layers.last() {
            Some(top) => {
                let stat = owners::of(top.as_fd(), rustix::fs::fstat(top)?)?;
                Ok(at::entry(&stat, self.layers.len() - 1))
            }
            None => Ok(ViewEntry::empty_root()),
        }
    }

    fn child(&self, folder: &ViewFolder, name: &OsStr) -> io::Result<Option<ViewEntry>> {
        let path = folder.path.join(name);
        for &layer in &*folder.layers {
            if let Some(stat) = at::stat_beneath(self.layer(layer)?, &path)? {
                let entry = at::entry(&stat, layer);
                return Ok((!self.is_whiteout(&entry)).then_some(entry));
            }
        }
        Ok(None)
    }

    fn enter(&self, folder: &ViewFolder, name: &OsStr) -> io::Result<ViewFolder> {
        let path = folder.path.join(name);
        let mut layers = Vec::new();
        for (i, &layer) in folder.layers.iter().enumerate() {
            let root = self.layer(layer)?;
            match at::stat_beneath(root, &path)? {
                None => continue,
                Some(stat) if at::entry(&stat, layer).kind == EntryKind::Dir => layers.push(layer),
                // A file, or a whiteout, ends what is merged.
                Some(_) => break,
            }
            if i + 1 < folder.layers.len() && self.overlay && at::is_opaque(at::dir(root, &path)?)? {
                break;
            }
        }
        if layers.is_empty() {
            return Err(Errno::NOTDIR.into());
        }
        Ok(ViewFolder { path, layers: layers.into() })
    }

    fn link_text(&self, folder: &ViewFolder, name: &OsStr, entry: &ViewEntry) -> io::Result<OsString> {
        at::read_link(at::dir(self.layer(entry.layer)?, &folder.path)?.as_fd(), name)
    }
}

impl ViewEntry {
    /// The root of a tree without layers.
    pub(crate) const fn empty_root() -> Self {
        Self {
            kind: EntryKind::Dir,
            mode: 0o755,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: (0, 0),
            ctime: (0, 0),
            rdev: (0, 0),
            nlink: 1,
            dev_ino: (0, 0),
            layer: 0,
        }
    }
}

/// Reads a file whole if it has at most `limit` bytes; a longer one is an error.
pub(crate) fn read_limited(file: File, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(Errno::FBIG.into());
    }
    Ok(bytes)
}
