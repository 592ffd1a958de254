//! Which directory is the state directory, and whether it may be trusted. Whoever can write there can plant the result of
//! any step, so the directory that links lead to is checked before anything of it is read. Directories above it are not
//! checked: who can replace those can replace `bake` itself in most set-ups.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::{
    error::{StoreError, StoreResult},
    file_system, format,
    state::Store,
};

/// Who chose the path of the state directory: the user, or the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HomeChoice {
    /// Nobody: it is the default place below the user's home directory.
    Default,
    /// The user, by `BAKE_HOME`.
    Named,
}

/// The path of the state directory, before it is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HomeDir {
    pub(crate) path: PathBuf,
    pub(crate) choice: HomeChoice,
    /// State directories that are read and never changed: what the first one does not have is looked for in these, in this
    /// order.
    pub(crate) lower: Vec<PathBuf>,
}

/// The store of a state directory that passed the checks of [`HomeDir::open`].
pub(crate) struct CheckedHome {
    pub(crate) store: Store,
    /// The user id that the directory belongs to, if that is neither ours nor root's. Worth one warning: in containers of
    /// CI systems, root often runs with the home directory of another user.
    pub(crate) foreign_owner: Option<u32>,
    /// Why lower ones are not used. Worth a warning each: they only make a run faster.
    pub(crate) unusable: Vec<StoreError>,
}

impl HomeDir {
    /// Follows links to the directory, checks who can write there, and opens its store. A directory that does not exist
    /// yet is fine: it will be made for its user alone.
    ///
    /// # Errors
    /// When users other than its owner can write to it (a group does not count if it is our own primary group, which is
    /// usually private), or when it is the default place and belongs to neither us nor root. When a later `bake` has written
    /// to it, or locks there do not keep all its users apart.
    ///
    /// A directory with the sticky bit that all may write to, such as `/tmp` or the root of a `tmpfs`, is fine where it was
    /// named: what lies in it can be replaced by its owner alone, and the folder of the store in it must be ours or root's.
    pub(crate) fn open(&self) -> StoreResult<CheckedHome> {
        let (path, foreign_owner) = check(&self.path, self.choice)?;
        file_system::check_locks(&path.join(ROOT))?;
        if let Some(owner) = foreign_owner
            && self.choice == HomeChoice::Default
        {
            return Err(StoreError::ForeignHome { path, owner });
        }
        let (mut lower, mut unusable) = (Vec::new(), Vec::new());
        for path in &self.lower {
            match open_lower(path) {
                Ok(store) => lower.push(store),
                Err(error) => unusable.push(error),
            }
        }
        Ok(CheckedHome { store: Store::open_over(&path, lower)?, foreign_owner, unusable })
    }
}

/// Opens a state directory that is only read. It has to be ours or root's, whose files have the owners that we see.
fn open_lower(path: &Path) -> StoreResult<Store> {
    match check(path, HomeChoice::Named)? {
        (path, Some(owner)) => Err(StoreError::ForeignHome { path, owner }),
        (path, None) => Store::open_lower(&path),
    }
}

/// The directory behind links, and its owner if that is neither us nor root.
fn check(path: &Path, choice: HomeChoice) -> StoreResult<(PathBuf, Option<u32>)> {
    let path = match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
        other => other.map_err(StoreError::io("find", path))?,
    };
    let root = path.join(ROOT);
    let owner = match owner_if_closed(&path) {
        Err(StoreError::OpenHome { mode, .. }) if mode & STICKY != 0 && choice == HomeChoice::Named => {
            check_own_root(&root)?;
            None
        }
        other => {
            let owner = other?;
            owner_if_closed(&root)?;
            owner
        }
    };
    format::check(&root)?;
    let us = rustix::process::geteuid().as_raw();
    Ok((path, owner.filter(|owner| *owner != us && *owner != 0)))
}

/// The folder of the store in the state directory: its format version.
pub(super) const ROOT: &str = "v1";

/// Only the owner of an entry may replace it (`S_ISVTX`, inode(7)).
const STICKY: u32 = 0o1000;

/// Checks that the folder of the store at `root`, whose parent all may write to, was made by us or root and that nobody else
/// can write to it. That it does not exist yet is fine: `Store` checks it again when it has made it.
pub(super) fn check_own_root(root: &Path) -> StoreResult<()> {
    let meta = match fs::symlink_metadata(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(StoreError::io("look at", root))?,
    };
    let us = rustix::process::geteuid().as_raw();
    if !meta.is_dir() || meta.uid() != us && meta.uid() != 0 {
        return Err(StoreError::ForeignHome { path: root.to_owned(), owner: meta.uid() });
    }
    owner_if_closed(root).map(drop)
}

