//! Reading of definition files as text: from this machine, from standard input. Which files are read, and what their text
//! means, is decided in `load`.

use std::{
    fs,
    io::{self, Read},
    path::Path,
    sync::Arc,
};

use crate::{
    grant::{ReadFault, SpecialFile, read_file_or_shell_pipe},
    report::{Diagnostic, SourceId, SourceMap, Span, suggest},
};

/// Reads the files that a Compose file names: `extends`, `include`, `env_file`, `.env`. A trait, so that tests and fuzzers can
/// answer without a disk.
pub(crate) trait LoadRequest {
    /// The text of a file by its path, relative to the working directory; `None` if there is no such file.
    ///
    /// # Errors
    /// When it is there but cannot be read as text.
    fn read(&mut self, path: &str) -> Result<Option<(SourceId, Arc<str>)>, Box<Diagnostic>>;
}

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
    let id = sources.add(name, text.clone());
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

/// Reads a file that the user or a definition names, whole. `named_by` says in messages who named it (`-f`).
///
/// # Errors
/// When it does not exist, is a directory, pipe or device, has more than 1 GiB, or cannot be read. A pipe that the shell
/// hands over (`-f <(command)`) is read.
pub(crate) fn read_file(path: &str, named_by: &str) -> LoadResult<Vec<u8>> {
    let refuse = |what: &str, help: String| {
        Err(Box::new(
            Diagnostic::error("bake::definition::unreadable", format!("the file given by {named_by} {what}: {path}"))
                .help(help),
        ))
    };
    match read_file_or_shell_pipe(Path::new(path), MAX_BYTES) {
        Ok(bytes) => Ok(bytes),
        Err(ReadFault::Io(error)) if error.kind() == io::ErrorKind::NotFound => Err(Box::new(missing(path, named_by))),
        Err(ReadFault::NoFile(SpecialFile::Directory)) => {
            refuse("is a directory", format!("name a file in it, as in {}/docker-bake.hcl", path.trim_end_matches('/')))
        }
        Err(ReadFault::NoFile(special)) => {
            refuse(&format!("is {special}"), "give a regular file, or - for standard input".to_owned())
        }
        Err(ReadFault::TooLarge(_)) => Err(too_large(path)),
        Err(ReadFault::Io(error)) => Err(unreadable(path, named_by, &error)),
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
    let diagnostic =
        Diagnostic::error("bake::definition::missing", format!("the file given by {named_by} does not exist: {path}"));
    let Ok(entries) = fs::read_dir(folder) else {
        return diagnostic.help(format!("there is no folder {}", folder.display()));
    };
    const LOOKED_AT: usize = 2000;
    let names: Vec<String> = entries
        .take(LOOKED_AT)
        .filter_map(|it| it.ok().map(|it| it.file_name().to_string_lossy().into_owned()))
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
    pub(crate) sources: &'a mut SourceMap,
}

impl LoadRequest for DefinitionLoader<'_> {
    fn read(&mut self, path: &str) -> LoadResult<Option<(SourceId, Arc<str>)>> {
        if matches!(fs::metadata(path), Err(error) if error.kind() == io::ErrorKind::NotFound) {
            return Ok(None);
        }
        let bytes = read_file(path, "a Compose file")?;
        let mut diagnostics = Vec::new();
        match add_text(self.sources, path, bytes, &mut diagnostics) {
            Some(found) => Ok(Some(found)),
            None => Err(Box::new(diagnostics.swap_remove(0))),
        }
    }
}
