//! Walks the trees of a result and makes the destination equal to them, folders in parallel.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    ffi::{OsStr, OsString},
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
    attributes::{has_time, mode_of, times},
    clear::{TemporaryFolder, remove_others, too_deep},
    entry::FolderJob,
};
use crate::{
    export::{
        built::DEEPEST_FOLDER,
        options::TreeTo,
        remember::{DroppedFiles, FileMark, mark},
        write::{dest::WriteFault, part::TreePart},
    },
    grant::GrantedWrite,
    layer::view::{EntryKind, LocateWalk, ViewEntry, ViewFolder, at},
    spec::output::SpecialFiles,
};

/// What an export left behind.
pub(crate) struct WrittenFolder {
    pub(crate) marks: Vec<FileMark>,
    /// Names that were written or found as they should be.
    pub(crate) files: usize,
    pub(crate) bytes: u64,
    pub(crate) dropped: Option<DroppedFiles>,
}

/// The options of an output of type `local`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FolderOptions {
    /// Nothing else stays in the folder.
    pub(super) delete: bool,
    pub(super) special: SpecialFiles,
}

impl FolderOptions {
    /// The options of a folder; `None` for a tar.
    pub(crate) const fn of(to: &TreeTo) -> Option<Self> {
        match to {
            TreeTo::Folder { delete, special, .. } => Some(Self { delete: *delete, special: *special }),
            TreeTo::Archive { .. } => None,
        }
    }
}

/// Makes the folder `dest` hold the parts; with `delete`, nothing else. A new folder has the mode 0700, as the peer makes
/// it.
pub(crate) fn write(
    parts: &[TreePart],
    dest: &GrantedWrite,
    options: FolderOptions,
    known: &HashSet<FileMark>,
    moved: &(dyn Fn(u64) + Sync),
) -> Result<WrittenFolder, WriteFault> {
    let folder = dest.path();
    let at_folder = |e: io::Error| (folder.to_owned(), e);
    if parts.len() > 1 && parts.iter().any(|it| it.folder.is_none()) {
        clash(parts).map_err(at_folder)?;
    }
    let root = dest.make_dir(0o700).map_err(at_folder)?;
    let temporary = TemporaryFolder::make(&root).map_err(at_folder)?;
    let job = FolderJob {
        root: &root,
        temporary: &temporary,
        known,
        moved,
        special: options.special,
        bytes: AtomicU64::new(0),
        dropped: Mutex::default(),
    };
    let walk = FolderWalk { path: folder, job, stop: AtomicBool::new(false), made: Mutex::default() };
    for part in parts {
        walk.part(part)?;
    }
    let made = walk.made.into_inner().expect("no holder of this lock panics");
    if options.delete {
        let keep: HashSet<&Path> = made.paths.iter().map(PathBuf::as_path).collect();
        remove_others(root.as_fd(), Path::new(""), &keep, 0).map_err(|(path, e)| (folder.join(path), e))?;
    }
    finish_folders(&root, &made.folders).map_err(|(path, e)| (folder.join(path), e))?;
    Ok(WrittenFolder {
        marks: made.marks,
        files: made.paths.len(),
        bytes: walk.job.bytes.into_inner(),
        dropped: first_of(&walk.job.dropped.into_inner().expect("no holder of this lock panics")),
    })
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
    folders: Vec<(PathBuf, Mode, Timestamps, FolderXattrs)>,
    /// Files with several names: the tree's own path, the path here, the entry.
    linked: Vec<(PathBuf, PathBuf, ViewEntry)>,
}

type FolderXattrs = Vec<(OsString, Vec<u8>)>;

impl FolderWalk<'_> {
    fn part(&self, part: &TreePart) -> Result<(), WriteFault> {
        let base = part.folder.as_ref().map(PathBuf::from).unwrap_or_default();
        if part.folder.is_some() {
            self.job.folder(Path::new(""), base.as_os_str()).map_err(|e| (self.path.join(&base), e))?;
            let now = Timespec { tv_sec: part.epoch.unwrap_or(0), tv_nsec: 0 };
            let now = if part.epoch.is_some() { now } else { Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT } };
            let times = Timestamps { last_access: now, last_modification: now };
            let mut made = self.made.lock().expect("no holder of this lock panics");
            made.paths.push(base.clone());
            made.folders.push((base.clone(), Mode::from_raw_mode(0o755), times, Vec::new()));
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
            entries.into_iter().filter_map(|(name, entry)| self.job.harmless(dest, name, entry)).collect();
        let dir = at::dir(self.job.root.as_fd(), dest).map_err(fail)?;
        let mut own = MadeFolder::default();
        for (name, entry) in &entries {
            let path = dest.join(name);
            own.paths.push(path.clone());
            if entry.kind == EntryKind::Dir {
                self.job.folder(dest, name).map_err(|e| (self.path.join(&path), e))?;
                let below = part.view.enter(folder, name).map_err(|e| (self.path.join(&path), e))?;
                let xattrs = part.view.xattrs_of(folder, name, entry).unwrap_or_default();
                own.folders.push((path.clone(), mode_of(entry), times(entry, part.epoch), xattrs));
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
            made.marks.extend(stat.map(|stat| mark(&path, &entry, part.epoch, &stat)));
        }
        Ok(())
    }
}

/// Gives folders their attributes, the deepest first, so that writing below changes nothing any more.
fn finish_folders(root: &OwnedFd, folders: &[(PathBuf, Mode, Timestamps, FolderXattrs)]) -> Result<(), WriteFault> {
    let mut order: Vec<_> = folders.iter().collect();
    order.sort_by_key(|(path, ..)| std::cmp::Reverse(path.components().count()));
    for (path, mode, times, xattrs) in order {
        let finish = || {
            let dir = at::dir(root.as_fd(), path)?;
            let stat = rustix::fs::fstat(&dir)?;
            for (key, value) in xattrs {
                rustix::fs::fsetxattr(&dir, key, value, XattrFlags::empty()).ok();
            }
            if Mode::from_raw_mode(stat.st_mode & 0o7777) != *mode {
                rustix::fs::fchmod(&dir, *mode)?;
            }
            if !has_time(&stat, times) {
                rustix::fs::futimens(&dir, times)?;
            }
            Ok(())
        };
        finish().map_err(|e: io::Error| (path.clone(), e))?;
    }
    Ok(())
}
