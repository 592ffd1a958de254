//! What a build reads from this machine: its Dockerfile, its main context, its named contexts.
//!
//! A local folder comes with the patterns of its ignore file. No folder is walked and nothing is fetched here.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    dockerfile::{self, ParsedDockerfile, ignore::parse_ignore, options::NamedContext},
    grant::{GrantedRead, HostPaths, ReadFault},
    graph,
    report::{Diagnostic, SourceId, SourceMap, SourceOrigin, Span},
};

/// A Dockerfile larger than this is none.
const MAX_DOCKERFILE: u64 = 512 << 20;
/// An ignore file larger than this is none.
const MAX_IGNORE: u64 = 64 << 20;

/// The Dockerfiles and contexts of a run. Each Dockerfile is read and parsed once, however many builds use it.
pub(crate) struct Contexts {
    /// Absolute working directory: what relative paths start from.
    cwd: PathBuf,
    /// What may be read.
    paths: HostPaths,
    sources: Mutex<SourceMap>,
    parsed: Mutex<HashMap<WantedContext, Arc<LocalContext>>>,
}

/// A Dockerfile that was read and parsed, with the faults of its text.
pub(crate) struct LocalContext {
    pub(crate) source: SourceId,
    pub(crate) file: ParsedDockerfile,
    /// It was read from the file in lower case.
    pub(crate) is_lower_case: bool,
    pub(crate) faults: Vec<Diagnostic>,
}

/// Which Dockerfile a build wants: a file of this machine, or a text. Each is read and parsed once a run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum WantedContext {
    /// Paths as they stand in the plan. `lower_case` is read instead if there is no file at `path` (`dockerfile` for
    /// `Dockerfile`, as BuildKit does).
    File { path: String, lower_case: Option<String> },
    /// A text that is no file of this machine: `dockerfile-inline`, which stands at `at`, or the Dockerfile of a remote
    /// context. `target` is the first target that wants the build.
    Inline { target: String, text: String, at: Option<Span> },
}

impl Contexts {
    /// No Dockerfile is read yet. `paths` has what may be read; `sources` the texts that spans already refer to.
    pub(crate) fn new(cwd: PathBuf, paths: HostPaths, sources: SourceMap) -> Self {
        Self { cwd, paths, sources: Mutex::new(sources), parsed: Mutex::default() }
    }

