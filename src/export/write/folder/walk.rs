//! Walks the trees of a result and makes the destination equal to them, folders in parallel.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    ffi::OsStr,
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use rayon::prelude::*;
use rustix::fs::{Mode, Timespec, Timestamps, XattrFlags};

use super::{
    attributes::{has_owner, has_wanted_mtime, own, times},
    clear::{TemporaryFolder, each_other, remove_others, too_deep},
    entry::FolderJob,
};
use crate::{
    export::{
        built::DEEPEST_FOLDER,
        options::TreeTo,
        remember::{DroppedFiles, FileMark, mark},
        staged::{ExactPath, StagedDirectory},
        write::{dest::WriteFault, part::TreePart},
    },
    grant::GrantedWrite,
    layer::view::{EntryKind, LocateWalk, ViewEntry, ViewFolder, at},
    spec::local::LocalAccess,
};

/// The outcome of an export to a folder: what was written, and what was left out.
pub(crate) struct WrittenFolder {
    pub(crate) marks: Vec<FileMark>,
    /// Names that were written or found as they should be.
    pub(crate) files: usize,
    pub(crate) bytes: u64,
    pub(crate) dropped: Option<DroppedFiles>,
}

/// The options of an output of type `local`.
#[derive(Clone, Debug)]
pub(crate) struct FolderOptions {
    /// Nothing else stays in the folder.
    pub(super) delete: bool,
    pub(super) access: LocalAccess,
}

impl FolderOptions {
    /// The options of a folder; `None` for a tar.
    pub(crate) fn of(to: &TreeTo) -> Option<Self> {
        match to {
            TreeTo::Folder { delete, access, .. } => Some(Self { delete: *delete, access: access.clone() }),
            TreeTo::Archive { .. } => None,
        }
    }
}

/// Makes the folder `dest` hold the parts; with `delete`, nothing else. A new folder has the mode that the umask leaves.
pub(crate) fn write(
    parts: &[TreePart],
    dest: &GrantedWrite,
    options: &FolderOptions,
    known: &HashSet<FileMark>,
    moved: &(dyn Fn(u64) + Sync),
) -> Result<WrittenFolder, WriteFault> {
    let folder = dest.path();
    let root = dest.make_dir(0o777).map_err(|error| (folder.to_owned(), error))?;
    let (written, made) = fill(parts, &root, folder, options, known, moved)?;
    if options.delete {
        let keep = made.paths.iter().map(PathBuf::as_path).collect();
        remove_others(root.as_fd(), &keep).map_err(|(path, e)| (folder.join(path), e))?;
    }
    finish_folders(&root, &made.folders).map_err(|(path, e)| (folder.join(path), e))?;
    Ok(written)
}

/// A tree that was written beside its destination, and what is left to do when it gets there.
pub(crate) struct StagedTree {
    pub(crate) written: WrittenFolder,
    /// Attributes of its directories, which have the mode 0700 until then so that they can be moved.
    pub(crate) folders: Vec<StagedDirectory>,
    /// What `mode=delete` takes away.
    pub(crate) remove: Vec<ExactPath>,
}

/// Writes the parts into the empty directory `root`; `dest`, the destination that it is for, is only looked at.
pub(crate) fn stage(
    parts: &[TreePart],
    root: &OwnedFd,
    dest: &GrantedWrite,
    options: &FolderOptions,
    moved: &(dyn Fn(u64) + Sync),
) -> Result<StagedTree, WriteFault> {
    let (written, made) = fill(parts, root, dest.path(), options, &HashSet::new(), moved)?;
    let mut remove = Vec::new();
    if options.delete
        && let Ok(there) = dest.open_dir()
    {
        let keep = made.paths.iter().map(PathBuf::as_path).collect();
        each_other(there.as_fd(), Path::new(""), &keep, 0, &mut |_, _, path| {
            remove.push(ExactPath(path.to_owned()));
            Ok(())
        })
        .map_err(|(path, e)| (dest.path().join(path), e))?;
    }
    Ok(StagedTree { written, folders: made.folders, remove })
}

