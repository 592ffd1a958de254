//! Follows a path through a tree, links included, without leaving the tree.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use super::{EntryKind, Follow, ViewEntry};

/// As many links as the kernel follows.
const MAX_LINKS: usize = 40;

/// A tree in which paths can be followed: stacked layers, or a directory of the host.
pub(crate) trait LocateWalk {
    /// A directory of the tree.
    type Folder: Clone;

    fn root(&self) -> Self::Folder;
    /// Metadata of the root.
    fn root_entry(&self) -> io::Result<ViewEntry>;
    /// What a name in a directory is.
    fn child(&self, folder: &Self::Folder, name: &OsStr) -> io::Result<Option<ViewEntry>>;
    /// The directory of this name, which `child` says is one.
    fn enter(&self, folder: &Self::Folder, name: &OsStr) -> io::Result<Self::Folder>;
    /// The text of the link of this name, which `child` says is one.
    fn link_text(&self, folder: &Self::Folder, name: &OsStr, entry: &ViewEntry) -> io::Result<OsString>;
}

/// The place that a path leads to: a directory, a name in it, and what has that name.
#[derive(Clone, Debug)]
pub(crate) struct Location<F> {
    /// Absolute and clean; no directory on the way is a link.
    pub(crate) path: PathBuf,
    /// What is there.
    pub(crate) entry: Option<ViewEntry>,
    /// The directory it is in; `None` for the root, or if that does not exist or is no directory.
    pub(crate) parent: Option<F>,
    /// The path of a file that the given path would have to lead through.
    pub(crate) through: Option<PathBuf>,
}

impl<F: Clone> Location<F> {
    /// The last name; `None` for the root.
    pub(crate) fn name(&self) -> Option<&OsStr> {
        self.path.file_name()
    }

    /// The directory that the path leads to; `None` if something else or nothing is there.
    pub(crate) fn folder<W: LocateWalk<Folder = F>>(&self, tree: &W) -> io::Result<Option<F>> {
        match (&self.entry, &self.parent, self.name()) {
            (Some(ViewEntry { kind: EntryKind::Dir, .. }), Some(parent), Some(name)) => {
                tree.enter(parent, name).map(Some)
            }
            (Some(_), None, None) => Ok(Some(tree.root())),
            _ => Ok(None),
        }
    }
}

/// Follows `path` from the root of `tree`, links included. `..` stops at the root. Where something is missing, the rest
/// of the path is taken by its text.
///
/// # Errors
/// Too many links, or the tree cannot be read.
pub(crate) fn locate<W: LocateWalk>(tree: &W, path: &OsStr, follow: Follow) -> io::Result<Location<W::Folder>> {
    let mut links = 0;
    // Folders from the root to where we are; `None` below a missing or wrong one.
    let mut stack: Vec<(OsString, Option<W::Folder>)> = Vec::new();
    let mut todo: Vec<OsString> = Vec::new();
    push(&mut todo, path);
    let mut last = None;
    let mut through = None;
    while let Some(name) = todo.pop() {
        if name == ".." {
            stack.pop();
            last = None;
            continue;
        }
        let parent = match stack.last() {
            None => Some(tree.root()),
            Some((_, folder)) => folder.clone(),
        };
        let entry = match &parent {
            Some(parent) => tree.child(parent, &name)?,
            None => None,
        };
        match (&entry, &parent) {
            (Some(link), Some(parent))
                if link.kind == EntryKind::Symlink && (follow == Follow::Last || !todo.is_empty()) =>
            {
                links += 1;
                if links > MAX_LINKS {
                    return Err(io::Error::from_raw_os_error(rustix::io::Errno::LOOP.raw_os_error()));
                }
                let text = tree.link_text(parent, &name, link)?;
                if text.as_bytes().starts_with(b"/") {
                    stack.clear();
                }
                push(&mut todo, &text);
                last = None;
                continue;
            }
            _ => (),
        }
        let folder = match (&entry, &parent) {
            (Some(it), Some(parent)) if it.kind == EntryKind::Dir && !todo.is_empty() => {
                Some(tree.enter(parent, &name)?)
            }
            _ => None,
        };
        if entry.as_ref().is_some_and(|it| it.kind != EntryKind::Dir) && todo.iter().any(|it| it != "..") {
            through.get_or_insert_with(|| absolute(stack.iter().map(|it| &it.0).chain([&name])));
        }
        stack.push((name, folder));
        last = Some((entry, parent));
    }
    let path = absolute(stack.iter().map(|it| &it.0));
    let (entry, parent) = match last {
        Some(last) => last,
        // It ended in `..` or in a link to the root: look again at what the names say, which hold no link.
        None => match stack.pop() {
            None => (Some(tree.root_entry()?), None),
            Some((name, _)) => {
                let parent = match stack.last() {
                    None => Some(tree.root()),
                    Some((_, folder)) => folder.clone(),
                };
                let entry = match &parent {
                    Some(parent) => tree.child(parent, &name)?,
                    None => None,
                };
                (entry, parent)
            }
        },
    };
    Ok(Location { path, entry, parent, through })
}

/// Puts the names of a path on the stack of names to do, the first on top. Slashes and `.` mean nothing.
fn push(todo: &mut Vec<OsString>, path: &OsStr) {
    let names = path.as_bytes().split(|it| *it == b'/').filter(|it| !it.is_empty() && *it != b".");
    todo.extend(names.rev().map(|it| OsStr::from_bytes(it).to_owned()));
}

fn absolute<'a>(names: impl Iterator<Item = &'a OsString>) -> PathBuf {
    let mut path = PathBuf::from("/");
    path.extend(names.map(Path::new));
    path
}
