//! The paths that differ between two states of a work tree, found by folder.

use std::{collections::BTreeMap, ops::Bound, path::Path};

/// How a path differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChangeStatus {
    Added,
    Modified,
    Deleted,
    /// Git does not track it and does not ignore it.
    Untracked,
    /// A submodule at another commit, or with changes of its own.
    Submodule,
    /// A folder that came or went with what is in it.
    Folder,
    /// A folder in which git may write files otherwise to the disk: its `.gitattributes` differs.
    Attributes,
    /// The folder `.git` itself, which changes with every commit.
    GitFolder,
}

impl ChangeStatus {
    /// The word for it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Modified => "modified",
            Self::Deleted => "deleted",
            Self::Untracked => "untracked",
            Self::Submodule => "submodule",
            Self::Folder => "folder",
            Self::Attributes => "with another .gitattributes",
            Self::GitFolder => "changed by every commit",
        }
    }
}

/// A path that differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PathChange {
    pub(crate) status: ChangeStatus,
    /// Anything below it may differ as well.
    pub(crate) is_whole_folder: bool,
}

impl PathChange {
    /// Whether something is there in one of the states alone, or may be.
    pub(crate) const fn comes_or_goes(self) -> bool {
        match self.status {
            ChangeStatus::Added
            | ChangeStatus::Deleted
            | ChangeStatus::Untracked
            | ChangeStatus::Submodule
            | ChangeStatus::Folder => true,
            ChangeStatus::Modified | ChangeStatus::Attributes | ChangeStatus::GitFolder => self.is_whole_folder,
        }
    }
}

/// The paths that differ, from the top of the work tree with `/`; names that are not UTF-8 are shown as text.
#[derive(Debug, Default)]
pub(crate) struct ChangeIndex {
    paths: BTreeMap<String, PathChange>,
}

impl ChangeIndex {
    /// Adds a path, an empty one for the top; of one that is added twice the first stays, and it is whole if one of them is.
    pub(crate) fn add(&mut self, path: &Path, change: PathChange) {
        let known = self.paths.entry(path.to_string_lossy().into_owned()).or_insert(change);
        known.is_whole_folder |= change.is_whole_folder;
    }

    /// The paths that differ below a folder, relative to it, and the folder itself (as an empty path) if that or a folder
    /// around it may differ as a whole, or if it was or is no folder.
    ///
    /// `folder` is from the top; empty is the top.
    pub(super) fn below(&self, folder: &str) -> Vec<(&str, PathChange)> {
        let around = folder.match_indices('/').map(|(at, _)| &folder[..at]).filter(|it| !it.is_empty());
        let around = around.filter_map(|it| self.paths.get(it).filter(|change| change.is_whole_folder));
        let itself = (!folder.is_empty()).then(|| self.paths.get(folder)).flatten();
        let top = (!folder.is_empty()).then(|| self.paths.get("")).flatten();
        let whole = top
            .into_iter()
            .chain(around)
            .chain(itself)
            .map(|change| ("", PathChange { is_whole_folder: true, ..*change }));
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let n_prefix = prefix.len();
        let from = self.paths.range::<str, _>((Bound::Included(prefix.as_str()), Bound::Unbounded));
        let below = from.take_while(|(path, _)| path.starts_with(&prefix));
        whole.chain(below.map(|(path, change)| (&path[n_prefix..], *change))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_by_folder() {
        let mut index = ChangeIndex::default();
        let file = PathChange { status: ChangeStatus::Modified, is_whole_folder: false };
        for path in ["a/b", "a/b.txt", "a/b/c", "ab", "z/y"] {
            index.add(Path::new(path), file);
        }
        index.add(Path::new("sub"), PathChange { status: ChangeStatus::Submodule, is_whole_folder: true });
        fn below(index: &ChangeIndex, folder: &str) -> Vec<String> {
            index.below(folder).into_iter().map(|(path, _)| path.to_owned()).collect()
        }
        assert_eq!(below(&index, "a"), ["b", "b.txt", "b/c"]);
        assert_eq!(below(&index, "a/b"), ["", "c"], "it was a file");
        assert_eq!(below(&index, "sub/deep/er"), [""]);
        assert_eq!(below(&index, "z/y/x"), Vec::<String>::new());
        assert_eq!(below(&index, "").len(), 6);
        index.add(Path::new(""), PathChange { status: ChangeStatus::Attributes, is_whole_folder: true });
        assert_eq!(below(&index, "elsewhere"), [""]);
        assert_eq!(below(&index, "")[..2], ["", "a/b"]);
    }
}
