//! Which parts of a source a COPY or ADD means: literal paths, wildcards, `--parents`, `--exclude`.
//!
//! Used for hashing and for copying, so that both always see the same. The rules are those of the Dockerfile reference,
//! `COPY` (<https://docs.docker.com/reference/dockerfile/#copy>).

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use super::{
    error::ContentError,
    source::{ContentFolder, ContentSource, ContentTree},
};
use crate::{
    graph::{self},
    layer::view::{EntryKind, Follow, LocateWalk, Location, locate::locate},
    report::suggest,
    spec::pattern::{Patterns, Verdict},
    spec::{
        glob::{NameGlob, is_wild},
        path,
    },
};

/// The entries that one source of a COPY or ADD selects.
pub(crate) struct CopySelection {
    /// In order. A directory means its content.
    pub(crate) matches: Vec<Match>,
    /// What to leave out inside directories.
    pub(crate) filter: Filter,
    /// The source has wildcards (or is a `--parents` one): names below it matter too.
    pub(crate) wildcard: bool,
}

/// One file or directory that a source of a COPY or ADD selects.
pub(crate) struct Match {
    /// Where it is, links followed.
    pub(crate) place: Location<ContentFolder>,
    /// Its name as written or found, links not followed: the name it gets in a destination directory.
    pub(crate) name: OsString,
    /// Its path for messages.
    pub(crate) shown: String,
}

/// A warning about a copy that is probably not what was meant; it does not stop the build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CopyWarning {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

/// Decides which names inside a selected directory are copied (`--exclude`). Paths are relative to that directory.
#[derive(Default)]
pub(crate) struct Filter {
    include: Option<Patterns>,
    exclude: Patterns,
}

/// What the patterns of a [`Filter`] say about a directory, for its children.
#[derive(Clone, Default)]
pub(crate) struct FilterState {
    include: Verdict,
    exclude: Verdict,
}

/// The decision of a [`Filter`] about a directory.
pub(crate) struct DirVerdict {
    /// It is taken even if empty. Otherwise it is there only for what is taken inside.
    pub(crate) taken: bool,
    /// Something inside may be taken.
    pub(crate) walk: bool,
    pub(crate) state: FilterState,
}

impl Filter {
    /// Whether the filter takes everything.
    pub(crate) fn is_empty(&self) -> bool {
        self.include.is_none() && self.exclude.is_empty()
    }

    /// The path of a name in a directory; not computed if no pattern needs it.
    pub(crate) fn join(&self, dir: &str, name: &OsStr) -> String {
        match (self.is_empty(), dir) {
            (true, _) => String::new(),
            (_, "") => name.to_string_lossy().into_owned(),
            _ => format!("{dir}/{}", name.to_string_lossy()),
        }
    }

    /// Whether an entry that is not a directory is taken.
    pub(crate) fn takes_file(&self, state: &FilterState, path: &str) -> bool {
        self.include.as_ref().is_none_or(|it| it.test(&state.include, path))
            && (self.exclude.is_empty() || !self.exclude.test(&state.exclude, path))
    }

    /// Decides whether a directory is taken, and whether something inside it may be.
    pub(crate) fn dir(&self, state: &FilterState, path: &str) -> DirVerdict {
        if self.is_empty() {
            return DirVerdict { taken: true, walk: true, state: FilterState::default() };
        }
        let include = self.include.as_ref().map(|it| it.enter(&state.include, path));
        let exclude = self.exclude.enter(&state.exclude, path);
        let included = include.as_ref().is_none_or(|it| it.matched);
        let below = included || self.include.as_ref().is_some_and(|it| it.may_match_below(path));
        DirVerdict {
            taken: included && !exclude.matched,
            walk: below && (!exclude.matched || self.exclude.may_except_below(path)),
            state: FilterState { include: include.unwrap_or_default(), exclude },
        }
    }
}

impl Match {
    /// A match at `place`, whose path in messages is `shown`.
    pub(crate) fn new(place: Location<ContentFolder>, shown: &str) -> Self {
        let name = Path::new(shown).file_name().unwrap_or_default().to_owned();
        Self { place, name, shown: format!("/{}", shown.trim_start_matches('/')) }
    }

    /// Whether the match is a directory.
    pub(crate) fn is_dir(&self) -> bool {
        self.place.entry.as_ref().is_some_and(|it| it.kind == EntryKind::Dir)
    }
}

