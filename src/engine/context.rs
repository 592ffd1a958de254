//! What a build reads from this machine: its Dockerfile, its main context, its named contexts.
//!
//! A local folder comes with the patterns of its ignore file. No folder is walked and nothing is fetched here.

use std::{
    collections::HashMap,
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    dockerfile::{self, ParsedDockerfile, ignore::parse_ignore, options::NamedContext},
    graph,
    report::{Diagnostic, SourceId, SourceMap},
};

/// A Dockerfile larger than this is none.
const MAX_DOCKERFILE: u64 = 512 << 20;

/// The Dockerfiles and contexts of a run. Each Dockerfile is read and parsed once, however many builds use it.
pub(crate) struct Contexts {
    /// Absolute working directory: what relative paths start from.
    cwd: PathBuf,
    sources: Mutex<SourceMap>,
    parsed: Mutex<HashMap<WantedContext, Arc<LocalContext>>>,
}

/// A parsed Dockerfile with its faults.
pub(crate) struct LocalContext {
    pub(crate) source: SourceId,
    pub(crate) file: ParsedDockerfile,
    pub(crate) faults: Vec<Diagnostic>,
}

/// Identifies a Dockerfile: the file, or the target that has it inline.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum WantedContext {
    File(PathBuf),
    Inline { target: String, text: String },
}

impl Contexts {
    pub(crate) fn new(cwd: PathBuf, sources: SourceMap) -> Self {
        Self { cwd, sources: Mutex::new(sources), parsed: Mutex::default() }
    }

    /// All sources read so far, for showing diagnostics.
    pub(crate) fn sources(&self) -> SourceMap {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many Dockerfiles have been read.
    pub(crate) fn n_dockerfiles(&self) -> usize {
        self.parsed.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The absolute form of a path of the plan. Relative paths and `cwd://` start at the working directory.
    pub(crate) fn absolute(&self, path: &str) -> PathBuf {
        clean(&self.cwd.join(path.strip_prefix("cwd://").unwrap_or(path)))
    }

    /// A path for messages: relative to the working directory if it lies below it.
    pub(crate) fn shown(&self, path: &Path) -> String {
        path.strip_prefix(&self.cwd).unwrap_or(path).display().to_string()
    }

    /// The Dockerfile of a local context.
    ///
    /// # Errors
    /// When it is missing, cannot be read or is not UTF-8. Faults of its text are in the result.
    pub(crate) fn dockerfile(&self, wanted: WantedContext, shown: &str) -> Result<Arc<LocalContext>, Diagnostic> {
        if let Some(parsed) = self.parsed.lock().unwrap_or_else(PoisonError::into_inner).get(&wanted) {
            return Ok(parsed.clone());
        }
        let text = match &wanted {
            WantedContext::Inline { text, .. } => text.clone(),
            WantedContext::File(path) => read_text(&with_twin(path), shown)?,
        };
        let source = self.sources.lock().unwrap_or_else(PoisonError::into_inner).add(shown, text.as_str());
        let (file, faults) = dockerfile::parse(source, &text);
        let parsed = Arc::new(LocalContext { source, file, faults });
        self.parsed.lock().unwrap_or_else(PoisonError::into_inner).insert(wanted, parsed.clone());
        Ok(parsed)
    }

    /// A folder as a context, with the patterns of its ignore file: the one beside `dockerfile` wins over `.dockerignore`.
    ///
    /// # Errors
    /// When the folder is missing or is not a folder, or the ignore file cannot be read or has a bad pattern.
    pub(crate) fn folder(
        &self,
        folder: &Path,
        name: &str,
        dockerfile: Option<&Path>,
    ) -> Result<NamedContext, Diagnostic> {
        match fs::metadata(folder) {
            Ok(meta) if meta.is_dir() => (),
            Ok(_) => {
                return Err(Diagnostic::error(
                    "bake::engine::context_no_folder",
                    format!("{name} is not a folder: {}", folder.display()),
                ));
            }
            Err(error) => {
                return Err(Diagnostic::error(
                    "bake::engine::context_missing",
                    format!("{name} cannot be read: {}", folder.display()),
                )
                .cause(&error));
            }
        }
        let beside = dockerfile.map(|path| {
            let mut name = path.file_name().unwrap_or_default().to_owned();
            name.push(".dockerignore");
            path.with_file_name(name)
        });
        let candidates = beside.into_iter().chain([folder.join(".dockerignore")]);
        let (mut ignore, mut ignore_file) = (Vec::new(), None);
        for path in candidates {
            match read_ignore(&path)? {
                None => (),
                Some(text) => {
                    let shown = self.shown(&path);
                    let source =
                        self.sources.lock().unwrap_or_else(PoisonError::into_inner).add(shown.as_str(), text.as_str());
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
            folder: folder.display().to_string(),
            name: name.to_owned(),
            ignore,
            ignore_file,
        }))
    }
}

/// The path to read: `dockerfile` in place of a `Dockerfile` that does not exist, if there is one.
fn with_twin(path: &Path) -> PathBuf {
    if path.file_name().is_some_and(|name| name == "Dockerfile") && !path.exists() {
        let twin = path.with_file_name("dockerfile");
        if twin.exists() {
            return twin;
        }
    }
    path.to_owned()
}

fn read_text(path: &Path, shown: &str) -> Result<String, Diagnostic> {
    let failed = |error: &std::io::Error| {
        Diagnostic::error("bake::engine::dockerfile_unreadable", format!("the Dockerfile cannot be read: {shown}"))
            .cause(error)
            .help("`dockerfile` is relative to `context`; both can be set in the target")
    };
    let file = fs::File::open(path).map_err(|e| failed(&e))?;
    let meta = file.metadata().map_err(|e| failed(&e))?;
    if !meta.is_file() || meta.len() > MAX_DOCKERFILE {
        return Err(Diagnostic::error(
            "bake::engine::dockerfile_no_file",
            format!("the Dockerfile is not a file of at most {} MiB: {shown}", MAX_DOCKERFILE >> 20),
        ));
    }
    let mut bytes = Vec::new();
    file.take(MAX_DOCKERFILE).read_to_end(&mut bytes).map_err(|e| failed(&e))?;
    String::from_utf8(bytes).map_err(|error| {
        Diagnostic::error(
            "bake::engine::dockerfile_not_utf8",
            format!("the Dockerfile is not UTF-8 at byte {}: {shown}", error.utf8_error().valid_up_to()),
        )
    })
}

fn read_ignore(path: &Path) -> Result<Option<String>, Diagnostic> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(Diagnostic::error(
            "bake::engine::ignore_unreadable",
            format!("the ignore file cannot be read: {}", path.display()),
        )
        .cause(&error)),
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