/// Makes an open directory hold the parts beside what it holds already. Its subdirectories do not have their attributes
/// yet. `folder` is its path in messages.
fn fill(
    parts: &[TreePart],
    root: &OwnedFd,
    folder: &Path,
    options: &FolderOptions,
    known: &HashSet<FileMark>,
    moved: &(dyn Fn(u64) + Sync),
) -> Result<(WrittenFolder, MadeFolder), WriteFault> {
    let at_folder = |e: io::Error| (folder.to_owned(), e);
    if parts.len() > 1 && parts.iter().any(|it| it.folder.is_none()) {
        clash(parts).map_err(at_folder)?;
    }
    let temporary = TemporaryFolder::make(root).map_err(at_folder)?;
    let job = FolderJob {
        root,
        temporary: &temporary,
        known,
        moved,
        access: &options.access,
        no_range: AtomicBool::new(false),
        bytes: AtomicU64::new(0),
        dropped: Mutex::default(),
    };
    let walk = FolderWalk { path: folder, job, stop: AtomicBool::new(false), made: Mutex::default() };
    for part in parts {
        walk.part(part)?;
    }
    let mut made = walk.made.into_inner().expect("no holder of this lock panics");
    let written = WrittenFolder {
        marks: std::mem::take(&mut made.marks),
        files: made.paths.len(),
        bytes: walk.job.bytes.into_inner(),
        dropped: first_of(&walk.job.dropped.into_inner().expect("no holder of this lock panics")),
    };
    Ok((written, made))
}

fn first_of(dropped: &BTreeSet<PathBuf>) -> Option<DroppedFiles> {
    dropped.first().map(|first| DroppedFiles { count: dropped.len() as u64, first: first.clone() })
}

/// Two platforms must not bring the same file when they share one folder.
fn clash(parts: &[TreePart]) -> io::Result<()> {
    let mut seen: BTreeMap<PathBuf, (&str, bool)> = BTreeMap::new();
    for part in parts.iter().filter(|it| it.folder.is_none()) {
        let mut folders = vec![part.view.root()];
        while let Some(folder) = folders.pop() {
            for (name, entry) in part.view.list(&folder)? {
                let path = folder.path().join(&name);
                let is_dir = entry.kind == EntryKind::Dir;
                match seen.get(&path) {
                    Some((first, was_dir)) if !(is_dir && *was_dir) => {
                        let second = &part.platform;
                        let path = path.display();
                        return Err(io::Error::other(format!(
                            "cannot overwrite {path} from {first} with {second} when split option is disabled"
                        )));
                    }
                    _ => {
                        seen.insert(path, (&part.platform, is_dir));
                    }
                }
                if is_dir {
                    folders.push(part.view.enter(&folder, &name)?);
                }
            }
        }
    }
    Ok(())
}

/// The walk over all parts of one export.
struct FolderWalk<'a> {
    path: &'a Path,
    job: FolderJob<'a>,
    stop: AtomicBool,
    made: Mutex<MadeFolder>,
}

#[derive(Default)]
struct MadeFolder {
    marks: Vec<FileMark>,
    /// All that the destination should hold, relative to it.
    paths: Vec<PathBuf>,
    /// Folders with the attributes they get at the end.
    folders: Vec<StagedDirectory>,
    /// Files with several names: the tree's own path, the path here, the entry.
    linked: Vec<(PathBuf, PathBuf, ViewEntry)>,
}

