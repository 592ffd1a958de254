//! Reading of definition files as text: from this machine, from standard input. Which files are read, and what their text
//! means, is decided in `load`.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::origin::{DefinitionOrigin, DefinitionReads};
use crate::{
    grant::{Denied, ReadFault, SpecialFile, read_file_or_shell_pipe},
    report::{Diagnostic, SourceId, SourceMap, SourceOrigin, Span, suggest},
};

/// Reads the files that a Compose file names. A trait, so that tests and fuzzers can answer without a disk.
pub(crate) trait ComposeFileReader {
    /// The text of a file by its path, relative to the working directory; `None` if there is no such file.
    ///
    /// # Errors
    /// When it may not be read, or is there but cannot be read as text.
    fn read(&mut self, path: &str, reason: ReadReason<'_>) -> Result<Option<(SourceId, Arc<str>)>, Box<Diagnostic>>;
}

/// Why a file of Compose is read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ReadReason<'a> {
    /// `extends`, `include` or `env_file` names it here.
    Named(Span),
    /// It is the `.env` that belongs to these files; nobody names it, and it need not be there.
    Dotenv(&'a [SourceId]),
}

/// The words of the system for a file that is not there, beside ours: people search for them.
pub(super) const NO_SUCH_FILE: &str = "no such file or directory";

/// The names that are tried without `-f`, in this order; all files that exist are loaded. `docker buildx bake` does not
/// look for `docker-bake.yaml` and `docker-bake.yml`.
pub(crate) const DEFAULT_NAMES: [&str; 12] = [
    "compose.yaml",
    "compose.yml",
    "docker-compose.yml",
    "docker-compose.yaml",
    "docker-bake.json",
    "docker-bake.yaml",
    "docker-bake.yml",
    "docker-bake.hcl",
    "docker-bake.override.json",
    "docker-bake.override.yaml",
    "docker-bake.override.yml",
    "docker-bake.override.hcl",
];

/// The largest text that is read, in bytes: offsets into it must fit the 32 bits of a [`Span`].
const MAX_BYTES: u64 = 1 << 30;

/// Adds the bytes of a file to the source map as text, without a byte order mark. Returns `None` and adds an error when
/// the bytes are not UTF-8.
pub(crate) fn add_text(
    sources: &mut SourceMap,
    origin: SourceOrigin,
    name: &str,
    bytes: Vec<u8>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<(SourceId, Arc<str>)> {
    let (text, bad) = match String::from_utf8(bytes) {
        Ok(text) => (text, None),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            (String::from_utf8_lossy(error.as_bytes()).into_owned(), Some(at))
        }
    };
    let text: Arc<str> = text.strip_prefix('\u{feff}').unwrap_or(&text).into();
    let id = sources.add_from(origin, name, text.clone());
    let Some(at) = bad else { return Some((id, text)) };
    let start = u32::try_from(at).unwrap_or(u32::MAX);
    diagnostics.push(
        Diagnostic::error(
            "bake::definition::not_utf8",
            format!("a definition must be UTF-8 text, which ends at byte {at} of: {name}"),
        )
        .at(Span { source: id, start, end: start.saturating_add(1) }, "not UTF-8")
        .help("save the file as UTF-8"),
    );
    None
}

type LoadResult<T> = Result<T, Box<Diagnostic>>;

fn too_large(name: &str) -> Box<Diagnostic> {
    Box::new(Diagnostic::error(
        "bake::definition::too_large",
        format!("a definition may have 1 GiB, and this has more: {name}"),
    ))
}

/// Reads standard input to its end.
pub(crate) fn read_stdin() -> LoadResult<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = io::stdin().lock().take(MAX_BYTES + 1).read_to_end(&mut bytes);
    match read {
        Ok(_) if bytes.len() as u64 > MAX_BYTES => Err(too_large("standard input")),
        Ok(_) => Ok(bytes),
        Err(error) => Err(Box::new(
            Diagnostic::error("bake::definition::unreadable", "standard input cannot be read: -").cause(&error),
        )),
    }
}

