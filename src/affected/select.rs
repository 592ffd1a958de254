//! Whether a read of a folder can see a path that differs. The rules are those by which steps select
//! (`solve::content::select`), without the tree: an answer may be yes too often, never no wrongly.

use std::path::{Component, Path, PathBuf};

use super::{
    change::PathChange,
    reading::{ContextRead, FolderOrigin, ReadSelection},
};
use crate::{
    spec::pattern::Patterns,
    spec::{
        glob::{NameGlob, is_wild},
        path,
    },
};

/// As many links as the kernel follows.
const MAX_LINKS: usize = 40;

/// What is looked up of the later state. Paths are absolute.
pub(crate) trait FolderView {
    /// The target of a symbolic link; `None` for all else.
    fn link(&self, path: &Path) -> Option<PathBuf>;
    /// The names in a folder; none if it is none.
    fn names(&self, folder: &Path) -> Vec<String>;
}

/// The paths that differ in a context, relative to it and in the order of their bytes.
pub(super) struct ContextChanges<'a> {
    all: Vec<(&'a str, PathChange)>,
    /// Those that the ignore file does not hide.
    visible: Vec<(&'a str, PathChange)>,
    /// The ignore file has exceptions (`!`): a file may be all that keeps a folder, which it hides otherwise, in the context.
    has_exceptions: bool,
}

impl<'a> ContextChanges<'a> {
    /// `all` is sorted; an empty path is the folder itself.
    pub(super) fn new(all: Vec<(&'a str, PathChange)>, origin: &FolderOrigin) -> Self {
        let ignore = match origin {
            FolderOrigin::Context { ignore, .. } => Patterns::new(ignore).unwrap_or_default(),
            FolderOrigin::Layout => Patterns::default(),
        };
        let is_visible = |(path, change): &&(&str, PathChange)| match change.is_whole_folder {
            _ if path.is_empty() => true,
            true => !ignore.hide(path),
            false => !ignore.matches(path),
        };
        let visible = all.iter().filter(is_visible).copied().collect();
        let patterns = match origin {
            FolderOrigin::Context { ignore, .. } => ignore.as_slice(),
            FolderOrigin::Layout => &[],
        };
        let has_exceptions = patterns.iter().any(|pattern| pattern.starts_with('!'));
        Self { all, visible, has_exceptions }
    }

    /// Whether nothing differs.
    pub(super) const fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

/// A read whose patterns are compiled and whose links are followed.
pub(super) struct CompiledRead {
    places: Vec<ReadPlace>,
}

/// One place in the folder that is read.
struct ReadPlace {
    /// Relative, cleaned; empty is the folder itself.
    root: String,
    /// Paths on the way to the root, at which a link may come or go.
    visited: Vec<String>,
    /// What is read below the root: names, one pattern for each component.
    globs: Vec<NameGlob>,
    /// What is taken inside (`--parents`), relative to the root.
    include: Option<Patterns>,
    /// What is left out inside what is selected.
    exclude: Patterns,
}

impl CompiledRead {
    /// Compiles a read; links are looked up in `view`.
    pub(super) fn new(read: &ContextRead, view: &dyn FolderView) -> Self {
        let places = match &read.selection {
            ReadSelection::Whole => vec![ReadPlace::whole()],
            ReadSelection::Path(path) => vec![ReadPlace::at(&read.folder, path, view)],
            ReadSelection::Copy { source, parents, exclude } => {
                copy_places(&read.folder, source, *parents, exclude, view).unwrap_or_else(|| vec![ReadPlace::whole()])
            }
        };
        Self { places }
    }

    /// The first `n` of the differences that the read can see.
    ///
    /// *Cost:* only those below what is read are looked at, and those on the way to it.
    pub(super) fn seen<'a>(&self, changes: &ContextChanges<'a>, n: usize) -> Vec<(&'a str, PathChange)> {
        let mut found: Vec<(&str, PathChange)> = Vec::new();
        for place in &self.places {
            let on_the_way = place.ways().filter_map(|path| {
                let at = changes.all.binary_search_by_key(&path, |(path, _)| *path).ok()?;
                Some(changes.all[at])
            });
            let start = if place.root.is_empty() { String::new() } else { format!("{}/", place.root) };
            let from = changes.visible.partition_point(|(path, _)| *path < start.as_str());
            let below = changes.visible[from..].iter().take_while(|(path, _)| path.starts_with(&start)).copied();
            for change in
                on_the_way.chain(below.filter(|(path, change)| place.sees(path, *change, changes.has_exceptions)))
            {
                if found.len() >= n {
                    return found;
                }
                if !found.contains(&change) {
                    found.push(change);
                }
            }
        }
        found
    }
}

impl ReadPlace {
    fn whole() -> Self {
        Self {
            root: String::new(),
            visited: Vec::new(),
            globs: Vec::new(),
            include: None,
            exclude: Patterns::default(),
        }
    }

    /// A path with the links on it followed.
    fn at(folder: &str, path: &str, view: &dyn FolderView) -> Self {
        let (root, visited) = follow(folder, path, view);
        Self { root, visited, ..Self::whole() }
    }

    /// The paths on the way to the root and the root itself, where another thing may lead elsewhere; first the folder.
    fn ways(&self) -> impl Iterator<Item = &str> {
        let all = self.visited.iter().chain([&self.root]).filter(|path| !path.is_empty());
        let parts = all.flat_map(|path| path.match_indices('/').map(|(at, _)| &path[..at]).chain([path.as_str()]));
        std::iter::once("").chain(parts)
    }

    /// Whether a path below the root, which no ignore file hides, is selected.
    fn sees(&self, path: &str, change: PathChange, has_exceptions: bool) -> bool {
        if path.is_empty() {
            return true;
        }
        let inside = if self.root.is_empty() {
            path
        } else {
            let Some(rest) = path.strip_prefix(self.root.as_str()).and_then(|rest| rest.strip_prefix('/')) else {
                return false;
            };
            rest
        };
        let names: Vec<&str> = inside.split('/').collect();
        let n = names.len().min(self.globs.len());
        if !self.globs.iter().zip(&names).all(|(glob, name)| glob.matches(name.as_ref())) {
            return false;
        }
        if names.len() < self.globs.len() {
            // A file or link here is no folder with names that match.
            return change.is_whole_folder;
        }
        let below = names[n..].join("/");
        if below.is_empty() {
            return true;
        }
        let is_included = self.include.as_ref().is_none_or(|include| {
            include.matches(&below) || (change.is_whole_folder && include.may_match_below(&below))
        });
        // What `--exclude` leaves out may be all that keeps a folder in the context, and the folder itself is copied.
        let keeps_folder = has_exceptions && change.comes_or_goes() && below.contains('/');
        let is_excluded = if change.is_whole_folder { self.exclude.hide(&below) } else { self.exclude.matches(&below) };
        is_included && (!is_excluded || keeps_folder)
    }
}

/// The places of a source of COPY or ADD; `None` if a pattern of it is malformed.
fn copy_places(
    folder: &str,
    source: &str,
    parents: bool,
    exclude: &[String],
    view: &dyn FolderView,
) -> Option<Vec<ReadPlace>> {
    let exclude = Patterns::new(exclude).ok()?;
    if parents {
        let (prefix, pattern) = source.split_once("/./").unwrap_or(("", source));
        let pattern = path::clean(&format!("/{pattern}")).trim_start_matches('/').to_owned();
        let escaped = if pattern.starts_with('!') { format!("\\{pattern}") } else { pattern.clone() };
        let include = if pattern.is_empty() { None } else { Some(Patterns::new(&[escaped]).ok()?) };
        return Some(vec![ReadPlace { include, exclude, ..ReadPlace::at(folder, prefix, view) }]);
    }
    let cleaned = path::clean(&format!("/{source}"));
    let parts: Vec<&str> = cleaned.split('/').filter(|it| !it.is_empty()).collect();
    let n_literal = parts.iter().take_while(|it| !is_wild(it)).count();
    let base = ReadPlace::at(folder, &parts[..n_literal].join("/"), view);
    let globs = parts[n_literal..].iter().map(|part| NameGlob::parse(part)).collect::<Result<Vec<_>, _>>().ok()?;
    let mut linked = Vec::new();
    if !globs.is_empty() {
        links_below(folder, &base.root, &globs, view, &mut linked);
    }
    let mut places: Vec<ReadPlace> = linked
        .into_iter()
        .map(|link| ReadPlace { exclude: exclude.clone(), ..ReadPlace::at(folder, &link, view) })
        .collect();
    places.push(ReadPlace { globs, exclude, ..base });
    Some(places)
}

/// Finds the links that the last pattern matches; those before it are not followed.
fn links_below(folder: &str, base: &str, globs: &[NameGlob], view: &dyn FolderView, found: &mut Vec<String>) {
    let Some((glob, rest)) = globs.split_first() else { return };
    for name in view.names(&Path::new(folder).join(base)) {
        if !glob.matches(name.as_ref()) {
            continue;
        }
        let path = if base.is_empty() { name } else { format!("{base}/{name}") };
        let is_link = view.link(&Path::new(folder).join(&path)).is_some();
        match (rest.is_empty(), is_link) {
            (true, true) => found.push(path),
            (false, false) => links_below(folder, &path, rest, view, found),
            _ => (),
        }
    }
}

/// Follows a path inside a folder, which no link leaves. Returns where it leads, and where links were on the way.
fn follow(folder: &str, wanted: &str, view: &dyn FolderView) -> (String, Vec<String>) {
    let names = |text: &Path| -> Vec<String> {
        let names = text.components().rev().filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
            Component::ParentDir => Some("..".to_owned()),
            _ => None,
        });
        names.collect()
    };
    let mut todo = names(Path::new(wanted));
    let (mut real, mut visited): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    while let Some(name) = todo.pop() {
        if name == ".." {
            real.pop();
            continue;
        }
        real.push(name);
        let path = real.join("/");
        let Some(target) = view.link(&Path::new(folder).join(&path)) else { continue };
        visited.push(path);
        if visited.len() > MAX_LINKS {
            break;
        }
        real.pop();
        if target.is_absolute() {
            real.clear();
        }
        todo.extend(names(&target));
    }
    (real.join("/"), visited)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::affected::change::ChangeStatus;

    struct Links(BTreeMap<PathBuf, PathBuf>);

    impl FolderView for Links {
        fn link(&self, path: &Path) -> Option<PathBuf> {
            self.0.get(path).cloned()
        }

        fn names(&self, folder: &Path) -> Vec<String> {
            let names = self.0.keys().filter(|path| path.parent() == Some(folder)).filter_map(|path| path.file_name());
            names.map(|name| name.to_string_lossy().into_owned()).collect()
        }
    }

    fn read(selection: ReadSelection, ignore: &[&str]) -> ContextRead {
        let ignore = ignore.iter().map(|it| (*it).to_owned()).collect();
        let origin = FolderOrigin::Context { ignore, ignore_file: None };
        ContextRead { folder: "/c".to_owned(), origin, selection, instruction: None }
    }

    fn copy(source: &str, exclude: &[&str]) -> ReadSelection {
        let exclude = exclude.iter().map(|it| (*it).to_owned()).collect();
        ReadSelection::Copy { source: source.to_owned(), parents: false, exclude }
    }

    /// The paths that a read sees; those that end in a slash may differ as a whole.
    fn seen(read: &ContextRead, paths: &[&str]) -> String {
        let links = [("/c/link", "real/dir"), ("/c/up", "../../x"), ("/c/abs", "/real"), ("/c/l.txt", "real/t")];
        let links = Links(links.iter().map(|(from, to)| ((*from).into(), (*to).into())).collect());
        let mut all: Vec<(&str, PathChange)> = paths
            .iter()
            .map(|path| match path.strip_suffix('/') {
                Some(path) => (path, PathChange { status: ChangeStatus::Untracked, is_whole_folder: true }),
                None => (*path, PathChange { status: ChangeStatus::Modified, is_whole_folder: false }),
            })
            .collect();
        all.sort_by_key(|(path, _)| *path);
        let compiled = CompiledRead::new(read, &links);
        let mut found: Vec<&str> =
            compiled.seen(&ContextChanges::new(all, &read.origin), 99).into_iter().map(|(path, _)| path).collect();
        found.sort_unstable();
        found.join(" ")
    }

    #[test]
    fn sources_select_what_steps_select() {
        let all = ["a", "a/x", "a/x.md", "ab", "b/a", "a/n/x.md"];
        assert_eq!(seen(&read(copy(".", &[]), &[]), &all), "a a/n/x.md a/x a/x.md ab b/a");
        assert_eq!(seen(&read(copy("a", &[]), &[]), &all), "a a/n/x.md a/x a/x.md");
        assert_eq!(seen(&read(copy("a/x", &[]), &[]), &all), "a a/x", "`a` may have been a link");
        assert_eq!(seen(&read(copy("a", &["**/*.md"]), &[]), &all), "a a/x");
        assert_eq!(seen(&read(copy("a*", &[]), &[]), &all), "a a/n/x.md a/x a/x.md ab");
        assert_eq!(seen(&read(copy("*/*.md", &[]), &[]), &all), "a/x.md");
        assert_eq!(seen(&read(ReadSelection::Path("/a/n".to_owned()), &[]), &all), "a a/n/x.md");
        let parents = ReadSelection::Copy { source: "./a/*.md".to_owned(), parents: true, exclude: Vec::new() };
        assert_eq!(seen(&read(parents, &[]), &all), "a/x.md");
    }

    #[test]
    fn what_is_ignored_is_not_seen() {
        let all = ["a", "docs/a.md", "docs/n/", "docs/keep.md", "docs/x/"];
        assert_eq!(seen(&read(copy(".", &[]), &["docs"]), &all), "a");
        assert_eq!(seen(&read(copy(".", &[]), &["docs", "!docs/keep.md"]), &all), "a docs/keep.md");
        assert_eq!(seen(&read(copy(".", &[]), &["docs", "!docs/x/y"]), &all), "a docs/x");
        assert_eq!(seen(&read(copy("docs", &[]), &["docs"]), &["docs"]), "docs", "it may have been a link");
    }

    #[test]
    fn links_are_followed_and_seen_themselves() {
        let all = ["link", "real", "real/dir/f", "real/t", "real/o", "x/f", "up", "abs"];
        assert_eq!(seen(&read(copy("link/f", &[]), &[]), &all), "link real real/dir/f");
        assert_eq!(seen(&read(copy("up/f", &[]), &[]), &all), "up x/f");
        assert_eq!(seen(&read(copy("abs/t", &[]), &[]), &all), "abs real real/t");
        assert_eq!(seen(&read(copy("l*.txt", &[]), &[]), &["l.txt", "real/t", "real/o"]), "l.txt real/t");
    }

    #[test]
    fn a_folder_that_may_differ_as_a_whole_is_seen_around_what_is_read() {
        assert_eq!(seen(&read(copy("*/src", &[]), &[]), &["a/", "b", "a/src/", "a/doc/"]), "a a/src");
        assert_eq!(seen(&read(copy("a/b", &["x"]), &[]), &["a/", "a/b/x/", "a/b/y/"]), "a a/b/y");
    }
}
