//! Files and folders of this machine get their names. Each step can be repeated after a process died in it.
//!
//! Directories are opened without following links, and everything else is done relative to them.

use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use rustix::{
    fs::{AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, Stat, Timespec, Timestamps, Uid},
    io::Errno,
};

use super::item::ItemOutcome;
use crate::{
    export::{
        built::DEEPEST_FOLDER,
        staged::{Inode, StagedFile, StagedFolder},
        write::{INDEX_FILE, TEMPORARY, finish_folders, merge_layout, remove},
    },
    grant::GrantedWrite,
    layer::view::at,
};

/// Why an item that was staged is not there any more.
const GONE: &str = "what was staged for it is gone";

/// Gives a file its name. *Blocks the thread.*
pub(super) fn place_file(item: &StagedFile) -> io::Result<ItemOutcome> {
    let place = GrantedWrite::of_journal(item.dest.0.clone());
    let (dir, name) = place.open_parent()?;
    let staged = item.staged.0.as_os_str();
    let is_ours = |stat: Option<Stat>| stat.is_some_and(|stat| Inode::of(&stat) == item.inode);
    if is_ours(at::stat(dir.as_fd(), staged)?) {
        rustix::fs::renameat(&dir, staged, &dir, name)?;
    } else if !is_ours(at::stat(dir.as_fd(), name.as_os_str())?) {
        return Ok(ItemOutcome::GivenUp(GONE.to_owned()));
    }
    Ok(ItemOutcome::Visible)
}

/// Makes a staged tree the destination, or moves its files there. *Blocks the thread.*
pub(super) fn place_folder(item: &StagedFolder) -> io::Result<ItemOutcome> {
    let at_staged = GrantedWrite::of_journal(item.staged.0.clone());
    let dest = GrantedWrite::of_journal(item.dest.0.clone());
    let is_ours = |dir: &OwnedFd| rustix::fs::fstat(dir).is_ok_and(|stat| Inode::of(&stat) == item.inode);
    let staged = match at_staged.open_dir() {
        Ok(staged) if is_ours(&staged) => staged,
        // It has become the destination already.
        _ if dest.open_dir().is_ok_and(|dir| is_ours(&dir)) => return Ok(ItemOutcome::Visible),
        Ok(_) => return Ok(ItemOutcome::GivenUp(GONE.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(ItemOutcome::GivenUp(GONE.to_owned())),
        Err(error) => return Err(error),
    };
    let (parent, name) = at_staged.open_parent()?;
    let finish =
        |root: &OwnedFd| finish_folders(root, &item.folders).map_err(|(path, error)| at_path(path.as_path(), &error));
    let root = match dest.open_dir() {
        Ok(root) => root,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            finish(&staged)?;
            let (into, new_name) = dest.make_parent()?;
            match rustix::fs::renameat_with(&parent, name, &into, new_name, RenameFlags::NOREPLACE) {
                Ok(()) => return Ok(ItemOutcome::Visible),
                // Somebody has made the destination meanwhile.
                Err(Errno::EXIST) => dest.open_dir()?,
                Err(error) => return Err(error.into()),
            }
        }
        Err(error) => return Err(error),
    };
    let kept = if item.is_layout { Some(OsStr::new(INDEX_FILE)) } else { None };
    if item.is_layout {
        // Who takes away blobs of replaced images has the lock, so it is held from the first of ours to the index.
        let moved = || move_tree(staged.as_fd(), root.as_fd(), Path::new(""), kept);
        merge_layout(&staged, &root, item.sweeps, moved).map_err(|error| at_path(Path::new(INDEX_FILE), &error))?;
    } else {
        move_tree(staged.as_fd(), root.as_fd(), Path::new(""), kept)?;
    }
    for path in &item.remove {
        let (Some(parent), Some(name)) = (path.0.parent(), path.0.file_name()) else { continue };
        match at::dir(root.as_fd(), parent) {
            Ok(dir) => remove(dir.as_fd(), name, 0).map_err(|error| at_path(&path.0, &error))?,
            // What was a folder is a file or a link now: what lay in it went with it.
            Err(error) if is_gone(&error) => (),
            Err(error) => return Err(at_path(&path.0, &error)),
        }
    }
    finish(&root)?;
    remove(parent.as_fd(), name.as_os_str(), 0)?;
    Ok(ItemOutcome::Visible)
}

/// Whether an error says that there is no such folder: nothing of the name, or something else.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        || error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}

/// Takes away a file that was staged and is not going to get its name. *Blocks the thread.*
pub(super) fn discard_file(item: &StagedFile) -> io::Result<()> {
    let (dir, _) = match GrantedWrite::of_journal(item.dest.0.clone()).open_parent() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let staged = item.staged.0.as_os_str();
    match at::stat(dir.as_fd(), staged)? {
        Some(stat) if Inode::of(&stat) == item.inode => remove(dir.as_fd(), staged, 0),
        _ => Ok(()),
    }
}

/// Takes away a tree that was staged and is not going to be the destination. *Blocks the thread.*
pub(super) fn discard_folder(item: &StagedFolder) -> io::Result<()> {
    let place = GrantedWrite::of_journal(item.staged.0.clone());
    let found = match place.open_dir() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => rustix::fs::fstat(&other?)?,
    };
    if Inode::of(&found) != item.inode {
        return Ok(());
    }
    let (parent, name) = place.open_parent()?;
    remove(parent.as_fd(), name.as_os_str(), 0)
}