impl FolderWalk<'_> {
    fn part(&self, part: &TreePart) -> Result<(), WriteFault> {
        let base = part.folder.as_ref().map(PathBuf::from).unwrap_or_default();
        if part.folder.is_some() {
            self.job.folder(Path::new(""), base.as_os_str()).map_err(|e| (self.path.join(&base), e))?;
            let mut made = self.made.lock().expect("no holder of this lock panics");
            made.paths.push(base.clone());
            made.folders.push(StagedDirectory {
                path: ExactPath(base.clone()),
                mode: self.job.changed_mode(0o755, true),
                owner: self.job.access.chown,
                mtime: part.epoch.map(|second| (second, 0)),
                xattrs: Vec::new(),
            });
        }
        let fault: Mutex<Option<WriteFault>> = Mutex::new(None);
        rayon::scope(|scope| self.walk(scope, part, part.view.root(), base.clone(), &fault, 0));
        if let Some(fault) = fault.into_inner().expect("no holder of this lock panics") {
            return Err(fault);
        }
        self.links(part)?;
        for (name, bytes) in &part.extra {
            let path = base.join(name);
            let fail = |e| (self.path.join(&path), e);
            let mut made = self.made.lock().expect("no holder of this lock panics");
            if made.paths.contains(&path) {
                return Err(fail(io::Error::other(
                    "the result has a file of this name already; set attestation-prefix",
                )));
            }
            made.paths.push(path.clone());
            drop(made);
            self.job.extra(&base, OsStr::new(name), bytes, part.epoch).map_err(fail)?;
        }
        Ok(())
    }

    /// One folder and, on other threads, those below it.
    fn walk<'s>(
        &'s self,
        scope: &rayon::Scope<'s>,
        part: &'s TreePart,
        folder: ViewFolder,
        dest: PathBuf,
        fault: &'s Mutex<Option<WriteFault>>,
        depth: usize,
    ) {
        if self.stop.load(Ordering::Relaxed) {
            return;
        }
        if let Err(found) = self.one_folder(scope, part, &folder, &dest, fault, depth) {
            self.stop.store(true, Ordering::Relaxed);
            fault.lock().expect("no holder of this lock panics").get_or_insert(found);
        }
    }

    fn one_folder<'s>(
        &'s self,
        scope: &rayon::Scope<'s>,
        part: &'s TreePart,
        folder: &ViewFolder,
        dest: &Path,
        fault: &'s Mutex<Option<WriteFault>>,
        depth: usize,
    ) -> Result<(), WriteFault> {
        let fail = |e| (self.path.join(dest), e);
        if depth > DEEPEST_FOLDER {
            return Err(fail(too_deep()));
        }
        let entries = part.view.list(folder).map_err(fail)?;
        let entries: Vec<_> =
            entries.into_iter().filter_map(|(name, entry)| self.job.as_made(dest, name, entry)).collect();
        let dir = at::dir(self.job.root.as_fd(), dest).map_err(fail)?;
        let mut own = MadeFolder::default();
        for (name, entry) in &entries {
            let path = dest.join(name);
            own.paths.push(path.clone());
            if entry.kind == EntryKind::Dir {
                self.job.folder(dest, name).map_err(|e| (self.path.join(&path), e))?;
                let below = part.view.enter(folder, name).map_err(|e| (self.path.join(&path), e))?;
                let xattrs = part.view.xattrs_of(folder, name, entry).unwrap_or_default();
                let time = times(entry, part.epoch).last_modification;
                own.folders.push(StagedDirectory {
                    path: ExactPath(path.clone()),
                    mode: entry.mode,
                    owner: self.job.access.chown,
                    mtime: Some((time.tv_sec, time.tv_nsec)),
                    xattrs: xattrs.into_iter().map(|(name, value)| (ExactPath(name.into()), value)).collect(),
                });
                scope.spawn(move |scope| self.walk(scope, part, below, path, fault, depth + 1));
            }
        }
        let files: Vec<_> = entries.iter().filter(|(_, entry)| entry.kind != EntryKind::Dir).collect();
        let marks: Vec<Option<FileMark>> = files
            .par_iter()
            .with_min_len(8)
            .map(|(name, entry)| {
                if entry.kind == EntryKind::File && entry.nlink > 1 || self.stop.load(Ordering::Relaxed) {
                    return Ok(None);
                }
                self.job.other(part, folder, &dir, dest, name, entry).map_err(|e| (self.path.join(dest).join(name), e))
            })
            .collect::<Result<_, WriteFault>>()?;
        own.marks.extend(marks.into_iter().flatten());
        let linked = files.iter().filter(|(_, entry)| entry.kind == EntryKind::File && entry.nlink > 1);
        own.linked.extend(linked.map(|(name, it)| (folder.path().join(name), dest.join(name), it.clone())));
        let mut made = self.made.lock().expect("no holder of this lock panics");
        made.marks.append(&mut own.marks);
        made.paths.append(&mut own.paths);
        made.folders.append(&mut own.folders);
        made.linked.append(&mut own.linked);
        Ok(())
    }

    /// Files with several names: the first is written, the others become names of it.
    fn links(&self, part: &TreePart) -> Result<(), WriteFault> {
        let mut linked = std::mem::take(&mut self.made.lock().expect("no holder of this lock panics").linked);
        linked.sort_by(|a, b| a.1.cmp(&b.1));
        let mut first: BTreeMap<(usize, (u64, u64)), PathBuf> = BTreeMap::new();
        let mut marks = Vec::new();
        for (source, path, entry) in &linked {
            let fail = |e| (self.path.join(path), e);
            let (parent, name) = (path.parent().unwrap_or(Path::new("")), path.file_name().unwrap_or_default());
            let dir = at::dir(self.job.root.as_fd(), parent).map_err(fail)?;
            if let Some(first) = first.get(&(entry.layer, entry.dev_ino)) {
                self.job.link(first, &dir, name).map_err(fail)?;
                continue;
            }
            let place = part.view.locate(source, crate::layer::view::Follow::No).map_err(fail)?;
            let folder = place.parent.ok_or_else(|| fail(io::ErrorKind::NotFound.into()))?;
            marks.push((path.clone(), entry.clone()));
            self.job.file(part, &folder, &dir, path, name, entry, true).map_err(fail)?;
            first.insert((entry.layer, entry.dev_ino), path.clone());
        }
        // Links change the stamp of what they are links to: marks are taken when all are made.
        let mut made = self.made.lock().expect("no holder of this lock panics");
        for (path, entry) in marks {
            let stat = at::stat_beneath(self.job.root.as_fd(), &path).map_err(|e| (self.path.join(&path), e))?;
            made.marks.extend(stat.map(|stat| mark(&path, &entry, part.epoch, self.job.access.chown, &stat)));
        }
        Ok(())
    }
}

