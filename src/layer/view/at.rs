//! File access relative to an open directory, that no link or `..` of hostile content can lead outside.
//!
//! Every path is relative to the directory given and holds no link: the caller interprets links (`view::locate`).

use std::{
    ffi::{CStr, OsStr, OsString},
    fs::File,
    io,
    mem::MaybeUninit,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Component, Path},
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, Stat},
    io::Errno,
};

use super::{EntryKind, ViewEntry, owners};

const DIR: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);
/// Longer paths are opened in pieces: the kernel takes less than 4096 bytes at once.
const PIECE: usize = 3000;

/// Set when the kernel (or a filter around us) has no `openat2`.
static NO_OPENAT2: AtomicBool = AtomicBool::new(false);

/// The extended attribute with which overlayfs marks opaque directories in this process's user namespace.
pub(crate) fn opaque_xattr() -> &'static str {
    static NAME: OnceLock<&'static str> = OnceLock::new();
    NAME.get_or_init(|| {
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        let whole = map.split_whitespace().eq(["0", "0", "4294967295"]);
        if whole && rustix::process::geteuid().is_root() { "trusted.overlay.opaque" } else { "user.overlay.opaque" }
    })
}

/// The extended attribute with which overlayfs says what a renamed directory shows; `None` where it makes no such notes
/// (in a user namespace).
pub(crate) fn redirect_xattr() -> Option<&'static str> {
    opaque_xattr().starts_with("trusted.").then_some("trusted.overlay.redirect")
}

/// Opens a directory of the host by its path.
pub(crate) fn host_dir(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Opens a directory below `dir` for listing. The empty path is `dir` itself.
pub(crate) fn dir(dir: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    open(dir, path, OFlags::RDONLY | DIR)
}

/// Opens a regular file below `dir` for reading; anything else is an error and never blocks.
pub(crate) fn file(dir: BorrowedFd<'_>, path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(open(dir, path, flags)?);
    if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) != FileType::RegularFile {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok(file)
}

fn open(dir: BorrowedFd<'_>, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    if path.as_os_str().len() <= PIECE && !NO_OPENAT2.load(Ordering::Relaxed) {
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..100 {
            match rustix::fs::openat2(dir, path, flags, Mode::empty(), how) {
                Err(Errno::AGAIN | Errno::INTR) => (),
                Err(Errno::NOSYS | Errno::PERM | Errno::INVAL) => break,
                other => return Ok(other?),
            }
        }
        // EPERM and EINVAL have other causes too; the walk below finds out.
        if matches!(rustix::fs::openat2(dir, ".", DIR, Mode::empty(), how), Err(Errno::NOSYS | Errno::PERM)) {
            NO_OPENAT2.store(true, Ordering::Relaxed);
        }
    }
    let mut names = path.components().peekable();
    let mut at: Option<OwnedFd> = None;
    while let Some(name) = names.next() {
        let name: &Path = match name {
            Component::Normal(name) => name.as_ref(),
            Component::CurDir => Path::new("."),
            _ => return Err(Errno::XDEV.into()),
        };
        let here = at.as_ref().map_or(dir, |it| it.as_fd());
        let flags = if names.peek().is_some() { OFlags::PATH | DIR } else { flags | OFlags::NOFOLLOW };
        let next = rustix::fs::openat(here, name, flags, Mode::empty())?;
        at = Some(next);
    }
    at.ok_or_else(|| Errno::NOENT.into())
}

/// The entry `name` (one name without a slash) of an open directory; `None` if it is not there.
pub(crate) fn stat(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<Option<Stat>> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => owners::of_entry(dir, name, stat).map(Some),
        Err(Errno::NOENT | Errno::NAMETOOLONG) => Ok(None),
        Err(err) => Err(err.into()),
    }
}

/// The `stat` data of a path below `dir`. `None` if it, or a directory on the way, is not there.
pub(crate) fn stat_beneath(dir: BorrowedFd<'_>, path: &Path) -> io::Result<Option<Stat>> {
    let Some(name) = path.file_name() else { return owners::of(dir, rustix::fs::fstat(dir)?).map(Some) };
    match path.parent().filter(|it| !it.as_os_str().is_empty()) {
        None => stat(dir, name),
        Some(parent) => match open(dir, parent, OFlags::PATH | DIR) {
            Ok(parent) => stat(parent.as_fd(), name),
            Err(err) if is_absent(&err) => Ok(None),
            Err(err) => Err(err),
        },
    }
}

/// Whether an error says that nothing is at a path: a name is missing or too long, a parent is no directory, or there is
/// a link where none is followed.
pub(crate) fn is_absent(err: &io::Error) -> bool {
    let code = err.raw_os_error();
    [Errno::NOENT, Errno::NOTDIR, Errno::LOOP, Errno::NAMETOOLONG].iter().any(|it| code == Some(it.raw_os_error()))
}

/// Makes an entry of layer `layer` of `stat` data.
#[expect(clippy::unnecessary_cast, reason = "the fields differ between architectures")]
pub(crate) fn entry(stat: &Stat, layer: usize) -> ViewEntry {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => EntryKind::Dir,
        FileType::Symlink => EntryKind::Symlink,
        FileType::Fifo => EntryKind::Fifo,
        FileType::Socket => EntryKind::Socket,
        FileType::CharacterDevice => EntryKind::CharDev,
        FileType::BlockDevice => EntryKind::BlockDev,
        _ => EntryKind::File,
    };
    let device = matches!(kind, EntryKind::CharDev | EntryKind::BlockDev);
    let rdev = stat.st_rdev as u64;
    ViewEntry {
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: if matches!(kind, EntryKind::File | EntryKind::Symlink) { stat.st_size as u64 } else { 0 },
        mtime: (stat.st_mtime as i64, stat.st_mtime_nsec as u32),
        ctime: (stat.st_ctime as i64, stat.st_ctime_nsec as u32),
        rdev: if device { (rustix::fs::major(rdev), rustix::fs::minor(rdev)) } else { (0, 0) },
        nlink: stat.st_nlink as u64,
        dev_ino: (stat.st_dev as u64, stat.st_ino as u64),
        layer,
    }
}