    /// All sources read so far, for showing diagnostics.
    pub(crate) fn sources(&self) -> SourceMap {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many Dockerfiles have been read.
    pub(crate) fn n_dockerfiles(&self) -> usize {
        self.parsed.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The handle of a path of the plan that is read.
    pub(crate) fn path(&self, text: &str) -> GrantedRead {
        self.paths.read(text)
    }

    /// A path of the plan as the user would write it: relative where it lies below the working directory.
    pub(crate) fn shown(&self, text: &str) -> String {
        let path = clean(&self.cwd.join(text));
        path.strip_prefix(&self.cwd).unwrap_or(&path).display().to_string()
    }

    /// Reads and parses a Dockerfile, or returns it if it was read before. `shown` is its name in diagnostics.
    ///
    /// # Errors
    /// When it is missing, cannot be read or is not UTF-8. Faults of its text are in the result.
    pub(crate) fn dockerfile(&self, wanted: WantedContext, shown: &str) -> Result<Arc<LocalContext>, Diagnostic> {
        if let Some(parsed) = self.parsed.lock().unwrap_or_else(PoisonError::into_inner).get(&wanted) {
            return Ok(parsed.clone());
        }
        let mut is_lower_case = false;
        let text = match &wanted {
            WantedContext::Inline { text, .. } => text.clone(),
            WantedContext::File { path, lower_case } => {
                let found = self.path(path).read(MAX_DOCKERFILE);
                let other = match (&found, lower_case) {
                    (Err(fault), Some(other)) if fault.is_missing() => self.path(other).read(MAX_DOCKERFILE).ok(),
                    _ => None,
                };
                is_lower_case = other.is_some();
                text(other.map_or(found, Ok), &self.path(path), shown)?
            }
        };
        let origin = match &wanted {
            WantedContext::File { .. } => SourceOrigin::File,
            WantedContext::Inline { at: Some(at), .. } => SourceOrigin::Within(*at),
            WantedContext::Inline { at: None, .. } => SourceOrigin::Elsewhere,
        };
        let name = match &wanted {
            // Where the file system tells letter cases apart, the place must be one that can be opened.
            WantedContext::File { lower_case: Some(path), .. } if is_lower_case => self.shown(path),
            _ => shown.to_owned(),
        };
        let source = self.sources.lock().unwrap_or_else(PoisonError::into_inner).add_from(origin, name, text.as_str());
        let (file, faults) = dockerfile::parse(source, &text);
        let parsed = Arc::new(LocalContext { source, file, is_lower_case, faults });
        self.parsed.lock().unwrap_or_else(PoisonError::into_inner).insert(wanted, parsed.clone());
        Ok(parsed)
    }

    /// Adds a text that somebody else has read, and returns its id.
    pub(crate) fn add_fetched(&self, name: &str, text: &str) -> SourceId {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner).add(name, text)
    }

    /// The text of a source of this run.
    pub(crate) fn text_of(&self, source: SourceId) -> Arc<str> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner).get(source).text.clone()
    }

    /// The text of a Dockerfile that [`Contexts::dockerfile`] has read.
    pub(crate) fn text(&self, wanted: &WantedContext) -> Option<Arc<str>> {
        let source = self.parsed.lock().unwrap_or_else(PoisonError::into_inner).get(wanted)?.source;
        Some(self.sources.lock().unwrap_or_else(PoisonError::into_inner).get(source).text.clone())
    }

    /// A folder as a context, with the patterns of the first of the `ignore_files` that exists.
    ///
    /// # Errors
    /// When the folder is missing or none, or the ignore file cannot be read or has a bad pattern.
    pub(crate) fn folder(&self, folder: &str, name: &str, ignore_files: &[String]) -> Result<NamedContext, Diagnostic> {
        let handle = self.path(folder);
        if let Err(error) = handle.check_dir() {
            let shown = handle.path().display();
            return Err(match error.kind() {
                _ if handle.is_denied() => not_granted(&handle),
                io::ErrorKind::NotADirectory => {
                    Diagnostic::error("bake::engine::context_no_folder", format!("{name} is not a folder: {shown}"))
                }
                _ => Diagnostic::error("bake::engine::context_missing", format!("{name} cannot be read: {shown}"))
                    .cause(&error),
            });
        }
        let (mut ignore, mut ignore_file) = (Vec::new(), None);
        for path in ignore_files {
            match read_ignore(&self.path(path))? {
                None => (),
                Some(text) => {
                    let shown = self.shown(path);
                    let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
                    let source = sources.add_from(SourceOrigin::File, shown.as_str(), text.as_str());
                    let (patterns, faults) = parse_ignore(source, &text);
                    if let Some(fault) = faults.into_iter().next() {
                        return Err(fault);
                    }
                    ignore = patterns;
                    ignore_file = Some(shown);
                    break;
                }
            }
        }
        Ok(NamedContext::Local(graph::Local {
            folder: handle.path().display().to_string(),
            name: name.to_owned(),
            ignore,
            ignore_file,
        }))
    }
}

fn not_granted(handle: &GrantedRead) -> Diagnostic {
    let path = handle.path().display();
    Diagnostic::error("bake::engine::not_granted", format!("the definition may not read: {path}"))
        .help(format!("if that is right, allow it: --allow=fs.read={path}"))
}

fn text(read: Result<Vec<u8>, ReadFault>, handle: &GrantedRead, shown: &str) -> Result<String, Diagnostic> {
    let bytes = read.map_err(|fault| match fault {
        _ if handle.is_denied() => not_granted(handle),
        ReadFault::Io(error) => {
            Diagnostic::error("bake::engine::dockerfile_unreadable", format!("the Dockerfile cannot be read: {shown}"))
                .cause(&error)
                .help("`dockerfile` is relative to `context`; both can be set in the target")
        }
        ReadFault::NoFile(what) => {
            Diagnostic::error("bake::engine::dockerfile_no_file", format!("the Dockerfile is {what}: {shown}"))
        }
        ReadFault::TooLarge(limit) => Diagnostic::error(
            "bake::engine::dockerfile_no_file",
            format!("the Dockerfile has more than {} MiB: {shown}", limit >> 20),
        ),
    })?;
    String::from_utf8(bytes).map_err(|error| {
        Diagnostic::error(
            "bake::engine::dockerfile_not_utf8",
            format!("the Dockerfile is not UTF-8 at byte {}: {shown}", error.utf8_error().valid_up_to()),
        )
    })
}

fn read_ignore(handle: &GrantedRead) -> Result<Option<String>, Diagnostic> {
    match handle.read(MAX_IGNORE) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(fault) if fault.is_missing() => Ok(None),
        Err(_) if handle.is_denied() => Err(not_granted(handle)),
        Err(fault) => Err(Diagnostic::error(
            "bake::engine::ignore_unreadable",
            format!("the ignore file cannot be read: {}", handle.path().display()),
        )
        .cause(&fault)),
    }
}

/// Removes `.` and `..` as text, as the peer does; symlinks are not looked at.
pub(crate) fn clean(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::CurDir => (),
            std::path::Component::ParentDir => {
                cleaned.pop();
            }
            other => cleaned.push(other),
        }
    }
    cleaned
}