impl CopySelection {
    /// The selection of everything, for ops that take all of what they point at.
    pub(crate) fn whole() -> Self {
        Self { matches: Vec::new(), filter: Filter::default(), wildcard: false }
    }

    /// Warns of copies that probably do not do what was meant.
    pub(crate) fn warnings(&self, source: &ContentSource, copy: &graph::CopyAction) -> Vec<CopyWarning> {
        let mut warnings = Vec::new();
        if self.wildcard && self.matches.is_empty() && !copy.parents {
            warnings.push(CopyWarning {
                message: format!("nothing in {} matches `{}`", source.name, copy.source),
                hint: Some("check the pattern and the ignore file; nothing is copied".to_owned()),
            });
        }
        let n_files = self.matches.iter().filter(|it| !it.is_dir()).count();
        if n_files > 1 && !copy.dest.ends_with('/') && !copy.dest.ends_with("/.") && !copy.unpack {
            warnings.push(CopyWarning {
                message: format!("`{}` matches {n_files} files for one destination: {}", copy.source, copy.dest),
                hint: Some(format!(
                    "unless it is a directory, the last file wins; write `{}/` to copy into a directory",
                    copy.dest
                )),
            });
        }
        warnings
    }
}

/// Finds the files and directories that a COPY or ADD action selects in its source.
///
/// # Errors
/// When a path is not there, a pattern matches nothing or is malformed, or the source cannot be read.
pub(crate) fn select(source: &ContentSource, copy: &graph::CopyAction) -> Result<CopySelection, ContentError> {
    let exclude = patterns(&copy.exclude)?;
    if copy.parents {
        return select_parents(source, copy, exclude);
    }
    let filter = Filter { include: None, exclude };
    let path = path::clean(&format!("/{}", copy.source));
    let parts: Vec<&str> = path.split('/').filter(|it| !it.is_empty()).collect();
    let n_literal = parts.iter().take_while(|it| !is_wild(it)).count();
    if n_literal == parts.len() {
        let place = look(source, &path)?;
        if place.entry.is_none() && !copy.optional {
            return Err(not_found(source, &copy.source, &path));
        }
        let found = place.entry.is_some().then(|| Match::new(place, &path));
        return Ok(CopySelection { matches: found.into_iter().collect(), filter, wildcard: false });
    }
    let globs = parts[n_literal..]
        .iter()
        .map(|part| NameGlob::parse(part))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|why| ContentError::BadPattern { pattern: copy.source.clone(), why, file: None })?;
    let prefix = format!("/{}", parts[..n_literal].join("/"));
    let base = look(source, &prefix)?;
    let mut matches = Vec::new();
    if let Some(folder) = base.folder(&source.tree).map_err(|cause| source.unreadable(&prefix, cause))? {
        expand(source, &folder, &globs, &base.path, &mut matches)?;
    }
    Ok(CopySelection { matches, filter, wildcard: true })
}

fn look(source: &ContentSource, path: &str) -> Result<Location<ContentFolder>, ContentError> {
    locate(&source.tree, OsStr::new(path), Follow::Last).map_err(|cause| source.unreadable(path, cause))
}

fn patterns(list: &[String]) -> Result<Patterns, ContentError> {
    Patterns::new(list).map_err(|bad| ContentError::BadPattern { pattern: bad.pattern, why: bad.why, file: None })
}

/// Finds the names below `folder` that match, in order. Links below the first wildcard are not followed on the way.
fn expand(
    source: &ContentSource,
    folder: &ContentFolder,
    globs: &[NameGlob],
    path: &Path,
    found: &mut Vec<Match>,
) -> Result<(), ContentError> {
    let Some((glob, rest)) = globs.split_first() else { return Ok(()) };
    for (name, entry) in source.children(folder)? {
        if !glob.matches(&name) {
            continue;
        }
        let path = path.join(&name);
        if !rest.is_empty() {
            if entry.kind == EntryKind::Dir {
                let sub = source.tree.enter(folder, &name).map_err(|cause| source.unreadable_in(folder, cause))?;
                expand(source, &sub, rest, &path, found)?;
            }
            continue;
        }
        let shown = path.to_string_lossy().into_owned();
        let place = if entry.kind == EntryKind::Symlink {
            locate(&source.tree, path.as_os_str(), Follow::Last).map_err(|cause| source.unreadable(&shown, cause))?
        } else {
            Location { path, entry: Some(entry), parent: Some(folder.clone()), through: None }
        };
        if place.entry.is_none() {
            return Err(not_found(source, &shown, &shown));
        }
        found.push(Match { place, name, shown });
    }
    Ok(())
}

