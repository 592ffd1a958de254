//! The paths that differ between two states of the work tree, and the earlier states as the definition reads them.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use super::revisions::Compared;
use crate::{
    affected::{ChangeIndex, ChangeStatus, FolderView, PathChange},
    fetch::{CompareError, GitChange, GitMode, GitWorkTree, UntrackedPath},
    grant::{PastEntry, PastKind, PastTree},
};

/// What git says about the work tree and the commits that are compared.
pub(super) struct TreeChanges {
    /// From each base to the later state.
    pub(super) compared: Vec<Vec<GitChange>>,
    /// From each base to the disk.
    from_bases: Vec<Vec<GitChange>>,
    /// From `until` to the disk.
    from_until: Option<Vec<GitChange>>,
    untracked: Vec<UntrackedPath>,
}

impl TreeChanges {
    /// Asks git; `beside` runs meanwhile.
    ///
    /// # Errors
    /// When git fails.
    pub(super) fn ask<T>(
        tree: &GitWorkTree,
        compared: &Compared,
        beside: impl FnOnce() -> T,
    ) -> (Result<Self, CompareError>, T) {
        thread::scope(|scope| {
            let untracked = scope.spawn(|| tree.untracked());
            let changes = scope.spawn(|| {
                let from_bases: Vec<Vec<GitChange>> =
                    compared.bases.iter().map(|base| tree.changes(base, None)).collect::<Result<_, _>>()?;
                let Some(until) = &compared.until else { return Ok((from_bases.clone(), from_bases, None)) };
                let between = compared.bases.iter().map(|base| tree.changes(base, Some(until)));
                Ok((between.collect::<Result<_, _>>()?, from_bases, Some(tree.changes(until, None)?)))
            });
            let done = beside();
            let lost = |_| Err(CompareError::Answer("thread"));
            let joined = changes.join().unwrap_or_else(lost).and_then(|(compared, from_bases, from_until)| {
                let untracked = untracked.join().unwrap_or(Err(CompareError::Answer("thread")))?;
                Ok(Self { compared, from_bases, from_until, untracked })
            });
            (joined, done)
        })
    }

    /// The state of the work tree at a base.
    pub(super) fn past_of_base(&self, tree: &Arc<GitWorkTree>, n: usize) -> Arc<PastTree> {
        past(tree, &self.from_bases[n], &self.untracked)
    }

    /// The state of the work tree at `until`; `None` for the disk.
    pub(super) fn past_of_until(&self, tree: &Arc<GitWorkTree>) -> Option<Arc<PastTree>> {
        self.from_until.as_ref().map(|changes| past(tree, changes, &self.untracked))
    }

    /// The paths that differ from the base of this number.
    ///
    /// # Errors
    /// When git cannot be asked which folders there were.
    pub(super) fn index(&self, tree: &GitWorkTree, compared: &Compared, n: usize) -> std::io::Result<ChangeIndex> {
        let mut index = ChangeIndex::default();
        let (base, until) = (&compared.bases[n], compared.until.as_deref());
        let mut folders = ChangedFolders { tree, base, until, known: HashSet::new() };
        for change in &self.compared[n] {
            index.add(&change.path, path_change(change));
            folders.add(change, &mut index)?;
            if change.path.file_name().is_some_and(|name| name == ".gitattributes")
                && let Some(folder) = change.path.parent()
                && attributes_count(tree, change, until)
            {
                index.add(folder, PathChange { status: ChangeStatus::Attributes, is_whole_folder: true });
            }
        }
        if until.is_none() {
            for UntrackedPath { path, is_folder } in &self.untracked {
                index.add(path, PathChange { status: ChangeStatus::Untracked, is_whole_folder: *is_folder });
            }
        }
        // Of a linked work tree it is a file that does not change.
        if tree.top().join(".git").symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
            index.add(Path::new(".git"), PathChange { status: ChangeStatus::GitFolder, is_whole_folder: true });
        }
        Ok(index)
    }
}

fn path_change(change: &GitChange) -> PathChange {
    let is_submodule = change.old == GitMode::Submodule || change.new == GitMode::Submodule;
    let status = match (change.old, change.new) {
        _ if is_submodule => ChangeStatus::Submodule,
        (GitMode::Absent, _) => ChangeStatus::Added,
        (_, GitMode::Absent) => ChangeStatus::Deleted,
        _ => ChangeStatus::Modified,
    };
    PathChange { status, is_whole_folder: is_submodule }
}

/// Whether a `.gitattributes` that differs can change what git writes to the disk: then files differ there that are the same
/// to git (gitattributes(5), <https://git-scm.com/docs/gitattributes>).
fn attributes_count(tree: &GitWorkTree, change: &GitChange, until: Option<&str>) -> bool {
    let old = if change.old == GitMode::Absent { Ok(Vec::new()) } else { tree.read(&change.old_object) };
    let new = match (change.new, until) {
        (GitMode::Absent, _) => Ok(Vec::new()),
        (_, Some(until)) => tree.read(&format!("{until}:{}", change.path.display())),
        (_, None) => fs::read(tree.top().join(&change.path)),
    };
    let (Ok(old), Ok(new)) = (old, new) else { return true };
    let (old, new) = (String::from_utf8_lossy(&old), String::from_utf8_lossy(&new));
    let (old, new): (HashSet<&str>, HashSet<&str>) = (old.lines().collect(), new.lines().collect());
    old.symmetric_difference(&new).any(|line| counts(line))
}

