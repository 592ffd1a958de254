//! Files that an export writes: made beside their destination under another name, and renamed when whole.
//!
//! An export that fails leaves what was there. What a killed one left beside the destination, the next one removes: the
//! temporary file is locked while its maker lives.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

use crate::export::{options::ArchiveDest, remember::FileStamp};

/// A fault of writing, and the path that it is about.
pub(super) type WriteFault = (PathBuf, io::Error);

/// A file in the making, or standard output.
pub(super) struct ExportDest {
    file: File,
    /// TemporaryFolder and final path; nothing when written in place.
    rename: Option<(PathBuf, PathBuf)>,
    written: u64,
}

impl ExportDest {
    /// Starts the file of a destination, making missing parents.
    pub(super) fn open(dest: &ArchiveDest) -> io::Result<Self> {
        let path = match dest {
            ArchiveDest::Stdout => {
                let file = File::from(rustix::io::dup(io::stdout())?);
                return Ok(Self { file, rename: None, written: 0 });
            }
            ArchiveDest::File(path) => path,
        };
        // Through a link, what it points to is replaced, as if it were written to.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.clone());
        let special = fs::metadata(&path).is_ok_and(|meta| {
            let kind = meta.file_type();
            kind.is_char_device() || kind.is_fifo() || kind.is_block_device() || kind.is_socket()
        });
        if special {
            let file = File::options().write(true).open(&path)?;
            return Ok(Self { file, rename: None, written: 0 });
        }
        let parent = path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(parent)?;
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        sweep(parent, name);
        let mut temporary = stem(name);
        temporary.push(format!("{}-{:08x}", std::process::id(), getrandom::u32().unwrap_or(0)));
        let temporary = parent.join(temporary);
        let file = File::options().write(true).create_new(true).open(&temporary)?;
        let place = Self { file, rename: Some((temporary, path)), written: 0 };
        flock(&place.file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(place)
    }

    /// Copies all of an open file, by the kernel where it can.
    pub(super) fn copy(&mut self, from: &mut File) -> io::Result<u64> {
        let n = io::copy(from, &mut self.file)?;
        self.written += n;
        Ok(n)
    }

    /// Bytes so far.
    pub(super) const fn written(&self) -> u64 {
        self.written
    }

    /// Gives the file its name. The stamp is that of the whole file; stdout and devices have none.
    pub(super) fn finish(mut self) -> io::Result<Option<FileStamp>> {
        self.file.flush()?;
        let Some((temporary, path)) = self.rename.take() else { return Ok(None) };
        if let Err(error) = fs::rename(&temporary, &path) {
            fs::remove_file(&temporary).ok();
            return Err(error);
        }
        FileStamp::of(&path).map(Some)
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
        if let Some((temporary, _)) = &self.rename {
            fs::remove_file(temporary).ok();
        }
    }
}

/// PackSettings names of temporary files for `name` begin.
fn stem(name: &std::ffi::OsStr) -> OsString {
    let mut stem = OsString::from(".");
    // Room for what follows, within 255 bytes.
    let bytes = std::os::unix::ffi::OsStrExt::as_bytes(name);
    let short = String::from_utf8_lossy(&bytes[..bytes.len().min(120)]).into_owned();
    stem.push(short);
    stem.push(".bake-");
    stem
}

/// Removes what killed exports left for a name.
fn sweep(parent: &Path, name: &std::ffi::OsStr) {
    let stem = stem(name);
    let begins = std::os::unix::ffi::OsStrExt::as_bytes(stem.as_os_str());
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let left = entry.file_name();
        if !std::os::unix::ffi::OsStrExt::as_bytes(left.as_os_str()).starts_with(begins) {
            continue;
        }
        let dead =
            File::open(entry.path()).is_ok_and(|it| flock(&it, FlockOperation::NonBlockingLockExclusive).is_ok());
        if dead {
            fs::remove_file(entry.path()).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<OsString> {
        let mut names: Vec<OsString> =
            fs::read_dir(folder).expect("there").map(|it| it.expect("readable").file_name()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a/b/out.tar");
        let dest = ArchiveDest::File(path.clone());
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
        let dest = ArchiveDest::File(folder.path().join("out"));
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
        std::os::unix::fs::symlink("real", &link).expect("writable");
        let mut place = ExportDest::open(&ArchiveDest::File(link.clone())).expect("through the link");
        place.write_all(b"new").expect("writable");
        place.finish().expect("renamed");
        assert!(link.is_symlink());
        assert_eq!(fs::read(&real).expect("there"), b"new");
        let null = ExportDest::open(&ArchiveDest::File("/dev/null".into())).expect("a device");
        assert!(null.finish().expect("in place").is_none());
    }
}
