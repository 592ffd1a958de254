//! The folders of this machine that the builds of a run read, each once, with the paths that all of them together read.
//!
//! A daemon that gets one definition of a folder for all targets asks for it once; with a list of paths for each target it
//! would ask again and again.

use std::collections::BTreeSet;

use crate::{
    affected::{ContextRead, FolderOrigin, ReadSelection},
    graph::Local,
    oci::Digest,
};

/// A folder with the patterns of one ignore file.
#[derive(Clone, Debug)]
pub(super) struct SentFolder {
    pub(super) local: Local,
    /// Its path as it stands in the plan: by it the right to read it is known.
    pub(super) path: String,
    /// What is read of it.
    follow: Follow,
}

/// Which paths of a folder are read.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Follow {
    Paths(BTreeSet<String>),
    Whole,
}

/// The folders of a run, by number.
#[derive(Clone, Debug, Default)]
pub(super) struct Folders {
    all: Vec<SentFolder>,
}

impl Folders {
    /// The number of a folder, which stands in the plan as `path`. Folders with other patterns are others.
    pub(super) fn add(&mut self, local: &Local, path: &str) -> usize {
        let same = |it: &SentFolder| it.local.folder == local.folder && it.local.ignore == local.ignore;
        self.all.iter().position(same).unwrap_or_else(|| {
            self.all.push(SentFolder {
                local: local.clone(),
                path: path.to_owned(),
                follow: Follow::Paths(BTreeSet::new()),
            });
            self.all.len() - 1
        })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &SentFolder)> {
        self.all.iter().enumerate()
    }

    pub(super) fn get(&self, folder: usize) -> &SentFolder {
        &self.all[folder]
    }

    /// Notes what a build reads of folders; `None` when that is not known.
    pub(super) fn read(&mut self, reads: Option<&[ContextRead]>) {
        let Some(reads) = reads else {
            self.all.iter_mut().for_each(|folder| folder.follow = Follow::Whole);
            return;
        };
        for read in reads {
            let FolderOrigin::Context { ignore, .. } = &read.origin else { continue };
            let same = |it: &&mut SentFolder| it.local.folder == read.folder && it.local.ignore == *ignore;
            let Some(folder) = self.all.iter_mut().find(same) else { continue };
            let path = match &read.selection {
                ReadSelection::Whole => None,
                ReadSelection::Copy { source: path, .. } | ReadSelection::Path(path) => path_of(path),
            };
            match (&mut folder.follow, path) {
                (Follow::Paths(paths), Some(path)) => drop(paths.insert(path)),
                (follow, _) => *follow = Follow::Whole,
            }
        }
    }
}

impl SentFolder {
    /// The paths that are sent; all of the folder when empty. A folder of which nothing is read sends a name that it need not
    /// have.
    pub(super) fn follow(&self, whole: bool) -> Vec<String> {
        match &self.follow {
            Follow::Paths(paths) if !whole && paths.is_empty() => vec![".dockerignore".to_owned()],
            Follow::Paths(paths) if !whole => paths.iter().cloned().collect(),
            Follow::Paths(_) | Follow::Whole => Vec::new(),
        }
    }

    /// By which a daemon finds what it kept of the folder: the same in every run, another one for each user and machine.
    pub(super) fn shared_key(&self, client: &str) -> String {
        let ignore = self.local.ignore.join("\n");
        Digest::of(format!("{client}\n{}\n{ignore}", self.local.folder).as_bytes()).hex().to_string()
    }
}

/// A path as a daemon follows it; `None` for the folder itself.
fn path_of(path: &str) -> Option<String> {
    let clean = crate::spec::path::clean(&format!("/{path}"));
    let clean = clean.trim_matches('/');
    (!clean.is_empty() && clean != ".").then(|| clean.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(folder: &str) -> Local {
        Local { folder: folder.to_owned(), name: String::new(), ignore: Vec::new(), ignore_file: None }
    }

    fn read(folder: &str, source: &str) -> ContextRead {
        let selection = ReadSelection::Copy { source: source.to_owned(), parents: false, exclude: Vec::new() };
        let origin = FolderOrigin::Context { ignore: Vec::new(), ignore_file: None };
        ContextRead { folder: folder.to_owned(), origin, selection, instruction: None }
    }

    #[test]
    fn all_targets_share_one_list_of_paths() {
        let mut folders = Folders::default();
        assert_eq!(
            (folders.add(&local("/a"), "a"), folders.add(&local("/b"), "b"), folders.add(&local("/a"), "a")),
            (0, 1, 0)
        );
        folders.read(Some(&[read("/a", "/src/"), read("/a", "./go.mod")]));
        folders.read(Some(&[read("/a", "src"), read("/b", ".")]));
        assert_eq!(folders.get(0).follow(false), ["go.mod", "src"]);
        assert!(folders.get(0).follow(true).is_empty() && folders.get(1).follow(false).is_empty());
        assert_ne!(folders.get(0).shared_key("c"), folders.get(1).shared_key("c"));
        folders.read(None);
        assert!(folders.get(0).follow(false).is_empty());
    }
}
