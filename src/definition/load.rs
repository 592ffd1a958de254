//! Finding and reading definition files: `-f`, `BUILDX_BAKE_FILE`, the default names, standard input. The only file that
//! does I/O in this band, but for `remote`; what it reads goes to the parser of its format.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Read},
    path::Path,
    sync::Arc,
};

use super::{
    compose::{self, ComposeFile},
    hcl, json,
    remote::{self, Remote},
    syntax::{Body, Expr},
    yaml,
};
use crate::{
    fetch::{InputFileError, SpecialFile, read_input_file_or_shell_pipe},
    report::{Diagnostic, SourceId, SourceMap, Span, suggest},
};

/// All bodies of a definition. Files are kept apart and in order; merging them is `eval`'s affair.
#[derive(Debug, Default)]
pub(crate) struct Definition {
    /// What all Compose files together define; lies under everything else.
    pub(crate) compose: Option<Body>,
    /// HCL, JSON and YAML, in the order in which they were given.
    pub(crate) files: Vec<Body>,
    /// What these include under a name, innermost first.
    pub(crate) included: Vec<Included>,
}

/// A file that is included under a name: a definition of its own, whose targets are called `NAME_TARGET` outside of it.
#[derive(Debug)]
pub(crate) struct Included {
    /// `web`; of an include inside an include `web.db`.
    pub(crate) name: Arc<str>,
    /// What the file includes without a name, then the file itself.
    pub(crate) bodies: Vec<Body>,
    /// `vars`: values for its variables, to be evaluated where the include stands.
    pub(crate) vars: Option<Expr>,
    /// The name in the `include` block.
    pub(crate) at: Span,
}

impl Definition {
    /// Those of included files, then all others.
    pub(crate) fn all_bodies(&self) -> impl Iterator<Item = &Body> {
        self.included.iter().flat_map(|it| &it.bodies).chain(self.bodies())
    }

    /// All bodies, earlier ones first: the Compose base, then the files.
    pub(crate) fn bodies(&self) -> impl Iterator<Item = &Body> {
        self.compose.iter().chain(&self.files)
    }
}

/// What to load.
#[derive(Clone)]
pub(crate) struct Request<'a> {
    /// Files by name; empty means the default names.
    pub(crate) files: &'a [String],
    /// Who names them: `-f`, or the environment variable.
    pub(crate) named_by: &'static str,
    /// When the definition lies elsewhere.
    pub(crate) remote: Option<Remote<'a>>,
    /// The environment, for Compose.
    pub(crate) env: &'a BTreeMap<String, String>,
    /// `--var`, for Compose.
    pub(crate) vars: &'a BTreeMap<String, String>,
}

/// What came of it. With errors among the diagnostics the definition is as complete as could be.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) definition: Definition,
    pub(crate) sources: SourceMap,
    /// The folder of each file that lies in the file system.
    pub(crate) folders: BTreeMap<SourceId, String>,
    /// Of each file that is included under a name: the folder that all its paths are relative to.
    pub(crate) base_folders: BTreeMap<SourceId, String>,
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// Files that came with a remote definition.
    pub(super) from_remote: BTreeSet<SourceId>,
    pub(super) n_included: usize,
}

/// Reads further files, for Compose: `extends`, `include`, `env_file`, `.env`.
pub(crate) trait LoadRequest {
    /// The text of a file by its path, relative to the working directory; `None` if there is no such file.
    ///
    /// # Errors
    /// When it is there but cannot be read as text.
    fn read(&mut self, path: &str) -> Result<Option<(SourceId, Arc<str>)>, Box<Diagnostic>>;
}

/// Tried in this order; all that exist are loaded. The peer does not know `docker-bake.yaml`.
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

/// Larger texts are refused: places in them would not fit a span.
const MAX_BYTES: u64 = 1 << 30;

/// One text and what it is called.
pub(super) struct Text {
    pub(super) id: SourceId,
    pub(super) name: String,
    pub(super) text: Arc<str>,
}

/// Finds, reads and parses the files of a definition; their texts join `sources`.
pub(crate) fn load(request: &Request<'_>, sources: SourceMap) -> Loaded {
    let mut loaded = Loaded { sources, ..Loaded::default() };
    let texts = match request.remote {
        Some(remote) => loaded.read_remote(remote, request),
        None if request.files.is_empty() => loaded.read_default(),
        None => loaded.read_named(request.files.iter(), request.named_by),
    };
    if texts.is_empty() && loaded.diagnostics.is_empty() {
        let folder =
            Path::new(".").canonicalize().map(|it| it.display().to_string()).unwrap_or_else(|_| ".".to_owned());
        let diagnostic = if request.files.is_empty() {
            Diagnostic::error("bake::definition::none", format!("no bake file is found in: {folder}"))
                .help(format!("tried {}; give another file with -f", DEFAULT_NAMES.join(", ")))
        } else {
            Diagnostic::error(
                "bake::definition::empty",
                format!("the definition is empty: {}", request.files.join(", ")),
            )
            .help("define a target: target \"default\" {}")
        };
        loaded.diagnostics.push(diagnostic);
        return loaded;
    }
    loaded.parse(texts, request);
    loaded
}

