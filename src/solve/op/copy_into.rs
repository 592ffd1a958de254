//! Copies into a directory of the host that only this process uses: seeds of cache mounts, snapshots of contexts, archives.

use std::path::Path;

use super::{error::FileError, file, tree_writer::TreeWriter};
use crate::{
    graph::{CopyAction, FileAction},
    layer::view::LayerView,
    report::Diagnostic,
    solve::content::source::{ContentSource, ContentTree},
};

/// Whether an archive is copied as it is or unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ArchiveUse {
    Copy,
    Unpack,
}

/// Copies `path` of a source to `dest` below the directory `folder` of this machine. *Blocks; not on a rayon thread.*
///
/// # Errors
/// When it is not there, or cannot be read or written.
pub(super) fn copy_into(
    folder: &Path,
    source: &ContentSource,
    path: &str,
    dest: &str,
    archive: ArchiveUse,
) -> Result<(), Diagnostic> {
    let open_fault =
        |error: &std::io::Error| Diagnostic::error("bake::solve::view", "a directory cannot be opened").cause(error);
    let lower = LayerView::open(&[]).map_err(|error| open_fault(&error))?;
    let mut writer = TreeWriter::new(folder, lower).map_err(|error| open_fault(&error))?;
    let copy = CopyAction {
        input: 1,
        source: path.to_owned(),
        dest: dest.to_owned(),
        owner: None,
        mode: None,
        unpack: archive == ArchiveUse::Unpack,
        parents: false,
        exclude: Vec::new(),
        optional: false,
        reset_owner: matches!(source.tree, ContentTree::Local(_)),
        default_file_mode: None,
    };
    let sources = [source.clone(), source.clone()];
    // The time is that of heredoc files, and there are none.
    let copied = file::run(&[FileAction::Copy(Box::new(copy))], &mut writer, &sources, 0);
    copied.map(drop).map_err(FileError::into_diagnostic)
}
