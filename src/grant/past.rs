//! A state of a git work tree that is not the one on the disk: that of a commit, for whoever reads the definition as it
//! was there.
//!
//! Only what differs from the disk is held; everything else is looked up on the disk, which has the same there. Which
//! paths differ, and how objects of git are read, comes from the caller (`fetch::compare`).

use std::{
    collections::{BTreeMap, HashSet},
    ffi::OsString,
    fmt, fs, io,
    ops::Bound,
    os::unix::ffi::OsStringExt as _,
    path::{Component, Path, PathBuf},
    sync::Arc,
};

/// A function that reads the content of a git object by its name.
pub(crate) type ObjectReader = Arc<dyn Fn(&str) -> io::Result<Vec<u8>> + Send + Sync>;

/// As many links as the kernel follows in one path.
const MAX_LINKS: usize = 40;

/// What stands at a path in the past where the disk has something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PastEntry {
    Missing,
    /// The git object of its content.
    File(String),
    /// The git object of its target.
    Link(String),
    /// A submodule at another commit: what is in it is not known.
    Submodule,
}

/// What a path is in a [`PastTree`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PastKind {
    Missing,
    File,
    Folder,
    /// A symbolic link, with its target.
    Link(PathBuf),
    Other,
}

/// The files of this machine with some of them as they were at a commit.
#[derive(Clone)]
pub(crate) struct PastTree {
    /// The top of the work tree, absolute and without links: everything outside is as it is on the disk.
    top: PathBuf,
    /// By absolute path without links.
    entries: BTreeMap<PathBuf, PastEntry>,
    /// The folders of entries that are not missing.
    folders: HashSet<PathBuf>,
    read: ObjectReader,
}

impl fmt::Debug for PastTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PastTree").field("entries", &self.entries.len()).finish_non_exhaustive()
    }
}

impl PastTree {
    /// `entries`: what differs from the disk in the work tree at `top`, by absolute path. Neither has links in it.
    pub(crate) fn new(top: PathBuf, entries: BTreeMap<PathBuf, PastEntry>, read: ObjectReader) -> Self {
        let mut folders = HashSet::new();
        let there = entries.iter().filter(|(_, entry)| **entry != PastEntry::Missing);
        for (path, _) in there {
            for folder in path.ancestors().skip(1).take_while(|folder| **folder != *top) {
                if !folders.insert(folder.to_owned()) {
                    break;
                }
            }
        }
        Self { top, entries, folders, read }
    }

    /// What a path is, whose folders are no links. The last name is not followed.
    ///
    /// # Errors
    /// When the disk or an object cannot be read, or the path lies in a submodule that was at another commit.
    pub(crate) fn kind(&self, path: &Path) -> io::Result<PastKind> {
        let around = path.ancestors().skip(1).take_while(|folder| folder.starts_with(&self.top));
        match around.into_iter().find_map(|folder| self.entries.get(folder)) {
            Some(PastEntry::Submodule) => Err(unknown_submodule()),
            Some(_) if !self.folders.contains(path) && !self.entries.contains_key(path) => Ok(PastKind::Missing),
            _ => self.kind_in_folder(path),
        }
    }

    /// As [`Self::kind`], of a path in a folder that is one.
    fn kind_in_folder(&self, path: &Path) -> io::Result<PastKind> {
        if self.folders.contains(path) {
            return Ok(PastKind::Folder);
        }
        match self.entries.get(path) {
            Some(PastEntry::Missing) => Ok(PastKind::Missing),
            Some(PastEntry::File(_)) => Ok(PastKind::File),
            Some(PastEntry::Link(object)) => {
                Ok(PastKind::Link(PathBuf::from(OsString::from_vec((self.read)(object)?))))
            }
            Some(PastEntry::Submodule) => Ok(PastKind::Folder),
            None => kind_on_disk(path),
        }
    }

