//! Copies what a selection found into a directory of the new layer: whole trees in parallel.

use std::{
    collections::HashMap,
    ffi::OsStr,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use rayon::prelude::*;

use super::{
    error::{FileError, write_error},
    tree_writer::{MadeEntry, TreeWriter, WriteDest},
};
use crate::{
    layer::view::{EntryKind, LocateWalk, ViewEntry, at},
    oci::ModeChange,
    solve::content::{
        error::ContentError,
        local::unchanged,
        select::{CopyWarning, Filter, FilterState},
        source::{ContentFolder, ContentSource, ContentTree},
        walk::{MAX_DEPTH, PARALLEL_DEPTH, descend},
    },
};

/// Copies what one source pattern matched into a layer; hard links are kept within one match.
pub(crate) struct Copier<'a> {
    writer: &'a TreeWriter,
    source: &'a ContentSource,
    filter: &'a Filter,
    looks: &'a Looks<'a>,
    /// Files with several names: where the first one was written.
    written: Mutex<HashMap<(usize, u64, u64), First>>,
    /// For each layer of the source: its files may be linked instead of copied.
    linkable: Vec<bool>,
    devices: Mutex<CopiedDevices>,
}

/// Device nodes of a context that were copied.
#[derive(Default)]
struct CopiedDevices {
    count: usize,
    /// By the order of the paths.
    first: Option<PathBuf>,
}

type First = Arc<Mutex<Option<PathBuf>>>;

/// The owner and mode that copies get, by `--chown`, `--chmod` and the kind of source.
pub(crate) struct Looks<'a> {
    pub(crate) owner: Option<(u32, u32)>,
    pub(crate) mode: Option<&'a ModeChange>,
    pub(crate) reset_owner: bool,
    pub(crate) default_file_mode: Option<u32>,
}

impl Looks<'_> {
    /// The mode and owner of the copy of an entry.
    ///
    /// # Errors
    /// [`FileError::BadMode`], when the symbolic mode is malformed.
    pub(crate) fn of(&self, entry: &ViewEntry) -> Result<MadeEntry, FileError> {
        let is_dir = entry.kind == EntryKind::Dir;
        let mode = match (self.mode, self.default_file_mode) {
            (Some(mode), _) => {
                mode.apply(entry.mode, is_dir).ok_or_else(|| FileError::BadMode { mode: mode.to_string() })?
            }
            (None, Some(mode)) if entry.kind == EntryKind::File => mode & 0o7777,
            _ => entry.mode,
        };
        let source = if self.reset_owner { (0, 0) } else { (entry.uid, entry.gid) };
        Ok(MadeEntry { mode, owner: self.owner.unwrap_or(source) })
    }

    /// The mode and owner of missing directories on the way to the destination.
    pub(crate) fn of_parents(&self) -> MadeEntry {
        let mode = match self.mode {
            Some(ModeChange::Octal(mode)) => mode & 0o777,
            _ => 0o755,
        };
        MadeEntry { mode, owner: self.owner.unwrap_or((0, 0)) }
    }
}

/// A directory of the destination, made when something is put into it.
struct CopyTarget<'t> {
    parent: Option<&'t Self>,
    name: &'t OsStr,
    /// The directory that it is a copy of: where it is, and what it is like.
    from: Option<(&'t ContentFolder, &'t ViewEntry)>,
    dest: Mutex<Option<Arc<WriteDest>>>,
}

impl<'a> Copier<'a> {
    /// Starts a copy from `source` to the layer of `writer`; files of the source's snapshots are linked where that is
    /// safe.
    ///
    /// # Errors
    /// When a layer of the source cannot be opened.
    pub(crate) fn new(
        writer: &'a TreeWriter,
        source: &'a ContentSource,
        filter: &'a Filter,
        looks: &'a Looks<'a>,
    ) -> io::Result<Self> {
        // One inode must not show twice in one image: not if the source is below, nor if what is below is not yet known
        // (`COPY --link`).
        let linkable = match &source.tree {
            ContentTree::View(view) if view.is_layers() && !writer.is_alone() => {
                view.layer_ids()?.into_iter().map(|id| !writer.is_below(id)).collect()
            }
            _ => Vec::new(),
        };
        Ok(Self { writer, source, filter, looks, written: Mutex::default(), linkable, devices: Mutex::default() })
    }

