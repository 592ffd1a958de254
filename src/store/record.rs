//! Records: key ─► small value, one file each. Looked up by one open and one read; written aside and renamed.
//!
//! ```text
//! bake1 BOOT RUN SHA256-OF-THE-REST
//! {"json": …}
//! ```

use std::{
    fs, io,
    path::PathBuf,
    sync::atomic::Ordering,
    time::{Duration, SystemTime},
};

use serde::{Serialize, de::DeserializeOwned};

use super::{Result, Store, failed};
use crate::oci::Digest;

/// What a record is about. The name of the folder carries the version of its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    /// A whole build ─► its tree.
    Build,
    /// A step ─► its tree.
    Vertex,
    /// A snapshot ─► the digest of its layer tar.
    Layer,
    /// A layer, compression and level ─► its blob.
    Blob,
    /// An output ─► what was written.
    Receipt,
    /// A request to a server ─► what it answered.
    Http,
    /// A place in a Dockerfile ─► what its step depended on the last time.
    Reason,
}

impl Table {
    pub(super) const ALL: [Self; 7] =
        [Self::Build, Self::Vertex, Self::Layer, Self::Blob, Self::Receipt, Self::Http, Self::Reason];

    pub(super) const fn folder(self) -> &'static str {
        match self {
            Self::Build => "build-1",
            Self::Vertex => "vertex-1",
            Self::Layer => "layer-1",
            Self::Blob => "blob-1",
            Self::Receipt => "receipt-1",
            Self::Http => "http-1",
            Self::Reason => "reason-1",
        }
    }
}

const MAGIC: &str = "bake1";

/// The time of last use is noted at most this often: a run with nothing to do writes nothing.
const TOUCH_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

impl Store {
    pub(super) fn record_path(&self, table: Table, key: &Digest) -> PathBuf {
        let hex = key.hex();
        self.path(&["index", table.folder(), &hex[..2], &hex])
    }

    /// The value of a key. A record that is damaged, or that a loss of power may have damaged, is none.
    ///
    /// *Cost:* one open, one read, whatever the store holds.
    pub(crate) fn get<T: DeserializeOwned>(&self, table: Table, key: &Digest) -> Option<T> {
        let path = self.record_path(table, key);
        let text = fs::read_to_string(&path).ok()?;
        let (head, body) = text.split_once('\n')?;
        let mut words = head.split(' ');
        let (magic, boot, run, sum) = (words.next()?, words.next()?, words.next()?, words.next()?);
        if magic != MAGIC || sum != Digest::of(body.as_bytes()).hex() {
            return None;
        }
        if boot != self.0.boot && !self.path(&["runs", run]).exists() {
            return None;
        }
        let value = serde_json::from_str(body).ok()?;
        self.touch(&path);
        Some(value)
    }

    fn touch(&self, path: &std::path::Path) {
        let old = fs::metadata(path).ok().and_then(|it| it.modified().ok()?.elapsed().ok());
        if old.is_some_and(|age| age > TOUCH_AFTER) {
            // Only `prune` looks at it, to keep what is used.
            drop(fs::File::options().append(true).open(path).and_then(|file| file.set_modified(SystemTime::now())));
        }
    }

    /// Sets the value of a key.
    pub(crate) fn put<T: Serialize>(&self, table: Table, key: &Digest, value: &T) -> Result<()> {
        let body = serde_json::to_string(value).expect("records are plain data");
        let sum = Digest::of(body.as_bytes()).hex();
        let text = format!("{MAGIC} {} {} {sum}\n{body}", self.0.boot, self.0.run);
        let (path, fresh) = (self.record_path(table, key), self.fresh()?);
        self.0.wrote.store(true, Ordering::Relaxed);
        fs::write(&fresh, text).map_err(failed("write", &fresh))?;
        match fs::rename(&fresh, &path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let parent = path.parent().expect("records lie in folders");
                fs::create_dir_all(parent).map_err(failed("make the folder", parent))?;
                fs::rename(&fresh, &path).map_err(failed("write", &path))
            }
            result => result.map_err(failed("write", &path)),
        }
    }

    /// Forgets a key.
    pub(crate) fn forget(&self, table: Table, key: &Digest) {
        drop(fs::remove_file(self.record_path(table, key)));
    }
}
