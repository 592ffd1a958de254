//! `--print`: the plan as JSON (<https://docs.docker.com/reference/cli/docker/buildx/bake/#print>), which reads back as a
//! definition.
//!
//! The start of a template is escaped (`$${`), since the JSON profile reads every string as a template; but, for programs that
//! read what the peer prints, only in the attributes in which the peer escapes it.

use std::{collections::BTreeMap, fmt::Write, sync::Arc};

use crate::{
    definition::attribute::{Id, PRINTED},
    eval::{
        evaluation::Evaluation,
        target::{
            field::{Field, Item},
            typed::Target,
        },
    },
    report::Hidden,
    spec::ExecutionMode,
};

/// The groups and targets that `--print` shows, sorted by name.
pub(crate) struct PrintPlan<'a> {
    groups: BTreeMap<&'a str, PrintGroup<'a>>,
    targets: BTreeMap<&'a str, &'a Target>,
    hidden: &'a Hidden,
}

/// The attributes in which the peer escapes the starts of templates; other texts are printed as they are.
const ESCAPED: [Id; 5] = [Id::Annotations, Id::DockerfileInline, Id::Labels, Id::Args, Id::ExtraHosts];

/// Whether `${` and `%{` in a text are written as `$${` and `%%{`, which a bake file in JSON or YAML wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TemplateEscape {
    Yes,
    No,
}

/// A group as shown.
struct PrintGroup<'a> {
    description: Option<&'a str>,
    release: Option<ExecutionMode>,
    members: Vec<&'a str>,
}

impl<'a> PrintPlan<'a> {
    /// Takes over the groups and targets of an evaluation; the names that were asked for become members of the group
    /// `default`.
    pub(crate) fn new(evaluated: &'a Evaluation) -> Self {
        let mut groups = BTreeMap::new();
        for (name, group) in &evaluated.groups {
            let members: Vec<&str> = group.members.iter().map(|it| &**it).collect();
            let release = group.release.as_ref().map(|release| release.value);
            groups.insert(&**name, PrintGroup { description: group.description.as_deref(), release, members });
        }
        let default = groups.entry("default").or_insert_with(|| PrintGroup {
            description: None,
            release: None,
            members: Vec::new(),
        });
        let own_default = evaluated.groups.contains_key("default");
        let arguments = evaluated.arguments.iter().map(|it| &**it);
        default.members.extend(arguments.filter(|it| !(own_default && *it == "default")));
        default.members.sort_unstable();
        default.members.dedup();
        Self {
            groups,
            targets: evaluated.targets.iter().map(|(name, target)| (&*name.0, target)).collect(),
            hidden: &evaluated.hidden,
        }
    }

    /// Formats the plan as JSON, with a newline at its end.
    pub(crate) fn to_json(&self) -> String {
        self.to_json_with(TemplateEscape::Yes, Some(self.hidden))
    }

    /// What is masked.
    pub(super) const fn hidden(&self) -> &Hidden {
        self.hidden
    }

    /// As [`PrintPlan::to_json`], with or without the escapes of templates that the peer makes; `hidden` is what is masked.
    pub(super) fn to_json_with(&self, escape: TemplateEscape, hidden: Option<&Hidden>) -> String {
        let mut json = Json { hidden, ..Json::new(self.targets.len() * 400 + 200) };
        json.open('{');
        if !self.groups.is_empty() {
            json.key("group");
            json.open('{');
            for (name, group) in &self.groups {
                json.key(name);
                json.open('{');
                if let Some(description) = group.description.filter(|it| !it.is_empty()) {
                    json.key("description");
                    json.text(description);
                }
                if let Some(release) = group.release {
                    json.key("release");
                    json.text(release.name());
                }
                json.key("targets");
                json.list(group.members.iter(), |json, it| json.text(it));
                json.close('}');
            }
            json.close('}');
        }
        json.key("target");
        json.open('{');
        for (name, target) in &self.targets {
            json.key(name);
            json.open('{');
            target_fields(&mut json, target, escape);
            json.close('}');
        }
        json.close('}');
        json.close('}');
        json.text.push('\n');
        json.text
    }
}

