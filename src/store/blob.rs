//! Blobs: `blobs/sha256/HEX`, complete and verified under their name.
//!
//! Each carries a seal: the nanoseconds of its modification time follow from its digest. A file that was written to later
//! has another time, so that one `stat` tells a sound blob from a damaged one; an unsealed blob is hashed, then sealed
//! again or removed. A change that keeps the time, or one of a failing disk, does not show there: readers of whole blobs
//! hash what they read ([`BlobReader`]), and `Store::verify` hashes everything.
//!
//! Because of the seal, the second of the modification time is that of the writing, and its nanoseconds are not. Whether a
//! blob was written before a `syncfs` is therefore decided by the end of that second.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::PoisonError,
};

use rustix::fs::{Timespec, Timestamps, UTIME_OMIT};
use sha2::{Digest as _, Sha256};

use super::{
    boot,
    content::content_digest,
    error::{StoreError, StoreResult},
    remove::FileIdentity,
    state::{Store, is_stale},
};
use crate::oci::Digest;

/// Writes one new blob and hashes it on the way. Dropped without [`Self::commit`], nothing is kept.
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
    /// Gives the blob its name and returns its digest and size in bytes; an equal one that is there already wins.
    ///
    /// # Errors
    /// When the bytes have another digest than `expected`, or cannot be written.
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
        store.publish_guarded(&self.path, &store.own_blob_path(&actual))?;
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

/// Reads a blob, and fails at its end if the bytes were not those of its digest.
pub(crate) struct BlobReader {
    store: Store,
    file: File,
    path: PathBuf,
    identity: Option<FileIdentity>,
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
            if let Some(identity) = self.identity {
                drop(self.store.discard(&self.path, identity));
            }
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("damaged cache file `{}`: the content has another digest", self.path.display()),
            ));
        }
        Ok(n)
    }
}

