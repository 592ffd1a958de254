//! The owner and mode of a new cache mount that names none: those of the directory that it covers, so that who may write
//! there without the mount may write with it. Where there is no such directory, it is the user's of the step.

use std::{
    io,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
};

use rustix::io::Errno;

use super::tree_writer::MadeEntry;
use crate::{
    layer::view::{EntryKind, Follow, LayerView, at},
    sandbox,
};

/// Larger passwd and group files are not read.
const MAX_FILE: u64 = 10 << 20;

/// The mode and owner of the directory at `target` in the tree of `layers` (lowest first); without one, 0755 and the ids of
/// `user`, USER as written.
///
/// # Errors
/// When a layer cannot be read.
pub(super) fn covered(layers: &[PathBuf], target: &str, user: &str) -> io::Result<MadeEntry> {
    let view = LayerView::open(layers)?;
    let found = match view.lookup(target, Follow::Last) {
        Err(error) if at::is_absent(&error) => None,
        found => found?,
    };
    if let Some(dir) = found.filter(|entry| entry.kind == EntryKind::Dir) {
        return Ok(MadeEntry { mode: dir.mode, owner: (dir.uid, dir.gid) });
    }
    // What cannot be read as a file is told when the step itself looks its user up.
    let read = |file: &str| view.read(file, MAX_FILE).unwrap_or_default();
    let owner = sandbox::ids_of_user(user, &read("/etc/passwd"), &read("/etc/group")).unwrap_or((0, 0));
    Ok(MadeEntry { mode: 0o755, owner })
}

/// Gives a directory of this machine a mode and owner. An id that cannot be given here leaves it ours.
///
/// # Errors
/// Those of the system.
pub(super) fn dress(dir: &Path, made: MadeEntry) -> io::Result<()> {
    let given = chown(dir, Some(made.owner.0), Some(made.owner.1));
    if let Err(error) = given
        && !matches!(Errno::from_io_error(&error), Some(Errno::INVAL | Errno::PERM))
    {
        return Err(error);
    }
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(made.mode))
}
