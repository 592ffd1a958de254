//! What is in the folders of the state directory: names, kinds, times of last use.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::state::mtime;
use crate::oci::Digest;

/// The kinds of things in the store that take room and can be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum UsageKind {
    /// A layer: of an image, or made by a step.
    Snapshot,
    /// A packed layer, manifest or config.
    Blob,
    /// A directory of `RUN --mount=type=cache`.
    CacheMount,
    /// A bare repository.
    Git,
    /// The output of the steps of one run.
    Log,
    /// The files of a step that failed.
    Failed,
    /// Small records, stat caches.
    Record,
}

/// The time when a thing was last used, in nanoseconds of the wall clock; `None` if it is not there.
pub(super) fn last_used(kind: UsageKind, path: &Path) -> Option<i64> {
    let time_of = |path: &Path| fs::symlink_metadata(path).ok().map(|meta| mtime(&meta));
    match kind {
        UsageKind::Snapshot => time_of(&path.join("meta")).or_else(|| time_of(path)),
        UsageKind::CacheMount => time_of(&path.with_extension("lock")).or_else(|| time_of(path)),
        UsageKind::Blob | UsageKind::Record | UsageKind::Git | UsageKind::Log | UsageKind::Failed => time_of(path),
    }
}

/// The digest that names a file or directory; `None` if the name is no digest.
pub(super) fn name_digest(path: &Path) -> Option<Digest> {
    Digest::from_hex(path.file_name()?.to_str()?).ok()
}

/// Lists the paths in a directory; none if there is no such directory.
pub(super) fn list(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Lists the paths of all records below `index`.
pub(super) fn list_records(index: &Path) -> Vec<PathBuf> {
    list(index).iter().flat_map(|table| list(table)).flat_map(|part| list(&part)).collect()
}
