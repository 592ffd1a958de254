//! One name of the destination at a time: a file, link, device or folder is left alone when it is as it should be, else
//! made aside and renamed.

use std::{
    collections::{BTreeSet, HashSet},
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, Timestamps, XattrFlags},
    io::Errno,
};

use super::{
    attributes::{at_second, has_owner, has_wanted_mtime, is, mode_of, own, own_name, stat_times, times},
    clear::{TEMPORARY, TemporaryFolder, remove},
};
use crate::{
    export::{
        remember::{FileMark, mark},
        write::part::TreePart,
    },
    layer::{
        copy_data,
        view::{EntryKind, LocateWalk as _, ViewEntry, ViewFolder, at},
    },
    spec::local::{LocalAccess, SpecialFiles},
};

/// Writes the files of a result into one destination directory, one name at a time; shared by the threads that walk.
pub(super) struct FolderJob<'a> {
    pub(super) root: &'a OwnedFd,
    pub(super) temporary: &'a TemporaryFolder<'a>,
    /// Marks of the files that earlier exports wrote here.
    pub(super) known: &'a HashSet<FileMark>,
    /// Called with the number of bytes written so far.
    pub(super) moved: &'a (dyn Fn(u64) + Sync),
    pub(super) access: &'a LocalAccess,
    /// The file systems cannot copy in the kernel.
    pub(super) no_range: AtomicBool,
    pub(super) bytes: AtomicU64,
    /// What was made harmless so far, relative to the destination.
    pub(super) dropped: Mutex<BTreeSet<PathBuf>>,
}

/// The set-user-ID and set-group-ID bits.
const SPECIAL_BITS: u32 = 0o6000;
/// The extended attribute that holds file capabilities (`capabilities(7)`).
const CAPABILITIES: &str = "security.capability";