/// Whether a line of `.gitattributes` can decide how files are written to the disk.
fn counts(line: &str) -> bool {
    const ATTRIBUTES: [&str; 7] = ["text", "eol", "crlf", "filter", "ident", "working-tree-encoding", "binary"];
    let names = line.split_whitespace().skip(1).map(|word| word.trim_start_matches(['-', '!']));
    let mut names = names.map(|word| word.split('=').next().unwrap_or(word));
    !line.starts_with('#')
        && (line.contains("[attr]") || line.starts_with('"') || names.any(|it| ATTRIBUTES.contains(&it)))
}

/// Folders that come with their first file and go with their last: a step that copies all but the files sees them.
struct ChangedFolders<'a> {
    tree: &'a GitWorkTree,
    base: &'a str,
    until: Option<&'a str>,
    known: HashSet<(PathBuf, bool)>,
}

impl ChangedFolders<'_> {
    fn add(&mut self, change: &GitChange, index: &mut ChangeIndex) -> std::io::Result<()> {
        let is_added = match (change.old, change.new) {
            (GitMode::Absent, _) => true,
            (_, GitMode::Absent) => false,
            _ => return Ok(()),
        };
        for folder in change.path.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty()) {
            // What is above a folder that was looked at was looked at with it.
            if !self.known.insert((folder.to_owned(), is_added)) {
                break;
            }
            let is_there = match (is_added, self.until) {
                (true, _) => self.tree.has(self.base, folder)?,
                (false, Some(until)) => self.tree.has(until, folder)?,
                (false, None) => !holds_nothing(&self.tree.top().join(folder)),
            };
            if is_there {
                break;
            }
            index.add(folder, PathChange { status: ChangeStatus::Folder, is_whole_folder: false });
        }
        Ok(())
    }
}

/// Whether a folder is missing, or has nothing but such folders in it: git does not have it then.
fn holds_nothing(folder: &Path) -> bool {
    let Ok(entries) = fs::read_dir(folder) else { return true };
    entries.flatten().all(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()) && holds_nothing(&entry.path()))
}

/// The disk with what differs from it as git has it.
fn past(tree: &Arc<GitWorkTree>, changes: &[GitChange], untracked: &[UntrackedPath]) -> Arc<PastTree> {
    let entry = |change: &GitChange| match change.old {
        GitMode::Absent => PastEntry::Missing,
        GitMode::File | GitMode::Executable => PastEntry::File(change.old_object.clone()),
        GitMode::Link => PastEntry::Link(change.old_object.clone()),
        GitMode::Submodule => PastEntry::Submodule,
    };
    let mut entries: BTreeMap<PathBuf, PastEntry> =
        untracked.iter().map(|it| (tree.top().join(&it.path), PastEntry::Missing)).collect();
    entries.extend(changes.iter().map(|change| (tree.top().join(&change.path), entry(change))));
    let reader = tree.clone();
    Arc::new(PastTree::new(tree.top().to_owned(), entries, Arc::new(move |object| reader.read(object))))
}

/// The later state, for links and names.
pub(super) struct LaterState {
    pub(super) past: Option<Arc<PastTree>>,
}

impl FolderView for LaterState {
    fn link(&self, path: &Path) -> Option<PathBuf> {
        match &self.past {
            None => fs::read_link(path).ok(),
            Some(past) => match past.kind(path) {
                Ok(PastKind::Link(target)) => Some(target),
                _ => None,
            },
        }
    }

    fn names(&self, folder: &Path) -> Vec<String> {
        let text = |name: std::ffi::OsString| name.to_string_lossy().into_owned();
        match &self.past {
            None => fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| text(entry.file_name())).collect(),
            Some(past) => past.list(folder).unwrap_or_default().into_iter().map(text).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_count_that_change_the_disk() {
        for line in ["* text=auto", "*.sh eol=lf", "*.bin filter=lfs diff=lfs -text", "*.png binary", "[attr]mine text"]
        {
            assert!(counts(line), "{line}");
        }
        for line in ["", "# text", "*.md linguist-vendored", "text diff=text2"] {
            assert!(!counts(line), "{line}");
        }
    }

    #[test]
    fn a_folder_without_files_is_none_to_git() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a");
        assert!(holds_nothing(&path), "it is missing");
        fs::create_dir_all(path.join("b/c")).expect("writable");
        assert!(holds_nothing(&path));
        fs::write(path.join("b/file"), "").expect("writable");
        assert!(!holds_nothing(&path));
    }
}
