//! Snapshots: the tree of one layer each, never changed once it has its name.

use std::{fs, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{Result, Store, failed};
use crate::oci::Digest;

/// Names a snapshot: the chain of diff ids for layers of images, the key of the step for layers of ours.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct SnapshotId(pub(crate) Digest);

/// What is known of a snapshot beside its tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotMeta {
    /// RFC 3339.
    pub(crate) created: String,
}

/// A snapshot in the making. Dropped without [`Active::commit`] it leaves nothing.
pub(crate) struct Active {
    store: Store,
    folder: PathBuf,
    named: bool,
}

impl Store {
    /// The tree of a snapshot, in the form of an overlay's upper directory.
    pub(crate) fn snapshot_fs(&self, id: &SnapshotId) -> PathBuf {
        self.path(&["snapshots", &id.0.hex(), "fs"])
    }

    /// Whether a snapshot is there. *Cost:* one stat.
    pub(crate) fn has_snapshot(&self, id: &SnapshotId) -> bool {
        self.snapshot_fs(id).exists()
    }

    pub(crate) fn snapshot_meta(&self, id: &SnapshotId) -> Option<SnapshotMeta> {
        let text = fs::read(self.path(&["snapshots", &id.0.hex(), "meta.json"])).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Starts a snapshot.
    pub(crate) fn prepare(&self) -> Result<Active> {
        let folder = self.fresh()?;
        for part in ["", "fs", "work"] {
            let path = if part.is_empty() { folder.clone() } else { folder.join(part) };
            fs::create_dir(&path).map_err(failed("make the folder", &path))?;
        }
        Ok(Active { store: self.clone(), folder, named: false })
    }
}

impl Active {
    /// The tree.
    pub(crate) fn fs(&self) -> PathBuf {
        self.folder.join("fs")
    }

    /// A folder beside it for the overlay's own use.
    pub(crate) fn work(&self) -> PathBuf {
        self.folder.join("work")
    }

    /// Gives the snapshot its name. If another process was first, theirs stays: equal keys have equal content.
    pub(crate) fn commit(mut self, id: &SnapshotId, meta: SnapshotMeta) -> Result<()> {
        let path = self.folder.join("meta.json");
        let text = serde_json::to_vec(&meta).expect("plain data");
        fs::write(&path, text).map_err(failed("write", &path))?;
        // The overlay leaves its folder without permissions.
        remove_tree(&self.work());
        let name = self.store.path(&["snapshots", &id.0.hex()]);
        match fs::rename(&self.folder, &name) {
            Ok(()) => {
                self.named = true;
                Ok(())
            }
            Err(_) if name.join("fs").exists() => Ok(()),
            Err(error) => Err(failed("name the snapshot", &name)(error)),
        }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        if !self.named {
            remove_tree(&self.folder);
        }
    }
}

/// Removes a tree whose folders may lack permissions for an owner that is not root. What stays is swept later.
pub(super) fn remove_tree(folder: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt as _;
    if fs::remove_dir_all(folder).is_ok() {
        return;
    }
    let mut stack = vec![folder.to_owned()];
    while let Some(folder) = stack.pop() {
        if !fs::symlink_metadata(&folder).is_ok_and(|it| it.is_dir()) {
            continue;
        }
        drop(fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)));
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|it| it.is_dir()) {
                stack.push(entry.path());
            }
        }
    }
    drop(fs::remove_dir_all(folder));
}
