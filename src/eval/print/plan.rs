//! `--print`: the plan as JSON that reads back as a definition (spec §16.1, §16.2).
//!
//! A template start in any text is escaped (`$${`), since the JSON profile reads every string as a template.

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
};

/// What `--print` shows, sorted by name.
pub(crate) struct PrintPlan<'a> {
    groups: BTreeMap<&'a str, PrintGroup<'a>>,
    targets: BTreeMap<&'a str, &'a Target>,
    hidden: &'a Hidden,
}

/// A group as shown.
struct PrintGroup<'a> {
    description: Option<&'a str>,
    members: Vec<&'a str>,
}

impl<'a> PrintPlan<'a> {
    pub(crate) fn new(evaluated: &'a Evaluation) -> Self {
        let mut groups = BTreeMap::new();
        for (name, group) in &evaluated.groups {
            let members: Vec<&str> = group.members.iter().map(|it| &**it).collect();
            groups.insert(&**name, PrintGroup { description: group.description.as_deref(), members });
        }
        let default = groups.entry("default").or_insert_with(|| PrintGroup { description: None, members: Vec::new() });
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

    /// The JSON text, a newline at its end.
    pub(crate) fn to_json(&self) -> String {
        let mut json = Json { hidden: Some(self.hidden), ..Json::new(self.targets.len() * 400 + 200) };
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
            target_fields(&mut json, target);
            json.close('}');
        }
        json.close('}');
        json.close('}');
        json.text.push('\n');
        json.text
    }
}

fn target_fields(json: &mut Json<'_>, target: &Target) {
    for assigned in target.fields.iter().filter(|it| (it.id as usize) < PRINTED) {
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
    depth: usize,
    /// Nothing has been written into the innermost bracket yet.
    fresh: bool,
}

impl<'h> Json<'h> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { text: String::with_capacity(capacity), hidden: None, depth: 0, fresh: true }
    }

    pub(crate) fn into_text(self) -> String {
        self.text
    }

    /// Opens a bracket as a value.
    pub(crate) fn open(&mut self, bracket: char) {
        self.text.push(bracket);
        self.depth += 1;
        self.fresh = true;
    }

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
        self.text(key);
        self.text.push_str(": ");
    }

    pub(crate) fn raw(&mut self, raw: &str) {
        self.text.push_str(raw);
    }

    /// A string value, template starts escaped.
    pub(crate) fn text(&mut self, text: &str) {
        match self.hidden.filter(|it| !it.is_empty()) {
            Some(hidden) => self.string(&hidden.mask(text), true),
            None => self.string(text, true),
        }
    }

    /// A string value as it is.
    pub(crate) fn plain_text(&mut self, text: &str) {
        self.string(text, false);
    }

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
            let mut json = Json::new(10);
            json.text(text);
            assert_eq!(json.into_text(), expected);
        };
        check("a<b>&\"\\\n\u{1}", r#""a\u003cb\u003e\u0026\"\\\n\u0001""#);
        check("${x} $x %{if} $${", r#""$${x} $x %%{if} $$${""#);
        check("\u{2028}ü", r#""\u2028ü""#);
    }
}
