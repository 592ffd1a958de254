//! `include` blocks: other bake files, read and parsed where they are named. With a label they become a namespace of their
//! own; without one they join the file that names them, under its own definitions.
//!
//! ```hcl
//! include "web" { file = "services/web/docker-bake.hcl" }
//! ```
//!
//! What the names mean is decided in `eval`.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    load::{Format, Included, Loaded, Request, Text, format},
    origin::DefinitionOrigin,
    read::{add_text, read_granted},
    remote,
    syntax::{Block, Body, ExprKind},
};
use crate::report::{Diagnostic, SourceId, SourceOrigin, Span};

/// The most files that may be included in total: files that include each other twice would grow without end.
const MAX_FILES: usize = 1000;

/// A file that is being read: what it is called, and where it was asked for.
struct IncludeStep {
    path: PathBuf,
    at: Span,
}

/// Where the names of a file go.
struct IncludeSite {
    /// `web.db`; empty is the root.
    namespace: String,
    /// The folder that its paths are relative to; none is the working directory.
    base: Option<String>,
}

impl Loaded {
    /// Reads what the files of the definition include, and what these include.
    pub(super) fn include(&mut self, request: &Request<'_>) {
        let root = IncludeSite { namespace: String::new(), base: None };
        for body in std::mem::take(&mut self.definition.files) {
            let mut below = Vec::new();
            self.includes_of(&body, &root, &mut Vec::new(), &mut below, request);
            self.definition.files.append(&mut below);
            self.definition.files.push(body);
        }
    }

    /// Reads the includes of one file; those without a label go to `below`.
    fn includes_of(
        &mut self,
        body: &Body,
        place: &IncludeSite,
        chain: &mut Vec<IncludeStep>,
        below: &mut Vec<Body>,
        request: &Request<'_>,
    ) {
        for block in body.blocks.iter().filter(|it| &*it.kind.value == "include") {
            if let Err(fault) = self.include_block(body.at.source, block, place, chain, below, request) {
                self.diagnostics.push(*fault);
            }
        }
    }

    fn include_block(
        &mut self,
        from: SourceId,
        block: &Block,
        place: &IncludeSite,
        chain: &mut Vec<IncludeStep>,
        below: &mut Vec<Body>,
        request: &Request<'_>,
    ) -> Result<(), Box<Diagnostic>> {
        let (file, at) = file_of(block)?;
        let label = label_of(block)?;
        self.n_included += 1;
        if self.n_included > MAX_FILES {
            return Err(Box::new(fault(format!("more than {MAX_FILES} files are included")).at(at, "one too many")));
        }
        let (text, path) = self.read_included(from, &file, at, request)?;
        let step = IncludeStep { path, at };
        if let Some(start) = chain.iter().position(|it| it.path == step.path) {
            return Err(Box::new(include_cycle(&chain[start..], &step)));
        }
        let Some(inner) = self.parse_included(&text, at)? else { return Ok(()) };
        chain.push(step);
        let Some(label) = label else {
            self.base_folders.extend(place.base.clone().map(|base| (text.id, base)));
            self.includes_of(&inner, place, chain, below, request);
            below.push(inner);
            chain.pop();
            return Ok(());
        };
        let name = match place.namespace.as_str() {
            "" => label.to_string(),
            outer => format!("{outer}.{label}"),
        };
        let label_at = block.labels[0].at;
        if let Some(before) = self.definition.included.iter().find(|it| *it.name == *name) {
            let fault = fault(format!("two files are included under one name: {name}"));
            return Err(Box::new(fault.at(label_at, "this name is taken").at(before.at, "by this include")));
        }
        let base = self.folders.get(&text.id).cloned().unwrap_or_else(|| ".".to_owned());
        self.base_folders.insert(text.id, base.clone());
        let place = IncludeSite { namespace: name.clone(), base: Some(base) };
        let mut bodies = Vec::new();
        self.includes_of(&inner, &place, chain, &mut bodies, request);
        bodies.push(inner);
        let vars = block.body.attribute("vars").map(|it| it.expr.clone());
        self.definition.included.push(Included { name: name.into(), bodies, vars, at: label_at });
        chain.pop();
        Ok(())
    }

