//! Blobs: `blobs/sha256/HEX`, complete and verified under their name.
//!
//! Each carries a seal: the nanoseconds of its modification time follow from its digest. A file that was written to later
//! has another time, so that one `stat` tells a sound blob from a damaged one; an unsealed blob is hashed, then sealed
//! again or removed. What a failing disk changes is found by `Store::verify` alone.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{Timespec, Timestamps, UTIME_OMIT};
use sha2::{Digest as _, Sha256};

use super::{
    Store, boot,
    error::{StoreError, StoreResult},
    is_stale,
    remove::remove_tree,
};
use crate::oci::Digest;

/// Takes bytes, hashes them, and puts them under their digest. Dropped without [`Self::commit`], nothing is kept.
pub(crate) struct BlobWriter {
    store: Store,
    path: PathBuf,
    file: Option<File>,
    buffer: Vec<u8>,
    hasher: Sha256,
    size: u64,
}

const BUFFER: usize = 128 << 10;

impl BlobWriter {
    /// Puts the blob under its name; an equal one that is there already wins.
    pub(crate) fn commit(mut self, expected: Option<&Digest>) -> StoreResult<(Digest, u64)> {
        self.flush_buffer().map_err(StoreError::io("write", &self.path))?;
        let actual = Digest::from_raw(std::mem::take(&mut self.hasher).finalize().into());
        if let Some(expected) = expected.filter(|expected| **expected != actual) {
            return Err(StoreError::Mismatch { expected: *expected, actual });
        }
        let store = self.store.clone();
        if store.blob_size(&actual) == Some(self.size) {
            return Ok((actual, self.size));
        }
        let file = self.file.take().expect("taken by commit alone, which consumes the writer");
        seal(&file, &actual).map_err(StoreError::io("set the times of", &self.path))?;
        drop(file);
        store.publish(&self.path, &store.blob_path(&actual))?;
        Ok((actual, self.size))
    }

    fn flush_buffer(&mut self) -> io::Result<()> {
        let file = self.file.as_mut().expect("taken by commit alone, which consumes the writer");
        file.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let name = |error: io::Error, path: &Path| {
            io::Error::new(error.kind(), format!("cannot write `{}` in the state directory: {error}", path.display()))
        };
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        if self.buffer.len() + bytes.len() > BUFFER {
            self.flush_buffer().map_err(|error| name(error, &self.path))?;
        }
        if bytes.len() >= BUFFER {
            let file = self.file.as_mut().expect("taken by commit alone, which consumes the writer");
            file.write_all(bytes).map_err(|error| name(error, &self.path))?;
        } else {
            self.buffer.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.path));
    }
}

/// Reads a blob and fails at its end if the bytes were not those of its name.
pub(crate) struct BlobReader {
    file: File,
    path: PathBuf,
    digest: Digest,
    hasher: Option<Sha256>,
}

impl io::Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(buffer)?;
        if n > 0 || buffer.is_empty() {
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&buffer[..n]);
            }
        } else if let Some(hasher) = self.hasher.take()
            && Digest::from_raw(hasher.finalize().into()) != self.digest
        {
            // Gone for the next run; this one must not go on with what it has read.
            drop(fs::remove_file(&self.path));
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("damaged cache file `{}`: the content has another digest", self.path.display()),
            ));
        }
        Ok(n)
    }
}

impl Store {
    /// Where the blob is, or would be.
    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.path("blobs/sha256").join(digest.hex())
    }

    /// The size of a blob that is there and sound. *Cost:* one `stat`, unless the file was tampered with.
    pub(crate) fn blob_size(&self, digest: &Digest) -> Option<u64> {
        let path = self.blob_path(digest);
        self.share().ok()?;
        let meta = fs::symlink_metadata(&path).ok()?;
        if !meta.is_file() {
            drop(remove_tree(&path));
            return None;
        }
        let written = meta.mtime().saturating_mul(1_000_000_000).saturating_add(meta.mtime_nsec());
        let sealed = meta.mtime_nsec() == seal_of(digest);
        if !sealed || !self.survived(written) {
            // Changed by someone, or from before a power loss: only its content can tell.
            if hash_file(&path).ok()? != *digest {
                drop(fs::remove_file(&path));
                return None;
            }
            let file = OpenOptions::new().write(true).open(&path);
            drop(file.and_then(|file| seal(&file, digest)));
        } else if is_stale(written)
            && let Some(_gate) = self.touch_gate()
        {
            drop(OpenOptions::new().write(true).open(&path).and_then(|file| seal(&file, digest)));
            return fs::symlink_metadata(&path).ok().map(|meta| meta.len());
        }
        Some(meta.len())
    }

    /// Opens a blob that is there and sound.
    pub(crate) fn open_blob(&self, digest: &Digest) -> StoreResult<File> {
        self.begin_reading()?;
        let missing = || StoreError::Missing { digest: *digest };
        self.blob_size(digest).ok_or_else(missing)?;
        let path = self.blob_path(digest);
        File::open(&path).map_err(StoreError::io("open", &path))
    }

    /// Opens a blob for reading it whole, hashing on the way: damage that a `stat` does not show is an error at the end.
    pub(crate) fn read_blob(&self, digest: &Digest) -> StoreResult<BlobReader> {
        let (file, path) = (self.open_blob(digest)?, self.blob_path(digest));
        Ok(BlobReader { file, path, digest: *digest, hasher: Some(Sha256::new()) })
    }

    /// A small blob as bytes.
    pub(crate) fn blob_bytes(&self, digest: &Digest) -> StoreResult<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut reader = self.read_blob(digest)?;
        reader.read_to_end(&mut bytes).map_err(StoreError::io("read", &self.blob_path(digest)))?;
        Ok(bytes)
    }

    /// A new blob, written to by and by.
    pub(crate) fn blob_writer(&self) -> StoreResult<BlobWriter> {
        let path = self.fresh()?;
        let file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&path);
        let file = Some(file.map_err(StoreError::io("make", &path))?);
        Ok(BlobWriter { store: self.clone(), path, file, buffer: Vec::new(), hasher: Sha256::new(), size: 0 })
    }

    /// A new blob of these bytes.
    pub(crate) fn put_blob(&self, bytes: &[u8]) -> StoreResult<Digest> {
        let digest = Digest::of(bytes);
        if self.blob_size(&digest) == Some(bytes.len() as u64) {
            return Ok(digest);
        }
        let mut writer = self.blob_writer()?;
        writer.write_all(bytes).map_err(StoreError::io("write", &self.blob_path(&digest)))?;
        Ok(writer.commit(Some(&digest))?.0)
    }
}

