//! Runs a [`graph::File`]: COPY, ADD, WORKDIR, heredoc files (spec/dockerfile.md §7).
//!
//! Writes into the upper directory of the new layer, nothing is mounted. Which content is selected is hashed in
//! `solve::content`; what a source path means is found in `op::select`, for both.
//!
//! run ─► select ─► copy (trees) ─┬─► tree_writer ─► transfer
//!    └──────────► archive ───────┘

use std::{
    ffi::{OsStr, OsString},
    io::{self, Write},
    path::Path,
};

pub(crate) use super::tree_writer::TreeWriter;
use super::{
    archive,
    copy::{Copier, Looks},
    owner,
    select::{CopySelection, Match, select},
    tree_writer::{WriteDest, write_error},
};
use crate::{
    graph,
    layer::view::{EntryKind, Follow, ViewEntry},
    solve::content::{ContentSource, ContentTree, unchanged},
};

/// A file operation could not be done. Names paths of images and contexts only, never of the store.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("source not found in {of}: {path}")]
    NotFound { path: String, of: String, hint: Option<String> },
    #[error("cannot open the context directory: {folder}")]
    Context {
        folder: String,
        #[source]
        cause: io::Error,
    },
    #[error("malformed pattern{}, {why}: {pattern}", .file.as_ref().map(|it| format!(" in {it}")).unwrap_or_default())]
    BadPattern { pattern: String, why: &'static str, file: Option<String> },
    #[error("a file of {of} changed while it was read: {path}")]
    Changed { path: String, of: String },
    #[error("cannot read from {of}: {path}: {cause}")]
    Read { path: String, of: String, cause: io::Error },
    #[error("the directories of {of} are nested too deep below: {path}")]
    TooDeep { path: String, of: String },
    #[error("not a directory in the image: {path}")]
    NotDirectory { path: String },
    #[error("cannot replace a directory of the image by a file: {path}")]
    IsDirectory { path: String },
    #[error("cannot write into the image: {path}: {cause}")]
    Write { path: String, cause: io::Error },
    #[error("no user of this name in the image: {name}")]
    UnknownUser { name: String, why: Option<io::Error>, workdir: bool },
    #[error("no group of this name in the image: {name}")]
    UnknownGroup { name: String, why: Option<io::Error>, workdir: bool },
    #[error("not a user or group id, which go from 0 to 2147483647: {id}")]
    BadId { id: String, workdir: bool },
    #[error("malformed mode: {mode:?}")]
    BadMode { mode: graph::ModeChange },
    #[error("cannot give a file of the image to {uid}:{gid}: {path}")]
    OwnerForbidden { path: String, uid: u32, gid: u32 },
    #[error("a device node needs real root: {path}")]
    DeviceForbidden { path: String },
    #[error("the character device 0:0 cannot be in an image, where it means a deleted file: {path}")]
    WhiteoutDevice { path: String },
    #[error("cannot unpack the archive: {path}: {why}")]
    Archive { path: String, why: String },
}

impl FileError {
    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        let names = |file: &str, why: &Option<io::Error>, workdir: bool| {
            let asked = if workdir { "USER names the owner of new directories" } else { "--chown looks names up" };
            match why {
                Some(err) if err.kind() == io::ErrorKind::NotFound => {
                    format!("{asked}, but the image has no {file}: use numbers, such as 1000:1000")
                }
                Some(err) => format!("{asked}, but {file} of the image cannot be read: {err}"),
                None => format!("{asked} in {file} of the image being built: add it there, or use a number"),
            }
        };
        Some(match self {
            Self::NotFound { hint, .. } => return hint.clone(),
            Self::Changed { .. } => {
                "keep it still during the build, or name it in .dockerignore if it is not needed".to_owned()
            }
            Self::NotDirectory { .. } => "a directory cannot be put where a file or link is; copy to another path, \
                                          or remove it in a RUN before"
                .to_owned(),
            Self::IsDirectory { .. } => {
                "end the destination with `/` to copy into the directory, or remove it in a RUN before".to_owned()
            }
            Self::UnknownUser { why, workdir, .. } => names("/etc/passwd", why, *workdir),
            Self::UnknownGroup { why, workdir, .. } => names("/etc/group", why, *workdir),
            Self::OwnerForbidden { .. } => "as an unprivileged user only ids of your range in /etc/subuid and \
                                            /etc/subgid can own files: add a range, or run as root"
                .to_owned(),
            Self::DeviceForbidden { .. } => "run the build as root, or leave the device out with --exclude".to_owned(),
            _ => return None,
        })
    }
}

