//! Files that an export writes: made beside their destination under another name, and renamed when whole.
//!
//! Everything is done relative to an open directory and follows no link there: what was granted is what is written, even
//! if another export of the same plan has put links in the way. An export that fails leaves what was there. What a killed
//! one left beside the destination, the next one removes: the temporary file is locked while its maker lives.
//!
//! Nothing is synced before it is renamed: like `cp` and `tar`, an export promises its files to the next process, not to
//! the next boot. That no receipt relies on bytes lost with the power is held in `remember`.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, flock},
    io::Errno,
};

use crate::{export::remember::FileStamp, grant::GrantedWrite, layer::view::at};

/// An error of the system while writing, with the path that it is about.
pub(super) type WriteFault = (PathBuf, io::Error);

/// How often, and with which pause, a named pipe is asked whether somebody reads it.
const PIPE_TRIES: u32 = 100;
const PIPE_PAUSE: Duration = Duration::from_millis(50);

/// The file that an export writes: one that gets its name when it is whole, a device or pipe, or standard output.
pub(super) struct ExportDest {
    file: File,
    /// Nothing when written in place.
    rename: Option<DestRename>,
    written: u64,
}

/// What is renamed when a file is whole.
struct DestRename {
    dir: OwnedFd,
    temporary: OsString,
    name: OsString,
}

impl ExportDest {
    /// Standard output of this process, written in place: nothing is renamed, and a failed export leaves what it wrote.
    pub(super) fn stdout() -> io::Result<Self> {
        Ok(Self::in_place(File::from(rustix::io::dup(io::stdout())?)))
    }

    /// Starts the file of a granted path, making missing parents.
    ///
    /// # Errors
    /// Those of the system; also when a part of the path has become a link since it was granted.
    pub(super) fn open(place: &GrantedWrite) -> io::Result<Self> {
        if let Some(file) = place.open_unnamed()? {
            return Ok(Self::in_place(file));
        }
        let (dir, name) = place.make_parent()?;
        Self::open_at(dir, name.as_os_str())
    }

    /// Starts the file `name` in an open directory. A device or pipe that is there is written in place.
    ///
    /// # Errors
    /// Those of the system; also when nobody reads a pipe within five seconds.
    pub(super) fn open_at(dir: OwnedFd, name: &OsStr) -> io::Result<Self> {
        let there = at::stat(dir.as_fd(), name)?.map(|stat| FileType::from_raw_mode(stat.st_mode));
        let kinds = [FileType::CharacterDevice, FileType::BlockDevice, FileType::Fifo, FileType::Socket];
        if there.is_some_and(|kind| kinds.contains(&kind)) {
            return special(dir.as_fd(), name).map(Self::in_place);
        }
        sweep(dir.as_fd(), name);
        loop {
            let mut temporary = stem(name);
            temporary.push(format!("{}-{:08x}", std::process::id(), getrandom::u32().unwrap_or(0)));
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = File::from(rustix::fs::openat(&dir, &temporary, flags, Mode::from_raw_mode(0o666))?);
            flock(&file, FlockOperation::LockExclusive)?;
            // Whoever sweeps at this moment may have found it before it was locked, and taken it for one of a dead process.
            if rustix::fs::fstat(&file)?.st_nlink > 0 {
                let rename = DestRename { dir, temporary, name: name.to_owned() };
                return Ok(Self { file, rename: Some(rename), written: 0 });
            }
        }
    }

    const fn in_place(file: File) -> Self {
        Self { file, rename: None, written: 0 }
    }

    /// Appends all of an open file, copied by the kernel where it can; returns the number of bytes.
    pub(super) fn copy(&mut self, from: &mut File) -> io::Result<u64> {
        let n = io::copy(from, &mut self.file)?;
        self.written += n;
        Ok(n)
    }

    /// Copies the next `length` bytes of an open file, by the kernel where it can.
    ///
    /// # Errors
    /// Those of the system; also when the file ends before.
    pub(super) fn copy_part(&mut self, from: &mut File, length: u64) -> io::Result<()> {
        let n = io::copy(&mut from.take(length), &mut self.file)?;
        self.written += n;
        if n == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// The number of bytes written so far.
    pub(super) const fn written(&self) -> u64 {
        self.written
    }

    /// Renames the finished file to its name. The stamp is that of the whole file; stdout and devices have none.
    ///
    /// # Errors
    /// Those of the system; also when someone else has put another file of this name there meanwhile.
    pub(super) fn finish(mut self) -> io::Result<Option<FileStamp>> {
        self.file.flush()?;
        let Some(DestRename { dir, temporary, name }) = self.rename.take() else { return Ok(None) };
        if let Err(error) = rustix::fs::renameat(&dir, &temporary, &dir, &name) {
            rustix::fs::unlinkat(&dir, &temporary, AtFlags::empty()).ok();
            return Err(error.into());
        }
        // Of the open file: whatever has its name by now, this is what was written.
        FileStamp::of_file(&self.file).map(Some)
    }
}

impl ExportDest {
    /// The name that the file has until it is finished, and its lock; `None` for what is written in place.
    pub(super) fn temporary(&self) -> io::Result<Option<(OsString, File)>> {
        let Some(rename) = &self.rename else { return Ok(None) };
        Ok(Some((rename.temporary.clone(), self.file.try_clone()?)))
    }

