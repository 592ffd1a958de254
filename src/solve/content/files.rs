//! The names that a hash was made of, kept to say later which of them has changed. They enter no key.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    path::Path,
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

use crate::{
    layer::view::{EntryKind, ViewEntry},
    oci::Digest,
};

/// More names are counted and not kept.
const MOST: usize = 200_000;

/// The names that a COPY or a bind mount read, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileList {
    pub(crate) files: Vec<ListedFile>,
    /// How many names there were beyond those that are kept.
    pub(crate) n_more: usize,
}

/// One name of a [`FileList`], with what counts of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "ListedRow", into = "ListedRow")]
pub(crate) struct ListedFile {
    /// From the root of the tree, without a slash in front. What is not UTF-8 is replaced.
    pub(crate) path: String,
    /// `f` a file, `d` a folder, `l` a link, `o` something else.
    pub(crate) kind: char,
    /// 07777.
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    /// In bytes.
    pub(crate) size: u64,
    /// The first digits of the digest of data and attributes, or of the text of a link; empty for a folder.
    pub(crate) digest: String,
}

/// A [`ListedFile`] as it is stored: without names of fields, because there are many.
type ListedRow = (String, char, u32, (u32, u32), u64, String);

impl From<ListedRow> for ListedFile {
    fn from((path, kind, mode, owner, size, digest): ListedRow) -> Self {
        Self { path, kind, mode, owner, size, digest }
    }
}

impl From<ListedFile> for ListedRow {
    fn from(ListedFile { path, kind, mode, owner, size, digest }: ListedFile) -> Self {
        (path, kind, mode, owner, size, digest)
    }
}

/// The first digits of a digest, enough to tell contents apart that one step has seen.
pub(crate) fn first_digits(digest: &Digest) -> String {
    let mut hex = digest.hex();
    hex.truncate(16);
    hex
}

/// A list that many threads add to.
#[derive(Default)]
pub(crate) struct SeenFiles(Mutex<FileList>);

impl SeenFiles {
    /// Adds a name. `payload` is the digest of a file, `link` the text of a link.
    pub(super) fn add(&self, path: &Path, entry: &ViewEntry, payload: Option<&Digest>, link: Option<&OsStr>) {
        let is_link = entry.kind == EntryKind::Symlink;
        let link = link.map(|text| Digest::of(text.as_bytes()));
        let file = ListedFile {
            path: path.to_string_lossy().trim_start_matches('/').to_owned(),
            kind: match entry.kind {
                EntryKind::File => 'f',
                EntryKind::Dir => 'd',
                EntryKind::Symlink => 'l',
                EntryKind::Fifo | EntryKind::Socket | EntryKind::CharDev | EntryKind::BlockDev => 'o',
            },
            mode: if is_link { 0 } else { entry.mode },
            owner: (entry.uid, entry.gid),
            size: if entry.kind == EntryKind::File { entry.size } else { 0 },
            digest: payload.or(link.as_ref()).map(first_digits).unwrap_or_default(),
        };
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if list.files.len() < MOST {
            list.files.push(file);
        } else {
            list.n_more += 1;
        }
    }

    /// The list, sorted by path.
    pub(super) fn into_list(self) -> FileList {
        let mut list = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        list.files.sort_unstable();
        list
    }
}