/// Lists an open directory, in the order of the file system, without `.` and `..`.
pub(crate) fn names(dir: BorrowedFd<'_>) -> io::Result<Vec<OsString>> {
    let mut buffer = [const { MaybeUninit::<u8>::uninit() }; 32 * 1024];
    let mut entries = RawDir::new(dir, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name: &CStr = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(OsStr::from_bytes(name.to_bytes()).to_owned());
        }
    }
    Ok(names)
}

/// Lists the directories in an open directory, in the order of the file system.
pub(crate) fn subdirectories(dir: BorrowedFd<'_>) -> io::Result<Vec<OsString>> {
    let mut buffer = [const { MaybeUninit::<u8>::uninit() }; 32 * 1024];
    let mut entries = RawDir::new(dir, &mut buffer);
    let mut found = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        let is_dir = match entry.file_type() {
            FileType::Directory => true,
            FileType::Unknown => {
                let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
                FileType::from_raw_mode(stat.st_mode) == FileType::Directory
            }
            _ => false,
        };
        if is_dir && !matches!(name.to_bytes(), b"." | b"..") {
            found.push(OsStr::from_bytes(name.to_bytes()).to_owned());
        }
    }
    Ok(found)
}

/// Reads the text of a symbolic link in an open directory.
pub(crate) fn read_link(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<OsString> {
    Ok(OsString::from_vec(rustix::fs::readlinkat(dir, name, Vec::new())?.into_bytes()))
}

/// Extended attributes that are content of a tree: `user.*`, `trusted.*` and `security.capability`, without those that
/// overlayfs and `bake` use themselves. Sorted by name.
pub(crate) fn xattrs(file: impl AsFd) -> io::Result<Vec<(OsString, Vec<u8>)>> {
    let fd = file.as_fd();
    collect_xattrs(|list| rustix::fs::flistxattr(fd, list), |name, value| rustix::fs::fgetxattr(fd, name, value))
}

/// As [`xattrs`], of `name` in an open directory, which may be a link or a device.
pub(crate) fn xattrs_of(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<Vec<(OsString, Vec<u8>)>> {
    let path = by_number(dir, name);
    collect_xattrs(|list| rustix::fs::llistxattr(&path, list), |name, value| rustix::fs::lgetxattr(&path, name, value))
}

/// A path below `/proc/self/fd` that leads through an open directory, for system calls that take no directory descriptor.
/// `name` must be one name; the `l…` calls do not follow it if it is a link.
pub(crate) fn by_number(dir: BorrowedFd<'_>, name: &OsStr) -> std::path::PathBuf {
    Path::new(&format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name)
}

/// Whether an extended attribute is content of a tree and goes into layers.
pub(crate) fn is_content_xattr(name: &[u8]) -> bool {
    let internal =
        [&b"trusted.overlay."[..], b"user.overlay.", owners::OWN_PREFIX].iter().any(|it| name.starts_with(it));
    name == b"security.capability" || !internal && (name.starts_with(b"user.") || name.starts_with(b"trusted."))
}

fn collect_xattrs(
    list: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
    get: impl Fn(&OsStr, &mut [u8]) -> rustix::io::Result<usize>,
) -> io::Result<Vec<(OsString, Vec<u8>)>> {
    let unsupported = |err: Errno| matches!(err, Errno::NOTSUP | Errno::NOSYS | Errno::PERM | Errno::ACCESS);
    let mut small = [0_u8; 512];
    let names = match list(&mut small) {
        Ok(0) => return Ok(Vec::new()),
        Ok(n) => small[..n].to_vec(),
        Err(Errno::RANGE) => {
            // The kernel's own limit for a list is 64 KiB.
            let mut large = vec![0_u8; 64 * 1024];
            let n = list(&mut large)?;
            large.truncate(n);
            large
        }
        Err(err) if unsupported(err) => return Ok(Vec::new()),
        Err(err) => return Err(err.into()),
    };
    let mut found = Vec::new();
    for name in names.split(|it| *it == 0).filter(|it| is_content_xattr(it)) {
        let name = OsStr::from_bytes(name);
        let mut value = vec![0_u8; 64 * 1024];
        match get(name, &mut value) {
            Ok(n) => {
                value.truncate(n);
                value.shrink_to_fit();
                found.push((name.to_owned(), value));
            }
            // It was removed meanwhile, or may not be read.
            Err(Errno::NODATA) => (),
            Err(err) if unsupported(err) => (),
            Err(err) => return Err(err.into()),
        }
    }
    found.sort();
    Ok(found)
}

/// Whether an open directory carries the opaque mark.
pub(crate) fn is_opaque(dir: impl AsFd) -> io::Result<bool> {
    let mut value = [0_u8; 4];
    match rustix::fs::fgetxattr(dir, opaque_xattr(), &mut value[..]) {
        Ok(n) => Ok(value[..n] == *b"y"),
        Err(Errno::NODATA | Errno::NOTSUP | Errno::RANGE) => Ok(false),
        Err(err) => Err(err.into()),
    }
}
