//! Unknown blocks and attributes, which `docker buildx bake` silently ignores. Warnings, unless the command makes them
//! errors; in a function or a validation they are always errors, as in buildx.

use crate::{
    definition::{
        attribute::{self, BLOCKS, CACHE, FUNCTION, GROUP, INCLUDE, VALIDATION, VARIABLE},
        syntax::{Block, Body},
    },
    report::{Diagnostic, Spanned, suggest},
};

/// Warns of all unknown blocks and attributes of a file.
pub(crate) fn check(body: &Body, diagnostics: &mut Vec<Diagnostic>) {
    for block in &body.blocks {
        match &*block.kind.value {
            "target" => target(block, diagnostics),
            "group" => plain(block, "group", &GROUP, &[], diagnostics),
            "variable" => plain(block, "variable", &VARIABLE, &["validation"], diagnostics),
            "function" => plain(block, "function", &FUNCTION, &[], diagnostics),
            "include" => plain(block, "include", &INCLUDE, &[], diagnostics),
            "cache" => plain(block, "`cache` block", &CACHE, &[], diagnostics),
            "locals" => {
                diagnostics.extend(block.body.blocks.iter().map(|it| inner_block("`locals` block", it, false)));
            }
            other => {
                let help = suggest::did_you_mean(other, BLOCKS)
                    .unwrap_or_else(|| format!("known blocks: {}", BLOCKS.join(", ")));
                diagnostics.push(
                    Diagnostic::warning(
                        "bake::eval::unknown_block_kind",
                        format!("there are no blocks of this kind: {other}"),
                    )
                    .at(block.kind.at, "this block means nothing")
                    .help(help),
                );
            }
        }
    }
}

fn target(block: &Block, diagnostics: &mut Vec<Diagnostic>) {
    for it in &block.body.attributes {
        if attribute::target(&it.name.value).is_none() {
            let near = attribute::nearest_target_attribute(&it.name.value);
            let known: Vec<&str> = attribute::TARGET.iter().map(|row| row.name).collect();
            diagnostics.push(unknown("target", &it.name, near, &known));
        }
    }
    for inner in &block.body.blocks {
        diagnostics.push(inner_block("target", inner, attribute::target(&inner.kind.value).is_some()));
    }
}

fn plain(block: &Block, kind: &str, known: &[(&str, &str)], blocks: &[&str], diagnostics: &mut Vec<Diagnostic>) {
    let is_known = |name: &str| known.iter().any(|(it, _)| *it == name);
    for it in &block.body.attributes {
        // A group says more about these two.
        let has_own_error = kind == "group" && matches!(&*it.name.value, "name" | "matrix");
        if !(has_own_error || is_known(&it.name.value)) {
            let known: Vec<&str> = known.iter().map(|(it, _)| *it).collect();
            let near = suggest::nearest(&it.name.value, known.iter().copied());
            diagnostics.push(unknown(kind, &it.name, near, &known));
        }
    }
    for inner in &block.body.blocks {
        if blocks.contains(&&*inner.kind.value) {
            if let Some(label) = inner.labels.first() {
                diagnostics.push(
                    Diagnostic::error("bake::eval::bad_labels", "a `validation` block has no name")
                        .at(label.at, "one name too many")
                        .help("write `validation { … }`"),
                );
            }
            plain(inner, "validation", &VALIDATION, &[], diagnostics);
        } else {
            diagnostics.push(inner_block(kind, inner, is_known(&inner.kind.value)));
        }
    }
}

fn unknown<T: AsRef<str>>(kind: &str, name: &Spanned<T>, near: Option<&str>, known: &[&str]) -> Diagnostic {
    const LONGEST: usize = 1000;
    let text = name.value.as_ref();
    if text.len() > LONGEST {
        return Diagnostic::error(
            "bake::eval::unknown_attribute",
            format!("a {kind} has an attribute whose name has {} bytes", text.len()),
        )
        .at(name.at, "this is hardly a name");
    }
    let diagnostic = unknown_name(kind, "bake::eval::unknown_attribute", "attribute", text)
        .at(name.at, "this attribute means nothing");
    match near {
        Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
        None => diagnostic.help(format!("a {kind} has {}", known.join(", "))),
    }
}

/// A `what` that a block of this kind does not have.
fn unknown_name(kind: &str, code: &'static str, what: &str, name: &str) -> Diagnostic {
    let message = format!("a {kind} has no {what} of this name: {name}");
    let make = if matches!(kind, "function" | "validation") { Diagnostic::error } else { Diagnostic::warning };
    make(code, message)
}

fn inner_block(kind: &str, block: &Block, is_attribute: bool) -> Diagnostic {
    let name = &block.kind.value;
    let diagnostic = unknown_name(kind, "bake::eval::unknown_inner_block", "block", name)
        .at(block.kind.at, "this block means nothing");
    if is_attribute {
        diagnostic.help(format!("`{name}` is an attribute: write `{name} = {{ … }}`"))
    } else {
        diagnostic
    }
}