fn target_fields(json: &mut Json<'_>, target: &Target, escape: TemplateEscape) {
    for assigned in target.fields.iter().filter(|it| (it.id as usize) < PRINTED) {
        json.escape = if ESCAPED.contains(&assigned.id) { escape } else { TemplateEscape::No };
        let row = assigned.id.row();
        let key = |json: &mut Json<'_>| json.key(row.name);
        match &assigned.field {
            // Other texts are shown when they are set, even to nothing.
            Field::Text(text) if text.is_empty() && assigned.id == Id::Description => (),
            Field::Text(text) => {
                key(json);
                json.text(text);
            }
            Field::Bool(flag) => {
                key(json);
                json.raw(if *flag { "true" } else { "false" });
            }
            Field::Texts(texts) if texts.is_empty() => (),
            Field::Texts(texts) => {
                key(json);
                json.list(texts.iter(), |json, it| json.text(it));
            }
            Field::Entries(entries) => {
                let set: Vec<(&Arc<str>, &Arc<str>)> =
                    entries.iter().filter_map(|(k, v)| v.as_ref().map(|v| (k, v))).collect();
                if !set.is_empty() {
                    key(json);
                    json.open('{');
                    for (name, value) in set {
                        json.key(name);
                        json.text(value);
                    }
                    json.close('}');
                }
            }
            Field::Items(items) if items.is_empty() => (),
            Field::Items(items) => {
                key(json);
                json.list(items.iter(), item);
            }
            Field::Resources(resources) => {
                let entries = resources.entries();
                if !entries.is_empty() {
                    key(json);
                    json.open('{');
                    for entry in entries {
                        json.key(entry.key);
                        if entry.is_number { json.raw(&entry.text) } else { json.text(&entry.text) }
                    }
                    json.close('}');
                }
            }
        }
    }
    json.escape = TemplateEscape::No;
}

fn item(json: &mut Json<'_>, item: &Item) {
    json.open('{');
    let mut pair = |key: &str, text: &str| {
        json.key(key);
        json.text(text);
    };
    match item {
        Item::Output(it) => it.texts().iter().for_each(|(key, text)| pair(key, text)),
        Item::CacheFrom(it) => it.texts().iter().for_each(|(key, text)| pair(key, text)),
        Item::CacheTo(it) => it.texts().iter().for_each(|(key, text)| pair(key, text)),
        Item::Secret(it) => {
            let id = Some(it.id.as_str()).filter(|id| !id.is_empty());
            for (key, value) in [("id", id), ("src", it.src.as_deref()), ("env", it.env.as_deref())] {
                if let Some(value) = value {
                    pair(key, value);
                }
            }
        }
        Item::Attest(it) => {
            let mut all: BTreeMap<&str, Option<&str>> =
                it.texts().iter().map(|(key, text)| (key.as_str(), Some(text.as_str()))).collect();
            if it.value.disabled {
                all.insert("disabled", None);
            }
            for (key, value) in all {
                json.key(key);
                match value {
                    Some(text) => json.text(text),
                    None => json.raw("true"),
                }
            }
        }
        Item::Ssh(it) => {
            if !it.id.is_empty() {
                pair("id", &it.id);
            }
            if !it.paths.is_empty() {
                json.key("paths");
                json.list(it.paths.iter(), |json, path| json.text(path));
            }
        }
        Item::Policy(it) => {
            for (key, text) in it.entries() {
                json.key(key);
                if matches!(key, "reset" | "disabled" | "strict") { json.raw(&text) } else { json.text(&text) }
            }
        }
    }
    json.close('}');
}

/// Writes JSON with an indent of two spaces, escaped as the peer does.
pub(crate) struct Json<'h> {
    text: String,
    /// What is not shown of values.
    hidden: Option<&'h Hidden>,
    escape: TemplateEscape,
    depth: usize,
    /// Nothing has been written into the innermost bracket yet.
    fresh: bool,
}

