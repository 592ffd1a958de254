//! Owners of `--chown` and WORKDIR: numbers, or names of the destination's own passwd and group files.

use super::{error::FileError, tree_writer::TreeWriter};
use crate::graph::OwnerChange;

/// Larger passwd and group files are not read.
const MAX_FILE: u64 = 10 << 20;
const MAX_ID: u32 = i32::MAX as u32;

/// Resolves the user and group of `--chown` or WORKDIR to ids, names by `/etc/passwd` and `/etc/group` of the tree that
/// is written.
///
/// # Errors
/// When a name is not in those files, or a number is no id.
pub(crate) fn resolve(dest: &TreeWriter, owner: &OwnerChange) -> Result<(u32, u32), FileError> {
    let (uid, primary) = match (owner.user.as_str(), number(&owner.user, owner)?) {
        ("", _) => (0, 0),
        (_, Some(uid)) => (uid, uid),
        // Root needs no passwd file.
        ("root", _) => user(dest, "root", owner).unwrap_or((0, 0)),
        (name, None) => user(dest, name, owner)?,
    };
    let gid = match &owner.group {
        None => primary,
        Some(group) => match number(group, owner)? {
            Some(gid) => gid,
            None if group == "root" => group_id(dest, group, owner).unwrap_or(0),
            None => group_id(dest, group, owner)?,
        },
    };
    Ok((uid, gid))
}

fn number(text: &str, owner: &OwnerChange) -> Result<Option<u32>, FileError> {
    if text.is_empty() || !text.bytes().all(|it| it.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse() {
        Ok(id) if id <= MAX_ID => Ok(Some(id)),
        _ => Err(FileError::BadId { id: text.to_owned(), workdir: owner.at_workdir }),
    }
}

fn user(dest: &TreeWriter, name: &str, owner: &OwnerChange) -> Result<(u32, u32), FileError> {
    let unknown = |why| FileError::UnknownUser { name: name.to_owned(), why, workdir: owner.at_workdir };
    let text = dest.read_small("/etc/passwd", MAX_FILE).map_err(|err| unknown(Some(err)))?;
    fields(&text)
        .filter(|fields| fields.len() >= 4 && fields[0] == name)
        .find_map(|fields| Some((id(fields[2])?, id(fields[3])?)))
        .ok_or_else(|| unknown(None))
}

fn group_id(dest: &TreeWriter, name: &str, owner: &OwnerChange) -> Result<u32, FileError> {
    let unknown = |why| FileError::UnknownGroup { name: name.to_owned(), why, workdir: owner.at_workdir };
    let text = dest.read_small("/etc/group", MAX_FILE).map_err(|err| unknown(Some(err)))?;
    fields(&text)
        .filter(|fields| fields.len() >= 3 && fields[0] == name)
        .find_map(|fields| id(fields[2]))
        .ok_or_else(|| unknown(None))
}

fn fields(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().map(|line| line.trim_end_matches('\r').split(':').collect())
}

fn id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| *id <= MAX_ID)
}
