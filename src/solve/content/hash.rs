//! The content hash of what a COPY or a bind mount reads: what is there now, however it came about.
//!
//! Covers every name below the selected paths with what `entry_hash` counts; never times, and never the mode or owner of
//! the selected directory itself. Copying is `solve::op`.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
};

use rayon::prelude::*;

use super::{
    entry_hash::{absorb, dir_hasher, with_xattrs},
    error::ContentError,
    files::{FileList, SeenFiles},
    select::{CopySelection, Filter, FilterState, Match, not_found, select},
    source::{ContentFolder, ContentSource, ContentTree},
    walk::{MAX_DEPTH, PARALLEL_DEPTH, PARALLEL_ENTRIES, descend},
};
use crate::{
    graph,
    layer::view::{EntryKind, Follow, LocateWalk, ViewEntry, locate::locate},
    oci::{Digest, digest::FieldHasher},
};

/// Hashes the content that a COPY or ADD selects, for its cache key. Do not call it on a rayon thread.
pub(crate) fn of_copy(source: &ContentSource, copy: &graph::CopyAction) -> Result<Digest, ContentError> {
    copy_hash(source, copy, None)
}

/// As [`of_copy`], and lists what it selects.
pub(crate) fn of_copy_listed(
    source: &ContentSource,
    copy: &graph::CopyAction,
) -> Result<(Digest, FileList), ContentError> {
    let seen = SeenFiles::default();
    Ok((copy_hash(source, copy, Some(&seen))?, seen.into_list()))
}

fn copy_hash(
    source: &ContentSource,
    copy: &graph::CopyAction,
    seen: Option<&SeenFiles>,
) -> Result<Digest, ContentError> {
    let selection = select(source, copy)?;
    let mut hasher = FieldHasher::new("copy/1");
    hasher.number(u64::from(selection.wildcard));
    for found in &selection.matches {
        // The name that it gets; of a directory only the content is copied.
        if selection.wildcard && !found.is_dir() {
            hasher.bytes(found.name.as_bytes());
        }
        of_match(source, &selection, &mut hasher, found, seen)?;
    }
    Ok(hasher.finish())
}

/// Hashes the content at a path, the last link followed (a bind mount's source). `/` is all. Do not call it on a rayon
/// thread.
pub(crate) fn of_path(source: &ContentSource, path: &str) -> Result<Digest, ContentError> {
    path_hash(source, path, None)
}

/// As [`of_path`], and lists what is there.
pub(crate) fn of_path_listed(source: &ContentSource, path: &str) -> Result<(Digest, FileList), ContentError> {
    let seen = SeenFiles::default();
    Ok((path_hash(source, path, Some(&seen))?, seen.into_list()))
}

fn path_hash(source: &ContentSource, path: &str, seen: Option<&SeenFiles>) -> Result<Digest, ContentError> {
    let place = locate(&source.tree, OsStr::new(path), Follow::Last).map_err(|cause| source.unreadable(path, cause))?;
    if place.entry.is_none() {
        return Err(not_found(source, path, path));
    }
    let found = Match::new(place, path);
    let selection = CopySelection::whole();
    let mut hasher = FieldHasher::new("path/1");
    of_match(source, &selection, &mut hasher, &found, seen)?;
    Ok(hasher.finish())
}