impl Loaded {
    fn read_default(&mut self) -> Vec<Text> {
        let mut texts = Vec::new();
        for name in DEFAULT_NAMES {
            if fs::metadata(name).is_ok_and(|it| !it.is_dir()) {
                match read_file(name, "the default names") {
                    Ok(bytes) => self.keep(name, bytes, &mut texts),
                    Err(diagnostic) => self.diagnostics.push(*diagnostic),
                }
            }
        }
        texts
    }

    fn read_named<'n>(&mut self, names: impl Iterator<Item = &'n String>, named_by: &str) -> Vec<Text> {
        let mut texts = Vec::new();
        for name in names {
            let path = name.strip_prefix("cwd://").unwrap_or(name);
            let bytes = if path == "-" { read_stdin() } else { read_file(path, named_by) };
            match bytes {
                Ok(bytes) => self.keep(path, bytes, &mut texts),
                Err(diagnostic) => self.diagnostics.push(*diagnostic),
            }
        }
        texts
    }

    /// The files of a remote definition, then those of this machine that are named with `cwd://`.
    fn read_remote(&mut self, remote: Remote<'_>, request: &Request<'_>) -> Vec<Text> {
        let (here, there): (Vec<String>, Vec<String>) =
            request.files.iter().cloned().partition(|it| it.starts_with("cwd://") || it == "-");
        let mut texts = Vec::new();
        match remote::read(remote, &there) {
            Ok(files) => {
                for file in files {
                    if !file.bytes.is_empty()
                        && let Some((id, text)) =
                            add_text(&mut self.sources, &file.name, file.bytes, &mut self.diagnostics)
                    {
                        self.from_remote.insert(id);
                        texts.push(Text { id, name: file.name, text });
                    }
                }
            }
            Err(fault) => self.diagnostics.push(*fault),
        }
        texts.extend(self.read_named(here.iter(), request.named_by));
        texts
    }

    /// Checks the encoding and remembers the text; empty files count as absent.
    fn keep(&mut self, name: &str, bytes: Vec<u8>, texts: &mut Vec<Text>) {
        if bytes.is_empty() {
            return;
        }
        if let Some((id, text)) = add_text(&mut self.sources, name, bytes, &mut self.diagnostics) {
            if name != "-" {
                let folder = Path::new(name).parent().map(|it| it.to_string_lossy().into_owned()).unwrap_or_default();
                self.folders.insert(id, if folder.is_empty() { ".".to_owned() } else { folder });
            }
            texts.push(Text { id, name: name.to_owned(), text });
        }
    }

    fn parse(&mut self, texts: Vec<Text>, request: &Request<'_>) {
        let mut compose: Vec<ComposeFile> = Vec::new();
        for text in texts {
            let known = self.diagnostics.len();
            let (name, format) = (text.name.clone(), format(&text));
            match format {
                Format::Yaml => compose.extend(self.parse_yaml(text)),
                other => self.parse_bake(other, &text),
            }
            if !tells_format(&name) {
                self.explain_format(known, &name, format);
            }
        }
        self.include(request);
        if !compose.is_empty() {
            self.parse_compose(&compose, request);
        }
    }

    /// Parses a file that is no YAML.
    pub(super) fn parse_bake(&mut self, format: Format, text: &Text) {
        let parsed = match format {
            Format::Json => json::parse(text.id, &text.text),
            Format::Hcl | Format::Yaml => hcl::parse(text.id, &text.text),
        };
        self.take(parsed);
    }

    /// Says in the first new fault how a file was read whose name does not tell.
    fn explain_format(&mut self, known: usize, name: &str, format: Format) {
        let Some(fault) = self.diagnostics.get_mut(known) else { return };
        let format = match format {
            Format::Hcl => "HCL",
            Format::Json => "JSON",
            Format::Yaml => "YAML",
        };
        let name = if name == "-" { "standard input" } else { name };
        let how =
            format!("{name} is read as {format} for how it begins; a name in .hcl, .json or .yaml says what it is");
        fault.help = Some(fault.help.as_ref().map_or_else(|| how.clone(), |help| format!("{help}; {how}")));
    }

    fn take(&mut self, (body, diagnostics): (Body, Vec<Diagnostic>)) {
        self.definition.files.push(body);
        self.diagnostics.extend(diagnostics);
    }

    /// A Compose file for later; a bake file in YAML is taken at once.
    pub(super) fn parse_yaml(&mut self, text: Text) -> Option<ComposeFile> {
        match yaml::parse(text.id, &text.text) {
            Ok(documents) if documents.iter().any(|it| yaml::is_bake(it)) => {
                for document in &documents {
                    self.take(yaml::body(text.id, &text.text, document));
                }
                None
            }
            Ok(documents) => Some(ComposeFile { name: text.name, source: text.id, documents }),
            Err(fault) => {
                self.diagnostics.push(*fault);
                None
            }
        }
    }

    fn parse_compose(&mut self, files: &[ComposeFile], request: &Request<'_>) {
        let before = self.sources.len();
        let mut reader = DefinitionLoader { sources: &mut self.sources };
        let (body, diagnostics) = compose::load(files, request.env, request.vars, &mut reader);
        self.definition.compose = body;
        self.diagnostics.extend(diagnostics);
        // Contexts are relative to the first Compose file, whichever one sets them.
        let Some(folder) = files.first().and_then(|it| self.folders.get(&it.source)).cloned() else { return };
        let further = self.sources.ids().skip(before);
        for id in files.iter().map(|it| it.source).chain(further) {
            self.folders.insert(id, folder.clone());
        }
    }
}

