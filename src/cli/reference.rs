//! The files of the repository that are made of the tables of the language: the JSON Schema of the bake file and the
//! references of attributes and functions. Only tests make them: compared with what is checked in, and rewritten when
//! `BAKE_UPDATE=1`.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::{
    definition::attribute::{
        AttributeKind, AttributeRow, CACHE, FUNCTION, GROUP, INCLUDE, ItemKind, Merge, Set, TARGET, VALIDATION,
        VARIABLE,
    },
    eval::function::{self, lookup, signature},
    spec::{attest, resources},
};

/// The JSON Schema of a bake file in its JSON form.
fn schema() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Bake file",
        "description": "A bake file in JSON or YAML. Every string is a template: ${…} is an expression, %{…} a directive.",
        "$ref": "#/$defs/file",
        "$defs": {
            "template": {
                "description": "A text with an expression in it, whose value can be of any kind.",
                "type": "string",
                "pattern": "[$%]\\{",
            },
            "scalar": { "type": ["string", "number", "boolean"] },
            "file": {
                "type": "object",
                "properties": {
                    "//": { "description": "A comment." },
                    "variable": one_or_more(json!({ "$ref": "#/$defs/variables" }), "Values that the environment may give."),
                    "group": one_or_more(json!({ "$ref": "#/$defs/groups" }), "Targets that are built together."),
                    "target": one_or_more(json!({ "$ref": "#/$defs/targets" }), "What is built."),
                    "function": one_or_more(json!({ "$ref": "#/$defs/functions" }), "Functions for expressions."),
                    "locals": one_or_more(json!({ "$ref": "#/$defs/locals" }), "Values that expressions know as local.NAME."),
                    "cache": one_or_more(json!({ "$ref": "#/$defs/cache" }), "Caches of all targets that name none."),
                    "include": one_or_more(
                        json!({ "anyOf": [{ "$ref": "#/$defs/include" }, { "$ref": "#/$defs/includes" }] }),
                        "Other bake files: of a name of their own, or part of this one.",
                    ),
                },
                "additionalProperties": { "description": "A value that expressions can use by its name." },
            },
            "variables": named("variable", IDENTIFIER),
            "groups": named("group", NAME),
            "targets": named("target", NAME),
            "functions": named("function", IDENTIFIER),
            "variable": body(&VARIABLE, &[], |name| match name {
                "default" => json!({}),
                "validation" => one_or_more(json!({ "$ref": "#/$defs/validation" }), ""),
                "sensitive" => kind(AttributeKind::Bool),
                _ => kind(AttributeKind::Text),
            }),
            "validation": body(&VALIDATION, &["condition"], |name| match name {
                "condition" => kind(AttributeKind::Bool),
                _ => kind(AttributeKind::Text),
            }),
            "group": body(&GROUP, &["targets"], |name| match name {
                "targets" => kind(AttributeKind::Texts),
                "release" => json!({ "type": ["string", "null"] }),
                _ => kind(AttributeKind::Text),
            }),
            "function": body(&FUNCTION, &["params", "result"], |name| match name {
                "params" => json!({ "type": "array", "items": { "type": "string", "pattern": IDENTIFIER } }),
                "variadic_params" => json!({ "type": ["string", "null"] }),
                _ => json!({}),
            }),
            "locals": { "type": "object", "propertyNames": { "pattern": IDENTIFIER } },
            "includes": named("include", NAME),
            "include": body(&INCLUDE, &["file"], |name| match name {
                "file" => json!({ "type": "string" }),
                _ => json!({ "type": "object" }),
            }),
            "cache": body(&CACHE, &[], |name| match name {
                "from" => kind(AttributeKind::Items(ItemKind::CacheFrom)),
                _ => kind(AttributeKind::Items(ItemKind::CacheTo)),
            }),
            "target": target(),
        },
    })
}

/// Names of targets and groups.
const NAME: &str = "^(//|[A-Za-z0-9_-]+)$";
/// Names of variables, functions and parameters.
const IDENTIFIER: &str = "^(//|[\\p{L}_][\\p{L}\\p{N}_-]*)$";