    /// Starts a copy of a snapshot in which files are linked instead of copied, because no image holds both.
    pub(crate) fn sharing(
        writer: &'a TreeWriter,
        source: &'a ContentSource,
        filter: &'a Filter,
        looks: &'a Looks<'a>,
    ) -> Self {
        let (written, devices) = (Mutex::default(), Mutex::default());
        Self { writer, source, filter, looks, written, linkable: vec![true], devices }
    }

    /// Copies the content of a directory, in parallel, without what the filter leaves out.
    pub(crate) fn content(&self, folder: &ContentFolder, dest: WriteDest) -> Result<(), FileError> {
        let top = CopyTarget { parent: None, name: OsStr::new(""), from: None, dest: Mutex::new(Some(Arc::new(dest))) };
        self.inside(folder, &top, "", &FilterState::default(), 0)
    }

    fn inside(
        &self,
        folder: &ContentFolder,
        target: &CopyTarget<'_>,
        path: &str,
        state: &FilterState,
        depth: usize,
    ) -> Result<(), FileError> {
        if depth > MAX_DEPTH {
            return Err(self.source.too_deep(folder).into());
        }
        let one = |name: &OsStr, entry: &ViewEntry| {
            let path = self.filter.join(path, name);
            if entry.kind != EntryKind::Dir {
                if !self.filter.takes_file(state, &path) {
                    return Ok(());
                }
                return self.put(folder, name, entry, &*target.get(self, false)?, name);
            }
            let verdict = self.filter.dir(state, &path);
            let sub = CopyTarget { parent: Some(target), name, from: Some((folder, entry)), dest: Mutex::default() };
            if verdict.taken {
                sub.get(self, true)?;
            }
            if verdict.walk {
                let from = self.source.tree.enter(folder, name);
                let from = from.map_err(|cause| self.source.unreadable_in(folder, cause))?;
                descend(depth, || self.inside(&from, &sub, &path, &verdict.state, depth + 1))?;
            }
            Ok(())
        };
        let children = self.source.children(folder)?;
        if depth < PARALLEL_DEPTH {
            children.par_iter().try_for_each(|(name, entry)| one(name, entry))
        } else {
            children.iter().try_for_each(|(name, entry)| one(name, entry))
        }
    }

    /// Copies one entry that is not a directory to `to`, in place of what is there.
    pub(crate) fn put(
        &self,
        folder: &ContentFolder,
        name: &OsStr,
        entry: &ViewEntry,
        dest: &WriteDest,
        to: &OsStr,
    ) -> Result<(), FileError> {
        self.writer.clear(dest, to)?;
        match entry.kind {
            EntryKind::File if entry.nlink > 1 => {
                let slot = {
                    let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
                    written.entry((entry.layer, entry.dev_ino.0, entry.dev_ino.1)).or_default().clone()
                };
                // Whoever comes first writes it, while the others wait for this one file.
                let mut first = slot.lock().unwrap_or_else(PoisonError::into_inner);
                match &*first {
                    Some(first) => self.writer.link_upper(first, dest, to),
                    None => {
                        self.put_file(folder, name, entry, dest, to)?;
                        *first = Some(self.writer.path_of(dest, to));
                        Ok(())
                    }
                }
            }
            EntryKind::File => self.put_file(folder, name, entry, dest, to),
            EntryKind::Dir => Err(FileError::IsDirectory { path: dest.shown(to) }),
            EntryKind::Symlink => {
                let text = self.source.tree.link_text(folder, name, entry);
                let text = text.map_err(|cause| self.source.unreadable_in(folder, cause))?;
                self.writer.symlink(dest, to, &text)?;
                self.writer.dress((dest, to), entry.kind, self.looks.of(entry)?, entry.mtime)
            }
            EntryKind::Fifo | EntryKind::Socket | EntryKind::CharDev | EntryKind::BlockDev => {
                self.writer.make_node(dest, to, entry.kind, entry.rdev)?;
                if matches!(entry.kind, EntryKind::CharDev | EntryKind::BlockDev) {
                    self.note_device(folder, name);
                }
                self.writer.dress((dest, to), entry.kind, self.looks.of(entry)?, entry.mtime)
            }
        }
    }

    /// Remembers a device node that comes from a context; the devices of an image were put there by its author.
    fn note_device(&self, folder: &ContentFolder, name: &OsStr) {
        if !matches!(self.source.tree, ContentTree::Local(_)) {
            return;
        }
        let path = folder.path().join(name);
        let mut devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        devices.count += 1;
        if devices.first.as_ref().is_none_or(|first| path < *first) {
            devices.first = Some(path);
        }
    }