fn of_match(
    source: &ContentSource,
    selection: &CopySelection,
    hasher: &mut FieldHasher,
    found: &Match,
    seen: Option<&SeenFiles>,
) -> Result<(), ContentError> {
    let Some(entry) = &found.place.entry else { return Ok(()) };
    let folder = found.place.folder(&source.tree).map_err(|cause| source.unreadable(&found.shown, cause))?;
    if let Some(folder) = folder {
        let digest = match (&source.tree, &folder) {
            (ContentTree::Local(tree), ContentFolder::Local(dir)) if selection.filter.is_empty() && seen.is_none() => {
                tree.dir_digest(dir)?
            }
            _ => {
                let walk = Hashing { source, filter: &selection.filter, seen };
                walk.dir(&folder, "", &FilterState::default(), 0)?.digest
            }
        };
        hasher.text("dir").digest(&digest);
        return Ok(());
    }
    let (Some(parent), Some(name)) = (&found.place.parent, found.place.name()) else { return Ok(()) };
    let (entry, payload, link) = source.leaf(parent, name, entry)?;
    if let Some(seen) = seen {
        seen.add(&found.place.path, &entry, payload.as_ref(), link.as_deref());
    }
    absorb(hasher, OsStr::new(""), &entry, payload.as_ref(), link.as_deref());
    Ok(())
}

/// A walk that hashes what a filter leaves.
struct Hashing<'a> {
    source: &'a ContentSource,
    filter: &'a Filter,
    /// Where the names are noted, if somebody wants them.
    seen: Option<&'a SeenFiles>,
}

/// The digest of what is left of a directory, and whether that is anything.
struct HashedNode {
    digest: Digest,
    any: bool,
}

impl Hashing<'_> {
    fn dir(
        &self,
        folder: &ContentFolder,
        path: &str,
        state: &FilterState,
        depth: usize,
    ) -> Result<HashedNode, ContentError> {
        if depth > MAX_DEPTH {
            return Err(self.source.too_deep(folder));
        }
        let children = self.source.children(folder)?;
        let one = |(name, entry): &(OsString, ViewEntry)| self.child(folder, path, state, depth, name, entry);
        let parts: Vec<Option<ContentPart>> = if depth < PARALLEL_DEPTH && children.len() >= PARALLEL_ENTRIES {
            children.par_iter().map(one).collect::<Result<_, _>>()?
        } else {
            children.iter().map(one).collect::<Result<_, _>>()?
        };
        let mut hasher = dir_hasher();
        let mut any = false;
        for ((name, _), part) in children.iter().zip(&parts) {
            let Some(part) = part else { continue };
            any = true;
            if let Some(seen) = self.seen {
                let payload = part.payload.as_ref().filter(|_| part.entry.kind != EntryKind::Dir);
                seen.add(&folder.path().join(name), &part.entry, payload, part.link.as_deref());
            }
            absorb(&mut hasher, name, &part.entry, part.payload.as_ref(), part.link.as_deref());
        }
        Ok(HashedNode { digest: hasher.finish(), any })
    }

    fn child(
        &self,
        folder: &ContentFolder,
        path: &str,
        state: &FilterState,
        depth: usize,
        name: &OsStr,
        entry: &ViewEntry,
    ) -> Result<Option<ContentPart>, ContentError> {
        let path = self.filter.join(path, name);
        if entry.kind != EntryKind::Dir {
            if !self.filter.takes_file(state, &path) {
                return Ok(None);
            }
            let (entry, payload, link) = self.source.leaf(folder, name, entry)?;
            return Ok(Some(ContentPart { entry, payload, link }));
        }
        let verdict = self.filter.dir(state, &path);
        let mut payload = dir_hasher().finish();
        let mut any = false;
        if verdict.walk {
            let sub = self.source.tree.enter(folder, name).map_err(|cause| self.source.unreadable_in(folder, cause))?;
            let inner = descend(depth, || self.dir(&sub, &path, &verdict.state, depth + 1))?;
            (payload, any) = (inner.digest, inner.any);
        }
        if !(verdict.taken || any) {
            return Ok(None);
        }
        let xattrs =
            self.source.xattrs(folder, name, entry).map_err(|cause| self.source.unreadable_in(folder, cause))?;
        Ok(Some(ContentPart { entry: entry.clone(), payload: Some(with_xattrs(payload, &xattrs)), link: None }))
    }
}

/// What goes into a directory's hash for one name.
struct ContentPart {
    entry: ViewEntry,
    payload: Option<Digest>,
    link: Option<OsString>,
}
