//! Trees as folders of the user (spec/exporters.md §12.1).
//!
//! Only what differs is written: a file that an earlier export wrote and nobody touched since is known by its stamp, any
//! other file of equal length is compared. What is written is made in `DEST/.bake-tmp-…` and renamed. Everything goes
//! through open directories: no link in the destination is followed. Nothing of the store is hard-linked into it.

use std::{
    collections::{BTreeMap, HashSet},
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::DirBuilderExt},
    },
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use rayon::prelude::*;
use rustix::{
    fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, Stat, Timespec, Timestamps, XattrFlags},
    io::Errno,
};

use super::layout::Fault;
use crate::{
    layer::view::{Entry, Folder, Kind, View, Walk, at},
    oci::{Digest, digest::FieldHasher},
};

const TEMPORARY: &str = ".bake-tmp-";

/// One platform's tree, and files to put beside its entries.
pub(super) struct Part {
    pub(super) view: View,
    /// Folder of the platform, when each has its own.
    pub(super) folder: Option<String>,
    pub(super) platform: String,
    pub(super) epoch: Option<i64>,
    pub(super) extra: Vec<(String, Vec<u8>)>,
}

/// A file of an earlier export: which source it was made of, and its stamp after that, hashed.
pub(super) type Mark = [u8; 16];

/// What an export left behind.
pub(super) struct Written {
    pub(super) marks: Vec<Mark>,
    /// Names that were written or found as they should be.
    pub(super) files: usize,
    pub(super) bytes: u64,
}