    /// The warning about device nodes that came from a context, if there were any.
    pub(crate) fn device_warning(&self) -> Option<CopyWarning> {
        let devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        let first = devices.first.as_ref()?;
        let (is_one, of) = (devices.count == 1, &self.source.name);
        let message = match is_one {
            true => format!("a device node of {of} is copied into the image: /{}", first.display()),
            false => {
                format!("{} device nodes of {of} are copied into the image, first: /{}", devices.count, first.display())
            }
        };
        let hint = "whoever runs the image with privileges can use it; name it in .dockerignore if it is not needed";
        Some(CopyWarning { message, hint: Some(hint.to_owned()) })
    }

    fn put_file(
        &self,
        folder: &ContentFolder,
        name: &OsStr,
        entry: &ViewEntry,
        dest: &WriteDest,
        to: &OsStr,
    ) -> Result<(), FileError> {
        let made = self.looks.of(entry)?;
        if self.link(folder, name, entry, made, dest, to) {
            return Ok(());
        }
        let local = matches!(self.source.tree, ContentTree::Local(_));
        let shown = || format!("/{}", folder.path().join(name).display());
        let changed = || ContentError::Changed { path: shown(), of: self.source.name.clone() };
        let unreadable = |cause| self.source.unreadable(&shown(), cause);
        let from = match self.source.open(folder, name, entry) {
            Err(err) if local && at::is_absent(&err) => return Err(changed().into()),
            from => from.map_err(unreadable)?,
        };
        // What is copied must be what was hashed: the same before and after.
        let same = || -> io::Result<bool> {
            Ok(!local || unchanged(&at::entry(&rustix::fs::fstat(&from)?, entry.layer), entry))
        };
        if !same().map_err(unreadable)? {
            return Err(changed().into());
        }
        let file = self.writer.create(dest, to)?;
        self.writer.transfer(&from, &file, entry.size).map_err(|cause| write_error(&dest.shown(to), cause))?;
        let xattrs = at::xattrs(&from).map_err(unreadable)?;
        if !same().map_err(unreadable)? {
            return Err(changed().into());
        }
        self.writer.dress_file((dest, to), &file, made, &xattrs, entry.mtime)
    }

    /// Makes a hard link to the file of a snapshot, if the copy would be the same in everything.
    fn link(
        &self,
        folder: &ContentFolder,
        name: &OsStr,
        entry: &ViewEntry,
        made: MadeEntry,
        dest: &WriteDest,
        to: &OsStr,
    ) -> bool {
        let (ContentTree::View(view), ContentFolder::View(folder)) = (&self.source.tree, folder) else { return false };
        entry.nlink == 1
            && made.mode == entry.mode
            && made.owner == (entry.uid, entry.gid)
            && self.linkable.get(entry.layer).copied().unwrap_or(false)
            && view.layer_dir(folder, entry.layer).is_ok_and(|dir| self.writer.link_from(&dir, name, dest, to))
    }
}

impl CopyTarget<'_> {
    /// The directory, made if it is not there. One that is `taken` by itself gets the metadata of the source even if
    /// it was there before.
    fn get(&self, copier: &Copier<'_>, taken: bool) -> Result<Arc<WriteDest>, FileError> {
        let mut made = self.dest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(dest) = &*made {
            return Ok(dest.clone());
        }
        let (Some(parent), Some((folder, entry))) = (self.parent, self.from) else {
            return Err(write_error("/", io::ErrorKind::NotFound.into()));
        };
        let parent = parent.get(copier, false)?;
        let writer = copier.writer;
        let looks = copier.looks.of(entry)?;
        let dest = match writer.existing(&parent, self.name)? {
            Some(there) if there.kind != EntryKind::Dir => {
                return Err(FileError::NotDirectory { path: parent.shown(self.name) });
            }
            Some(there) => {
                let dest = writer.open_dir(&parent, self.name, &there)?;
                if taken {
                    writer.dress_dir(&dest, looks)?;
                } else {
                    writer.set_dir_mode(&dest, looks.mode)?;
                }
                dest
            }
            None => writer.make_dir(&parent, self.name, looks)?,
        };
        let xattrs = copier.source.xattrs(folder, self.name, entry);
        writer.set_dir_xattrs(&dest, &xattrs.map_err(|cause| copier.source.unreadable_in(folder, cause))?);
        writer.set_dir_time(&dest, entry.mtime);
        Ok(made.insert(Arc::new(dest)).clone())
    }
}