/// Labels and bodies; both levels may be lists.
fn named(block: &str, names: &str) -> Value {
    json!({
        "type": "object",
        "propertyNames": { "pattern": names },
        "properties": { "//": {} },
        "additionalProperties": one_or_more(json!({ "$ref": format!("#/$defs/{block}") }), ""),
    })
}

fn one_or_more(one: Value, description: &str) -> Value {
    described(json!({ "anyOf": [one.clone(), { "type": "array", "items": one }] }), description)
}

fn described(mut schema: Value, description: &str) -> Value {
    if let Some(schema) = schema.as_object_mut().filter(|_| !description.is_empty()) {
        schema.shift_insert(0, "description".to_owned(), description.into());
    }
    schema
}

fn body(rows: &[(&str, &str)], required: &[&str], of: impl Fn(&str) -> Value) -> Value {
    let properties = rows.iter().map(|(name, doc)| ((*name).to_owned(), described(of(name), doc)));
    object(properties.collect(), required)
}

fn object(mut properties: Map<String, Value>, required: &[&str]) -> Value {
    properties.shift_insert(0, "//".to_owned(), json!({ "description": "A comment." }));
    let mut schema = json!({ "type": "object", "properties": properties, "additionalProperties": false });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

fn target() -> Value {
    object(TARGET.iter().map(|row| (row.name.to_owned(), described(kind(row.kind), row.doc))).collect(), &[])
}

/// What a value may be; a template may stand for all of it.
fn kind(kind: AttributeKind) -> Value {
    let template = json!({ "$ref": "#/$defs/template" });
    let scalar = json!({ "$ref": "#/$defs/scalar" });
    let shape = match kind {
        AttributeKind::Text => return json!({ "type": ["string", "number", "boolean", "null"] }),
        AttributeKind::Bool => json!({ "enum": [true, false, "true", "false", "1", "0"] }),
        AttributeKind::Texts => json!({ "type": "array", "items": scalar }),
        AttributeKind::Entries { null_ok: false } => json!({ "type": "object", "additionalProperties": scalar }),
        AttributeKind::Entries { null_ok: true } => {
            json!({ "type": "object", "additionalProperties": { "anyOf": [scalar, { "type": "null" }] } })
        }
        AttributeKind::Items(it) => json!({ "type": "array", "items": { "anyOf": [{ "type": "string" }, item(it)] } }),
        AttributeKind::Resources => {
            let properties = resources::KEYS.iter().map(|key| ((*key).to_owned(), scalar.clone()));
            json!({
                "type": "object",
                "properties": properties.collect::<Map<_, _>>(),
                "additionalProperties": false,
            })
        }
        AttributeKind::Matrix => json!({
            "type": "object",
            "additionalProperties": { "anyOf": [{ "type": ["array", "object"] }, template] },
        }),
    };
    json!({ "anyOf": [shape, template, { "type": "null" }] })
}

/// The object form of an item.
fn item(kind: ItemKind) -> Value {
    let scalar = json!({ "$ref": "#/$defs/scalar" });
    let entries = json!({ "anyOf": [scalar, { "type": "null" }] });
    let closed = |keys: &[&str]| {
        let properties: Map<_, _> = keys.iter().map(|key| ((*key).to_owned(), entries.clone())).collect();
        json!({ "type": "object", "properties": properties, "additionalProperties": false })
    };
    match kind {
        ItemKind::Output | ItemKind::CacheFrom | ItemKind::CacheTo => {
            json!({ "type": "object", "required": ["type"], "additionalProperties": entries })
        }
        ItemKind::Attest => json!({
            "type": "object",
            "properties": { "type": { "anyOf": [{ "enum": attest::TYPES }, { "$ref": "#/$defs/template" }] } },
            "additionalProperties": entries,
        }),
        ItemKind::Policy => closed(&["filename", "reset", "disabled", "strict", "log-level"]),
        ItemKind::Secret => closed(&["id", "type", "src", "source", "env"]),
        ItemKind::Ssh => json!({
            "type": "object",
            "properties": { "id": scalar, "paths": self::kind(AttributeKind::Texts) },
            "additionalProperties": false,
        }),
    }
}

const MADE: &str = "<!-- Made of the tables in src/ by `BAKE_UPDATE=1 cargo test reference`; do not edit. -->\n";

/// The reference of attributes.
fn attributes() -> String {
    let mut out = format!("# Attributes of a bake file\n\n{MADE}\n## target\n\n");
    out.push_str(
        "\"Later\" is what a second block of the name, a later file or the child in `inherits` does to an earlier value.\n\n",
    );
    out.push_str("| Attribute | Value | Later | `--set` | |\n|---|---|---|---|---|\n");
    for row in &TARGET {
        let line = [row.name, row.wants(), later(row.merge), &set(row), row.doc].map(cell);
        let [name, wants, later, set, doc] = line;
        writeln!(out, "| `{name}` | {wants} | {later} | {set} | {doc} |").expect("a string takes all");
    }
    let blocks: [(&str, &[(&str, &str)]); 6] = [
        ("group", &GROUP),
        ("variable", &VARIABLE),
        ("validation, in a variable", &VALIDATION),
        ("function", &FUNCTION),
        ("include", &INCLUDE),
        ("cache", &CACHE),
    ];
    for (name, rows) in blocks {
        write!(out, "\n## {name}\n\n| Attribute | |\n|---|---|\n").expect("a string takes all");
        for (name, doc) in rows {
            writeln!(out, "| `{name}` | {} |", cell(doc)).expect("a string takes all");
        }
    }
    out.push_str("\n## locals\n\nAny name: a value that expressions know as `local.NAME`.\n");
    out
}

fn later(merge: Merge) -> &'static str {
    match merge {
        Merge::Replace => "replaces",
        Merge::ReplaceNonEmpty => "replaces unless empty",
        Merge::Append => "is appended",
        Merge::ByKey => "goes in key by key",
        Merge::ById => "is appended, or takes the place of the same id or type",
        Merge::PerBlock => "each block its own",
    }
}