    /// Reads an included file; also returns the path that tells it from others.
    fn read_included(
        &mut self,
        from: SourceId,
        file: &str,
        at: Span,
        request: &Request<'_>,
    ) -> Result<(Text, PathBuf), Box<Diagnostic>> {
        let folder = self.folders.get(&from).map_or(".", String::as_str);
        let name = if file.starts_with('/') || folder == "." { file.to_owned() } else { format!("{folder}/{file}") };
        let with_place = |fault: Box<Diagnostic>| Box::new(fault.at(at, "included here"));
        let origin = self.origins.get(&from).cloned().unwrap_or_default();
        let (bytes, path, place) = match request.remote.filter(|_| origin == DefinitionOrigin::Remote) {
            Some(remote) => {
                let mut files = remote::read(remote, std::slice::from_ref(&name)).map_err(with_place)?;
                (files.pop().map(|it| it.bytes).unwrap_or_default(), PathBuf::from(&name), SourceOrigin::Elsewhere)
            }
            None => {
                let file = read_granted(&name, "`include`", request.reads, &origin).map_err(with_place)?;
                (file.bytes, file.real, SourceOrigin::File)
            }
        };
        let mut diagnostics = Vec::new();
        let Some((id, text)) = add_text(&mut self.sources, place, &name, bytes, &mut diagnostics) else {
            return Err(with_place(Box::new(diagnostics.swap_remove(0))));
        };
        self.origins.insert(id, origin);
        let folder = Path::new(&name).parent().map(|it| it.to_string_lossy().into_owned()).unwrap_or_default();
        self.folders.insert(id, if folder.is_empty() { ".".to_owned() } else { folder });
        Ok((Text { id, name, text }, path))
    }

    /// Parses an included file; syntax errors are added to the diagnostics.
    fn parse_included(&mut self, text: &Text, at: Span) -> Result<Option<Body>, Box<Diagnostic>> {
        let before = self.definition.files.len();
        let is_compose = match format(text) {
            Format::Yaml => self.parse_yaml(Text { id: text.id, name: text.name.clone(), text: text.text.clone() }),
            other => {
                self.parse_bake(other, text);
                None
            }
        };
        if is_compose.is_some() {
            return Err(Box::new(
                fault(format!("a Compose file cannot be included in a bake file: {}", text.name))
                    .at(at, "no bake file")
                    .help("give it with -f, or include it in another Compose file"),
            ));
        }
        let mut bodies = self.definition.files.split_off(before).into_iter();
        let Some(mut body) = bodies.next() else { return Ok(None) };
        for more in bodies {
            body.attributes.extend(more.attributes);
            body.blocks.extend(more.blocks);
        }
        Ok(Some(body))
    }
}

fn fault(message: String) -> Diagnostic {
    Diagnostic::error("bake::definition::include", message)
}

/// The path in `file`, which is plain text: files are found before anything is evaluated.
fn file_of(block: &Block) -> Result<(String, Span), Box<Diagnostic>> {
    let help = "write file = \"PATH\", relative to this file";
    let Some(attribute) = block.body.attribute("file") else {
        let fault = fault("an include has no `file`".to_owned()).at(block.at, "`file` is missing");
        return Err(Box::new(fault.help(help)));
    };
    match &attribute.expr.kind {
        ExprKind::String(path) if path.contains("://") => Err(Box::new(
            fault(format!("only files of this machine can be included, not a URL: {path}"))
                .at(attribute.expr.at, "a URL")
                .help("give a remote definition as the first argument: bake URL"),
        )),
        ExprKind::String(path) if !path.is_empty() => Ok((path.to_string(), attribute.expr.at)),
        _ => Err(Box::new(
            fault("`file` of an include is a plain string".to_owned())
                .at(attribute.expr.at, "files are found before anything is evaluated")
                .help(help),
        )),
    }
}

fn label_of(block: &Block) -> Result<Option<Arc<str>>, Box<Diagnostic>> {
    match block.labels.as_slice() {
        [] => match block.body.attribute("vars") {
            None => Ok(None),
            Some(vars) => Err(Box::new(
                fault("an include without a name takes no `vars`".to_owned())
                    .at(vars.name.at, "the variables are those of this file")
                    .help("give it a name: include \"NAME\" { … }"),
            )),
        },
        [label] if label.value.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')) => {
            Ok(Some(label.value.clone()))
        }
        [label] => Err(Box::new(
            fault(format!("not a name for an include: {}", label.value))
                .at(label.at, "this name")
                .help("names are made of letters, digits, _ and -"),
        )),
        [_, more, ..] => Err(Box::new(fault("an include has one name".to_owned()).at(more.at, "one name too many"))),
    }
}

fn include_cycle(steps: &[IncludeStep], again: &IncludeStep) -> Diagnostic {
    let names: Vec<String> = steps
        .iter()
        .chain([again])
        .map(|file| file.path.file_name().map_or_else(String::new, |it| it.to_string_lossy().into_owned()))
        .collect();
    let mut diagnostic = fault(format!("files include each other in a circle: {}", names.join(" → ")))
        .at(again.at, "included again here")
        .help("remove one of these includes");
    for step in steps.iter().skip(1) {
        diagnostic = diagnostic.at(step.at, "included here");
    }
    diagnostic
}
