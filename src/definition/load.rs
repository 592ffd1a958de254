//! Loading of a definition: which files (`-f`, `BUILDX_BAKE_FILE`, the default names, standard input), in which format,
//! each passed to its parser. Files themselves are read in `read` and `remote`; merging them is done in `eval`.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use super::{
    compose::{self, ComposeFile, LoadedCompose},
    hcl, json,
    kept::KeptVariables,
    origin::{DefinitionOrigin, DefinitionReads},
    read::{DEFAULT_NAMES, DefinitionLoader, add_text, read_granted, read_named, read_stdin},
    remote::{self, Remote},
    syntax::{Block, Body, Expr},
    yaml,
};
use crate::report::{Diagnostic, SourceId, SourceMap, SourceOrigin, Span};

/// A parsed, unevaluated definition. Files are kept separate and in order; `eval` merges them.
#[derive(Debug, Default)]
pub(crate) struct Definition {
    /// The merged targets of all Compose files; every other file overrides them.
    pub(crate) compose: Option<Body>,
    /// Bake files in HCL, JSON and YAML, in the order in which they were given.
    pub(crate) files: Vec<Body>,
    /// Files that these include under a name, innermost first.
    pub(crate) included: Vec<Included>,
    /// Variables for secrets that Compose files give beside the environment, which goes before them.
    pub(crate) secret_env: BTreeMap<String, String>,
}

/// A file that is included under a name: a definition of its own, whose targets are called `NAME_TARGET` from outside.
#[derive(Debug)]
pub(crate) struct Included {
    /// `web`, or `web.db` for an include inside an include.
    pub(crate) name: Arc<str>,
    /// The files that it includes without a name, then the file itself.
    pub(crate) bodies: Vec<Body>,
    /// `vars`: values for its variables, evaluated in the scope of the including file.
    pub(crate) vars: Option<Expr>,
    /// The name in the `include` block.
    pub(crate) at: Span,
}

impl Definition {
    /// The bodies of included files, then all others.
    pub(crate) fn all_bodies(&self) -> impl Iterator<Item = &Body> {
        self.included.iter().flat_map(|it| &it.bodies).chain(self.bodies())
    }

    /// The label of the target block that a place lies in.
    pub(crate) fn target_at(&self, at: Span) -> Option<Arc<str>> {
        let holds = |outer: Span| outer.source == at.source && outer.start <= at.start && at.end <= outer.end;
        let is_it = |block: &&Block| &*block.kind.value == "target" && (holds(block.at) || holds(block.body.at));
        let block = self.all_bodies().flat_map(|body| &body.blocks).find(is_it)?;
        block.labels.first().map(|label| label.value.clone())
    }

    /// All bodies, earlier ones first: the Compose base, then the files.
    pub(crate) fn bodies(&self) -> impl Iterator<Item = &Body> {
        self.compose.iter().chain(&self.files)
    }
}

/// A request to load a definition: which files, and what Compose files may see of the environment.
#[derive(Clone)]
pub(crate) struct Request<'a> {
    /// File names as typed; the default names are tried when there are none.
    pub(crate) files: &'a [String],
    /// For messages: the option or environment variable that names the files.
    pub(crate) named_by: &'static str,
    /// For a definition at a URL: `files` are names in it, but `cwd://PATH` and `-` are of this machine.
    pub(crate) remote: Option<Remote<'a>>,
    /// The environment, for interpolation in Compose files.
    pub(crate) env: &'a BTreeMap<String, String>,
    /// Values of `--var` and `--var-file`, for interpolation in Compose files.
    pub(crate) vars: &'a BTreeMap<String, String>,
    /// Whether variables of Compose files are replaced.
    pub(crate) compose_variables: ComposeVariables,
    /// What may be read of this machine. `files` are not checked against it; the default names, and what files name, are.
    pub(crate) reads: &'a DefinitionReads,
}

/// What becomes of the variables in Compose files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ComposeVariables {
    Replaced,
    /// They stay in the texts, as [`Loaded::kept`] has them.
    Kept,
}

/// A loaded definition with its sources. With errors among the diagnostics it holds what could be parsed.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) definition: Definition,
    pub(crate) sources: SourceMap,
    /// The folder of each file of the file system.
    pub(crate) folders: BTreeMap<SourceId, String>,
    /// For each file that is included under a name, the folder that all its paths are relative to.
    pub(crate) base_folders: BTreeMap<SourceId, String>,
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// The origin of each file; a file that another one names has the origin of that one.
    pub(crate) origins: BTreeMap<SourceId, DefinitionOrigin>,
    /// The variables that Compose files keep.
    pub(crate) kept: KeptVariables,
    pub(super) n_included: usize,
}

/// A definition file that has been read, and its name.
pub(super) struct Text {
    pub(super) id: SourceId,
    pub(super) name: String,
    pub(super) text: Arc<str>,
}