    /// Reads a regular file; its path has no links.
    ///
    /// # Errors
    /// When it is none, is larger than `limit`, or cannot be read.
    pub(super) fn read(&self, path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
        match self.kind(path)? {
            PastKind::File => match self.entries.get(path) {
                Some(PastEntry::File(object)) => {
                    let bytes = (self.read)(object)?;
                    let is_fitting = u64::try_from(bytes.len()).is_ok_and(|length| length <= limit);
                    if is_fitting { Ok(Some(bytes)) } else { Err(io::ErrorKind::FileTooLarge.into()) }
                }
                _ => Ok(None),
            },
            PastKind::Folder => Err(io::ErrorKind::IsADirectory.into()),
            PastKind::Missing => Err(io::ErrorKind::NotFound.into()),
            PastKind::Link(_) | PastKind::Other => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// The names in a folder, sorted; its path has no links.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub(crate) fn list(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        match fs::read_dir(folder) {
            Ok(entries) => {
                for entry in entries {
                    names.push(entry?.file_name());
                }
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => (),
            Err(error) => return Err(error),
        }
        let after = (Bound::Excluded(folder), Bound::Unbounded);
        let below = self.entries.range::<Path, _>(after).take_while(|(it, _)| it.starts_with(folder));
        names.extend(below.filter_map(|(path, _)| {
            let name = path.strip_prefix(folder).ok()?.components().next()?;
            Some(name.as_os_str().to_owned())
        }));
        names.sort();
        names.dedup();
        let mut found = Vec::with_capacity(names.len());
        for name in names {
            if self.kind(&folder.join(&name))? != PastKind::Missing {
                found.push(name);
            }
        }
        Ok(found)
    }

    /// Where a path leads, links followed. Names behind one that is missing are kept; `..` takes one back.
    ///
    /// # Errors
    /// When too many links follow each other, the path leads through a file, or something cannot be read.
    pub(super) fn resolve(&self, path: &Path) -> io::Result<(PathBuf, Vec<OsString>)> {
        let mut names: Vec<OsString> = Vec::new();
        // The way to the top has no links.
        let (mut real, inside) = match path.strip_prefix(&self.top) {
            Ok(inside) => (self.top.clone(), inside),
            Err(_) => (PathBuf::from("/"), path),
        };
        push(&mut names, inside);
        let (mut missing, mut links) = (Vec::<OsString>::new(), 0);
        while let Some(name) = names.pop() {
            if name == ".." {
                if missing.pop().is_none() {
                    real.pop();
                }
                continue;
            }
            if !missing.is_empty() {
                missing.push(name);
                continue;
            }
            let next = real.join(&name);
            if self.entries.get(&real) == Some(&PastEntry::Submodule) {
                return Err(unknown_submodule());
            }
            match self.kind_in_folder(&next)? {
                PastKind::Missing => missing.push(name),
                PastKind::Link(target) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(rustix::io::Errno::LOOP.into());
                    }
                    if target.is_absolute() {
                        real = PathBuf::from("/");
                    }
                    push(&mut names, &target);
                }
                PastKind::Folder => real = next,
                PastKind::File | PastKind::Other if names.is_empty() => real = next,
                PastKind::File | PastKind::Other => return Err(io::ErrorKind::NotADirectory.into()),
            }
        }
        Ok((real, missing))
    }
}

/// Puts the names of a path on a stack, the first on top.
fn push(names: &mut Vec<OsString>, path: &Path) {
    names.extend(path.components().rev().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    }));
}

fn unknown_submodule() -> io::Error {
    io::Error::other("it lies in a submodule that was at another commit")
}

fn kind_on_disk(path: &Path) -> io::Result<PastKind> {
    match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => Ok(PastKind::Folder),
        Ok(meta) if meta.is_file() => Ok(PastKind::File),
        Ok(meta) if meta.is_symlink() => Ok(PastKind::Link(fs::read_link(path)?)),
        Ok(_) => Ok(PastKind::Other),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(PastKind::Missing)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree(root: &Path, entries: &[(&str, PastEntry)]) -> PastTree {
        let entries = entries.iter().map(|(path, entry)| (root.join(path), entry.clone())).collect();
        let read = |object: &str| Ok(object.as_bytes().to_vec());
        PastTree::new(root.to_owned(), entries, Arc::new(read))
    }

    #[test]
    fn what_differs_hides_the_disk() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().canonicalize().expect("it exists");
        fs::write(root.join("same"), "").expect("writable");
        fs::write(root.join("now-a-file"), "").expect("writable");
        fs::create_dir(root.join("now-a-folder")).expect("writable");
        fs::write(root.join("now-a-folder/new"), "").expect("writable");
        symlink("same", root.join("link")).expect("writable");
        let past = tree(
            &root,
            &[
                ("now-a-file", PastEntry::Missing),
                ("now-a-file/inside", PastEntry::File("old".to_owned())),
                ("now-a-folder", PastEntry::File("text".to_owned())),
                ("now-a-folder/new", PastEntry::Missing),
                ("gone", PastEntry::Link("now-a-file/inside".to_owned())),
                ("sub", PastEntry::Submodule),
            ],
        );
        let kind = |path: &str| past.kind(&root.join(path)).expect("it can be looked up");
        assert_eq!(kind("same"), PastKind::File);
        assert_eq!(kind("now-a-file"), PastKind::Folder);
        assert_eq!(kind("now-a-folder"), PastKind::File);
        assert_eq!(kind("now-a-folder/new"), PastKind::Missing);
        assert_eq!(kind("other"), PastKind::Missing);
        past.kind(&root.join("sub/file")).expect_err("it is not known");
        let names = past.list(&root).expect("a folder");
        assert_eq!(names, ["gone", "link", "now-a-file", "now-a-folder", "same", "sub"]);
        let (real, missing) = past.resolve(&root.join("gone")).expect("it leads somewhere");
        assert_eq!((real, missing), (root.join("now-a-file/inside"), Vec::new()));
        assert_eq!(past.read(&root.join("now-a-file/inside"), 9).expect("a file"), Some(b"old".to_vec()));
        let (real, missing) = past.resolve(&root.join("link")).expect("it leads somewhere");
        assert_eq!((real, missing), (root.join("same"), Vec::new()));
        let (_, missing) = past.resolve(&root.join("x/y/../z")).expect("names are kept");
        assert_eq!(missing, ["x", "z"]);
    }
}