/// Makes `folder` hold the parts; with `delete`, nothing else.
pub(super) fn write(
    parts: &[Part],
    folder: &Path,
    delete: bool,
    known: &HashSet<Mark>,
    moved: &(dyn Fn(u64) + Sync),
) -> Result<Written, Fault> {
    let at_folder = |e: io::Error| (folder.to_owned(), e);
    if parts.len() > 1 && parts.iter().any(|it| it.folder.is_none()) {
        clash(parts).map_err(at_folder)?;
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(at_folder)?;
    let root = at::host_dir(folder).map_err(at_folder)?;
    let temporary = Temporary::make(&root).map_err(at_folder)?;
    let job = Job {
        path: folder,
        root: &root,
        temporary: &temporary,
        known,
        moved,
        stop: AtomicBool::new(false),
        bytes: AtomicU64::new(0),
        made: Mutex::default(),
    };
    for part in parts {
        job.part(part)?;
    }
    let made = job.made.into_inner().expect("no holder of this lock panics");
    if delete {
        let keep: HashSet<&Path> = made.paths.iter().map(PathBuf::as_path).collect();
        remove_others(root.as_fd(), Path::new(""), &keep, 0).map_err(|(path, e)| (folder.join(path), e))?;
    }
    finish_folders(&root, &made.folders).map_err(|(path, e)| (folder.join(path), e))?;
    Ok(Written { marks: made.marks, files: made.paths.len(), bytes: job.bytes.into_inner() })
}

/// A digest over the stamps of all that is in a folder; it changes when anything in it does. `None` when there are more
/// than `most` names.
pub(super) fn fingerprint(folder: &Path, most: usize) -> io::Result<Option<Digest>> {
    let root = at::host_dir(folder)?;
    let seen = AtomicUsize::new(0);
    print_of(root.as_fd(), Path::new(""), 0, &seen, most)
}

fn print_of(
    root: BorrowedFd<'_>,
    path: &Path,
    depth: usize,
    seen: &AtomicUsize,
    most: usize,
) -> io::Result<Option<Digest>> {
    if depth > DEEPEST {
        return Err(too_deep());
    }
    let dir = at::dir(root, path)?;
    let mut names = at::names(dir.as_fd())?;
    if seen.fetch_add(names.len(), Ordering::Relaxed) + names.len() > most {
        return Ok(None);
    }
    names.sort_unstable();
    let prints: Vec<(Digest, bool)> = names
        .par_iter()
        .with_min_len(256)
        .map(|name| {
            let stat = at::stat(dir.as_fd(), name)?.ok_or(io::ErrorKind::NotFound)?;
            let mut hasher = FieldHasher::new("stamp/1");
            hasher.bytes(name.as_bytes());
            stamp(&mut hasher, &stat);
            Ok((hasher.finish(), is(&stat, FileType::Directory)))
        })
        .collect::<io::Result<_>>()?;
    drop(dir);
    let folders: Vec<&OsString> = names.iter().zip(&prints).filter(|(_, it)| it.1).map(|(name, _)| name).collect();
    let below: Vec<Option<Digest>> = folders
        .par_iter()
        .map(|name| print_of(root, &path.join(name), depth + 1, seen, most))
        .collect::<io::Result<_>>()?;
    let mut hasher = FieldHasher::new("folder/1");
    prints.iter().for_each(|it| {
        hasher.digest(&it.0);
    });
    for print in below {
        let Some(print) = print else { return Ok(None) };
        hasher.digest(&print);
    }
    Ok(Some(hasher.finish()))
}

/// Deepest folder that is written or looked at.
const DEEPEST: usize = 1000;

fn too_deep() -> io::Error {
    io::Error::other("folders lie too deep")
}

#[expect(clippy::unnecessary_cast, reason = "the fields differ between architectures")]
fn stamp(hasher: &mut FieldHasher, stat: &Stat) {
    hasher.number(stat.st_dev as u64).number(stat.st_ino as u64).number(u64::from(stat.st_mode));
    hasher.number(stat.st_size as u64).number(stat.st_mtime as u64).number(stat.st_mtime_nsec as u64);
    hasher.number(stat.st_ctime as u64).number(stat.st_ctime_nsec as u64).number(u64::from(stat.st_uid));
}

fn is(stat: &Stat, kind: FileType) -> bool {
    FileType::from_raw_mode(stat.st_mode) == kind
}

/// Two platforms must not bring the same file when they share one folder.
fn clash(parts: &[Part]) -> io::Result<()> {
    let mut seen: BTreeMap<PathBuf, (&str, bool)> = BTreeMap::new();
    for part in parts.iter().filter(|it| it.folder.is_none()) {
        let mut folders = vec![part.view.root()];
        while let Some(folder) = folders.pop() {
            for (name, entry) in part.view.list(&folder)? {
                let path = folder.path().join(&name);
                let is_dir = entry.kind == Kind::Dir;
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

/// The folder in which new files are made; removed at the end.
struct Temporary<'a> {
    root: &'a OwnedFd,
    name: String,
    dir: OwnedFd,
    next: AtomicU64,
}

impl<'a> Temporary<'a> {
    fn make(root: &'a OwnedFd) -> io::Result<Self> {
        for name in at::names(root.as_fd())? {
            if !name.as_bytes().starts_with(TEMPORARY.as_bytes()) {
                continue;
            }
            // Left by an export that was killed, unless its maker still holds it.
            let dead = at::dir(root.as_fd(), Path::new(&name))
                .is_ok_and(|dir| rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive).is_ok());
            if dead {
                remove(root.as_fd(), &name, 0).ok();
            }
        }
        let name = format!("{TEMPORARY}{}-{:08x}", std::process::id(), getrandom::u32().unwrap_or(0));
        rustix::fs::mkdirat(root, &name, Mode::from_raw_mode(0o700))?;
        let dir = at::dir(root.as_fd(), Path::new(&name))?;
        rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self { root, name, dir, next: AtomicU64::new(0) })
    }

    fn name(&self) -> String {
        self.next.fetch_add(1, Ordering::Relaxed).to_string()
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        remove(self.root.as_fd(), OsStr::new(&self.name), 0).ok();
    }
}

/// Work on one destination.
struct Job<'a> {
    path: &'a Path,
    root: &'a OwnedFd,
    temporary: &'a Temporary<'a>,
    known: &'a HashSet<Mark>,
    moved: &'a (dyn Fn(u64) + Sync),
    stop: AtomicBool,
    bytes: AtomicU64,
    made: Mutex<Made>,
}

#[derive(Default)]
struct Made {
    marks: Vec<Mark>,
    /// All that the destination should hold, relative to it.
    paths: Vec<PathBuf>,
    /// Folders with the attributes they get at the end.
    folders: Vec<(PathBuf, Mode, Timestamps, Xattrs)>,
    /// Files with several names: the tree's own path, the path here, the entry.
    linked: Vec<(PathBuf, PathBuf, Entry)>,
}

type Xattrs = Vec<(OsString, Vec<u8>)>;

impl Job<'_> {
    fn part(&self, part: &Part) -> Result<(), Fault> {
        let base = part.folder.as_ref().map(PathBuf::from).unwrap_or_default();
        if part.folder.is_some() {
            self.folder(Path::new(""), base.as_os_str()).map_err(|e| (self.path.join(&base), e))?;
            let now = Timespec { tv_sec: part.epoch.unwrap_or(0), tv_nsec: 0 };
            let now = if part.epoch.is_some() { now } else { Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT } };
            let times = Timestamps { last_access: now, last_modification: now };
            let mut made = self.made.lock().expect("no holder of this lock panics");
            made.paths.push(base.clone());
            made.folders.push((base.clone(), Mode::from_raw_mode(0o755), times, Vec::new()));
        }
        let fault: Mutex<Option<Fault>> = Mutex::new(None);
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
            self.extra(&base, OsStr::new(name), bytes, part.epoch).map_err(fail)?;
        }
        Ok(())
    }

    /// One folder and, on other threads, those below it.
    fn walk<'s>(
        &'s self,
        scope: &rayon::Scope<'s>,
        part: &'s Part,
        folder: Folder,
        dest: PathBuf,
        fault: &'s Mutex<Option<Fault>>,
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
        part: &'s Part,
        folder: &Folder,
        dest: &Path,
        fault: &'s Mutex<Option<Fault>>,
        depth: usize,
    ) -> Result<(), Fault> {
        let fail = |e| (self.path.join(dest), e);
        if depth > DEEPEST {
            return Err(fail(too_deep()));
        }
        let entries = part.view.list(folder).map_err(fail)?;
        let dir = at::dir(self.root.as_fd(), dest).map_err(fail)?;
        let mut own = Made::default();
        for (name, entry) in &entries {
            let path = dest.join(name);
            own.paths.push(path.clone());
            if entry.kind == Kind::Dir {
                self.folder(dest, name).map_err(|e| (self.path.join(&path), e))?;
                let below = part.view.enter(folder, name).map_err(|e| (self.path.join(&path), e))?;
                let xattrs = part.view.xattrs_of(folder, name, entry).unwrap_or_default();
                own.folders.push((path.clone(), mode_of(entry), times(entry, part.epoch), xattrs));
                scope.spawn(move |scope| self.walk(scope, part, below, path, fault, depth + 1));
            }
        }
        let files: Vec<_> = entries.iter().filter(|(_, entry)| entry.kind != Kind::Dir).collect();
        let marks: Vec<Option<Mark>> = files
            .par_iter()
            .with_min_len(8)
            .map(|(name, entry)| {
                if entry.kind == Kind::File && entry.nlink > 1 || self.stop.load(Ordering::Relaxed) {
                    return Ok(None);
                }
                self.other(part, folder, &dir, dest, name, entry).map_err(|e| (self.path.join(dest).join(name), e))
            })
            .collect::<Result<_, Fault>>()?;
        own.marks.extend(marks.into_iter().flatten());
        let linked = files.iter().filter(|(_, entry)| entry.kind == Kind::File && entry.nlink > 1);
        own.linked.extend(linked.map(|(name, it)| (folder.path().join(name), dest.join(name), it.clone())));
        let mut made = self.made.lock().expect("no holder of this lock panics");
        made.marks.append(&mut own.marks);
        made.paths.append(&mut own.paths);
        made.folders.append(&mut own.folders);
        made.linked.append(&mut own.linked);
        Ok(())
    }

    /// Makes a folder, in place of whatever else has its name.
    fn folder(&self, parent: &Path, name: &OsStr) -> io::Result<()> {
        let dir = at::dir(self.root.as_fd(), parent)?;
        match at::stat(dir.as_fd(), name)? {
            Some(stat) if is(&stat, FileType::Directory) => return Ok(()),
            Some(_) => rustix::fs::unlinkat(&dir, name, AtFlags::empty())?,
            None => {}
        }
        match rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(0o700)) {
            Err(Errno::EXIST) | Ok(()) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Anything but a folder or a file with several names.
    fn other(
        &self,
        part: &Part,
        folder: &Folder,
        dir: &OwnedFd,
        dest: &Path,
        name: &OsStr,
        entry: &Entry,
    ) -> io::Result<Option<Mark>> {
        match entry.kind {
            Kind::File => self.file(part, folder, dir, &dest.join(name), name, entry, false).map(Some),
            Kind::Symlink => {
                let text = part.view.link_text(folder, name, entry)?;
                self.symlink(dir, name, &text, times(entry, part.epoch)).map(|()| None)
            }
            Kind::Fifo | Kind::CharDev | Kind::BlockDev => self.node(dir, name, entry, part.epoch).map(|()| None),
            Kind::Socket | Kind::Dir => Ok(None),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "where from, where to, and what: none groups with another")]
    fn file(
        &self,
        part: &Part,
        folder: &Folder,
        dir: &OwnedFd,
        path: &Path,
        name: &OsStr,
        entry: &Entry,
        linked: bool,
    ) -> io::Result<Mark> {
        let there = at::stat(dir.as_fd(), name)?;
        if let Some(stat) = there.as_ref().filter(|it| is(it, FileType::RegularFile)) {
            let mark = mark(path, entry, part.epoch, stat);
            if self.known.contains(&mark) {
                return Ok(mark);
            }
            let alike = u64::try_from(stat.st_size) == Ok(entry.size) && stat.st_nlink == 1 && !linked;
            if alike
                && same_content(
                    &mut part.view.file(folder, name, entry)?,
                    &mut at::file(dir.as_fd(), Path::new(name))?,
                )?
            {
                let file = at::file(dir.as_fd(), Path::new(name))?;
                let wanted = times(entry, part.epoch);
                if stat.st_mode & 0o7777 != entry.mode {
                    rustix::fs::fchmod(&file, mode_of(entry))?;
                }
                if !has_time(stat, &wanted) {
                    rustix::fs::futimens(&file, &wanted)?;
                }
                return self.mark_of(dir, path, name, entry, part.epoch);
            }
        }
        if there.as_ref().is_some_and(|it| is(it, FileType::Directory)) {
            remove(dir.as_fd(), name, 0)?;
        }
        let mut source = part.view.file(folder, name, entry)?;
        self.put(dir, name, |file| {
            let n = io::copy(&mut source, file)?;
            let done = self.bytes.fetch_add(n, Ordering::Relaxed) + n;
            (self.moved)(done);
            for (key, value) in at::xattrs(&source).unwrap_or_default() {
                // Kept where the file system and our rights allow.
                rustix::fs::fsetxattr(&*file, &key, &value, XattrFlags::empty()).ok();
            }
            rustix::fs::fchmod(&*file, mode_of(entry))?;
            Ok(rustix::fs::futimens(&*file, &times(entry, part.epoch))?)
        })?;
        self.mark_of(dir, path, name, entry, part.epoch)
    }

    fn mark_of(&self, dir: &OwnedFd, path: &Path, name: &OsStr, entry: &Entry, epoch: Option<i64>) -> io::Result<Mark> {
        match at::stat(dir.as_fd(), name)? {
            Some(stat) => Ok(mark(path, entry, epoch, &stat)),
            None => Err(io::Error::other("someone else removed it meanwhile")),
        }
    }

    /// Makes a file aside and gives it its name.
    fn put(&self, dir: &OwnedFd, name: &OsStr, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = self.temporary.name();
        let mut file = File::from(rustix::fs::openat(&self.temporary.dir, &made, flags, Mode::from_raw_mode(0o600))?);
        fill(&mut file)?;
        drop(file);
        match rustix::fs::renameat(&self.temporary.dir, &made, dir, name) {
            Err(Errno::XDEV) => self.across(&made, dir, name),
            result => Ok(result?),
        }
    }

    /// The destination has a mount point in it: the file is copied once more, beside its final name.
    fn across(&self, made: &str, dir: &OwnedFd, name: &OsStr) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut from = at::file(self.temporary.dir.as_fd(), Path::new(made))?;
        let stat = rustix::fs::fstat(&from)?;
        let beside = format!("{TEMPORARY}{}-{}", std::process::id(), self.temporary.name());
        let mut file = File::from(rustix::fs::openat(dir, &beside, flags, Mode::from_raw_mode(0o600))?);
        let mut finish = || {
            io::copy(&mut from, &mut file)?;
            rustix::fs::fchmod(&file, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
            rustix::fs::futimens(&file, &stat_times(&stat))?;
            Ok(rustix::fs::renameat(dir, &beside, dir, name)?)
        };
        let finished = finish();
        if finished.is_err() {
            rustix::fs::unlinkat(dir, &beside, AtFlags::empty()).ok();
        }
        finished
    }

    fn symlink(&self, dir: &OwnedFd, name: &OsStr, text: &OsStr, times: Timestamps) -> io::Result<()> {
        match at::stat(dir.as_fd(), name)? {
            Some(stat) if is(&stat, FileType::Symlink) && at::read_link(dir.as_fd(), name)? == text => {
                if !has_time(&stat, &times) {
                    rustix::fs::utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
                }
                return Ok(());
            }
            Some(stat) if is(&stat, FileType::Directory) => remove(dir.as_fd(), name, 0)?,
            _ => {}
        }
        let made = self.temporary.name();
        rustix::fs::symlinkat(text, &self.temporary.dir, &made)?;
        rustix::fs::utimensat(&self.temporary.dir, &made, &times, AtFlags::SYMLINK_NOFOLLOW)?;
        match rustix::fs::renameat(&self.temporary.dir, &made, dir, name) {
            Err(Errno::XDEV) => {
                rustix::fs::unlinkat(dir, name, AtFlags::empty()).ok();
                Ok(rustix::fs::symlinkat(text, dir, name)?)
            }
            result => Ok(result?),
        }
    }

    /// A device or pipe. A device that we may not make is left out.
    fn node(&self, dir: &OwnedFd, name: &OsStr, entry: &Entry, epoch: Option<i64>) -> io::Result<()> {
        let kind = match entry.kind {
            Kind::CharDev => FileType::CharacterDevice,
            Kind::BlockDev => FileType::BlockDevice,
            _ => FileType::Fifo,
        };
        let device = rustix::fs::makedev(entry.rdev.0, entry.rdev.1);
        match at::stat(dir.as_fd(), name)? {
            Some(stat) if is(&stat, kind) && (kind == FileType::Fifo || stat.st_rdev == device) => {
                if stat.st_mode & 0o7777 == entry.mode && has_time(&stat, &times(entry, epoch)) {
                    return Ok(());
                }
            }
            there => {
                if there.is_some() {
                    remove(dir.as_fd(), name, 0)?;
                }
                match rustix::fs::mknodat(dir, name, kind, Mode::from_raw_mode(0o600), device) {
                    Err(Errno::PERM) if kind != FileType::Fifo => return Ok(()),
                    result => result?,
                }
            }
        }
        rustix::fs::chmodat(dir, name, mode_of(entry), AtFlags::empty())?;
        Ok(rustix::fs::utimensat(dir, name, &times(entry, epoch), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Files with several names: the first is written, the others become names of it.
    fn links(&self, part: &Part) -> Result<(), Fault> {
        let mut linked = std::mem::take(&mut self.made.lock().expect("no holder of this lock panics").linked);
        linked.sort_by(|a, b| a.1.cmp(&b.1));
        let mut first: BTreeMap<(usize, (u64, u64)), PathBuf> = BTreeMap::new();
        let mut marks = Vec::new();
        for (source, path, entry) in &linked {
            let fail = |e| (self.path.join(path), e);
            let (parent, name) = (path.parent().unwrap_or(Path::new("")), path.file_name().unwrap_or_default());
            let dir = at::dir(self.root.as_fd(), parent).map_err(fail)?;
            if let Some(first) = first.get(&(entry.layer, entry.dev_ino)) {
                self.link(first, &dir, name).map_err(fail)?;
                continue;
            }
            let place = part.view.locate(source, crate::layer::view::Follow::No).map_err(fail)?;
            let folder = place.parent.ok_or_else(|| fail(io::ErrorKind::NotFound.into()))?;
            marks.push((path.clone(), entry.clone()));
            self.file(part, &folder, &dir, path, name, entry, true).map_err(fail)?;
            first.insert((entry.layer, entry.dev_ino), path.clone());
        }
        // Links change the stamp of what they are links to: marks are taken when all are made.
        let mut made = self.made.lock().expect("no holder of this lock panics");
        for (path, entry) in marks {
            let stat = at::stat_beneath(self.root.as_fd(), &path).map_err(|e| (self.path.join(&path), e))?;
            made.marks.extend(stat.map(|stat| mark(&path, &entry, part.epoch, &stat)));
        }
        Ok(())
    }

    fn link(&self, first: &Path, dir: &OwnedFd, name: &OsStr) -> io::Result<()> {
        let parent = at::dir(self.root.as_fd(), first.parent().unwrap_or(Path::new("")))?;
        let from = first.file_name().unwrap_or_default();
        let (a, b) = (at::stat(parent.as_fd(), from)?, at::stat(dir.as_fd(), name)?);
        if let (Some(a), Some(b)) = (&a, &b)
            && (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
        {
            return Ok(());
        }
        if b.is_some_and(|it| is(&it, FileType::Directory)) {
            remove(dir.as_fd(), name, 0)?;
        }
        let made = self.temporary.name();
        rustix::fs::linkat(&parent, from, &self.temporary.dir, &made, AtFlags::empty())?;
        Ok(rustix::fs::renameat(&self.temporary.dir, &made, dir, name)?)
    }

    fn extra(&self, base: &Path, name: &OsStr, bytes: &[u8], epoch: Option<i64>) -> io::Result<()> {
        let dir = at::dir(self.root.as_fd(), base)?;
        if at::stat(dir.as_fd(), name)?.is_some_and(|it| is(&it, FileType::Directory)) {
            remove(dir.as_fd(), name, 0)?;
        }
        self.put(&dir, name, |file| {
            file.write_all(bytes)?;
            match epoch {
                Some(epoch) => Ok(rustix::fs::futimens(&*file, &at_second(epoch))?),
                None => Ok(()),
            }
        })
    }
}

fn mode_of(entry: &Entry) -> Mode {
    Mode::from_raw_mode(entry.mode)
}

fn times(entry: &Entry, epoch: Option<i64>) -> Timestamps {
    match epoch {
        Some(epoch) => at_second(epoch),
        None => {
            let time = Timespec { tv_sec: entry.mtime.0, tv_nsec: entry.mtime.1.into() };
            Timestamps { last_access: time, last_modification: time }
        }
    }
}

const fn at_second(second: i64) -> Timestamps {
    let time = Timespec { tv_sec: second, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

#[expect(clippy::useless_conversion, reason = "the fields differ between architectures")]
fn stat_times(stat: &Stat) -> Timestamps {
    let nsec = i64::try_from(stat.st_mtime_nsec).unwrap_or(0);
    let time = Timespec { tv_sec: i64::from(stat.st_mtime), tv_nsec: nsec };
    Timestamps { last_access: time, last_modification: time }
}

/// Whether a file has the time that it should have, or may have any.
fn has_time(stat: &Stat, wanted: &Timestamps) -> bool {
    let (now, wanted) = (stat_times(stat).last_modification, wanted.last_modification);
    wanted.tv_nsec == rustix::fs::UTIME_OMIT || (now.tv_sec, now.tv_nsec) == (wanted.tv_sec, wanted.tv_nsec)
}

/// Source and destination as they are now, in 16 bytes.
fn mark(path: &Path, entry: &Entry, epoch: Option<i64>, stat: &Stat) -> Mark {
    let mut hasher = FieldHasher::new("mark/1");
    hasher.bytes(path.as_os_str().as_bytes());
    hasher.number(entry.dev_ino.0).number(entry.dev_ino.1).number(entry.size).number(u64::from(entry.mode));
    hasher.number(entry.mtime.0.cast_unsigned()).number(entry.mtime.1.into());
    hasher.number(entry.ctime.0.cast_unsigned()).number(entry.ctime.1.into());
    hasher.optional(epoch.map(|it| it.to_string()).as_deref());
    stamp(&mut hasher, stat);
    let mut mark = [0; 16];
    mark.copy_from_slice(&hasher.finish().raw()[..16]);
    mark
}

fn same_content(a: &mut File, b: &mut File) -> io::Result<bool> {
    let (mut one, mut two) = (vec![0; 128 << 10], vec![0; 128 << 10]);
    loop {
        let n = fill(a, &mut one)?;
        if fill(b, &mut two)? != n || one[..n] != two[..n] {
            return Ok(false);
        }
        if n == 0 {
            return Ok(true);
        }
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut n = 0;
    while n < buffer.len() {
        match file.read(&mut buffer[n..]) {
            Ok(0) => break,
            Ok(more) => n += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(n)
}

/// Removes a name and all below it, following no link.
fn remove(dir: BorrowedFd<'_>, name: &OsStr, depth: usize) -> io::Result<()> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(Errno::NOENT) => return Ok(()),
        result => return Ok(result?),
    }
    if depth > DEEPEST {
        return Err(too_deep());
    }
    let below = at::dir(dir, Path::new(name))?;
    for inner in at::names(below.as_fd())? {
        remove(below.as_fd(), &inner, depth + 1)?;
    }
    Ok(rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)?)
}

/// Removes what is not to be kept.
fn remove_others(root: BorrowedFd<'_>, path: &Path, keep: &HashSet<&Path>, depth: usize) -> Result<(), Fault> {
    let fail = |e| (path.to_owned(), e);
    if depth > DEEPEST {
        return Err(fail(too_deep()));
    }
    let dir = at::dir(root, path).map_err(fail)?;
    for name in at::names(dir.as_fd()).map_err(fail)? {
        let inner = path.join(&name);
        let ours = path.as_os_str().is_empty() && name.as_bytes().starts_with(TEMPORARY.as_bytes());
        if ours {
            continue;
        }
        if !keep.contains(inner.as_path()) {
            remove(dir.as_fd(), &name, 0).map_err(|e| (inner, e))?;
        } else if at::stat(dir.as_fd(), &name).map_err(fail)?.is_some_and(|it| is(&it, FileType::Directory)) {
            remove_others(root, &inner, keep, depth + 1)?;
        }
    }
    Ok(())
}

/// Gives folders their attributes, the deepest first, so that writing below changes nothing any more.
fn finish_folders(root: &OwnedFd, folders: &[(PathBuf, Mode, Timestamps, Xattrs)]) -> Result<(), Fault> {
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

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    };

    use super::*;

    struct Rig {
        folder: tempfile::TempDir,
    }

    impl Rig {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a temporary folder");
            fs::create_dir_all(folder.path().join("tree/sub")).expect("writable");
            fs::write(folder.path().join("tree/a"), "one").expect("writable");
            fs::write(folder.path().join("tree/sub/b"), "two").expect("writable");
            symlink("a", folder.path().join("tree/l")).expect("writable");
            Self { folder }
        }

        fn tree(&self, path: &str) -> PathBuf {
            self.folder.path().join("tree").join(path)
        }

        fn out(&self, path: &str) -> PathBuf {
            self.folder.path().join("out").join(path)
        }

        fn part(&self, tree: &str, folder: Option<&str>, platform: &str) -> Part {
            let view = View::open(&[self.folder.path().join(tree)]).expect("there");
            Part {
                view,
                folder: folder.map(str::to_owned),
                platform: platform.to_owned(),
                epoch: None,
                extra: Vec::new(),
            }
        }

        fn write(&self, delete: bool, known: &[Mark]) -> Result<Written, Fault> {
            let known = known.iter().copied().collect();
            write(&[self.part("tree", None, "p")], &self.out(""), delete, &known, &|_| {})
        }

        fn names(&self) -> Vec<String> {
            let mut names = Vec::new();
            let mut folders = vec![self.out("")];
            while let Some(folder) = folders.pop() {
                for entry in fs::read_dir(folder).expect("there") {
                    let path = entry.expect("readable").path();
                    let name = path.strip_prefix(self.out("")).expect("below");
                    names.push(name.to_string_lossy().into_owned());
                    if path.is_dir() && !path.is_symlink() {
                        folders.push(path);
                    }
                }
            }
            names.sort();
            names
        }
    }

    fn inode(path: &Path) -> (u64, i64) {
        let meta = fs::symlink_metadata(path).expect("there");
        (meta.ino(), meta.ctime_nsec())
    }

    #[test]
    fn only_what_changed_is_written() {
        let rig = Rig::new();
        let first = rig.write(false, &[]).expect("written");
        assert_eq!(first.bytes, 6);
        assert_eq!(rig.names(), ["a", "l", "sub", "sub/b"]);
        let before = (inode(&rig.out("a")), inode(&rig.out("sub/b")));
        fs::write(rig.tree("sub/b"), "TWO").expect("writable");
        let second = rig.write(false, &first.marks).expect("written");
        assert_eq!((second.bytes, inode(&rig.out("a"))), (3, before.0));
        assert_ne!(inode(&rig.out("sub/b")), before.1);
        let third = rig.write(false, &[]).expect("compared");
        assert_eq!((third.bytes, inode(&rig.out("a"))), (0, before.0), "equal content is left alone without marks");
    }

    #[test]
    fn a_file_that_the_user_changed_is_written_again() {
        let rig = Rig::new();
        let first = rig.write(false, &[]).expect("written");
        let meta = fs::metadata(rig.out("a")).expect("there");
        fs::write(rig.out("a"), "ONE").expect("writable");
        let file = fs::File::options().write(true).open(rig.out("a")).expect("there");
        file.set_modified(meta.modified().expect("known")).expect("ours");
        rig.write(false, &first.marks).expect("written");
        assert_eq!(fs::read(rig.out("a")).expect("there"), b"one");
    }

    #[test]
    fn delete_mirrors_and_copy_keeps() {
        let rig = Rig::new();
        fs::create_dir_all(rig.out("stale/x")).expect("writable");
        fs::write(rig.out("mine"), "mine").expect("writable");
        rig.write(false, &[]).expect("written");
        assert!(rig.names().contains(&"mine".to_owned()));
        rig.write(true, &[]).expect("written");
        assert_eq!(rig.names(), ["a", "l", "sub", "sub/b"]);
    }

    #[test]
    fn what_is_in_the_way_is_replaced_and_no_link_followed() {
        let rig = Rig::new();
        let outside = rig.folder.path().join("outside");
        fs::create_dir_all(&outside).expect("writable");
        fs::create_dir_all(rig.out("a/x")).expect("writable");
        symlink(&outside, rig.out("sub")).expect("writable");
        fs::create_dir_all(rig.out("l")).expect("writable");
        rig.write(false, &[]).expect("written");
        assert_eq!(rig.names(), ["a", "l", "sub", "sub/b"]);
        assert_eq!(fs::read_dir(&outside).expect("there").count(), 0);
    }

    #[test]
    fn modes_times_and_hard_links_are_kept() {
        let rig = Rig::new();
        fs::set_permissions(rig.tree("a"), fs::Permissions::from_mode(0o4711)).expect("ours");
        fs::set_permissions(rig.tree("sub"), fs::Permissions::from_mode(0o1777)).expect("ours");
        fs::hard_link(rig.tree("a"), rig.tree("sub/c")).expect("writable");
        let first = rig.write(false, &[]).expect("written");
        let meta = fs::metadata(rig.out("a")).expect("there");
        assert_eq!((meta.mode() & 0o7777, meta.nlink()), (0o4711, 2));
        assert_eq!(meta.ino(), fs::metadata(rig.out("sub/c")).expect("there").ino());
        assert_ne!(meta.ino(), fs::metadata(rig.tree("a")).expect("there").ino());
        assert_eq!(meta.mtime_nsec(), fs::metadata(rig.tree("a")).expect("there").mtime_nsec());
        assert_eq!(fs::metadata(rig.out("sub")).expect("there").mode() & 0o7777, 0o1777);
        let second = rig.write(false, &first.marks).expect("written");
        assert_eq!((second.bytes, fs::metadata(rig.out("a")).expect("there").ino()), (0, meta.ino()));
    }

    #[test]
    fn platforms_have_folders_or_must_not_clash() {
        let rig = Rig::new();
        let split = [rig.part("tree", Some("linux_a"), "linux/a"), rig.part("tree", Some("linux_b"), "linux/b")];
        write(&split, &rig.out(""), false, &HashSet::new(), &|_| {}).expect("written");
        assert!(rig.names().contains(&"linux_b/sub/b".to_owned()));
        let merged = [rig.part("tree", None, "linux/a"), rig.part("tree", None, "linux/b")];
        let (_, error) = write(&merged, &rig.out(""), false, &HashSet::new(), &|_| {}).err().expect("they clash");
        let text = error.to_string();
        assert!(text.contains("linux/a") && text.contains("linux/b") && text.contains("cannot overwrite"), "{text}");
    }

    #[test]
    fn the_fingerprint_sees_every_change() {
        let rig = Rig::new();
        rig.write(false, &[]).expect("written");
        let print = || fingerprint(&rig.out(""), 100).expect("readable").expect("not too much");
        let first = print();
        assert_eq!(first, print());
        assert_eq!(fingerprint(&rig.out(""), 3).expect("readable"), None);
        fs::write(rig.out("sub/new"), "").expect("writable");
        let second = print();
        assert_ne!(first, second);
        fs::set_permissions(rig.out("sub/b"), fs::Permissions::from_mode(0o600)).expect("ours");
        assert_ne!(second, print());
    }
}