    /// Leaves the whole file under its temporary name.
    pub(super) fn leave(mut self) -> io::Result<File> {
        self.file.flush()?;
        self.rename = None;
        self.file.try_clone()
    }
}

impl Write for ExportDest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.written += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for ExportDest {
    fn drop(&mut self) {
        if let Some(DestRename { dir, temporary, .. }) = &self.rename {
            rustix::fs::unlinkat(dir, temporary, AtFlags::empty()).ok();
        }
    }
}

/// Opens a device or a named pipe for writing. A pipe is waited for a while, never for ever.
fn special(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for _ in 0..PIPE_TRIES {
        match rustix::fs::openat(dir, name, flags, Mode::empty()) {
            Err(Errno::NXIO) => std::thread::sleep(PIPE_PAUSE),
            opened => {
                let file = opened?;
                // From here on a write waits for its reader, as it does for every other program.
                rustix::fs::fcntl_setfl(&file, OFlags::empty())?;
                return Ok(File::from(file));
            }
        }
    }
    Err(io::Error::other("it is a pipe that nobody reads, or a socket"))
}

/// How names of temporary files for `name` begin.
pub(super) fn stem(name: &OsStr) -> OsString {
    let mut stem = OsString::from(".");
    // Room for what follows, within 255 bytes.
    let bytes = name.as_bytes();
    let short = String::from_utf8_lossy(&bytes[..bytes.len().min(120)]).into_owned();
    stem.push(short);
    stem.push(".bake-");
    stem
}

/// Removes what killed exports left for a name.
fn sweep(dir: BorrowedFd<'_>, name: &OsStr) {
    let stem = stem(name);
    for left in at::names(dir).unwrap_or_default() {
        if !left.as_bytes().starts_with(stem.as_bytes()) {
            continue;
        }
        // Never blocks: what is no regular file was not made by an export, and stays.
        let Ok(file) = at::file(dir, Path::new(&left)) else { continue };
        // Locked until it is gone: its maker, if it is only about to lock it, then sees that it has to make another.
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            rustix::fs::unlinkat(dir, &left, AtFlags::empty()).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;
    use crate::grant::{Allowed, resolve};

    fn names(folder: &Path) -> Vec<OsString> {
        let mut names: Vec<OsString> =
            fs::read_dir(folder).expect("there").map(|it| it.expect("readable").file_name()).collect();
        names.sort();
        names
    }

    fn granted(path: &Path) -> GrantedWrite {
        let mut allowed = Allowed::default();
        allowed.allow(Path::new("*"), Path::new("/"));
        allowed.write(resolve(path, Path::new("/")).expect("a path")).expect("all is allowed")
    }

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a/b/out.tar");
        let dest = granted(&path);
        let mut place = ExportDest::open(&dest).expect("parents are made");
        place.write_all(b"new").expect("writable");
        assert!(!path.exists());
        let stamp = place.finish().expect("renamed").expect("a file");
        assert_eq!(FileStamp::of(&path).expect("there"), stamp);
        let mut failing = ExportDest::open(&dest).expect("again");
        failing.write_all(b"half").expect("writable");
        drop(failing);
        assert_eq!(fs::read(&path).expect("the old one"), b"new");
        assert_eq!(names(path.parent().expect("not the root")), ["out.tar"]);
    }

    #[test]
    fn what_a_killed_export_left_is_removed_and_a_living_ones_kept() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let dest = granted(&folder.path().join("out"));
        fs::write(folder.path().join(".out.bake-1-2"), "dead").expect("writable");
        let living = ExportDest::open(&dest).expect("one");
        let second = ExportDest::open(&dest).expect("two");
        assert_eq!(names(folder.path()).len(), 2);
        second.finish().expect("renamed");
        living.finish().expect("renamed");
        assert_eq!(names(folder.path()), ["out"]);
    }

    #[test]
    fn links_are_written_through_and_devices_in_place() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        fs::write(&real, "old").expect("writable");
        symlink("real", &link).expect("writable");
        let mut place = ExportDest::open(&granted(&link)).expect("through the link");
        place.write_all(b"new").expect("writable");
        place.finish().expect("renamed");
        assert!(link.is_symlink());
        assert_eq!(fs::read(&real).expect("there"), b"new");
        let null = ExportDest::open(&granted(Path::new("/dev/null"))).expect("a device");
        assert!(null.finish().expect("in place").is_none());
    }

    #[test]
    fn links_that_came_after_the_grant_are_not_followed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let outside = tempfile::tempdir().expect("a temporary folder");
        let (below, last) = (granted(&folder.path().join("evil/x")), granted(&folder.path().join("last")));
        symlink(outside.path(), folder.path().join("evil")).expect("writable");
        symlink(outside.path().join("victim"), folder.path().join("last")).expect("writable");
        ExportDest::open(&below).err().expect("a link is in the way");
        ExportDest::open(&last).expect("its name is free").finish().expect("the link is replaced");
        assert!(!folder.path().join("last").is_symlink());
        assert_eq!(fs::read_dir(outside.path()).expect("there").count(), 0);
    }

    #[test]
    fn pipes_beside_an_output_do_not_block_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = at::host_dir(folder.path()).expect("there");
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(&root, ".out.bake-1-2", FileType::Fifo, mode, 0).expect("writable");
        let place = ExportDest::open(&granted(&folder.path().join("out"))).expect("not blocked");
        place.finish().expect("renamed");
        assert_eq!(names(folder.path()), [".out.bake-1-2", "out"]);
        rustix::fs::mknodat(&root, "pipe", FileType::Fifo, mode, 0).expect("writable");
        let path = folder.path().join("pipe");
        let reader = std::thread::spawn(move || fs::read(path).expect("a pipe"));
        let mut place = ExportDest::open(&granted(&folder.path().join("pipe"))).expect("it is read");
        place.write_all(b"all").expect("writable");
        assert!(place.finish().expect("in place").is_none());
        assert_eq!(reader.join().expect("no panic"), b"all");
    }
}
