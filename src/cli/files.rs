//! The files that expressions see: `file()`, `fileexists()`, `fileset()`. What they may read is what a build may read:
//! the working directory, and what `--allow fs.read=PATH` names.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{entitlements, settings::Settings};
use crate::{
    eval::{
        input::FileReader,
        target::pattern::{self, GlobError},
    },
    grant::{ReadFault, read_file},
};

/// More files than this are not listed.
const MAX_FILES: usize = 100_000;
/// How deep folders are looked into.
const MAX_DEPTH: usize = 100;

/// The working directory and what the user allows beside it.
#[derive(Debug)]
pub(super) struct Workspace {
    settings: Settings,
}

impl Workspace {
    pub(super) fn new(settings: &Settings) -> Self {
        Self { settings: settings.clone() }
    }

    /// The real path, if it may be read.
    fn allowed(&self, path: &str) -> Result<PathBuf, String> {
        let full = self.settings.cwd.join(path);
        let real = full.canonicalize().unwrap_or(full);
        if entitlements::may_read(&real, &self.settings) {
            return Ok(real);
        }
        Err(format!(
            "it lies outside of the working directory; --allow=fs.read={} lets it be read: {path}",
            real.display()
        ))
    }
}

impl FileReader for Workspace {
    fn read(&self, path: &str, limit: usize) -> Result<String, String> {
        let real = self.allowed(path)?;
        let bytes = read_file(&real, limit as u64).map_err(|error| match error {
            ReadFault::NoFile(special) => format!("this is {special}, not a regular file: {path}"),
            ReadFault::TooLarge(limit) => format!("the file has more than {limit} bytes: {path}"),
            ReadFault::Io(_) => format!("the file cannot be read ({error}): {path}"),
        })?;
        String::from_utf8(bytes)
            .map_err(|error| format!("the file is not UTF-8 text (byte {}): {path}", error.utf8_error().valid_up_to()))
    }

    fn exists(&self, path: &str) -> Result<bool, String> {
        Ok(self.allowed(path)?.is_file())
    }

    fn list(&self, folder: &str, pattern: &str) -> Result<Vec<String>, String> {
        let real = self.allowed(folder)?;
        let segments: Vec<&str> = pattern.split('/').filter(|it| !matches!(*it, "" | ".")).collect();
        let bad = || format!("not a pattern: {pattern}");
        if segments.is_empty() || pattern.starts_with('/') || segments.contains(&"..") {
            return Err(bad());
        }
        let mut found = Vec::new();
        let mut walk = DefinitionWalk { found: &mut found, n_seen: 0 };
        match walk.folder(&real, "", &segments, 0) {
            Ok(()) => (),
            Err(WalkStop::Pattern) => return Err(bad()),
            Err(WalkStop::TooMany) => return Err(format!("more than {MAX_FILES} files lie in: {folder}")),
            Err(WalkStop::Io(error)) => return Err(format!("the folder cannot be read ({error}): {folder}")),
        }
        found.sort();
        found.dedup();
        Ok(found)
    }
}

enum WalkStop {
    Pattern,
    TooMany,
    Io(io::Error),
}

/// A walk over the folders that a pattern can lead to. Links to folders are not followed.
struct DefinitionWalk<'a> {
    found: &'a mut Vec<String>,
    n_seen: usize,
}

impl DefinitionWalk<'_> {
    /// Looks for what `segments` match in one folder; `prefix` is its path from the start, with a slash.
    fn folder(&mut self, folder: &Path, prefix: &str, segments: &[&str], depth: usize) -> Result<(), WalkStop> {
        let Some((first, rest)) = segments.split_first() else { return Ok(()) };
        if depth > MAX_DEPTH {
            return Ok(());
        }
        if *first == "**" && !rest.is_empty() {
            self.folder(folder, prefix, rest, depth)?;
        }
        let entries = fs::read_dir(folder).map_err(WalkStop::Io)?;
        for entry in entries {
            let entry = entry.map_err(WalkStop::Io)?;
            self.n_seen += 1;
            if self.n_seen > MAX_FILES {
                return Err(WalkStop::TooMany);
            }
            let Ok(name) = entry.file_name().into_string() else { continue };
            let path = format!("{prefix}{name}");
            let is_folder = entry.file_type().map_err(WalkStop::Io)?.is_dir();
            let deeper = if *first == "**" { segments } else { rest };
            if *first != "**" && !pattern::matches(first, &name).map_err(|GlobError| WalkStop::Pattern)? {
                continue;
            }
            if is_folder {
                self.folder(&entry.path(), &format!("{path}/"), deeper, depth + 1)?;
            } else if rest.is_empty() && entry.path().is_file() {
                self.found.push(path);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_find_files_at_any_depth() {
        let folder = tempfile::tempdir().expect("a folder");
        for path in ["a.go", "b.txt", "x/c.go", "x/y/d.go", "x/y/e.txt"] {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("writable");
            fs::write(path, "").expect("writable");
        }
        let list = |pattern: &str| {
            let segments: Vec<&str> = pattern.split('/').collect();
            let mut found = Vec::new();
            let walked = DefinitionWalk { found: &mut found, n_seen: 0 }.folder(folder.path(), "", &segments, 0);
            assert!(walked.is_ok());
            found.sort();
            found.join(" ")
        };
        assert_eq!(list("*.go"), "a.go");
        assert_eq!(list("**/*.go"), "a.go x/c.go x/y/d.go");
        assert_eq!(list("x/*"), "x/c.go");
        assert_eq!(list("**"), "a.go b.txt x/c.go x/y/d.go x/y/e.txt");
        assert_eq!(list("x/**/?.txt"), "x/y/e.txt");
    }
}