/// The formats of a definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Hcl,
    Json,
    /// Compose, or a bake file in YAML; its keys tell.
    Yaml,
}

pub(super) fn format(text: &Text) -> Format {
    format_of(&text.name, &text.text)
}

/// By the end of the name, or else by the first thing in the text.
pub(crate) fn format_of(name: &str, text: &str) -> Format {
    let name = name.to_ascii_lowercase();
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("yml" | "yaml") => Format::Yaml,
        Some("json") => Format::Json,
        Some("hcl") => Format::Hcl,
        _ => sniff(text),
    }
}

/// JSON begins with a bracket; YAML has `word:` where HCL has `word =`, `word {` or `word "label"`.
fn sniff(text: &str) -> Format {
    let meaningful = text
        .lines()
        .map(str::trim)
        .find(|line| !(line.is_empty() || line.starts_with(['#', '%']) || line.starts_with("//")));
    let Some(line) = meaningful else { return Format::Hcl };
    if line.starts_with(['{', '[']) {
        return if text.contains("\"services\"") { Format::Yaml } else { Format::Json };
    }
    if line.starts_with("---") {
        return Format::Yaml;
    }
    let word = line.trim_start_matches(['"', '\'']);
    let end = word.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))).unwrap_or(word.len());
    let rest = word[end..].trim_start_matches(['"', '\'']);
    if rest.starts_with(':') && (rest.len() == 1 || rest[1..].starts_with(char::is_whitespace)) {
        Format::Yaml
    } else {
        Format::Hcl
    }
}

/// Whether the end of a name says what the file is.
fn tells_format(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    [".hcl", ".json", ".yml", ".yaml"].iter().any(|it| name.ends_with(it))
}

/// Adds bytes as a text, its byte order mark dropped; `None` and a diagnostic when they are no UTF-8.
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
    match read_input_file_or_shell_pipe(Path::new(path), MAX_BYTES) {
        Ok(bytes) => Ok(bytes),
        Err(InputFileError::Missing) => Err(Box::new(missing(path, named_by))),
        Err(InputFileError::NotRegular(SpecialFile::Directory)) => {
            refuse("is a directory", format!("name a file in it, as in {}/docker-bake.hcl", path.trim_end_matches('/')))
        }
        Err(InputFileError::NotRegular(special)) => {
            refuse(&format!("is {special}"), "give a regular file, or - for standard input".to_owned())
        }
        Err(InputFileError::TooLarge(_)) => Err(too_large(path)),
        Err(InputFileError::Io(error)) => Err(unreadable(path, named_by, &error)),
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

/// Reads further files and remembers their texts.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_by_the_first_line() {
        for (text, expected) in [
            ("target \"a\" {}", Format::Hcl),
            ("# x\nservices:\n  a: 1", Format::Yaml),
            ("\"target\": {}", Format::Yaml),
            ("  {\"target\": {}}", Format::Json),
            ("{\"services\": {}}", Format::Yaml),
            ("a = b ? c : d", Format::Hcl),
            ("---\nx: 1", Format::Yaml),
            ("", Format::Hcl),
        ] {
            assert_eq!(sniff(text), expected, "{text}");
        }
    }
}