/// The nanoseconds of the modification time of a sound blob.
pub(super) fn seal_of(digest: &Digest) -> i64 {
    let raw = digest.raw();
    // Never zero, which is what file systems without nanoseconds give.
    i64::from(u32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]]) % 999_999_999 + 1)
}

fn seal(file: &File, digest: &Digest) -> io::Result<()> {
    let last_modification = Timespec { tv_sec: boot::wall_clock() / 1_000_000_000, tv_nsec: seal_of(digest) as _ };
    let last_access = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT as _ };
    Ok(rustix::fs::futimens(file, &Timestamps { last_access, last_modification })?)
}

/// The digest of a file's content.
pub(super) fn hash_file(path: &Path) -> io::Result<Digest> {
    let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(Digest::from_raw(hasher.finalize().into())),
            Ok(n) => hasher.update(&buffer[..n]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        (home, store)
    }

    #[test]
    fn a_blob_is_found_under_its_digest_and_a_dropped_one_is_gone() {
        let (_home, store) = store();
        let mut writer = store.blob_writer().unwrap();
        let big = vec![7; BUFFER * 2 + 5];
        writer.write_all(b"small").unwrap();
        writer.write_all(&big).unwrap();
        writer.write_all(b"end").unwrap();
        let (digest, size) = writer.commit(None).unwrap();
        let whole = [b"small".as_slice(), &big, b"end"].concat();
        assert_eq!((digest, size), (Digest::of(&whole), whole.len() as u64));
        assert_eq!(store.blob_bytes(&digest).unwrap(), whole);
        let mut dropped = store.blob_writer().unwrap();
        dropped.write_all(b"never").unwrap();
        let path = dropped.path.clone();
        drop(dropped);
        assert!(!path.exists());
        assert!(store.blob_size(&Digest::of(b"never")).is_none());
    }

    #[test]
    fn other_bytes_than_expected_are_refused() {
        let (_home, store) = store();
        let mut writer = store.blob_writer().unwrap();
        writer.write_all(b"evil").unwrap();
        let error = writer.commit(Some(&Digest::of(b"good"))).unwrap_err();
        assert!(matches!(error, StoreError::Mismatch { .. }));
        assert!(store.blob_size(&Digest::of(b"evil")).is_none());
    }

    #[test]
    fn damaged_blobs_are_noticed_by_their_time_and_then_gone() {
        let (_home, store) = store();
        let content = vec![b'x'; 1000];
        for damage in ["flip", "half", "empty", "directory", "touched"] {
            let digest = store.put_blob(&content).unwrap();
            let path = store.blob_path(&digest);
            let mut bytes = content.clone();
            match damage {
                "flip" => {
                    bytes[500] ^= 1;
                    fs::write(&path, &bytes).unwrap();
                }
                "half" => OpenOptions::new().write(true).open(&path).unwrap().set_len(500).unwrap(),
                "empty" => fs::write(&path, "").unwrap(),
                "directory" => {
                    fs::remove_file(&path).unwrap();
                    fs::create_dir(&path).unwrap();
                }
                _ => fs::write(&path, &content).unwrap(),
            }
            let sound = damage == "touched";
            assert_eq!(store.blob_size(&digest), sound.then_some(1000), "{damage}");
            assert_eq!(path.exists(), sound, "{damage}");
        }
    }

    #[test]
    fn a_reader_fails_at_the_end_of_a_blob_that_changed_silently() {
        let (_home, store) = store();
        let digest = store.put_blob(b"content").unwrap();
        let path = store.blob_path(&digest);
        fs::write(&path, b"c0ntent").unwrap();
        seal(&OpenOptions::new().write(true).open(&path).unwrap(), &digest).unwrap();
        assert!(store.blob_size(&digest).is_some());
        assert!(store.blob_bytes(&digest).unwrap_err().to_string().contains("cannot read"));
        assert!(store.blob_size(&digest).is_none());
    }
}