/// Something that worked but is probably not what was meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Warning {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

/// Applies the actions in order. `sources[i]` is the vertex's input `i`; that of input 0, which is `dest`, is not used.
///
/// Blocking; do not call it on a rayon thread.
pub(crate) fn run(
    actions: &[graph::FileAction],
    dest: &mut TreeWriter,
    sources: &[ContentSource],
) -> Result<Vec<Warning>, FileError> {
    let mut warnings = Vec::new();
    for action in actions {
        match action {
            graph::FileAction::Mkdir { path, owner } => make_directory(dest, path, owner.as_ref())?,
            graph::FileAction::Mkfile { dest: to, name, text, mode, owner } => {
                let looks = looks(dest, owner.as_ref(), mode.as_ref())?;
                make_file(dest, to, name, text, &looks)?;
            }
            graph::FileAction::Copy(copy) => {
                let source = sources.get(copy.input).expect("a vertex has the inputs that its op names");
                warnings.extend(run_copy(dest, source, copy)?);
            }
        }
    }
    dest.finish()?;
    Ok(warnings)
}

fn looks<'a>(
    writer: &TreeWriter,
    owner: Option<&graph::OwnerChange>,
    mode: Option<&'a graph::ModeChange>,
) -> Result<Looks<'a>, FileError> {
    let owner = owner.map(|it| owner::resolve(writer, it)).transpose()?;
    Ok(Looks { owner, mode, reset_owner: true, default_file_mode: None })
}

/// WORKDIR.
fn make_directory(writer: &TreeWriter, path: &str, owner: Option<&graph::OwnerChange>) -> Result<(), FileError> {
    let looks = looks(writer, owner, None)?;
    directory(writer, path, &looks).map(drop)
}

/// The directory at a path as written, links followed; missing ones are made.
fn directory(writer: &TreeWriter, path: &str, looks: &Looks<'_>) -> Result<WriteDest, FileError> {
    let place = writer.locate(path, Follow::Last)?;
    if let Some(file) = place.through {
        return Err(FileError::NotDirectory { path: file.display().to_string() });
    }
    writer.make_dirs(&place.path, looks.of_parents())
}

/// A heredoc file.
fn make_file(writer: &TreeWriter, to: &str, name: &str, text: &str, looks: &Looks<'_>) -> Result<(), FileError> {
    prepare(writer, to, looks)?;
    let (dest, name) = file_target(writer, to, OsStr::new(name), looks)?;
    writer.clear(&dest, &name)?;
    let mut file = writer.create(&dest, &name)?;
    file.write_all(text.as_bytes()).map_err(|cause| write_error(&dest.shown(&name), cause))?;
    let made = looks.of(&ViewEntry { kind: EntryKind::File, mode: 0o644, ..ViewEntry::empty_root() })?;
    writer.dress_file((&dest, &name), &file, made, &[], None)
}

fn run_copy(writer: &TreeWriter, source: &ContentSource, copy: &graph::CopyAction) -> Result<Vec<Warning>, FileError> {
    let selection = select(source, copy)?;
    let owner = copy.owner.as_ref().map(|it| owner::resolve(writer, it)).transpose()?;
    let looks = Looks {
        owner,
        mode: copy.mode.as_ref(),
        reset_owner: copy.reset_owner || matches!(source.tree, ContentTree::Local(_)),
        default_file_mode: copy.default_file_mode,
    };
    for found in &selection.matches {
        copy_match(writer, source, copy, &selection, found, &looks)?;
    }
    Ok(selection.warnings(source, copy))
}

