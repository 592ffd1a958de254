//! Records: small values under a key, one file each. Many processes may write at once, a look-up is one open and one read,
//! and there is nothing to open first. What a value means is not known here.
//!
//! ```text
//! bake-record 1 CHECKSUM BOOT NANOSECONDS\n     the checksum is over all that follows it and over table and key
//! JSON
//! ```

use std::{
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    boot::{self, Boot},
    error::{StoreError, StoreResult},
    remove::remove_tree,
    state::{Store, is_stale, mtime},
};
use crate::oci::Digest;

/// The kinds of records. The name of the folder of a table carries the version of its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Table {
    /// A whole build ─► its tree.
    Build,
    /// A step ─► its tree.
    Vertex,
    /// A layer, compression and level ─► its blob.
    Blob,
    /// An output ─► what was written.
    Receipt,
    /// A request to a server ─► what it answered.
    Http,
    /// A name that was built ─► its image.
    Image,
    /// An instruction ─► what its last runs were made from.
    Step,
    /// What a step read ─► the names in it.
    Files,
}

impl Table {
    /// Whether a record is believed although it is not known to have been on disk before the last power loss: what it
    /// names is compared with a digest before it is used. See `boot.rs`.
    const fn names_what_is_checked(self) -> bool {
        match self {
            // Of the last two nothing but words is made.
            Self::Build | Self::Vertex | Self::Blob | Self::Http | Self::Image | Self::Step | Self::Files => true,
            // It names files outside the state directory.
            Self::Receipt => false,
        }
    }

    /// Whether what another machine has put there is of use here.
    const fn counts_elsewhere(self) -> bool {
        match self {
            Self::Build | Self::Vertex | Self::Blob | Self::Http | Self::Image | Self::Step | Self::Files => true,
            // It names files outside the state directory.
            Self::Receipt => false,
        }
    }

    pub(super) const fn folder(self) -> &'static str {
        match self {
            Self::Build => "build-1",
            Self::Vertex => "vertex-1",
            Self::Blob => "blob-1",
            Self::Receipt => "receipt-1",
            Self::Http => "http-1",
            Self::Image => "image-1",
            Self::Step => "step-1",
            Self::Files => "files-1",
        }
    }
}

/// Larger files are no records.
const LIMIT: u64 = 64 << 20;

impl Store {
    /// Reads the record of `key`, of this store or a lower one; `None` if there is none that can be used. Notes that it was
    /// used, for prune.
    ///
    /// A record is removed, and so counts as a cache miss, if its checksum is wrong, if it is no `T`, or if it is a
    /// receipt that a power loss may have outlived (see `boot.rs`). `T` must be the type that was put under this table.
    ///
    /// *Cost:* an open and a read; about once a day also a change of the file's modification time.
    pub(crate) fn get<T: DeserializeOwned>(&self, table: Table, key: &Digest) -> Option<T> {
        let lower = || self.0.lower.iter().filter(|_| table.counts_elsewhere());
        self.own_record(table, key).or_else(|| lower().find_map(|store| store.own_record(table, key)))
    }

    fn own_record<T: DeserializeOwned>(&self, table: Table, key: &Digest) -> Option<T> {
        let path = self.record_path(table, key);
        let text = match read_small(&path) {
            Ok(Some((text, used))) => {
                if is_stale(used) && !self.0.is_lower {
                    renew(&path);
                }
                text
            }
            Ok(None) => return None,
            Err(()) => {
                if !self.0.is_lower {
                    drop(remove_tree(&path));
                }
                return None;
            }
        };
        let decoded = self.decode(&text, &subject(table, key));
        let value = decoded
            .filter(|record| record.survived || table.names_what_is_checked())
            .and_then(|record| serde_json::from_slice(record.json).ok());
        if value.is_none() && !self.0.is_lower {
            // By its name: if a process has replaced it just now, a sound record is lost, which is a cache miss.
            drop(fs::remove_file(&path));
        }
        value
    }

    /// Whether there is a record of `key`, whole or not. Notes that it was used, for prune.
    pub(crate) fn has_record(&self, table: Table, key: &Digest) -> bool {
        let path = self.record_path(table, key);
        let Ok(meta) = fs::symlink_metadata(&path) else {
            let lower = self.0.lower.iter().filter(|_| table.counts_elsewhere());
            return lower.map(|store| store.record_path(table, key)).any(|path| path.is_file());
        };
        if is_stale(mtime(&meta)) {
            renew(&path);
        }
        meta.is_file()
    }