/// Moves all names below `from` to `to`: directories that are in both are merged, everything else is replaced by one
/// rename. `path` is where that is below the destination; `kept` is a name that stays.
fn move_tree(from: BorrowedFd<'_>, to: BorrowedFd<'_>, path: &Path, kept: Option<&OsStr>) -> io::Result<()> {
    if path.components().count() > DEEPEST_FOLDER {
        return Err(io::Error::other("folders lie too deep"));
    }
    for name in at::names(from)? {
        let at_name = |error: io::Error| at_path(&path.join(&name), &error);
        if kept.is_some_and(|kept| *kept == *name) {
            continue;
        }
        let Some(stat) = at::stat(from, &name).map_err(at_name)? else { continue };
        let there = at::stat(to, &name).map_err(at_name)?;
        match (is_dir(&stat), there.as_ref().map(is_dir)) {
            (true, Some(true)) => {
                merge(from, to, path, &name)?;
            }
            (was_dir, Some(is_dir)) if was_dir != is_dir => {
                exchange(from, to, &name).map_err(at_name)?;
            }
            (is_dir, _) => match rustix::fs::renameat(from, &name, to, &name) {
                Ok(()) => (),
                // A mount point lies in the destination.
                Err(Errno::XDEV) if is_dir => {
                    rustix::fs::mkdirat(to, &name, Mode::from_raw_mode(0o700)).map_err(|e| at_name(e.into()))?;
                    merge(from, to, path, &name)?;
                }
                Err(Errno::XDEV) => copy(from, to, &name, &stat).map_err(at_name)?,
                Err(error) => return Err(at_name(error.into())),
            },
        }
    }
    Ok(())
}

/// Moves what is in one directory into the one of the same name.
fn merge(from: BorrowedFd<'_>, to: BorrowedFd<'_>, path: &Path, name: &OsStr) -> io::Result<()> {
    let inner = path.join(name);
    let open = |dir: BorrowedFd<'_>| at::dir(dir, Path::new(name)).map_err(|error| at_path(&inner, &error));
    move_tree(open(from)?.as_fd(), open(to)?.as_fd(), &inner, None)
}

/// Puts a directory in place of something else, or something else in place of a directory, by one act.
fn exchange(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    match rustix::fs::renameat_with(from, name, to, name, RenameFlags::EXCHANGE) {
        Ok(()) => remove(from, name, 0),
        // A file system that cannot exchange, or a mount point.
        Err(Errno::INVAL | Errno::NOSYS) => {
            remove(to, name, 0)?;
            Ok(rustix::fs::renameat(from, name, to, name)?)
        }
        Err(error) => Err(error.into()),
    }
}

/// Copies a file or a link to another file system, where it appears whole.
fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &OsStr, stat: &Stat) -> io::Result<()> {
    let beside = format!("{TEMPORARY}{}-{:08x}", std::process::id(), getrandom::u32().unwrap_or(0));
    let made = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => copy_file(from, to, name, &beside, stat),
        FileType::Symlink => {
            at::read_link(from, name).and_then(|text| Ok(rustix::fs::symlinkat(text, to, beside.as_str())?))
        }
        _ => Err(io::Error::other("it is neither a file nor a link, and cannot go to another file system")),
    };
    let made = made.and_then(|()| Ok(rustix::fs::renameat(to, beside.as_str(), to, name)?));
    if made.is_err() {
        rustix::fs::unlinkat(to, beside.as_str(), AtFlags::empty()).ok();
    }
    made
}

fn copy_file(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &OsStr, beside: &str, stat: &Stat) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(to, beside, flags, Mode::from_raw_mode(0o600))?);
    io::copy(&mut at::file(from, Path::new(name))?, &mut file)?;
    // Kept where our rights allow, and before the mode: the kernel takes the set-id bits away (chown(2)).
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::fchown(&file, Some(uid), Some(gid)).ok();
    rustix::fs::fchmod(&file, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    let tv_nsec = i64::try_from(stat.st_mtime_nsec).unwrap_or(0);
    let time = Timespec { tv_sec: stat.st_mtime, tv_nsec };
    Ok(rustix::fs::futimens(&file, &Timestamps { last_access: time, last_modification: time })?)
}

