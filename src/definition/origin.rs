//! What a definition may read of other definitions: files of its own git work tree, and what is allowed besides.
//!
//! Which files a definition names is found out by `definition` and `eval`; what the command line names is not checked here.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::grant::{Allowed, Denied, GrantedRead, PastTree, resolve, resolve_in, work_tree};

/// Where a definition comes from, which decides what it may read without a grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DefinitionOrigin {
    /// This machine. The folder of the file that the command line names, relative to the working directory.
    Folder(Arc<str>),
    /// A URL: nothing of this machine is free.
    Remote,
}

impl Default for DefinitionOrigin {
    /// The working directory: what the command line itself says.
    fn default() -> Self {
        Self::Folder(".".into())
    }
}

impl DefinitionOrigin {
    /// The origin of a file that the command line names, or of standard input (`-`).
    pub(crate) fn of_file(path: &str) -> Self {
        let folder = Path::new(path).parent().map(|folder| folder.to_string_lossy()).unwrap_or_default();
        Self::Folder(if folder.is_empty() { ".".into() } else { folder.into() })
    }
}

/// Checks the files that a definition reads while it is loaded and evaluated.
#[derive(Clone, Debug)]
pub(crate) struct DefinitionReads {
    /// Absolute.
    cwd: PathBuf,
    /// What the user allows to any definition.
    granted: Allowed,
    /// As `granted`, and the working directory: what definitions of this machine may read.
    local: Allowed,
    /// The state of the work tree that is read instead of the one on the disk.
    past: Option<Arc<PastTree>>,
}

impl DefinitionReads {
    /// `granted`: what the user allows explicitly, without the working directory.
    pub(crate) fn new(cwd: &Path, granted: Allowed) -> Self {
        let mut local = granted.clone();
        local.allow(Path::new("."), cwd);
        Self { cwd: cwd.to_owned(), granted, local, past: None }
    }

    /// The same, in a past state of the work tree.
    pub(crate) fn in_past(self, past: Option<Arc<PastTree>>) -> Self {
        Self { past, ..self }
    }

    /// A file that the command line names, in a past state of the work tree; `None` if the disk is read.
    ///
    /// # Errors
    /// When it cannot be followed to its end.
    pub(crate) fn named_in_past(&self, path: &Path) -> Option<io::Result<GrantedRead>> {
        let past = self.past.as_ref()?;
        let mut everything = Allowed::default();
        everything.allow(Path::new("*"), &self.cwd);
        let granted = resolve_in(Some(past), path, &self.cwd)
            .and_then(|found| everything.read(found).map_err(|_| io::ErrorKind::PermissionDenied.into()));
        Some(granted)
    }

    /// Resolves a path, relative to the working directory, that a definition of this origin names: its handle, or where it
    /// really leads if that may not be read. A file that does not exist has a handle as well.
    ///
    /// # Errors
    /// When it cannot be followed to its end, such as when it leads through a file.
    pub(crate) fn read(&self, path: &Path, origin: &DefinitionOrigin) -> io::Result<Result<GrantedRead, Denied>> {
        let found = resolve_in(self.past.as_ref(), path, &self.cwd)?;
        match origin {
            DefinitionOrigin::Remote => Ok(self.granted.read(found)),
            DefinitionOrigin::Folder(_) if self.local.covers(&found.path()) => Ok(self.local.read(found)),
            DefinitionOrigin::Folder(folder) => Ok(self.allowed_around(Path::new(&**folder))?.read(found)),
        }
    }

    /// What a definition in a folder of this machine may read.
    fn allowed_around(&self, folder: &Path) -> io::Result<Allowed> {
        let folder = resolve(folder, &self.cwd)?.path();
        let mut allowed = self.local.clone();
        allowed.allow(work_tree(&folder).unwrap_or(&folder), &self.cwd);
        Ok(allowed)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn a_definition_reads_its_own_work_tree() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().canonicalize().expect("it exists");
        for path in ["repo/.git", "repo/a/b", "repo/nested/.git", "repo/nested/x", "plain/sub", "cwd"] {
            fs::create_dir_all(root.join(path)).expect("writable");
        }
        symlink(root.join("plain"), root.join("repo/out")).expect("writable");
        let reads = DefinitionReads::new(&root.join("cwd"), Allowed::default());
        let may = |origin: &DefinitionOrigin, path: &str| {
            reads.read(Path::new(path), origin).expect("it can be resolved").is_ok()
        };
        let of = |folder: &str| DefinitionOrigin::Folder(folder.into());
        for (origin, path, expected) in [
            (of("../repo/a/b"), "../repo/shared", true),
            (of("../repo/a/b"), "../repo/nested/x/f", true),
            (of("../repo/a/b"), "../plain/f", false),
            (of("../repo/a/b"), "../repo/out/f", false),
            (of("../repo/a/b"), "../repo/out/../../f", false),
            (of("../repo/nested/x"), "../repo/nested/f", true),
            (of("../repo/nested/x"), "../repo/shared", false),
            (of("../plain"), "../plain/sub/f", true),
            (of("../plain/sub"), "../plain/f", false),
            (of("../plain/sub"), "f", true),
            (DefinitionOrigin::Remote, "f", false),
        ] {
            assert_eq!(may(&origin, path), expected, "{origin:?} {path}");
        }
    }

    #[test]
    fn the_origin_of_a_file_is_its_folder() {
        for (path, expected) in [("a/b.hcl", "a"), ("b.hcl", "."), ("-", "."), ("/b.hcl", "/"), ("../b", "..")] {
            assert_eq!(DefinitionOrigin::of_file(path), DefinitionOrigin::Folder(expected.into()), "{path}");
        }
    }
}
