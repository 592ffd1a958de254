//! Variables files, as `--var-file` names them: HCL attributes, a JSON object, a YAML mapping, or lines of `NAME=value`.
//! All become one body of attributes; nothing is evaluated.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use super::{
    compose::dotenv,
    hcl, json,
    origin::DefinitionReads,
    read::{add_text, read_named},
    syntax::{AttributeSyntax, Body, Expr},
    yaml,
};
use crate::report::{Diagnostic, SourceId, SourceMap, SourceOrigin, Span, Spanned};

/// The content of one variables file.
#[derive(Debug)]
pub(crate) struct VarFile {
    /// One attribute for each variable.
    pub(crate) body: Body,
    /// The values are untyped text and are converted as those of `--var` are.
    pub(crate) is_text: bool,
}

/// Loads a variables file. The extension decides the format: HCL (`.hcl`, `.tfvars`), JSON, YAML, or else lines of
/// `NAME=value`, whose values may refer to `env`. Returns `None` after adding errors to `diagnostics`.
pub(crate) fn read(
    path: &str,
    env: &BTreeMap<String, String>,
    reads: &DefinitionReads,
    sources: &mut SourceMap,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<VarFile> {
    let bytes = read_named(path, "--var-file", reads).map_err(|fault| diagnostics.push(*fault)).ok()?;
    let (id, text) = add_text(sources, SourceOrigin::File, path, bytes, diagnostics)?;
    let extension = Path::new(path).extension().and_then(|it| it.to_str()).unwrap_or_default().to_ascii_lowercase();
    let read = match extension.as_str() {
        "hcl" | "tfvars" => {
            let (body, mut faults) = hcl::parse(id, &text);
            faults.extend(body.blocks.iter().map(|it| no_values(it.at, "a block")));
            if faults.is_empty() { Ok((body, false)) } else { Err(faults) }
        }
        "json" => json::tree(id, &text).map_err(|it| vec![*it]).and_then(|it| data(&it)).map(|it| (it, false)),
        "yaml" | "yml" => yaml_body(id, &text).map(|it| (it, false)),
        _ => lines(id, &text, env).map(|it| (it, true)),
    };
    match read {
        Ok((body, is_text)) => Some(VarFile { body, is_text }),
        Err(faults) => {
            diagnostics.extend(faults);
            None
        }
    }
}

fn no_values(at: Span, seen: &str) -> Diagnostic {
    Diagnostic::error("bake::definition::var_file", "a variables file has names and their values only")
        .at(at, seen)
        .help("write NAME = value, one on a line")
}

/// The members of an object as attributes; strings are literal, not templates.
fn data(root: &json::JsonNode) -> Result<Body, Vec<Diagnostic>> {
    let json::JsonNodeKind::Object(members) = &root.kind else { return Err(vec![no_values(root.at, "no object")]) };
    let attribute =
        |(name, value): &json::JsonMember| AttributeSyntax { name: name.clone(), expr: json::literal(value) };
    let attributes: Vec<AttributeSyntax> = members.iter().map(attribute).collect();
    let faults = hcl::repeats(&attributes);
    if faults.is_empty() { Ok(Body { attributes, blocks: Vec::new(), at: root.at }) } else { Err(faults) }
}

fn yaml_body(id: SourceId, text: &str) -> Result<Body, Vec<Diagnostic>> {
    let documents = yaml::parse(id, text).map_err(|fault| vec![*fault])?;
    match documents.as_slice() {
        [] => Ok(Body { attributes: Vec::new(), blocks: Vec::new(), at: Span { source: id, start: 0, end: 0 } }),
        [document] => data(&yaml::bake::as_json(text, document)),
        [_, second, ..] => Err(vec![no_values(second.at, "a second document")]),
    }
}

fn lines(id: SourceId, text: &str, env: &BTreeMap<String, String>) -> Result<Body, Vec<Diagnostic>> {
    let span = |start: usize, end: usize| {
        let clamp = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Span { source: id, start: clamp(start), end: clamp(end) }
    };
    let values = dotenv::parse(text, &|name| env.get(name).cloned()).map_err(|error| {
        let end = text[error.at..].find('\n').map_or(text.len(), |n| error.at + n);
        let fault = Diagnostic::error("bake::definition::var_file", format!("a line cannot be read: {}", error.what));
        vec![fault.at(span(error.at, end), "this line").help("write NAME=value, one on a line")]
    })?;
    let attributes = values.into_iter().map(|(name, value)| {
        let at = name_in(text, &name).map_or(span(0, 0), |at| span(at, at + name.len()));
        AttributeSyntax { name: Spanned::new(Arc::from(name), at), expr: Expr::text(value, at) }
    });
    Ok(Body { attributes: attributes.collect(), blocks: Vec::new(), at: span(0, text.len()) })
}

/// The byte offset of the line that assigns `name`; the last one if there are several.
fn name_in(text: &str, name: &str) -> Option<usize> {
    let is_whole = |at: usize| {
        let before = text[..at].rsplit('\n').next().unwrap_or_default().trim();
        let after = text[at + name.len()..].trim_start_matches([' ', '\t']);
        (before.is_empty() || before == "export") && after.starts_with(['=', ':', '\n', '\r'])
    };
    text.match_indices(name).map(|(at, _)| at).filter(|at| is_whole(*at)).last()
}