fn is_dir(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// The error with the path that it is about.
fn at_path(path: &Path, error: &io::Error) -> io::Error {
    if path.as_os_str().as_bytes().is_empty() {
        return io::Error::new(error.kind(), error.to_string());
    }
    io::Error::new(error.kind(), format!("`{}`: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

    use super::*;
    use crate::export::staged::{ExactPath, StagedDirectory};

    /// A tree with `new`, `same/file`, `file` (a directory) and `dir` (a file), staged for `out`.
    fn staged(folder: &Path, place: &str) -> StagedFolder {
        let tree = folder.join(place);
        fs::create_dir_all(tree.join("same")).expect("writable");
        fs::create_dir_all(tree.join("file")).expect("writable");
        for name in ["new", "same/file", "file/inner", "dir"] {
            fs::write(tree.join(name), format!("new {name}")).expect("writable");
        }
        let stat = rustix::fs::stat(&tree).expect("there");
        let dir = |path: &str| StagedDirectory {
            path: ExactPath(path.into()),
            mode: 0o755,
            owner: None,
            mtime: Some((7, 0)),
            xattrs: Vec::new(),
        };
        StagedFolder {
            dest: ExactPath(folder.join("out")),
            staged: ExactPath(tree),
            inode: Inode::of(&stat),
            folders: vec![dir("same"), dir("file")],
            remove: vec![ExactPath("old".into()), ExactPath("gone/x".into())],
            is_layout: false,
            sweeps: false,
        }
    }

    fn all(folder: &Path) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(next) = folders.pop() {
            for entry in fs::read_dir(next).expect("readable") {
                let path = entry.expect("readable").path();
                found.push(path.strip_prefix(folder).expect("below").to_owned());
                if path.is_dir() {
                    folders.push(path);
                }
            }
        }
        found.sort();
        found
    }

    #[test]
    fn a_new_folder_appears_whole_and_an_old_one_gets_its_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let item = staged(folder.path(), ".out.bake-1");
        assert!(matches!(place_folder(&item), Ok(ItemOutcome::Visible)));
        let expected: Vec<PathBuf> = ["dir", "file", "file/inner", "new", "same", "same/file"].map(Into::into).into();
        assert_eq!(all(&folder.path().join("out")), expected);
        assert!(matches!(place_folder(&item), Ok(ItemOutcome::Visible)), "the tree has become the destination");

        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().join("out");
        for dir in ["out/same", "out/dir/below"] {
            fs::create_dir_all(folder.path().join(dir)).expect("writable");
        }
        for name in ["file", "same/file", "same/theirs", "old"] {
            fs::write(out.join(name), "old").expect("writable");
        }
        let item = staged(folder.path(), "out/.bake-tmp-1");
        assert!(matches!(place_folder(&item), Ok(ItemOutcome::Visible)));
        let mut expected = expected;
        expected.push("same/theirs".into());
        expected.sort();
        assert_eq!(all(&out), expected);
        assert_eq!(fs::read_to_string(out.join("same/file")).expect("there"), "new same/file");
        assert_eq!(fs::metadata(out.join("same")).expect("there").permissions().mode() & 0o777, 0o755);
        assert!(matches!(place_folder(&item), Ok(ItemOutcome::GivenUp(_))), "it is done and the tree is gone");
    }

    #[test]
    fn a_tree_that_was_moved_in_part_is_moved_in_full() {
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().join("out");
        fs::create_dir_all(out.join("same")).expect("writable");
        let item = staged(folder.path(), "out/.bake-tmp-1");
        // As a killed process leaves it.
        fs::rename(out.join(".bake-tmp-1/same/file"), out.join("same/file")).expect("writable");
        fs::rename(out.join(".bake-tmp-1/file"), out.join("file")).expect("writable");
        assert!(matches!(place_folder(&item), Ok(ItemOutcome::Visible)));
        assert_eq!(all(&out).len(), 6);
        assert_eq!(fs::read_to_string(out.join("file/inner")).expect("there"), "new file/inner");
    }

    #[test]
    fn a_file_gets_its_name_once_and_a_strangers_file_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let (dest, beside) = (folder.path().join("a.tar"), folder.path().join(".a.tar.bake-1"));
        fs::write(&beside, "new").expect("writable");
        let inode = Inode::of(&rustix::fs::stat(&beside).expect("there"));
        let item = StagedFile { dest: ExactPath(dest.clone()), staged: ExactPath(".a.tar.bake-1".into()), inode };
        assert!(matches!(place_file(&item), Ok(ItemOutcome::Visible)));
        assert_eq!(fs::read_to_string(&dest).expect("there"), "new");
        assert!(matches!(place_file(&item), Ok(ItemOutcome::Visible)), "it has its name already");
        fs::write(folder.path().join("other"), "theirs").expect("writable");
        fs::rename(folder.path().join("other"), &dest).expect("writable");
        assert!(matches!(place_file(&item), Ok(ItemOutcome::GivenUp(_))));
        assert_eq!(fs::read_to_string(&dest).expect("there"), "theirs");
    }

    #[test]
    fn links_that_came_into_the_way_are_not_followed() {
        let (folder, outside) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let item = staged(folder.path(), ".out.bake-1");
        std::os::unix::fs::symlink(outside.path(), folder.path().join("out")).expect("writable");
        place_folder(&item).expect_err("the destination is a link");
        assert_eq!(fs::read_dir(outside.path()).expect("there").count(), 0);
    }
}
