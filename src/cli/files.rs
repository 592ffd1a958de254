//! The files that expressions see: `file()`, `fileexists()`, `fileset()`. What they may read is what a definition may read:
//! the working directory, the git work tree of the definition, and what `--allow fs.read=PATH` names.

use std::{os::fd::OwnedFd, path::Path};

use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, statat},
    io::Errno,
};

use crate::{
    definition::origin::{DefinitionOrigin, DefinitionReads},
    eval::{
        input::FileReader,
        target::pattern::{self, GlobError},
    },
    grant::{GrantedRead, PastKind, PastTree, ReadFault},
};

/// More files than this are not listed.
const MAX_FILES: usize = 100_000;
/// How deep folders are looked into.
const MAX_DEPTH: usize = 100;

/// The files of this machine, as far as a definition may read them.
#[derive(Debug)]
pub(super) struct Workspace {
    reads: DefinitionReads,
}

impl Workspace {
    /// The files that `reads` lets a definition read.
    pub(super) fn new(reads: DefinitionReads) -> Self {
        Self { reads }
    }

    fn granted(&self, path: &str, origin: &DefinitionOrigin) -> Result<GrantedRead, String> {
        match self.reads.read(Path::new(path), origin) {
            Ok(Ok(granted)) => Ok(granted),
            Ok(Err(denied)) => {
                let flag = denied.read_flag();
                Err(match origin {
                    DefinitionOrigin::Remote => {
                        format!("the definition comes from elsewhere; {flag} lets it be read: {path}")
                    }
                    DefinitionOrigin::Folder(_) => format!(
                        "it lies outside of the working directory and of the definition's work tree; {flag} lets it be read: {path}"
                    ),
                })
            }
            Err(error) => Err(format!("the file cannot be read ({error}): {path}")),
        }
    }
}

impl FileReader for Workspace {
    fn read(&self, path: &str, origin: &DefinitionOrigin, limit: usize) -> Result<String, String> {
        let bytes = self.granted(path, origin)?.read(limit as u64).map_err(|error| match error {
            ReadFault::NoFile(special) => format!("this is {special}, not a regular file: {path}"),
            ReadFault::TooLarge(limit) => format!("the file has more than {limit} bytes: {path}"),
            ReadFault::Io(_) => format!("the file cannot be read ({error}): {path}"),
        })?;
        String::from_utf8(bytes)
            .map_err(|error| format!("the file is not UTF-8 text (byte {}): {path}", error.utf8_error().valid_up_to()))
    }

    fn exists(&self, path: &str, origin: &DefinitionOrigin) -> Result<bool, String> {
        Ok(self.granted(path, origin)?.is_file())
    }

    fn list(&self, folder: &str, origin: &DefinitionOrigin, pattern: &str) -> Result<Vec<String>, String> {
        let granted = self.granted(folder, origin)?;
        let segments: Vec<&str> = pattern.split('/').filter(|it| !matches!(*it, "" | ".")).collect();
        let bad = || format!("not a pattern: {pattern}");
        if segments.is_empty() || pattern.starts_with('/') || segments.contains(&"..") {
            return Err(bad());
        }
        let root = granted.path();
        let link_is_file = |path: &str| match self.reads.read(&root.join(path), origin) {
            Ok(Ok(target)) => target.is_file(),
            _ => false,
        };
        if let Some(past) = granted.past() {
            let mut walk = PastWalk { past, root, found: Vec::new(), link_is_file: &link_is_file };
            return match walk.folder("", &segments, 0) {
                Ok(()) => Ok(sorted(walk.found)),
                Err(WalkStop::Pattern) => Err(bad()),
                Err(WalkStop::TooMany) => Err(format!("more than {MAX_FILES} files lie in: {folder}")),
                Err(WalkStop::Io(error)) => Err(format!("the folder cannot be read ({error}): {folder}")),
            };
        }
        let mut walk = DefinitionWalk { found: Vec::new(), n_seen: 0, link_is_file: &link_is_file };
        let walked = granted.open_dir().map_err(WalkStop::from).and_then(|dir| walk.folder(&dir, "", &segments, 0));
        match walked {
            Ok(()) => (),
            Err(WalkStop::Pattern) => return Err(bad()),
            Err(WalkStop::TooMany) => return Err(format!("more than {MAX_FILES} files lie in: {folder}")),
            Err(WalkStop::Io(error)) => return Err(format!("the folder cannot be read ({error}): {folder}")),
        }
        Ok(sorted(walk.found))
    }
}

fn sorted(mut paths: Vec<String>) -> Vec<String> {
    paths.sort();
    paths.dedup();
    paths
}

enum WalkStop {
    Pattern,
    TooMany,
    Io(std::io::Error),
}

