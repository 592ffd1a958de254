//! Looks at the free space of the file system that a layer is unpacked to. An archive that cannot fit ends with an error
//! that names the entry, before the disk is full for everybody else; a file of gigabytes, before its first byte is written.
//!
//! What is left over is not promised to anybody: other processes write too, so that the error of a full disk stays possible
//! at every write.

use std::os::fd::OwnedFd;

use super::error::LayerError;

/// Bytes that unpacking leaves free on a large file system; on a small one it is a fiftieth of its size.
const RESERVE: u64 = 64 << 20;
/// Bytes of files, and number of entries, after which the free space is looked at again.
const BYTES_BETWEEN: u64 = 16 << 20;
const ENTRIES_BETWEEN: u64 = 1024;

/// Watches the free space of one file system while a layer is unpacked, so that it fails early and names the entry.
pub(super) struct FreeSpace {
    dir: OwnedFd,
    /// Since the last look.
    bytes: u64,
    entries: u64,
}

impl FreeSpace {
    /// Reads the free space of the file system of `dir`, before anything is unpacked there.
    pub(super) fn new(dir: OwnedFd) -> Result<Self, LayerError> {
        let mut space = Self { dir, bytes: 0, entries: 0 };
        space.look(b"/", 0)?;
        Ok(space)
    }

    /// Counts `bytes` bytes of data that an entry is about to take.
    ///
    /// # Errors
    /// [`LayerError::NoSpace`] if they do not fit.
    pub(super) fn take(&mut self, entry: &[u8], bytes: u64) -> Result<(), LayerError> {
        self.entries += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes >= BYTES_BETWEEN || self.entries >= ENTRIES_BETWEEN { self.look(entry, bytes) } else { Ok(()) }
    }

    fn look(&mut self, entry: &[u8], bytes: u64) -> Result<(), LayerError> {
        // A file system that does not report its space is no reason to refuse the archive.
        let Ok(stat) = rustix::fs::fstatvfs(&self.dir) else { return Ok(()) };
        // Root may use what is reserved for it.
        let is_root = rustix::process::geteuid().is_root();
        let (free_blocks, free_inodes) =
            if is_root { (stat.f_bfree, stat.f_ffree) } else { (stat.f_bavail, stat.f_favail) };
        let free = free_blocks.saturating_mul(stat.f_frsize);
        let reserve = (stat.f_blocks.saturating_mul(stat.f_frsize) / 50).min(RESERVE);
        let no_space = |what, needed, free| LayerError::NoSpace { what, entry: entry.to_owned(), needed, free };
        // Some file systems give zero blocks or inodes in all: they do not count them.
        if stat.f_blocks > 0 && bytes.saturating_add(reserve) > free {
            return Err(no_space("bytes", bytes, free));
        }
        if stat.f_files > 0 && free_inodes == 0 {
            return Err(no_space("inodes", 1, 0));
        }
        (self.bytes, self.entries) = (0, 0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_fit_is_refused_before_it_is_written_and_small_ones_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let mut space = FreeSpace::new(crate::layer::view::at::host_dir(dir.path()).unwrap()).unwrap();
        for _ in 0..3 * ENTRIES_BETWEEN {
            space.take(b"small", 10).unwrap();
        }
        let error = space.take(b"huge", u64::MAX / 2).unwrap_err();
        assert!(matches!(error, LayerError::NoSpace { what: "bytes", .. }));
        assert!(error.to_string().starts_with("no space left to unpack `huge`"), "{error}");
    }
}
