//! Sources of copies and mounts that git ignores: it has no earlier state of them, so they are told, not compared.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use super::state::DefinitionState;
use crate::{
    affected::{ContextRead, FolderOrigin, ReadSelection, UncomparedSource},
    fetch::GitWorkTree,
    plan::TargetName,
    spec::{glob::is_wild, path},
};

/// The sources of a state that git ignores, each with the targets that read it.
pub(super) fn ignored_sources(tree: &GitWorkTree, state: &DefinitionState) -> Vec<UncomparedSource> {
    let mut readers: BTreeMap<PathBuf, BTreeSet<&TargetName>> = BTreeMap::new();
    for (build, reads) in state.reads() {
        for place in reads.iter().filter_map(|read| place_of(read, tree.top())) {
            readers.entry(place).or_default().extend(&build.wanted_by);
        }
    }
    let paths: Vec<&Path> = readers.keys().map(PathBuf::as_path).collect();
    // Without an answer nothing is told: what is compared does not depend on it.
    let ignored = tree.ignored(&paths).unwrap_or_default();
    let source = |place: &PathBuf| {
        let targets = readers.get(place)?.iter().map(|name| (*name).clone()).collect();
        Some(UncomparedSource { path: place.to_string_lossy().into_owned(), targets })
    };
    ignored.iter().filter_map(source).collect()
}

/// The part of what is read that is a plain path, from the top of the work tree; `None` outside of it, and for the top.
fn place_of(read: &ContextRead, top: &Path) -> Option<PathBuf> {
    let ContextRead { folder, origin, selection, instruction: _ } = read;
    let inside = match (origin, selection) {
        (FolderOrigin::Layout, _) | (_, ReadSelection::Whole) => String::new(),
        (_, ReadSelection::Path(path)) => path.clone(),
        (_, ReadSelection::Copy { source, .. }) => {
            source.split('/').take_while(|part| !is_wild(part)).collect::<Vec<_>>().join("/")
        }
    };
    let inside = path::clean(&format!("/{inside}"));
    let place = Path::new(folder).strip_prefix(top).ok()?.join(inside.trim_start_matches('/'));
    (!place.as_os_str().is_empty()).then_some(place)
}
