//! Runs a [`graph::File`]: COPY, ADD, WORKDIR, heredoc files (<https://docs.docker.com/reference/dockerfile/#copy>).
//!
//! Writes into the upper directory of the new layer, nothing is mounted. The selected content is hashed in
//! `solve::content`; what a source path means is found in `solve::content::select`, for both.
//!
//! run ─► select ─► copy (trees) ─┬─► tree_writer
//!    └──────────► archive ───────┘

use std::{
    ffi::{OsStr, OsString},
    io::Write,
    path::Path,
};

use super::{
    archive,
    copy::{Copier, Looks},
    error::{FileError, write_error},
    owner,
    tree_writer::{TreeWriter, WriteDest},
};
use crate::{
    graph,
    layer::view::{EntryKind, Follow, ViewEntry},
    oci::ModeChange,
    solve::content::{
        error::ContentError,
        local::unchanged,
        select::{CopySelection, CopyWarning, Match, select},
        source::{ContentSource, ContentTree},
    },
};

/// Applies the file actions of a step (COPY, ADD, WORKDIR) in order to the layer `dest`. Returns warnings.
///
/// `sources[i]` is the vertex's input `i`; that of input 0, which is `dest`, is not used. `begun`, when the run of `bake`
/// began in seconds since 1970, is the modification time of heredoc files: one for the copies for all platforms. Blocking;
/// do not call it on a rayon thread.
pub(crate) fn run(
    actions: &[graph::FileAction],
    dest: &mut TreeWriter,
    sources: &[ContentSource],
    begun: i64,
) -> Result<Vec<CopyWarning>, FileError> {
    let mut warnings = Vec::new();
    for action in actions {
        match action {
            graph::FileAction::Mkdir { path, owner } => make_directory(dest, path, owner.as_ref())?,
            graph::FileAction::Mkfile { dest: to, name, text, mode, owner } => {
                let looks = looks(dest, owner.as_ref(), mode.as_ref())?;
                make_file(dest, to, (name, text), &looks, begun)?;
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
    mode: Option<&'a ModeChange>,
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
fn make_file(
    writer: &TreeWriter,
    to: &str,
    (name, text): (&str, &str),
    looks: &Looks<'_>,
    begun: i64,
) -> Result<(), FileError> {
    prepare(writer, to, looks)?;
    let (dest, name) = file_target(writer, to, OsStr::new(name), looks)?;
    writer.clear(&dest, &name)?;
    let mut file = writer.create(&dest, &name)?;
    file.write_all(text.as_bytes()).map_err(|cause| write_error(&dest.shown(&name), cause))?;
    let made = looks.of(&ViewEntry { kind: EntryKind::File, mode: 0o644, ..ViewEntry::empty_root() })?;
    writer.dress_file((&dest, &name), &file, made, &[], (begun, 0))
}

fn run_copy(
    writer: &TreeWriter,
    source: &ContentSource,
    copy: &graph::CopyAction,
) -> Result<Vec<CopyWarning>, FileError> {
    let selection = select(source, copy)?;
    let owner = copy.owner.as_ref().map(|it| owner::resolve(writer, it)).transpose()?;
    let looks = Looks {
        owner,
        mode: copy.mode.as_ref(),
        reset_owner: copy.reset_owner || matches!(source.tree, ContentTree::Local(_)),
        default_file_mode: copy.default_file_mode,
    };
    let mut warnings = Vec::new();
    for found in &selection.matches {
        warnings.extend(copy_match(writer, source, copy, &selection, found, &looks)?);
    }
    warnings.extend(selection.warnings(source, copy));
    Ok(warnings)
}

fn copy_match(
    writer: &TreeWriter,
    source: &ContentSource,
    copy: &graph::CopyAction,
    selection: &CopySelection,
    found: &Match,
    looks: &Looks<'_>,
) -> Result<Option<CopyWarning>, FileError> {
    let Some(entry) = &found.place.entry else { return Ok(None) };
    if copy.unpack && entry.kind == EntryKind::File && unpack(writer, source, copy, found, entry, looks)? {
        return Ok(None);
    }
    prepare(writer, &copy.dest, looks)?;
    let copier = Copier::new(writer, source, &selection.filter, looks)
        .map_err(|cause| source.unreadable(&found.shown, cause))?;
    let folder = found.place.folder(&source.tree).map_err(|cause| source.unreadable(&found.shown, cause))?;
    if let Some(folder) = folder {
        copier.content(&folder, directory(writer, &copy.dest, looks)?)?;
    } else if let (Some(parent), Some(name)) = (&found.place.parent, found.place.name()) {
        let (dest, to) = file_target(writer, &copy.dest, &found.name, looks)?;
        copier.put(parent, name, entry, &dest, &to)?;
    }
    Ok(copier.device_warning())
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
        return Err(ContentError::Changed { path: found.shown.clone(), of: source.name.clone() }.into());
    }
    Ok(true)
}