/// Reads a file that the command line names, whole. `named_by` says in messages who named it (`-f`).
///
/// # Errors
/// When it does not exist, is a directory, pipe or device, has more than 1 GiB, or cannot be read. A pipe that the shell
/// hands over (`-f <(command)`) is read.
pub(crate) fn read_file(path: &str, named_by: &str) -> LoadResult<Vec<u8>> {
    read_file_or_shell_pipe(Path::new(path), MAX_BYTES).map_err(|fault| read_fault(path, named_by, fault))
}

/// As [`read_file`], in the state of the work tree that `reads` has.
///
/// # Errors
/// As [`read_file`].
pub(super) fn read_named(path: &str, named_by: &str, reads: &DefinitionReads) -> LoadResult<Vec<u8>> {
    match reads.named_in_past(Path::new(path)) {
        None => read_file(path, named_by),
        Some(found) => found
            .map_err(ReadFault::Io)
            .and_then(|file| file.read(MAX_BYTES))
            .map_err(|fault| read_fault(path, named_by, fault)),
    }
}

/// Reads a file that a definition names, whole, if a definition of this origin may read it.
///
/// # Errors
/// As [`read_file`]; also when it may not be read.
pub(crate) fn read_granted(
    path: &str,
    named_by: &str,
    reads: &DefinitionReads,
    origin: &DefinitionOrigin,
) -> LoadResult<GrantedBytes> {
    match reads.read(Path::new(path), origin) {
        Ok(Ok(granted)) => match granted.read(MAX_BYTES) {
            Ok(bytes) => Ok(GrantedBytes { bytes, real: granted.path().to_owned() }),
            Err(fault) => Err(read_fault(path, named_by, fault)),
        },
        Ok(Err(denied)) => Err(outside(path, named_by, &denied)),
        Err(error) => Err(read_fault(path, named_by, ReadFault::Io(error))),
    }
}

/// The content of a file that a definition may read.
pub(crate) struct GrantedBytes {
    pub(crate) bytes: Vec<u8>,
    /// Its path without symbolic links.
    pub(crate) real: PathBuf,
}

/// A file that a definition may not read.
fn outside(path: &str, named_by: &str, denied: &Denied) -> Box<Diagnostic> {
    let real = denied.0.display().to_string();
    let leads_to = if real == path { String::new() } else { format!(", which leads to {real}") };
    let message =
        format!("the definition asks for more than it may: reading the file given by {named_by}: {path}{leads_to}");
    let help = format!("if that is right, allow it: {}", denied.read_flag());
    Box::new(Diagnostic::error("bake::definition::outside", message).help(help))
}

fn read_fault(path: &str, named_by: &str, fault: ReadFault) -> Box<Diagnostic> {
    let refuse = |what: &str, help: String| {
        let message = format!("the file given by {named_by} {what}: {path}");
        Box::new(Diagnostic::error("bake::definition::unreadable", message).help(help))
    };
    match fault {
        ReadFault::Io(error) if error.kind() == io::ErrorKind::NotFound => Box::new(missing(path, named_by)),
        ReadFault::NoFile(SpecialFile::Directory) => {
            refuse("is a directory", format!("name a file in it, as in {}/docker-bake.hcl", path.trim_end_matches('/')))
        }
        ReadFault::NoFile(special) => {
            refuse(&format!("is {special}"), "give a regular file, or - for standard input".to_owned())
        }
        ReadFault::TooLarge(_) => too_large(path),
        ReadFault::Io(error) => unreadable(path, named_by, &error),
    }
}

fn unreadable(path: &str, named_by: &str, error: &io::Error) -> Box<Diagnostic> {
    Box::new(
        Diagnostic::error(
            "bake::definition::unreadable",
            format!("the file given by {named_by} cannot be read: {path}"),
        )
        .cause(error),
    )
}