impl FolderJob<'_> {
    /// The entry as it is made here: with the mode that was asked for, without special bits, and not at all when it is a
    /// device.
    ///
    /// The name of a file of root with the set-user-ID bit, or of a device, would give its rights to every user of this
    /// machine.
    pub(super) fn as_made(&self, parent: &Path, name: OsString, mut entry: ViewEntry) -> Option<(OsString, ViewEntry)> {
        if entry.kind != EntryKind::Symlink {
            entry.mode = self.changed_mode(entry.mode, entry.kind == EntryKind::Dir);
        }
        if self.access.special == SpecialFiles::Keep {
            return Some((name, entry));
        }
        match entry.kind {
            EntryKind::CharDev | EntryKind::BlockDev => {
                self.drop_special(&parent.join(&name));
                return None;
            }
            EntryKind::File if entry.mode & SPECIAL_BITS != 0 => {
                self.drop_special(&parent.join(&name));
                entry.mode &= !SPECIAL_BITS;
            }
            _ => {}
        }
        Some((name, entry))
    }

    /// A mode after the option `chmod`.
    pub(super) fn changed_mode(&self, mode: u32, is_dir: bool) -> u32 {
        match &self.access.chmod {
            Some(change) => change.apply(mode, is_dir).expect("the change was parsed"),
            None => mode,
        }
    }

    fn drop_special(&self, path: &Path) {
        self.dropped.lock().expect("no holder of this lock panics").insert(path.to_owned());
    }

    /// Makes the directory `name` in `parent`, in place of whatever else has its name; one that exists stays.
    pub(super) fn folder(&self, parent: &Path, name: &OsStr) -> io::Result<()> {
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

    /// Makes an entry that is neither a directory nor a file with several names. Returns the mark of a regular file,
    /// else `None`; sockets are left out.
    pub(super) fn other(
        &self,
        part: &TreePart,
        folder: &ViewFolder,
        dir: &OwnedFd,
        dest: &Path,
        name: &OsStr,
        entry: &ViewEntry,
    ) -> io::Result<Option<FileMark>> {
        match entry.kind {
            EntryKind::File => self.file(part, folder, dir, &dest.join(name), name, entry, false).map(Some),
            EntryKind::Symlink => {
                let text = part.view.link_text(folder, name, entry)?;
                self.symlink(dir, name, &text, times(entry, part.epoch)).map(|()| None)
            }
            EntryKind::Fifo | EntryKind::CharDev | EntryKind::BlockDev => {
                self.node(dir, name, entry, part.epoch).map(|()| None)
            }
            EntryKind::Socket | EntryKind::Dir => Ok(None),
        }
    }

    /// Writes a regular file, unless it is there with the same content, and returns its mark.
    ///
    /// A file whose mark is known is not read; one of the same length is compared, and only its mode and time are set.
    /// All others are written in the temporary folder and get their name by rename. `path` is `name` seen from the
    /// destination; `linked` says that the file has several names in the result.
    #[expect(clippy::too_many_arguments, reason = "where from, where to, and what: none groups with another")]
    pub(super) fn file(
        &self,
        part: &TreePart,
        folder: &ViewFolder,
        dir: &OwnedFd,
        path: &Path,
        name: &OsStr,
        entry: &ViewEntry,
        linked: bool,
    ) -> io::Result<FileMark> {
        let there = at::stat(dir.as_fd(), name)?;
        if let Some(stat) = there.as_ref().filter(|it| is(it, FileType::RegularFile)) {
            let mark = mark(path, entry, part.epoch, self.access.chown, stat);
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
                let is_owned = has_owner(stat, self.access.chown);
                if !is_owned {
                    own(&file, self.access.chown)?;
                }
                if !is_owned || stat.st_mode & 0o7777 != entry.mode {
                    rustix::fs::fchmod(&file, mode_of(entry))?;
                }
                if self.access.special == SpecialFiles::Drop {
                    // Left by an export that kept them, or by someone else: mostly there is none.
                    rustix::fs::fremovexattr(&file, CAPABILITIES).ok();
                }
                if !has_wanted_mtime(stat, &wanted) {
                    rustix::fs::futimens(&file, &wanted)?;
                }
                return self.mark_of(dir, path, name, entry, part.epoch);
            }
        }
        if there.as_ref().is_some_and(|it| is(it, FileType::Directory)) {
            remove(dir.as_fd(), name, 0)?;
        }
        let source = part.view.file(folder, name, entry)?;
        self.put(dir, name, |file| {
            copy_data(&source, file, entry.size, &self.no_range)?;
            let done = self.bytes.fetch_add(entry.size, Ordering::Relaxed) + entry.size;
            (self.moved)(done);
            for (key, value) in at::xattrs(&source).unwrap_or_default() {
                if key == CAPABILITIES && self.access.special == SpecialFiles::Drop {
                    self.drop_special(path);
                    continue;
                }
                // Kept where the file system and our rights allow.
                rustix::fs::fsetxattr(&*file, &key, &value, XattrFlags::empty()).ok();
            }
            own(&*file, self.access.chown)?;
            rustix::fs::fchmod(&*file, mode_of(entry))?;
            Ok(rustix::fs::futimens(&*file, &times(entry, part.epoch))?)
        })?;
        self.mark_of(dir, path, name, entry, part.epoch)
    }

    fn mark_of(
        &self,
        dir: &OwnedFd,
        path: &Path,
        name: &OsStr,
        entry: &ViewEntry,
        epoch: Option<i64>,
    ) -> io::Result<FileMark> {
        match at::stat(dir.as_fd(), name)? {
            Some(stat) => Ok(mark(path, entry, epoch, self.access.chown, &stat)),
            None => Err(io::Error::other("someone else removed it meanwhile")),
        }
    }

    /// Makes a file aside and gives it its name.
    fn put(&self, dir: &OwnedFd, name: &OsStr, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = self.temporary.next_name();
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
        let from = at::file(self.temporary.dir.as_fd(), Path::new(made))?;
        let stat = rustix::fs::fstat(&from)?;
        let beside = format!("{TEMPORARY}{}-{}", std::process::id(), self.temporary.next_name());
        let file = File::from(rustix::fs::openat(dir, &beside, flags, Mode::from_raw_mode(0o600))?);
        let finish = || {
            copy_data(&from, &file, from.metadata()?.len(), &self.no_range)?;
            own(&file, self.access.chown)?;
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
                if !has_owner(&stat, self.access.chown) {
                    own_name(dir.as_fd(), name, self.access.chown)?;
                }
                if !has_wanted_mtime(&stat, &times) {
                    rustix::fs::utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
                }
                return Ok(());
            }
            Some(stat) if is(&stat, FileType::Directory) => remove(dir.as_fd(), name, 0)?,
            _ => {}
        }
        let made = self.temporary.next_name();
        rustix::fs::symlinkat(text, &self.temporary.dir, &made)?;
        own_name(self.temporary.dir.as_fd(), OsStr::new(&made), self.access.chown)?;
        rustix::fs::utimensat(&self.temporary.dir, &made, &times, AtFlags::SYMLINK_NOFOLLOW)?;
        match rustix::fs::renameat(&self.temporary.dir, &made, dir, name) {
            Err(Errno::XDEV) => {
                rustix::fs::unlinkat(dir, name, AtFlags::empty()).ok();
                rustix::fs::symlinkat(text, dir, name)?;
                own_name(dir.as_fd(), name, self.access.chown)
            }
            result => Ok(result?),
        }
    }

    /// A device or pipe. A device that we may not make is left out.
    fn node(&self, dir: &OwnedFd, name: &OsStr, entry: &ViewEntry, epoch: Option<i64>) -> io::Result<()> {
        let kind = match entry.kind {
            EntryKind::CharDev => FileType::CharacterDevice,
            EntryKind::BlockDev => FileType::BlockDevice,
            _ => FileType::Fifo,
        };
        let device = rustix::fs::makedev(entry.rdev.0, entry.rdev.1);
        match at::stat(dir.as_fd(), name)? {
            Some(stat) if is(&stat, kind) && (kind == FileType::Fifo || stat.st_rdev == device) => {
                let has_attributes = stat.st_mode & 0o7777 == entry.mode && has_owner(&stat, self.access.chown);
                if has_attributes && has_wanted_mtime(&stat, &times(entry, epoch)) {
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
        own_name(dir.as_fd(), name, self.access.chown)?;
        rustix::fs::chmodat(dir, name, mode_of(entry), AtFlags::empty())?;
        Ok(rustix::fs::utimensat(dir, name, &times(entry, epoch), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Makes `name` in `dir` a hard link to `first`, a path from the destination that was written before. A link that
    /// exists stays.
    pub(super) fn link(&self, first: &Path, dir: &OwnedFd, name: &OsStr) -> io::Result<()> {
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
        let made = self.temporary.next_name();
        rustix::fs::linkat(&parent, from, &self.temporary.dir, &made, AtFlags::empty())?;
        Ok(rustix::fs::renameat(&self.temporary.dir, &made, dir, name)?)
    }

    /// Writes a file that is not of the result, such as a provenance statement, into the directory `base` of the
    /// destination.
    pub(super) fn extra(&self, base: &Path, name: &OsStr, bytes: &[u8], epoch: Option<i64>) -> io::Result<()> {
        let dir = at::dir(self.root.as_fd(), base)?;
        if at::stat(dir.as_fd(), name)?.is_some_and(|it| is(&it, FileType::Directory)) {
            remove(dir.as_fd(), name, 0)?;
        }
        self.put(&dir, name, |file| {
            file.write_all(bytes)?;
            own(&*file, self.access.chown)?;
            rustix::fs::fchmod(&*file, Mode::from_raw_mode(self.changed_mode(0o600, false)))?;
            match epoch {
                Some(epoch) => Ok(rustix::fs::futimens(&*file, &at_second(epoch))?),
                None => Ok(()),
            }
        })
    }
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