    /// Writes the record of `key`, replacing the one that is there. It gets its name by rename: readers see the old or
    /// the new one.
    pub(crate) fn put<T: Serialize>(&self, table: Table, key: &Digest, value: &T) -> StoreResult<()> {
        self.write_record(&self.record_path(table, key), &subject(table, key), value)
    }

    /// The file of a record: `index/TABLE/XX/KEY`, where `XX` are the first two digits of the key.
    pub(super) fn record_path(&self, table: Table, key: &Digest) -> PathBuf {
        let hex = key.hex();
        self.0.root.join("index").join(table.folder()).join(&hex[..2]).join(&hex)
    }

    /// Writes a record about `subject` and gives it its final name.
    pub(super) fn write_record<T: Serialize>(&self, path: &Path, subject: &str, value: &T) -> StoreResult<()> {
        let text = encode(self.boot(), path, subject, value)?;
        let fresh = self.fresh()?;
        let written = fs::write(&fresh, text).map_err(StoreError::io("write", path));
        written.and_then(|()| self.publish(&fresh, path)).inspect_err(|_| drop(fs::remove_file(&fresh)))
    }

    /// Parses the text of a record about `subject` and says whether it is known to be on disk; `None` if it is damaged.
    pub(super) fn decode<'a>(&self, text: &'a [u8], subject: &str) -> Option<DecodedRecord<'a>> {
        let (boot, since_boot, json) = parse(text, subject)?;
        let survived = (boot == self.boot().id && boot != "-")
            || boot::synced(&self.path("synced"), boot).is_some_and(|synced| since_boot <= synced.since_boot);
        Some(DecodedRecord { json, survived })
    }
}

/// A record whose checksum is right.
pub(super) struct DecodedRecord<'a> {
    pub(super) json: &'a [u8],
    /// It was written in this boot, or before a `syncfs` of its own.
    pub(super) survived: bool,
}

/// The bytes of a record about `subject`, written in `boot`. `path` is for the error.
pub(super) fn encode<T: Serialize>(boot: &Boot, path: &Path, subject: &str, value: &T) -> StoreResult<Vec<u8>> {
    let id = if boot.id.is_empty() { "-" } else { &boot.id };
    let mut body = format!("{id} {}\n", boot::since_boot() + boot::TICK).into_bytes();
    let encoded = serde_json::to_writer(&mut body, value);
    encoded.map_err(|source| StoreError::Encode { path: path.to_owned(), source })?;
    let mut text = format!("{MAGIC}{} ", checksum(subject, &body)).into_bytes();
    text.append(&mut body);
    Ok(text)
}

const MAGIC: &str = "bake-record 1 ";

/// Boot, time and JSON of a whole record about `subject`.
pub(super) fn parse<'a>(text: &'a [u8], subject: &str) -> Option<(&'a str, i64, &'a [u8])> {
    let rest = text.strip_prefix(MAGIC.as_bytes())?;
    let (sum, body) = rest.split_at_checked(SUM)?;
    let body = body.strip_prefix(b" ")?;
    if sum != checksum(subject, body).as_bytes() {
        return None;
    }
    let end = body.iter().position(|c| *c == b'\n')?;
    let (boot, since_boot) = std::str::from_utf8(&body[..end]).ok()?.split_once(' ')?;
    let boot_is_a_name = boot.bytes().all(|c| c.is_ascii_hexdigit() || c == b'-') && !boot.is_empty();
    Some((boot_is_a_name.then_some(boot)?, since_boot.parse().ok()?, &body[end + 1..]))
}

/// Digits of a checksum.
const SUM: usize = 32;

fn checksum(subject: &str, body: &[u8]) -> String {
    let mut hasher = crate::oci::digest::FieldHasher::new("record/1");
    let mut hex = hasher.text(subject).bytes(body).clone().finish().hex();
    hex.truncate(SUM);
    hex
}

/// What a record of `table` for `key` is about; it goes into the checksum, so that a file cannot be moved.
pub(super) fn subject(table: Table, key: &Digest) -> String {
    format!("{} {}", table.folder(), key.hex())
}

/// Reads a small file, and its modification time, which is when it was last used; `Err` if something else than a small
/// file has the name.
pub(super) fn read_small(path: &Path) -> std::result::Result<Option<(Vec<u8>, i64)>, ()> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::ENOTDIR) => return Err(()),
        Err(_) => return Ok(None),
    };
    let Ok(meta) = file.metadata() else { return Ok(None) };
    if !meta.is_file() || meta.len() > LIMIT {
        return Err(());
    }
    let mut text = Vec::with_capacity(meta.len() as usize + 1);
    match file.read_to_end(&mut text) {
        Ok(_) => Ok(Some((text, mtime(&meta)))),
        Err(_) => Ok(None),
    }
}