/// Gives folders their attributes, the deepest first, so that writing below changes nothing any more.
pub(crate) fn finish_folders(root: &OwnedFd, folders: &[StagedDirectory]) -> Result<(), WriteFault> {
    let mut order: Vec<_> = folders.iter().collect();
    order.sort_by_key(|folder| std::cmp::Reverse(folder.path.0.components().count()));
    for StagedDirectory { path, mode, owner, mtime, xattrs } in order {
        let finish = || {
            let dir = at::dir(root.as_fd(), &path.0)?;
            let stat = rustix::fs::fstat(&dir)?;
            for (key, value) in xattrs {
                rustix::fs::fsetxattr(&dir, &key.0, value, XattrFlags::empty()).ok();
            }
            let is_owned = has_owner(&stat, *owner);
            if !is_owned {
                own(&dir, *owner)?;
            }
            if !is_owned || stat.st_mode & 0o7777 != *mode {
                rustix::fs::fchmod(&dir, Mode::from_raw_mode(*mode))?;
            }
            let (tv_sec, tv_nsec) = mtime.unwrap_or((0, rustix::fs::UTIME_OMIT));
            let time = Timespec { tv_sec, tv_nsec };
            let times = Timestamps { last_access: time, last_modification: time };
            if !has_wanted_mtime(&stat, &times) {
                rustix::fs::futimens(&dir, &times)?;
            }
            Ok(())
        };
        finish().map_err(|e: io::Error| (path.0.clone(), e))?;
    }
    Ok(())
}