fn missing(path: &str, named_by: &str) -> Diagnostic {
    let path_of = Path::new(path);
    let folder = path_of.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = path_of.file_name().map(|it| it.to_string_lossy().into_owned()).unwrap_or_default();
    let mut diagnostic =
        Diagnostic::error("bake::definition::missing", format!("the file given by {named_by} does not exist: {path}"));
    diagnostic.causes.push(NO_SUCH_FILE.to_owned());
    let Ok(entries) = fs::read_dir(folder) else {
        return diagnostic.help(format!("there is no folder {}", folder.display()));
    };
    const LOOKED_AT: usize = 2000;
    let names: Vec<String> = entries
        .take(LOOKED_AT)
        .filter_map(|entry| entry.ok().map(|it| it.file_name().to_string_lossy().into_owned()))
        .collect();
    let near = suggest::nearest(&file, names.iter().map(String::as_str));
    let bake = names.iter().find(|it| DEFAULT_NAMES.contains(&it.as_str())).map(String::as_str);
    if let Some(near) = near {
        let near = if folder == Path::new(".") { near.to_owned() } else { folder.join(near).display().to_string() };
        return diagnostic.help(format!("did you mean `{near}`?"));
    }
    match bake {
        Some(found) if folder == Path::new(".") => diagnostic.help(format!("there is {found}")),
        Some(found) => diagnostic.help(format!("there is {}", folder.join(found).display())),
        None => diagnostic,
    }
}

/// Reads the files that Compose files name and adds their texts to the source map.
pub(crate) struct DefinitionLoader<'a> {
    pub(super) sources: &'a mut SourceMap,
    pub(super) reads: &'a DefinitionReads,
    /// The origin of each file of the definition; a file that another one names has that one's.
    pub(super) origins: &'a mut BTreeMap<SourceId, DefinitionOrigin>,
    pub(super) warnings: Vec<Diagnostic>,
}

impl DefinitionLoader<'_> {
    /// Whether a file is to be read: not a `.env` that is missing, or that a remote definition may not read.
    fn is_wanted(&mut self, path: &str, reason: ReadReason<'_>, origin: &DefinitionOrigin) -> LoadResult<bool> {
        let denied = match self.reads.read(Path::new(path), origin) {
            Ok(Ok(granted)) => return Ok(granted.exists()),
            Ok(Err(denied)) => denied,
            // The read that follows says what is wrong.
            Err(_) => return Ok(true),
        };
        match (reason, origin) {
            (ReadReason::Named(_), _) => Ok(true),
            (ReadReason::Dotenv(_), _) if !denied.0.exists() => Ok(false),
            (ReadReason::Dotenv(_), DefinitionOrigin::Folder(_)) => Ok(true),
            (ReadReason::Dotenv(_), DefinitionOrigin::Remote) => {
                let message = format!("the definition comes from elsewhere and does not see the variables of: {path}");
                let help = format!("if it may, allow it: {}", denied.read_flag());
                self.warnings.push(Diagnostic::warning("bake::definition::dotenv_unread", message).help(help));
                Ok(false)
            }
        }
    }
}

impl ComposeFileReader for DefinitionLoader<'_> {
    fn read(&mut self, path: &str, reason: ReadReason<'_>) -> LoadResult<Option<(SourceId, Arc<str>)>> {
        let askers = match &reason {
            ReadReason::Named(at) => std::slice::from_ref(&at.source),
            ReadReason::Dotenv(files) => files,
        };
        let origin = origin_of_all(self.origins, askers);
        let with_place = |fault: Box<Diagnostic>| match reason {
            ReadReason::Named(at) => Box::new(fault.at(at, "asked for here")),
            ReadReason::Dotenv(_) => fault,
        };
        if !self.is_wanted(path, reason, &origin)? {
            return Ok(None);
        }
        let bytes = read_granted(path, "a Compose file", self.reads, &origin).map_err(with_place)?.bytes;
        let mut diagnostics = Vec::new();
        match add_text(self.sources, SourceOrigin::File, path, bytes, &mut diagnostics) {
            Some((id, text)) => {
                self.origins.insert(id, origin);
                Ok(Some((id, text)))
            }
            None => Err(Box::new(diagnostics.swap_remove(0))),
        }
    }
}

/// The origin that several files have together: remote if one of them is.
fn origin_of_all(origins: &BTreeMap<SourceId, DefinitionOrigin>, files: &[SourceId]) -> DefinitionOrigin {
    let mut all = files.iter().filter_map(|id| origins.get(id));
    let first = all.next().cloned().unwrap_or_default();
    if all.any(|origin| *origin == DefinitionOrigin::Remote) { DefinitionOrigin::Remote } else { first }
}