/// `--parents`: the part before `/./` is a directory, the rest a pattern of what to take inside.
fn select_parents(
    source: &ContentSource,
    copy: &graph::CopyAction,
    exclude: Patterns,
) -> Result<CopySelection, ContentError> {
    let (prefix, pattern) = copy.source.split_once("/./").unwrap_or(("", &copy.source));
    let prefix = path::clean(&format!("/{prefix}"));
    let pattern = path::clean(&format!("/{pattern}")).trim_start_matches('/').to_owned();
    let root = look(source, &prefix)?;
    let folder = root.folder(&source.tree).map_err(|cause| source.unreadable(&prefix, cause))?;
    let Some(folder) = folder else { return Err(not_found(source, &copy.source, &prefix)) };
    let wild = pattern.split('/').any(is_wild);
    if !wild && !copy.optional && !exists(source, folder, &pattern)? {
        return Err(not_found(source, &copy.source, &format!("{prefix}/{pattern}")));
    }
    // A literal `!` at the start is a name here, no exception.
    let escaped = if pattern.starts_with('!') { format!("\\{pattern}") } else { pattern.clone() };
    let include = if pattern.is_empty() { None } else { Some(patterns(&[escaped])?) };
    let found = Match::new(root, &prefix);
    Ok(CopySelection { matches: vec![found], filter: Filter { include, exclude }, wildcard: true })
}

/// Whether a path is there without following any link.
fn exists(source: &ContentSource, mut folder: ContentFolder, path: &str) -> Result<bool, ContentError> {
    let mut names = path.split('/').filter(|it| !it.is_empty()).peekable();
    while let Some(name) = names.next() {
        let unreadable = |cause| source.unreadable(path, cause);
        match source.tree.child(&folder, OsStr::new(name)).map_err(unreadable)? {
            None => return Ok(false),
            Some(entry) if names.peek().is_some() && entry.kind != EntryKind::Dir => return Ok(false),
            Some(_) if names.peek().is_some() => {
                folder = source.tree.enter(&folder, OsStr::new(name)).map_err(unreadable)?;
            }
            Some(_) => (),
        }
    }
    Ok(true)
}

/// The error for a path that is missing in a source, with what helps to find out why.
pub(crate) fn not_found(source: &ContentSource, written: &str, path: &str) -> ContentError {
    let relative = PathBuf::from(path::clean(path).trim_start_matches('/'));
    let hint = hidden(source, &relative).or_else(|| near(source, &relative));
    ContentError::NotFound { path: written.to_owned(), of: source.name.clone(), hint }
}

fn hidden(source: &ContentSource, path: &Path) -> Option<String> {
    let ContentTree::Local(tree) = &source.tree else { return None };
    let (number, pattern, file) = tree.hidden_by(path)?;
    let file = file.as_deref().unwrap_or("the ignore file");
    Some(format!("it is there, but hidden by pattern {number} of {file}: {pattern}"))
}

/// The nearest names where the first missing name was looked for.
fn near(source: &ContentSource, path: &Path) -> Option<String> {
    let mut known = PathBuf::from("/");
    for name in path.iter() {
        let place = locate(&source.tree, known.join(name).as_os_str(), Follow::Last).ok()?;
        if place.entry.is_some() {
            known.push(name);
            continue;
        }
        let base = locate(&source.tree, known.as_os_str(), Follow::Last).ok()?;
        let link = locate(&source.tree, known.join(name).as_os_str(), Follow::No).ok()?;
        if link.entry.is_some() {
            let text = format!("`{}` is a link to nothing in {}", known.join(name).display(), source.name);
            return Some(text);
        }
        let Some(folder) = base.folder(&source.tree).ok()? else {
            return Some(format!("`{}` is not a directory", known.display()));
        };
        let names: Vec<String> =
            source.children(&folder).ok()?.into_iter().map(|it| it.0.to_string_lossy().into_owned()).collect();
        let nearest = suggest::nearest(&name.to_string_lossy(), names.iter().map(String::as_str))?;
        let found = known.join(nearest);
        return Some(format!("did you mean `{}`?", found.strip_prefix("/").unwrap_or(&found).display()));
    }
    None
}