/// Whether all may make files in `home`, and only the sticky bit protects what lies there.
pub(super) fn is_shared_by_all(home: &Path) -> bool {
    fs::metadata(home).is_ok_and(|meta| meta.mode() & 0o002 != 0)
}

/// The user id that owns a directory which nobody else can write to; `None` if there is no such directory.
fn owner_if_closed(path: &Path) -> StoreResult<Option<u32>> {
    let meta = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(StoreError::io("look at", path))?,
    };
    let group_writes = meta.mode() & 0o020 != 0 && meta.gid() != rustix::process::getegid().as_raw();
    if meta.mode() & 0o002 != 0 || group_writes {
        return Err(StoreError::OpenHome { path: path.to_owned(), mode: meta.mode() & 0o7777 });
    }
    Ok(Some(meta.uid()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn open(path: &Path, choice: HomeChoice) -> StoreResult<CheckedHome> {
        HomeDir { path: path.to_owned(), choice, lower: Vec::new() }.open()
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_directory_that_others_can_write_to_is_refused_also_behind_a_link() {
        let temp = tempfile::tempdir().unwrap();
        let (home, link) = (temp.path().join("home"), temp.path().join("link"));
        fs::create_dir(&home).unwrap();
        symlink(&home, &link).unwrap();
        for (mode, is_fine) in [(0o700, true), (0o755, true), (0o777, false), (0o1777, true), (0o702, false)] {
            set_mode(&home, mode);
            for path in [&home, &link] {
                let opened = open(path, HomeChoice::Named);
                assert_eq!(opened.is_ok(), is_fine, "{mode:o}");
            }
        }
        set_mode(&home, 0o700);
        fs::create_dir(home.join("v1")).unwrap();
        set_mode(&home.join("v1"), 0o777);
        assert!(matches!(open(&link, HomeChoice::Named), Err(StoreError::OpenHome { .. })));
    }

    #[test]
    fn where_all_may_write_the_store_must_be_our_own() {
        let temp = tempfile::tempdir().unwrap();
        let home = temp.path().join("home");
        fs::create_dir(&home).unwrap();
        set_mode(&home, 0o1777);
        assert!(matches!(open(&home, HomeChoice::Default), Err(StoreError::OpenHome { .. })));
        symlink(temp.path(), home.join("v1")).unwrap();
        assert!(matches!(open(&home, HomeChoice::Named), Err(StoreError::ForeignHome { .. })));
        fs::remove_file(home.join("v1")).unwrap();
        let store = open(&home, HomeChoice::Named).unwrap().store;
        // Somebody is faster.
        symlink(temp.path(), home.join("v1")).unwrap();
        assert!(store.put_blob(b"x").is_err());
        fs::remove_file(home.join("v1")).unwrap();
        open(&home, HomeChoice::Named).unwrap().store.put_blob(b"x").unwrap();
        assert_eq!(fs::metadata(home.join("v1")).unwrap().mode() & 0o777, 0o700);
        assert!(open(&home, HomeChoice::Named).is_ok());
    }

    #[test]
    fn a_directory_that_does_not_exist_is_fine_and_not_made() {
        let temp = tempfile::tempdir().unwrap();
        let home = temp.path().join("a/b");
        assert!(open(&home, HomeChoice::Default).unwrap().foreign_owner.is_none());
        assert!(!home.exists());
    }

    #[test]
    fn a_link_is_followed_once_so_that_what_was_checked_is_what_is_used() {
        let temp = tempfile::tempdir().unwrap();
        let (home, other, link) = (temp.path().join("home"), temp.path().join("other"), temp.path().join("link"));
        [&home, &other].iter().for_each(|path| fs::create_dir(path).unwrap());
        symlink(&home, &link).unwrap();
        let store = open(&link, HomeChoice::Named).unwrap().store;
        fs::remove_file(&link).unwrap();
        symlink(&other, &link).unwrap();
        store.put_blob(b"x").unwrap();
        assert!(home.join("v1").exists() && !other.join("v1").exists());
    }

    #[test]
    fn another_owner_is_refused_in_the_default_place_and_reported_elsewhere() {
        let temp = tempfile::tempdir().unwrap();
        let home = temp.path().join("home");
        fs::create_dir(&home).unwrap();
        match std::os::unix::fs::chown(&home, Some(1234), None) {
            // Without the right to give directories away there is only our own to look at.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                assert_eq!(open(&home, HomeChoice::Default).unwrap().foreign_owner, None);
                return;
            }
            other => other.unwrap(),
        }
        assert_eq!(open(&home, HomeChoice::Named).unwrap().foreign_owner, Some(1234));
        assert!(matches!(open(&home, HomeChoice::Default), Err(StoreError::ForeignHome { owner: 1234, .. })));
    }
}