impl From<std::io::Error> for WalkStop {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Errno> for WalkStop {
    fn from(error: Errno) -> Self {
        Self::Io(error.into())
    }
}

/// A walk over the folders that a pattern can lead to. Links to folders are not followed.
struct DefinitionWalk<'a> {
    found: Vec<String>,
    n_seen: usize,
    /// Whether the link of this path, from the start of the walk, leads to a file that may be read.
    link_is_file: &'a dyn Fn(&str) -> bool,
}

impl DefinitionWalk<'_> {
    /// Looks for what `segments` match in one folder; `prefix` is its path from the start, with a slash.
    fn folder(&mut self, folder: &OwnedFd, prefix: &str, segments: &[&str], depth: usize) -> Result<(), WalkStop> {
        let Some((first, rest)) = segments.split_first() else { return Ok(()) };
        if depth > MAX_DEPTH {
            return Ok(());
        }
        if *first == "**" && !rest.is_empty() {
            self.folder(folder, prefix, rest, depth)?;
        }
        for entry in Dir::read_from(folder)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            if matches!(name, "." | "..") {
                continue;
            }
            self.n_seen += 1;
            if self.n_seen > MAX_FILES {
                return Err(WalkStop::TooMany);
            }
            let deeper = if *first == "**" { segments } else { rest };
            if *first != "**" && !pattern::matches(first, name).map_err(|GlobError| WalkStop::Pattern)? {
                continue;
            }
            let path = format!("{prefix}{name}");
            let kind = match entry.file_type() {
                FileType::Unknown => FileType::from_raw_mode(statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode),
                known => known,
            };
            match kind {
                FileType::Directory if !deeper.is_empty() => {
                    const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW);
                    let inner = openat(folder, name, FLAGS | OFlags::CLOEXEC, Mode::empty())?;
                    self.folder(&inner, &format!("{path}/"), deeper, depth + 1)?;
                }
                FileType::RegularFile if rest.is_empty() => self.found.push(path),
                FileType::Symlink if rest.is_empty() && (self.link_is_file)(&path) => self.found.push(path),
                _ => (),
            }
        }
        Ok(())
    }
}

/// As [`DefinitionWalk`], in a past state of the work tree.
struct PastWalk<'a> {
    past: &'a PastTree,
    root: &'a Path,
    found: Vec<String>,
    link_is_file: &'a dyn Fn(&str) -> bool,
}

impl PastWalk<'_> {
    fn folder(&mut self, prefix: &str, segments: &[&str], depth: usize) -> Result<(), WalkStop> {
        let Some((first, rest)) = segments.split_first() else { return Ok(()) };
        if depth > MAX_DEPTH {
            return Ok(());
        }
        if *first == "**" && !rest.is_empty() {
            self.folder(prefix, rest, depth)?;
        }
        for name in self.past.list(&self.root.join(prefix))? {
            let Some(name) = name.to_str() else { continue };
            let deeper = if *first == "**" { segments } else { rest };
            if *first != "**" && !pattern::matches(first, name).map_err(|GlobError| WalkStop::Pattern)? {
                continue;
            }
            let path = format!("{prefix}{name}");
            match self.past.kind(&self.root.join(&path))? {
                PastKind::Folder if !deeper.is_empty() => self.folder(&format!("{path}/"), deeper, depth + 1)?,
                PastKind::File if rest.is_empty() => self.found.push(path),
                PastKind::Link(_) if rest.is_empty() && (self.link_is_file)(&path) => self.found.push(path),
                _ => (),
            }
            if self.found.len() > MAX_FILES {
                return Err(WalkStop::TooMany);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;
    use crate::grant::Allowed;

    #[test]
    fn patterns_find_files_at_any_depth() {
        let folder = tempfile::tempdir().expect("a folder");
        for path in ["a.go", "b.txt", "x/c.go", "x/y/d.go", "x/y/e.txt"] {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("writable");
            fs::write(path, "").expect("writable");
        }
        let workspace = Workspace::new(DefinitionReads::new(folder.path(), Allowed::default()));
        let list = |pattern: &str| {
            workspace.list(".", &DefinitionOrigin::default(), pattern).expect("a folder and a pattern").join(" ")
        };
        assert_eq!(list("*.go"), "a.go");
        assert_eq!(list("**/*.go"), "a.go x/c.go x/y/d.go");
        assert_eq!(list("x/*"), "x/c.go");
        assert_eq!(list("**"), "a.go b.txt x/c.go x/y/d.go x/y/e.txt");
        assert_eq!(list("x/**/?.txt"), "x/y/e.txt");
        // Links count where what they lead to may be read.
        symlink("x/c.go", folder.path().join("inside.go")).expect("writable");
        symlink("/etc/passwd", folder.path().join("outside.go")).expect("writable");
        symlink("x", folder.path().join("z")).expect("writable");
        assert_eq!(list("*.go"), "a.go inside.go");
        assert_eq!(list("z/*"), "");
    }
}