/// Loads a definition: finds, reads and parses its files. Their texts are added to `sources`; all errors are among the
/// diagnostics.
pub(crate) fn load(request: &Request<'_>, sources: SourceMap) -> Loaded {
    let mut loaded = Loaded { sources, ..Loaded::default() };
    let texts = match request.remote {
        Some(remote) => loaded.read_remote(remote, request),
        None if request.files.is_empty() => loaded.read_default(request.reads),
        None => loaded.read_named(request.files.iter(), request),
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
    /// Reads the files of the default names. Nobody typed them, so a link must stay within what a definition may read.
    fn read_default(&mut self, reads: &DefinitionReads) -> Vec<Text> {
        let mut texts = Vec::new();
        for name in DEFAULT_NAMES {
            let is_there = match reads.named_in_past(Path::new(name)) {
                None => fs::metadata(name).is_ok_and(|meta| !meta.is_dir()),
                Some(found) => found.is_ok_and(|file| file.exists() && file.check_dir().is_err()),
            };
            if is_there {
                match read_granted(name, "the default names", reads, &DefinitionOrigin::default()) {
                    Ok(granted) => self.add_source(name, granted.bytes, &mut texts),
                    Err(diagnostic) => self.diagnostics.push(*diagnostic),
                }
            }
        }
        texts
    }

    fn read_named<'n>(&mut self, names: impl Iterator<Item = &'n String>, request: &Request<'_>) -> Vec<Text> {
        let mut texts = Vec::new();
        for name in names {
            let path = name.strip_prefix("cwd://").unwrap_or(name);
            let bytes = if path == "-" { read_stdin() } else { read_named(path, request.named_by, request.reads) };
            match bytes {
                Ok(bytes) => self.add_source(path, bytes, &mut texts),
                Err(diagnostic) => self.diagnostics.push(*diagnostic),
            }
        }
        texts
    }

    /// Reads the files of a remote definition, then the local files that are named with `cwd://`.
    fn read_remote(&mut self, remote: Remote<'_>, request: &Request<'_>) -> Vec<Text> {
        let (here, there): (Vec<String>, Vec<String>) =
            request.files.iter().cloned().partition(|it| it.starts_with("cwd://") || it == "-");
        let mut texts = Vec::new();
        match remote::read(remote, &there) {
            Ok(files) => {
                for file in files {
                    if !file.bytes.is_empty()
                        && let Some((id, text)) = add_text(
                            &mut self.sources,
                            SourceOrigin::Elsewhere,
                            &file.name,
                            file.bytes,
                            &mut self.diagnostics,
                        )
                    {
                        self.origins.insert(id, DefinitionOrigin::Remote);
                        texts.push(Text { id, name: file.name, text });
                    }
                }
            }
            Err(fault) => self.diagnostics.push(*fault),
        }
        texts.extend(self.read_named(here.iter(), request));
        texts
    }

    /// Checks the encoding and keeps the text and its folder; an empty file counts as absent.
    fn add_source(&mut self, name: &str, bytes: Vec<u8>, texts: &mut Vec<Text>) {
        tracing::debug!(name, bytes = bytes.len(), "bake file read");
        if bytes.is_empty() {
            return;
        }
        let place = if name == "-" { SourceOrigin::Elsewhere } else { SourceOrigin::File };
        if let Some((id, text)) = add_text(&mut self.sources, place, name, bytes, &mut self.diagnostics) {
            self.origins.insert(id, DefinitionOrigin::of_file(name));
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
            if !has_format_extension(&name) {
                self.explain_format(known, &name, format);
            }
        }
        self.include(request);
        if !compose.is_empty() {
            self.parse_compose(&compose, request);
        }
    }

    /// Parses a bake file in HCL or JSON.
    pub(super) fn parse_bake(&mut self, format: Format, text: &Text) {
        let parsed = match format {
            Format::Json => json::parse(text.id, &text.text),
            Format::Hcl | Format::Yaml => hcl::parse(text.id, &text.text),
        };
        self.add_body(parsed);
    }

    /// Adds to the first new error which format was assumed, for a file whose name does not decide it.
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

    fn add_body(&mut self, (body, diagnostics): (Body, Vec<Diagnostic>)) {
        self.definition.files.push(body);
        self.diagnostics.extend(diagnostics);
    }

    /// Parses a YAML file. A bake file is added at once; a Compose file is returned, to be merged with the others.
    pub(super) fn parse_yaml(&mut self, text: Text) -> Option<ComposeFile> {
        match yaml::parse(text.id, &text.text) {
            Ok(documents) if documents.iter().any(|it| yaml::is_bake(it)) => {
                for document in &documents {
                    self.add_body(yaml::body(text.id, &text.text, document));
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
        let Self { sources, origins, .. } = self;
        let mut reader = DefinitionLoader { sources, origins, reads: request.reads, warnings: Vec::new() };
        let loaded = match request.compose_variables {
            ComposeVariables::Replaced => compose::load(files, request.env, request.vars, &mut reader),
            ComposeVariables::Kept => compose::load_kept(files, request.env, &mut reader),
        };
        let LoadedCompose { body, secret_env, diagnostics, kept } = loaded;
        self.kept = kept;
        self.diagnostics.append(&mut reader.warnings);
        self.definition.compose = body;
        self.definition.secret_env = secret_env;
        self.diagnostics.extend(diagnostics);
        // Contexts are relative to the first Compose file, whichever one sets them.
        let Some(folder) = files.first().and_then(|it| self.folders.get(&it.source)).cloned() else { return };
        let further = self.sources.ids().skip(before);
        for id in files.iter().map(|it| it.source).chain(further) {
            self.folders.insert(id, folder.clone());
        }
    }
}

/// The format of a definition file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Hcl,
    Json,
    /// A Compose file or a bake file in YAML; its keys decide.
    Yaml,
}

/// The format of a definition file: by the extension of its name, else by its text.
pub(super) fn format(text: &Text) -> Format {
    format_of(&text.name, &text.text)
}

/// Detects the format by the extension, or else by the first line of the text.
pub(crate) fn format_of(name: &str, text: &str) -> Format {
    let name = name.to_ascii_lowercase();
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("yml" | "yaml") => Format::Yaml,
        Some("json") => Format::Json,
        Some("hcl") => Format::Hcl,
        _ => sniff(text),
    }
}

/// Detects the format of a text: JSON begins with a bracket; YAML has `word:` where HCL has `word =`, `word {` or `word
/// "label"`.
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

/// Whether the extension of a name decides the format.
fn has_format_extension(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    [".hcl", ".json", ".yml", ".yaml"].iter().any(|it| name.ends_with(it))
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
