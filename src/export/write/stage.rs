//! Staging: an output is made whole where nobody looks for it, on the file system of its destination, so that a release
//! only has to give it its name.
//!
//! | output | where it is staged |
//! | --- | --- |
//! | a file | beside its destination, as `.NAME.bake-…` |
//! | a folder, a layout | in the destination as `.bake-tmp-…`; beside it as `.NAME.bake-…` if there is none yet |
//! | a device, a pipe, standard output; an image for a container engine | in the state directory |
//! | a push | in the repository: blobs, and manifests by digest; the tags are missing |
//!
//! What is staged is locked while its process lives, so that another export of the same destination removes what a killed
//! one left. How it becomes visible is in `release`.

use std::{
    ffi::OsString,
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::fs::FileType;

use super::{
    dest::{ExportDest, stem},
    folder::{TEMPORARY, make_locked, remove},
};
use crate::{
    export::{
        context::ExportReceipt,
        remember::StoredReceipt,
        staged::{ExactPath, Inode, ReleaseItem, StagedFile},
    },
    grant::GrantedWrite,
    layer::view::at,
    oci::Digest,
    store::Store,
};

/// An output that lies ready. Dropped before its release, it takes away what was made on this machine.
pub(crate) struct StagedExport {
    pub(crate) parts: StagedParts,
    /// What is told when it is visible: names and sizes in bytes.
    pub(crate) wrote: Vec<(String, u64)>,
    pub(crate) receipt: ExportReceipt,
    pub(crate) record: Option<ReleaseRecord>,
}

/// What becomes visible of one output, and what keeps it ready.
#[derive(Default)]
pub(crate) struct StagedParts {
    pub(crate) items: Vec<ReleaseItem>,
    pub(crate) hold: Option<StagedHold>,
    pub(crate) stream: Option<StagedStream>,
    /// The archive of a [`StagedLoad`](crate::export::staged::StagedLoad), which moves into the journal.
    pub(crate) archive: Option<tempfile::TempPath>,
}

/// The receipt that is recorded when an output is visible.
pub(crate) struct ReleaseRecord {
    pub(crate) key: Digest,
    pub(crate) receipt: StoredReceipt,
    /// Where it lies on this machine, and how it is recognised there; `None` if registries have it, which are asked.
    pub(crate) place: Option<(GrantedWrite, Stamped)>,
}

/// How a destination will be recognised.
pub(crate) enum Stamped {
    /// By the stamp of this file.
    File(File),
    /// By a fingerprint of the folder, which has so many names.
    Folder { files: usize },
    /// By the stamp of `index.json`.
    Layout,
}

impl StagedExport {
    /// An output of which nothing has to become visible.
    pub(crate) const fn nothing(receipt: ExportReceipt) -> Self {
        let parts = StagedParts { items: Vec::new(), hold: None, stream: None, archive: None };
        Self { parts, wrote: Vec::new(), receipt, record: None }
    }
}

/// Keeps what was staged on this machine locked, and removes it when it is dropped, unless it is in a journal.
pub(crate) struct StagedHold {
    place: GrantedWrite,
    /// Its own name, beside the destination or in it.
    name: OsString,
    is_within: bool,
    /// How many of the directories above the destination were made for it.
    n_parents: usize,
    _lock: File,
    is_kept: bool,
}

impl StagedHold {
    /// From here on the journal of the release names it.
    pub(crate) const fn keep(&mut self) {
        self.is_kept = true;
    }
}

impl Drop for StagedHold {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        let dir = if self.is_within { self.place.open_dir() } else { self.place.open_parent().map(|(dir, _)| dir) };
        if let Ok(dir) = dir {
            remove(dir.as_fd(), &self.name, 0).ok();
        }
        self.place.remove_empty_parents(self.n_parents);
    }
}

/// Bytes for a destination that takes them as they come. They cannot be sent again by another process.
#[derive(Clone)]
pub(crate) struct StagedStream {
    file: PathBuf,
    /// `None` is standard output.
    place: Option<GrantedWrite>,
}

impl StagedStream {
    /// Sends the bytes. *Blocks the thread.*
    pub(crate) fn send(&self) -> io::Result<()> {
        let mut dest = self.place.as_ref().map_or_else(ExportDest::stdout, ExportDest::open)?;
        dest.copy(&mut File::open(&self.file)?)?;
        dest.finish().map(drop)
    }