/// Sets the modification time of a file to now, so that prune sees that it is used. That it cannot be set is no fault.
pub(super) fn renew(path: &Path) {
    drop(File::open(path).and_then(|file| file.set_modified(std::time::SystemTime::now())));
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
    fn a_record_is_read_back_by_another_process() {
        let (home, store) = store();
        let key = Digest::of(b"key");
        store.put(Table::Vertex, &key, &vec!["a", "b"]).unwrap();
        store.put(Table::Vertex, &key, &vec!["c"]).unwrap();
        let other = Store::open(home.path()).unwrap();
        assert_eq!(other.get::<Vec<String>>(Table::Vertex, &key).unwrap(), ["c"]);
        assert!(other.get::<Vec<String>>(Table::Build, &key).is_none());
        assert!(other.get::<u32>(Table::Vertex, &key).is_none());
        assert!(!store.record_path(Table::Vertex, &key).exists());
    }

    #[test]
    fn damaged_records_are_misses_and_can_be_written_again() {
        let (_home, store) = store();
        let key = Digest::of(b"key");
        let path = store.record_path(Table::Receipt, &key);
        for damage in ["flip", "half", "empty", "garbage", "directory", "other key", "long"] {
            store.put(Table::Receipt, &key, &"value".to_owned()).unwrap();
            let mut bytes = fs::read(&path).unwrap();
            match damage {
                "flip" => {
                    let middle = bytes.len() / 2;
                    bytes[middle] ^= 0x41;
                    fs::write(&path, bytes).unwrap();
                }
                "half" => fs::write(&path, &bytes[..bytes.len() / 2]).unwrap(),
                "empty" => fs::write(&path, "").unwrap(),
                "garbage" => fs::write(&path, [0xff; 8192]).unwrap(),
                "directory" => {
                    fs::remove_file(&path).unwrap();
                    fs::create_dir(&path).unwrap();
                    fs::write(path.join("x"), "").unwrap();
                }
                "long" => File::options().write(true).open(&path).unwrap().set_len(1 << 40).unwrap(),
                _ => {
                    let other = Digest::of(b"other");
                    store.put(Table::Receipt, &other, &"other".to_owned()).unwrap();
                    fs::rename(store.record_path(Table::Receipt, &other), &path).unwrap();
                }
            }
            assert!(store.get::<String>(Table::Receipt, &key).is_none(), "{damage}");
            assert!(!path.exists(), "{damage}");
        }
    }

    #[test]
    fn a_record_of_another_boot_is_known_to_be_on_disk_only_if_synced_after_it() {
        let (_home, store) = store();
        let subject = "s";
        let record = |time: i64| {
            let body = format!("0123-ab {time}\n7").into_bytes();
            [format!("{MAGIC}{} ", checksum(subject, &body)).into_bytes(), body].concat()
        };
        let survived = |time| store.decode(&record(time), subject).unwrap().survived;
        assert!(!survived(50));
        fs::create_dir_all(store.path("synced")).unwrap();
        fs::write(store.path("synced/0123-ab"), "60 1\n").unwrap();
        assert_eq!(store.decode(&record(50), subject).unwrap().json, b"7");
        assert!(survived(50) && !survived(70));
    }

    #[test]
    fn of_an_unsynced_boot_only_records_of_what_can_be_checked_count() {
        let (_home, store) = store();
        let key = Digest::of(b"key");
        for (table, counts) in [(Table::Vertex, true), (Table::Blob, true), (Table::Receipt, false)] {
            let path = store.record_path(table, &key);
            let earlier = Boot { id: "0123-ab".to_owned(), started: 0 };
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, encode(&earlier, &path, &subject(table, &key), &7).unwrap()).unwrap();
            assert_eq!(store.get::<u32>(table, &key).is_some(), counts, "{table:?}");
        }
    }

    #[test]
    fn a_use_is_renewed_at_most_once_a_day() {
        let (_home, store) = store();
        let key = Digest::of(b"key");
        store.put(Table::Http, &key, &1).unwrap();
        let path = store.record_path(Table::Http, &key);
        let set = |hours: u64| {
            let time = std::time::SystemTime::now() - std::time::Duration::from_secs(hours * 3600);
            File::open(&path).unwrap().set_modified(time).unwrap();
            store.get::<u32>(Table::Http, &key).unwrap();
            fs::metadata(&path).unwrap().modified().unwrap() == time
        };
        assert!(set(23));
        assert!(!set(25));
    }
}