fn copy_match(
    writer: &TreeWriter,
    source: &ContentSource,
    copy: &graph::CopyAction,
    selection: &CopySelection,
    found: &Match,
    looks: &Looks<'_>,
) -> Result<(), FileError> {
    let Some(entry) = &found.place.entry else { return Ok(()) };
    if copy.unpack && entry.kind == EntryKind::File && unpack(writer, source, copy, found, entry, looks)? {
        return Ok(());
    }
    prepare(writer, &copy.dest, looks)?;
    let copier = Copier::new(writer, source, &selection.filter, looks)
        .map_err(|cause| source.unreadable(&found.shown, cause))?;
    let folder = found.place.folder(&source.tree).map_err(|cause| source.unreadable(&found.shown, cause))?;
    if let Some(folder) = folder {
        return copier.content(&folder, directory(writer, &copy.dest, looks)?);
    }
    let (Some(parent), Some(name)) = (&found.place.parent, found.place.name()) else { return Ok(()) };
    let (dest, to) = file_target(writer, &copy.dest, &found.name, looks)?;
    copier.put(parent, name, entry, &dest, &to)
}

/// Makes the directory that the text of a destination says is there: all of it up to the last slash.
fn prepare(writer: &TreeWriter, to: &str, looks: &Looks<'_>) -> Result<(), FileError> {
    let folder = match to.strip_suffix('.') {
        Some(folder) if folder.ends_with('/') => folder,
        _ => &to[..=to.rfind('/').unwrap_or(0)],
    };
    directory(writer, folder, looks).map(drop)
}

/// Where a file goes: into the destination if that is a directory, otherwise in its place. A link at the end is followed.
fn file_target(
    writer: &TreeWriter,
    to: &str,
    name: &OsStr,
    looks: &Looks<'_>,
) -> Result<(WriteDest, OsString), FileError> {
    let place = writer.locate(to, Follow::Last)?;
    if place.entry.as_ref().is_some_and(|it| it.kind == EntryKind::Dir) {
        return Ok((writer.make_dirs(&place.path, looks.of_parents())?, name.to_owned()));
    }
    if let Some(file) = place.through {
        return Err(FileError::NotDirectory { path: file.display().to_string() });
    }
    let parent = place.path.parent().unwrap_or(Path::new("/"));
    let dest = writer.make_dirs(parent, looks.of_parents())?;
    Ok((dest, place.path.file_name().unwrap_or_default().to_owned()))
}

/// Extracts the source if it is an archive; says whether it was.
fn unpack(
    writer: &TreeWriter,
    source: &ContentSource,
    copy: &graph::CopyAction,
    found: &Match,
    entry: &ViewEntry,
    looks: &Looks<'_>,
) -> Result<bool, FileError> {
    let (Some(parent), Some(name)) = (&found.place.parent, found.place.name()) else { return Ok(false) };
    let unreadable = |cause| source.unreadable(&found.shown, cause);
    let file = source.open(parent, name, entry).map_err(unreadable)?;
    if !archive::is_archive(&file) {
        return Ok(false);
    }
    // The mode that was asked for is for copies, not for members of archives nor the directory they go to.
    let plain = Looks { owner: looks.owner, mode: None, reset_owner: true, default_file_mode: None };
    let root = directory(writer, &copy.dest, &plain)?;
    archive::extract(&file, &found.shown, writer, root, looks.owner)?;
    let after = crate::layer::view::at::entry(&rustix::fs::fstat(&file).map_err(|err| unreadable(err.into()))?, 0);
    if matches!(source.tree, ContentTree::Local(_)) && !unchanged(&after, entry) {
        return Err(FileError::Changed { path: found.shown.clone(), of: source.name.clone() });
    }
    Ok(true)
}