fn set(row: &AttributeRow) -> String {
    let key = row.set_key;
    match row.set {
        Set::No => "cannot be set".to_owned(),
        Set::One => format!("`{key}=VALUE`"),
        Set::Named => format!("`{key}.NAME=VALUE`"),
        Set::List => format!("`{key}=VALUE`, `{key}+=VALUE`"),
        Set::AppendList => format!("`{key}+=VALUE`"),
    }
}

/// The reference of functions.
fn functions() -> String {
    let mut out = format!("# Functions of the bake language\n\n{MADE}\n| Call | |\n|---|---|\n");
    for builtin in function::names().into_iter().filter_map(lookup) {
        let ours = if builtin.is_ours { "; not in `docker buildx bake`" } else { "" };
        writeln!(out, "| `{}` | {}{ours} |", cell(&signature(builtin)), cell(builtin.doc)).expect("a string takes all");
    }
    out
}

/// Text inside of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[expect(clippy::disallowed_methods, reason = "a test is steered by the environment")]
fn compare(path: &str, made: &str) {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("BAKE_UPDATE").is_some() {
        std::fs::create_dir_all(file.parent().expect("a file has a parent")).expect("folders can be made");
        std::fs::write(&file, made).expect("the file can be written");
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(found == made, "{path} is not what the tables say; run `BAKE_UPDATE=1 cargo test reference`");
}

#[test]
fn the_schema_is_that_of_the_tables() {
    compare("schemas/bake.schema.json", &(serde_json::to_string_pretty(&schema()).expect("plain data") + "\n"));
}

#[test]
fn the_reference_of_attributes_is_that_of_the_tables() {
    compare("docs/attributes.md", &attributes());
}

#[test]
fn the_reference_of_functions_is_that_of_the_tables() {
    compare("docs/functions.md", &functions());
}