impl<'h> Json<'h> {
    /// An empty text, with room for `capacity` bytes.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { text: String::with_capacity(capacity), hidden: None, escape: TemplateEscape::No, depth: 0, fresh: true }
    }

    /// The text that was written.
    pub(crate) fn into_text(self) -> String {
        self.text
    }

    /// Opens a bracket as a value.
    pub(crate) fn open(&mut self, bracket: char) {
        self.text.push(bracket);
        self.depth += 1;
        self.fresh = true;
    }

    /// Closes the innermost bracket, on a line of its own unless nothing is in it.
    pub(crate) fn close(&mut self, bracket: char) {
        self.depth -= 1;
        if !self.fresh {
            self.line();
        }
        self.text.push(bracket);
        self.fresh = false;
    }

    /// Begins an element of a list.
    pub(crate) fn element(&mut self) {
        if !self.fresh {
            self.text.push(',');
        }
        self.line();
        self.fresh = false;
    }

    /// Writes a key; its value comes next.
    pub(crate) fn key(&mut self, key: &str) {
        self.element();
        self.shown(key, TemplateEscape::No);
        self.text.push_str(": ");
    }

    /// Writes a value that is JSON already: a number, `true`, `null`.
    pub(crate) fn raw(&mut self, raw: &str) {
        self.text.push_str(raw);
    }

    /// Writes a string value; the starts of templates (`${`, `%{`) are escaped where that is wanted.
    pub(crate) fn text(&mut self, text: &str) {
        self.shown(text, self.escape);
    }

    /// Writes a string without what is hidden.
    fn shown(&mut self, text: &str, escape: TemplateEscape) {
        match self.hidden.filter(|it| !it.is_empty()) {
            Some(hidden) => self.string(&hidden.mask(text), escape == TemplateEscape::Yes),
            None => self.string(text, escape == TemplateEscape::Yes),
        }
    }

    /// Writes a string value without escaping templates.
    pub(crate) fn plain_text(&mut self, text: &str) {
        self.string(text, false);
    }

    /// Writes a list, one line for each item; `write` writes an item.
    pub(crate) fn list<T>(&mut self, items: impl Iterator<Item = T>, mut write: impl FnMut(&mut Self, T)) {
        self.open('[');
        for item in items {
            self.element();
            write(self, item);
        }
        self.close(']');
    }

    fn line(&mut self) {
        self.text.push('\n');
        for _ in 0..self.depth {
            self.text.push_str("  ");
        }
    }

    fn string(&mut self, text: &str, is_template: bool) {
        self.text.push('"');
        let mut from = 0;
        for (at, byte) in text.bytes().enumerate() {
            let special = match byte {
                b'"' => "\\\"",
                b'\\' => "\\\\",
                b'\n' => "\\n",
                b'\r' => "\\r",
                b'\t' => "\\t",
                0x08 => "\\b",
                0x0c => "\\f",
                b'<' => "\\u003c",
                b'>' => "\\u003e",
                b'&' => "\\u0026",
                b'$' if is_template && text[at + 1..].starts_with('{') => "$$",
                b'%' if is_template && text[at + 1..].starts_with('{') => "%%",
                0xe2 if text[at..].starts_with('\u{2028}') => "\\u2028",
                0xe2 if text[at..].starts_with('\u{2029}') => "\\u2029",
                0..=0x1f => {
                    self.text.push_str(&text[from..at]);
                    let written = write!(self.text, "\\u{byte:04x}");
                    debug_assert!(written.is_ok(), "a string takes all");
                    from = at + 1;
                    continue;
                }
                _ => continue,
            };
            self.text.push_str(&text[from..at]);
            self.text.push_str(special);
            from = at + if byte == 0xe2 { 3 } else { 1 };
        }
        self.text.push_str(&text[from..]);
        self.text.push('"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped_as_in_the_peer() {
        let check = |text: &str, expected: &str| {
            let mut json = Json { escape: TemplateEscape::Yes, ..Json::new(10) };
            json.text(text);
            assert_eq!(json.into_text(), expected);
        };
        check("a<b>&\"\\\n\u{1}", r#""a\u003cb\u003e\u0026\"\\\n\u0001""#);
        check("${x} $x %{if} $${", r#""$${x} $x %%{if} $$${""#);
        check("\u{2028}ü", r#""\u2028ü""#);
    }
}