impl Store {
    /// The file of a blob, which need not exist; in a lower store if only that has it.
    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.blob_holder(digest).own_blob_path(digest)
    }

    pub(super) fn own_blob_path(&self, digest: &Digest) -> PathBuf {
        self.path("blobs/sha256").join(digest.hex())
    }

    /// This store, or the lower one in which the blob is found.
    fn blob_holder(&self, digest: &Digest) -> &Self {
        let is_here = || fs::symlink_metadata(self.own_blob_path(digest)).is_ok();
        match &*self.0.lower {
            [] => self,
            _ if is_here() => self,
            lower => lower.iter().find(|store| store.lower_blob_size(digest).is_some()).unwrap_or(self),
        }
    }

    /// The size in bytes of a blob, of this store or a lower one; `None` if it is missing or damaged.
    ///
    /// *Cost:* one `stat`; a read of the whole blob if its time is not the one it was given, if it is not known to have
    /// survived a power loss, or, once a run, if it is in a lower store, from which a damaged one could not be removed.
    pub(crate) fn blob_size(&self, digest: &Digest) -> Option<u64> {
        self.own_blob_size(digest).or_else(|| self.0.lower.iter().find_map(|store| store.lower_blob_size(digest)))
    }

    /// As [`Self::blob_size`], for a lower store.
    fn lower_blob_size(&self, digest: &Digest) -> Option<u64> {
        let path = self.own_blob_path(digest);
        let meta = fs::symlink_metadata(&path).ok().filter(fs::Metadata::is_file)?;
        let is_hashed = self.0.hashed.lock().unwrap_or_else(PoisonError::into_inner).contains(digest);
        if !is_hashed {
            if hash_file(&path).ok()? != *digest {
                return None;
            }
            self.0.hashed.lock().unwrap_or_else(PoisonError::into_inner).insert(*digest);
        }
        Some(meta.len())
    }

    fn own_blob_size(&self, digest: &Digest) -> Option<u64> {
        let path = self.own_blob_path(digest);
        self.share().ok()?;
        let meta = fs::symlink_metadata(&path).ok()?;
        if !meta.is_file() {
            drop(self.discard(&path, FileIdentity::of(&meta)));
            return None;
        }
        let written = meta.mtime().saturating_mul(1_000_000_000).saturating_add(meta.mtime_nsec());
        let sealed = meta.mtime_nsec() == seal_of(digest);
        let second = meta.mtime().saturating_mul(1_000_000_000);
        if !sealed || !self.survived(second, second.saturating_add(1_000_000_000)) {
            // Changed by someone, or from before a power loss: only its content can tell.
            if hash_file(&path).ok()? != *digest {
                drop(self.discard(&path, FileIdentity::of(&meta)));
                return None;
            }
            let file = OpenOptions::new().write(true).open(&path);
            drop(file.and_then(|file| seal(&file, digest)));
        } else if is_stale(written)
            && let Some(_gate) = self.shared_gate()
        {
            drop(OpenOptions::new().write(true).open(&path).and_then(|file| seal(&file, digest)));
            return fs::symlink_metadata(&path).ok().map(|meta| meta.len());
        }
        Some(meta.len())
    }

    /// Opens a blob that is there and sound.
    ///
    /// # Errors
    /// When it is missing, damaged, or cannot be opened.
    pub(crate) fn open_blob(&self, digest: &Digest) -> StoreResult<File> {
        self.begin_reading()?;
        let missing = || StoreError::Missing { digest: *digest };
        self.blob_size(digest).ok_or_else(missing)?;
        let path = self.blob_path(digest);
        File::open(&path).map_err(StoreError::io("open", &path))
    }

    /// Opens a blob for reading it whole, hashing on the way.
    ///
    /// If the content has another digest, the read at its end fails with `InvalidData` and the blob leaves the store. Who
    /// stops before the end has checked nothing. Fails like [`Store::open_blob`].
    pub(crate) fn read_blob(&self, digest: &Digest) -> StoreResult<BlobReader> {
        let file = self.open_blob(digest)?;
        let holder = self.blob_holder(digest);
        let path = holder.own_blob_path(digest);
        let identity = file.metadata().ok().map(|meta| FileIdentity::of(&meta));
        Ok(BlobReader { store: holder.clone(), file, path, identity, digest: *digest, hasher: Some(Sha256::new()) })
    }

    /// Reads a small blob whole.
    pub(crate) fn blob_bytes(&self, digest: &Digest) -> StoreResult<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut reader = self.read_blob(digest)?;
        reader.read_to_end(&mut bytes).map_err(StoreError::io("read", &self.blob_path(digest)))?;
        Ok(bytes)
    }

    /// Starts a new blob, which is written as a stream and gets its name by [`BlobWriter::commit`].
    pub(crate) fn blob_writer(&self) -> StoreResult<BlobWriter> {
        let path = self.fresh()?;
        let file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&path);
        let file = Some(file.map_err(StoreError::io("make", &path))?);
        Ok(BlobWriter { store: self.clone(), path, file, buffer: Vec::new(), hasher: Sha256::new(), size: 0 })
    }

    /// Stores these bytes as a blob, unless the store has it; returns its digest.
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

/// The seal of a blob: the nanoseconds that its modification time must have, computed from its digest.
///
/// 1 to 999_999_999; never zero, which is what file systems without nanoseconds give. A file with other nanoseconds was
/// not sealed, or was written to since, and is hashed before it is used (see the head of this file).
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

/// Hashes the content of a file. A link at the end of the path is not followed.
pub(super) fn hash_file(path: &Path) -> io::Result<Digest> {
    let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    content_digest(&mut file, &mut vec![0; 256 << 10])
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
    fn a_sound_blob_that_replaced_a_damaged_one_meanwhile_stays() {
        let (_home, store) = store();
        let digest = store.put_blob(b"content").unwrap();
        let path = store.blob_path(&digest);
        fs::write(&path, b"c0ntent").unwrap();
        let examined = FileIdentity::at(&path).unwrap();
        let other = store.fresh().unwrap();
        fs::write(&other, b"content").unwrap();
        store.publish_guarded(&other, &path).unwrap();
        store.discard(&path, examined).unwrap();
        assert_eq!(store.blob_bytes(&digest).unwrap(), b"content");
        store.discard(&path, FileIdentity::at(&path).unwrap()).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_blob_of_the_second_in_which_a_sync_began_is_not_known_to_be_on_disk() {
        let (_home, store) = store();
        let last_synced = store.last_synced();
        assert_eq!(last_synced, i64::MIN);
        let started = store.boot().started;
        assert!(store.survived(started + 2_000_000_000, i64::MAX));
        assert!(!store.survived(started - 5_000_000_000, started - 4_000_000_000));
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