    /// What the user knows it by.
    pub(crate) fn shown(&self) -> String {
        self.place.as_ref().map_or_else(|| "stdout".to_owned(), |place| place.path().display().to_string())
    }
}

/// A file that is being staged.
pub(super) struct StagingFile {
    pub(super) dest: ExportDest,
    to: StagingTarget,
}

enum StagingTarget {
    Name(StagedHold),
    Stream { file: PathBuf, place: Option<GrantedWrite> },
}

impl StagingFile {
    /// Starts a file for `place`, or for standard output if there is none.
    pub(super) fn open(place: Option<&GrantedWrite>, store: &Store) -> io::Result<Self> {
        if let Some(place) = place.filter(|place| !is_special(place)) {
            let n_parents = place.missing_parents();
            let dest = ExportDest::open(place)?;
            if let Some((name, lock)) = dest.temporary()? {
                let place = place.clone();
                let hold = StagedHold { place, name, is_within: false, n_parents, _lock: lock, is_kept: false };
                return Ok(Self { dest, to: StagingTarget::Name(hold) });
            }
        }
        let folder = store.tmp_dir().map_err(io::Error::other)?;
        let aside = ExportDest::open_at(at::host_dir(&folder)?, "stream".as_ref())?;
        let to = StagingTarget::Stream { file: folder.join("stream"), place: place.cloned() };
        Ok(Self { dest: aside, to })
    }

    /// The file is whole. The second value is the open file, if it gets a name.
    pub(super) fn stage(self) -> io::Result<(StagedParts, Option<File>)> {
        let Self { dest, to } = self;
        match to {
            StagingTarget::Stream { file, place } => {
                dest.finish()?;
                Ok((StagedParts { stream: Some(StagedStream { file, place }), ..StagedParts::default() }, None))
            }
            StagingTarget::Name(hold) => {
                let file = dest.leave()?;
                let item = ReleaseItem::File(StagedFile {
                    dest: ExactPath(hold.place.path().to_owned()),
                    staged: ExactPath(hold.name.clone().into()),
                    inode: Inode::of(&rustix::fs::fstat(&file)?),
                });
                Ok((StagedParts { items: vec![item], hold: Some(hold), ..StagedParts::default() }, Some(file)))
            }
        }
    }
}

/// Whether a destination takes bytes as they come: a device, a pipe, a socket.
fn is_special(place: &GrantedWrite) -> bool {
    if matches!(place.open_unnamed(), Ok(Some(_)) | Err(_)) {
        return true;
    }
    let stat = place.open_parent().and_then(|(dir, name)| at::stat(dir.as_fd(), name.as_os_str()));
    let kind = stat.ok().flatten().map(|stat| FileType::from_raw_mode(stat.st_mode));
    kind.is_some_and(|kind| !matches!(kind, FileType::RegularFile | FileType::Symlink | FileType::Directory))
}

/// The empty directory in which a tree is staged for the folder `place`.
pub(super) struct StagingFolder {
    pub(super) root: OwnedFd,
    /// Absolute.
    pub(super) path: PathBuf,
    pub(super) inode: Inode,
    pub(super) hold: StagedHold,
}

impl StagingFolder {
    /// Makes it. `mode` is that of the destination (less the umask) if there is none yet.
    pub(super) fn make(place: &GrantedWrite, mode: u32) -> io::Result<Self> {
        let n_parents = place.missing_parents();
        let (dir, stem, parent, is_within) = match place.open_dir() {
            Ok(dir) => (dir, OsString::from(TEMPORARY), place.path(), true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let (dir, name) = place.make_parent()?;
                (dir, stem(name.as_os_str()), place.path().parent().unwrap_or(Path::new("/")), false)
            }
            Err(error) => return Err(error),
        };
        let (name, root) = make_locked(dir.as_fd(), &stem, mode)?;
        let (path, lock) = (parent.join(&name), File::from(root.try_clone()?));
        let hold = StagedHold { place: place.clone(), name, is_within, n_parents, _lock: lock, is_kept: false };
        Ok(Self { inode: Inode::of(&rustix::fs::fstat(&root)?), root, path, hold })
    }
}
