//! Directories of the layers below that a RUN has renamed: made whole, so that the layer is a plain diff again.
//!
//! overlayfs renames such a directory by a note in its upper directory, `trusted.overlay.redirect`, which names the directory
//! below that shows through (`Documentation/filesystems/overlayfs.rst`, "redirect_dir"). The note means nothing in
//! another stack of layers, nor in a tar. Here everything that shows through becomes part of the layer, by hard links, and the
//! note is taken away. The old name is hidden already.
//!
//! In a user namespace overlayfs has no such notes: there a rename fails with EXDEV, and programs copy instead.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, XattrFlags},
    io::Errno,
};

use super::{
    error::{FileError, write_error},
    tree_writer::{TreeWriter, WriteDest},
};
use crate::layer::view::{EntryKind, Follow, LayerView, LocateWalk as _, ViewFolder, at};

/// Makes renamed directories in `upper`, the changes of a step above the layers `lowers` (lowest first), whole.
///
/// *Cost:* opens and lists every directory that the step made or changed.
///
/// # Errors
/// When a layer cannot be read, or `upper` not written.
pub(super) fn make_whole(upper: &Path, lowers: &[PathBuf]) -> Result<(), FileError> {
    let Some(mark) = at::redirect_xattr() else { return Ok(()) };
    let failed = |cause| write_error("/", cause);
    let root = at::host_dir(upper).map_err(failed)?;
    let sources = find(&root, mark).map_err(failed)?;
    if sources.is_empty() {
        return Ok(());
    }
    let lower = LayerView::open(lowers).map_err(failed)?;
    let writer = LayerView::open(lowers).and_then(|view| TreeWriter::continued(upper, view)).map_err(failed)?;
    let moved = RenamedDirs { root, mark, sources, lower, writer };
    for path in moved.sources.keys() {
        moved.fill(path)?;
    }
    moved.writer.finish()?;
    moved.sources.keys().try_for_each(|path| moved.unmark(path).map_err(|cause| write_error(&shown(path), cause)))
}

/// A layer with renamed directories.
struct RenamedDirs {
    root: OwnedFd,
    /// The name of the note.
    mark: &'static str,
    /// Where the content of each renamed directory is below, by its path.
    sources: BTreeMap<PathBuf, PathBuf>,
    lower: LayerView,
    writer: TreeWriter,
}

/// Finds the directories that have the note, with their paths below. Not by recursion: the tree may be of any depth.
fn find(root: &OwnedFd, mark: &str) -> io::Result<BTreeMap<PathBuf, PathBuf>> {
    let mut sources = BTreeMap::new();
    // Each with its path below, which is another one inside a renamed directory.
    let mut todo = vec![(PathBuf::new(), PathBuf::new())];
    while let Some((path, mut below)) = todo.pop() {
        let dir = at::dir(root.as_fd(), &path)?;
        if let Some(note) = note(&dir, mark)? {
            let target = Path::new(OsStr::from_bytes(&note));
            below = match target.strip_prefix("/") {
                Ok(absolute) => absolute.to_owned(),
                // Its name beside where the parent's content is.
                Err(_) => below.parent().unwrap_or(Path::new("")).join(target),
            };
            sources.insert(path.clone(), below.clone());
        }
        let names = at::subdirectories(dir.as_fd())?;
        todo.extend(names.into_iter().map(|name| (path.join(&name), below.join(&name))));
    }
    Ok(sources)
}

fn note(dir: &OwnedFd, mark: &str) -> io::Result<Option<Vec<u8>>> {
    let mut value = [0; 4096];
    match rustix::fs::fgetxattr(dir, mark, &mut value[..]) {
        Ok(n) => Ok(Some(value[..n].to_owned())),
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn shown(path: &Path) -> String {
    format!("/{}", path.display())
}

impl RenamedDirs {
    /// Puts what shows through into a renamed directory.
    fn fill(&self, path: &Path) -> Result<(), FileError> {
        let find = || -> io::Result<ViewFolder> {
            let place = self.lower.locate(&self.sources[path], Follow::No)?;
            place.folder(&self.lower)?.ok_or_else(|| Errno::NOENT.into())
        };
        let folder = find().map_err(|cause| write_error(&shown(path), cause))?;
        // With the time that a directory gets which is made here.
        let mut todo = vec![(path.to_owned(), folder, None)];
        while let Some((path, folder, time)) = todo.pop() {
            let failed = |cause| write_error(&shown(&path), cause);
            let dest = self.writer.reopen(&path, folder.clone()).map_err(failed)?;
            if let Some(time) = time {
                self.writer.set_dir_time(&dest, time);
            }
            for (name, entry) in self.lower.list(&folder).map_err(failed)? {
                let inner = path.join(&name);
                let is_dir = entry.kind == EntryKind::Dir;
                let here = at::stat(dest.as_fd(), &name).map_err(failed)?.map(|stat| at::entry(&stat, 0));
                let time = here.is_none().then_some(entry.mtime);
                match here {
                    None if is_dir => drop(self.writer.open_dir(&dest, &name, &entry)?),
                    None => {
                        self.writer.share(&dest, &name, &entry)?;
                        continue;
                    }
                    // It was removed; nothing shows through any more that would have to be hidden.
                    Some(here) if here.kind == EntryKind::CharDev && here.rdev == (0, 0) => {
                        self.remove_whiteout(&dest, &name).map_err(failed)?;
                        continue;
                    }
                    Some(here) => {
                        let is_merged =
                            here.kind == EntryKind::Dir && is_dir && !self.is_apart(&inner).map_err(failed)?;
                        if !is_merged {
                            continue;
                        }
                    }
                }
                todo.push((inner, self.lower.enter(&folder, &name).map_err(failed)?, time));
            }
        }
        Ok(())
    }

    fn remove_whiteout(&self, dest: &WriteDest, name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(dest.as_fd(), name, AtFlags::empty())?)
    }

    /// Whether nothing shows through a directory, or something from elsewhere.
    fn is_apart(&self, path: &Path) -> io::Result<bool> {
        Ok(self.sources.contains_key(path) || at::is_opaque(at::dir(self.root.as_fd(), path)?)?)
    }

    /// Takes the note away from a renamed directory. A directory of the layers below that has its name now stays hidden.
    fn unmark(&self, path: &Path) -> io::Result<()> {
        let dir = at::dir(self.root.as_fd(), path)?;
        let below = self.lower.locate(path, Follow::No)?.entry;
        if below.is_some_and(|entry| entry.kind == EntryKind::Dir) {
            rustix::fs::fsetxattr(&dir, at::opaque_xattr(), b"y", XattrFlags::empty())?;
        }
        Ok(rustix::fs::fremovexattr(&dir, self.mark)?)
    }
}
