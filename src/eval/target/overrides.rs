//! `--set PATTERN.KEY[.SUBKEY][+]=VALUE`, `--set !PATTERN.KEY[.SUBKEY]` and the flags that are shorthands for it: read, matched to targets, applied.
//!
//! What is unset is unset first. Lists collect the values of all arguments; of `=` and `+=` the last one counts for all. `output` is applied before
//! `push` and `load`, whatever the order of the arguments.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{
    field::{self, Field, Item, TargetFields},
    pattern,
};
use crate::{
    definition::attribute::{self, AttributeKind, AttributeRow, Id, ItemKind, Merge, Set},
    report::{Diagnostic, Span, Spanned, suggest},
    spec::{
        self, Entitlement, OptionFault, OptionItem, Output, ResourceTexts, Secret,
        cache::{CacheImport, CacheTarget},
        entitlement::Grant,
    },
};

/// What one argument changes.
#[derive(Clone, Copy, Debug)]
enum Key {
    Attribute(&'static AttributeRow),
    /// Takes away what the files set: the attribute, or one entry or item of it.
    Unset(&'static AttributeRow),
    /// A new source for a declared secret.
    SecretSource,
    Push,
    Load,
}

/// One `--set` argument, or a flag that is short for one: it sets (`P.KEY[.SUBKEY]=V`), appends (`+=`) or unsets
/// (`!P.KEY`).
#[derive(Clone, Debug)]
pub(crate) struct Override {
    pattern: String,
    key: Key,
    /// As typed: `args.A`.
    key_text: String,
    /// Empty if there is none.
    subkey: String,
    append: bool,
    /// Empty to unset; of an `args` without `=`, that of the environment.
    value: String,
    /// The whole argument.
    at: Span,
    /// The pattern and the value inside it; the whole argument if it has no `=`.
    pattern_at: Span,
    value_at: Span,
}

/// The `--set` arguments of a command, by the target that they change.
#[derive(Debug, Default)]
pub(crate) struct Overrides {
    all: Vec<Override>,
    by_target: HashMap<Arc<str>, Vec<usize>>,
}

impl Overrides {
    /// Parses all arguments and matches them to the names of all targets.
    pub(crate) fn new(
        arguments: &[Spanned<String>],
        env: &BTreeMap<String, String>,
        targets: &[Arc<str>],
        is_group: &dyn Fn(&str) -> Option<Vec<String>>,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Self {
        let mut overrides = Self::default();
        if arguments.is_empty() {
            return overrides;
        }
        let known: std::collections::HashSet<&str> = targets.iter().map(|it| &**it).collect();
        for argument in arguments {
            let read = match Override::parse(argument, env) {
                Ok(Some(read)) => read,
                Ok(None) => continue,
                Err(diagnostic) => {
                    diagnostics.push(*diagnostic);
                    continue;
                }
            };
            let ix = overrides.all.len();
            if known.contains(read.pattern.as_str()) {
                overrides.by_target.entry(read.pattern.as_str().into()).or_default().push(ix);
                overrides.all.push(read);
                continue;
            }
            let mut any = false;
            let mut bad = false;
            for target in targets {
                match pattern::matches(&read.pattern, target) {
                    Ok(true) => {
                        any = true;
                        overrides.by_target.entry(target.clone()).or_default().push(ix);
                    }
                    Ok(false) => (),
                    Err(pattern::GlobError) => bad = true,
                }
            }
            // A flag for all targets is fine where there are none.
            if bad || (!any && read.pattern != "*") {
                diagnostics.push(read.unmatched(bad, targets, is_group));
            }
            overrides.all.push(read);
        }
        overrides
    }

    /// The targets that contexts `target:NAME` in arguments link to.
    pub(crate) fn linked_names(&self) -> impl Iterator<Item = &str> {
        self.all
            .iter()
            .filter(|set| matches!(set.key, Key::Attribute(row) if row.id == Id::Contexts))
            .filter_map(|it| it.value.strip_prefix("target:"))
    }

    /// The grants that arguments give by naming a path or an entitlement: who types it means it.
    pub(crate) fn grants(&self) -> Vec<Grant> {
        let mut grants = Vec::new();
        for it in &self.all {
            let mut items = Vec::new();
            let kind = match it.key {
                Key::SecretSource => ItemKind::Secret,
                Key::Attribute(AttributeRow { id: Id::Entitlements, .. }) => {
                    grants.extend(Entitlement::parse(&it.value).ok().map(Grant::Need));
                    continue;
                }
                Key::Attribute(AttributeRow { kind: AttributeKind::Items(kind), .. }) => *kind,
                _ => continue,
            };
            if it.value.is_empty() || field::parse_items(kind, &it.value, &mut items).is_err() {
                continue;
            }
            grants.extend(items.iter().flat_map(item_grants));
        }
        grants
    }

    /// Applies the arguments that concern one target to its attributes.
    pub(crate) fn apply(&self, target: &str, fields: &mut TargetFields, diagnostics: &mut Vec<Diagnostic>) {
        fields.unserved.clear();
        let Some(indices) = self.by_target.get(target) else { return };
        let mine: Vec<&Override> = indices.iter().map(|ix| &self.all[*ix]).collect();
        for it in &mine {
            if let Key::Unset(row) = it.key {
                unset(row, &it.subkey, fields);
            }
        }
        for row in &attribute::TARGET {
            let group: Vec<&Override> =
                mine.iter().copied().filter(|set| matches!(set.key, Key::Attribute(of) if of.id == row.id)).collect();
            if !group.is_empty()
                && let Err(diagnostic) = apply_attribute(row, &group, fields)
            {
                diagnostics.push(*diagnostic);
            }
        }
        for it in mine.iter().filter(|it| matches!(it.key, Key::SecretSource)) {
            if let Err(diagnostic) = apply_secret(it, target, fields) {
                diagnostics.push(*diagnostic);
            }
        }
        let flag = |wanted: fn(&Key) -> bool| mine.iter().rfind(|it| wanted(&it.key));
        for (argument, apply, serves) in [
            (flag(|key| matches!(key, Key::Push)), push as fn(&mut Vec<Item>, bool), pushes as fn(&Output) -> bool),
            (flag(|key| matches!(key, Key::Load)), load, loads),
        ] {
            let Some(argument) = argument else { continue };
            match spec::boolean(&argument.value) {
                Ok(on) => {
                    let mut items = fields.items(Id::Output).to_vec();
                    let before = items.clone();
                    apply(&mut items, on);
                    if on && let Some(kind) = unserved(&items, serves) {
                        fields.unserved.push(argument.without_effect(target, kind));
                    }
                    if items != before {
                        fields.put(Id::Output, Field::Items(Arc::new(items)), argument.at);
                    }
                }
                Err(fault) => diagnostics.push(argument.bad_value(fault)),
            }
        }
    }
}

pub(super) fn item_grants(item: &Item) -> Vec<Grant> {
    let read = |path: &String| Grant::Read(path.clone());
    match item {
        Item::Output(it) => it.dest().map(|path| Grant::Write(path.to_owned())).into_iter().collect(),
        Item::CacheFrom(it) => match &it.value {
            CacheImport::Local(local) => vec![read(&local.src)],
            _ => Vec::new(),
        },
        Item::CacheTo(it) => match &it.value.to {
            CacheTarget::Local(local, _) => vec![Grant::Write(local.dest.clone())],
            _ => Vec::new(),
        },
        Item::Secret(it) => it.src.as_ref().map(read).into_iter().collect(),
        Item::Ssh(it) => it.paths.iter().map(read).collect(),
        Item::Attest(_) | Item::Policy(_) => Vec::new(),
    }
}

type ReadOverride<T> = Result<T, Box<Diagnostic>>;

impl Override {
    /// The warning that it changes nothing about a target, which has outputs of another type.
    fn without_effect(&self, target: &str, kind: &str) -> Diagnostic {
        let (key, wanted) = if matches!(self.key, Key::Load) { ("load", "docker") } else { ("push", "image") };
        let message = format!("`{key}` has no effect on target `{target}`, whose output is of type: {kind}");
        Diagnostic::warning("bake::eval::ignored_option", message)
            .at(self.at, "as given")
            .help(format!("add an output of type `{wanted}` to the target"))
    }

    /// `None` when an argument of the environment is not set there.
    fn parse(argument: &Spanned<String>, env: &BTreeMap<String, String>) -> ReadOverride<Option<Self>> {
        let text = argument.value.as_str();
        if let Some(rest) = text.strip_prefix('!') {
            return Self::parse_unset(argument, rest).map(Some);
        }
        let error = |message: String| {
            Box::new(
                Diagnostic::error("bake::eval::set_malformed", message)
                    .at(argument.at, "as given")
                    .help("write TARGET.KEY=VALUE or TARGET.KEY.NAME=VALUE; += appends to a list, !TARGET.KEY unsets"),
            )
        };
        let (left, value) = text.split_once('=').map_or((text, None), |(left, value)| (left, Some(value)));
        let (left, append) = left.strip_suffix('+').map_or((left, false), |left| (left, true));
        let mut parts = left.splitn(3, '.');
        let pattern = parts.next().unwrap_or_default();
        let Some(key_name) = parts.next().filter(|it| !it.is_empty() && !pattern.is_empty()) else {
            return Err(error(format!("`--set` wants a target and a key: {text}")));
        };
        let subkey = parts.next().unwrap_or_default();
        let key = find_key(key_name, subkey, argument)?;
        let named = matches!(key, Key::SecretSource) || matches!(key, Key::Attribute(row) if row.set == Set::Named);
        if named && subkey.is_empty() {
            return Err(error(format!("`--set` wants a name after `{key_name}`: {text}")));
        }
        if !named && !subkey.is_empty() {
            return Err(error(format!("`--set` takes no name after `{key_name}`: {text}")));
        }
        if append
            && matches!(key, Key::SecretSource | Key::Attribute(AttributeRow { kind: AttributeKind::Resources, .. }))
        {
            return Err(error(format!("`{key_name}` cannot be appended to: {text}")));
        }
        let value = match (value, key) {
            (Some(value), _) => value.to_owned(),
            (None, Key::Attribute(row)) if row.id == Id::Args => match env.get(subkey) {
                Some(value) => value.clone(),
                None => return Ok(None),
            },
            (None, _) => return Err(error(format!("`--set` wants a value: {text}"))),
        };
        let part = |start: usize, len: usize| part(argument.at, start, len);
        Ok(Some(Self {
            pattern: pattern.to_owned(),
            key,
            key_text: if subkey.is_empty() { key_name.to_owned() } else { format!("{key_name}.{subkey}") },
            subkey: subkey.to_owned(),
            append,
            pattern_at: part(0, pattern.len()),
            value_at: text.find('=').map_or(argument.at, |at| part(at + 1, text.len() - at - 1)),
            value,
            at: argument.at,
        }))
    }

    /// `!PATTERN.KEY[.SUBKEY]`; `rest` is what follows the `!`.
    fn parse_unset(argument: &Spanned<String>, rest: &str) -> ReadOverride<Self> {
        let text = &argument.value;
        let error = |message: String, help: &str| {
            Box::new(Diagnostic::error("bake::eval::set_malformed", message).at(argument.at, "as given").help(help))
        };
        if rest.contains('=') {
            return Err(error(
                format!("`--set` takes no value to unset: {text}"),
                "write !TARGET.KEY or !TARGET.KEY.NAME",
            ));
        }
        let mut parts = rest.splitn(3, '.');
        let pattern = parts.next().unwrap_or_default();
        let Some(key_name) = parts.next().filter(|it| !it.is_empty()) else {
            let message = format!("`--set` wants a target and a key to unset: {text}");
            return Err(error(message, "write !TARGET.KEY or !TARGET.KEY.NAME"));
        };
        let subkey = parts.next().unwrap_or_default();
        let rows = || attribute::TARGET.iter().filter(|row| row.merge != Merge::PerBlock && row.id != Id::Inherits);
        let Some(row) = rows().find(|row| row.name == key_name || row.set_key == key_name) else {
            let help = suggest::did_you_mean(key_name, rows().map(|row| row.name)).unwrap_or_else(|| {
                format!("known keys: {}", rows().map(|row| row.name).collect::<Vec<_>>().join(", "))
            });
            return Err(error(format!("`--set` cannot unset `{key_name}`: {text}"), &help));
        };
        if !subkey.is_empty() && row.set != Set::Named && row.merge != Merge::ById {
            return Err(error(
                format!("`{key_name}` has no parts to unset: {text}"),
                &format!("write !{pattern}.{key_name} to unset all of it"),
            ));
        }
        Ok(Self {
            pattern: pattern.to_owned(),
            key: Key::Unset(row),
            key_text: key_name.to_owned(),
            subkey: subkey.to_owned(),
            append: false,
            pattern_at: part(argument.at, 1, pattern.len()),
            value_at: argument.at,
            value: String::new(),
            at: argument.at,
        })
    }

    fn bad_value(&self, fault: OptionFault) -> Diagnostic {
        let mut diagnostic = Diagnostic::error(
            "bake::eval::set_bad_value",
            format!("`{}` of `--set`: {}", self.key_text, fault.message),
        )
        .at(self.value_at, "given here");
        diagnostic.help = fault.help;
        diagnostic
    }

    fn unmatched(&self, bad: bool, targets: &[Arc<str>], is_group: &dyn Fn(&str) -> Option<Vec<String>>) -> Diagnostic {
        let pattern = &self.pattern;
        if bad {
            return Diagnostic::error("bake::eval::bad_pattern", format!("not a pattern: {pattern}"))
                .at(self.pattern_at, "in this argument")
                .help("close the bracket, or put `\\` before a character that stands for itself");
        }
        if let Some(members) = is_group(pattern) {
            let hint = common_pattern(pattern, &members);
            return Diagnostic::error(
                "bake::eval::set_on_group",
                format!("`--set` changes targets, and this is a group: {pattern}"),
            )
            .at(self.pattern_at, "a group or the label of a matrix")
            .help(format!("write {hint} or name its targets: {}", members.join(", ")));
        }
        let help = suggest::did_you_mean(pattern, targets.iter().map(|it| &**it))
            .unwrap_or_else(|| known_names("targets", targets));
        Diagnostic::error("bake::eval::set_unknown_target", format!("no target matches `--set`: {pattern}"))
            .at(self.pattern_at, "no such target")
            .help(help)
    }
}

/// A help text with a few of the known names.
pub(crate) fn known_names(what: &str, names: &[Arc<str>]) -> String {
    const SHOWN: usize = 12;
    if names.is_empty() {
        return format!("there are no {what}");
    }
    let mut shown: Vec<&str> = names.iter().take(SHOWN).map(|it| &**it).collect();
    let more = names.len().saturating_sub(SHOWN);
    let more_text = format!("and {more} more");
    if more > 0 {
        shown.push(&more_text);
    }
    format!("known {what}: {}", shown.join(", "))
}

/// A pattern that takes all members, if their names start with the group's.
fn common_pattern(group: &str, members: &[String]) -> String {
    let prefix = format!("{group}-");
    if !members.is_empty() && members.iter().all(|it| it.starts_with(&prefix)) {
        format!("`{prefix}*`")
    } else {
        "a pattern".to_owned()
    }
}

fn part(at: Span, start: usize, len: usize) -> Span {
    let offset = |offset: usize| at.start.saturating_add(u32::try_from(offset).unwrap_or(u32::MAX));
    Span { source: at.source, start: offset(start), end: offset(start + len) }
}

fn find_key(name: &str, subkey: &str, argument: &Spanned<String>) -> ReadOverride<Key> {
    match name {
        "push" => return Ok(Key::Push),
        "load" => return Ok(Key::Load),
        "secret" if !subkey.is_empty() => return Ok(Key::SecretSource),
        _ => (),
    }
    if let Some(row) = attribute::TARGET.iter().find(|row| row.set != Set::No && row.set_key == name) {
        return Ok(Key::Attribute(row));
    }
    let keys = || {
        attribute::TARGET.iter().filter(|row| row.set != Set::No).map(|row| row.set_key).chain([
            "push",
            "load",
            "secret.ID",
        ])
    };
    let spelled =
        attribute::target(name).filter(|row| row.set != Set::No).map(|row| format!("did you mean `{}`?", row.set_key));
    let help = match attribute::target(name) {
        Some(row) if row.set == Set::No => {
            format!("`{name}` is set in the bake file only; keys: {}", keys().collect::<Vec<_>>().join(", "))
        }
        _ => spelled
            .or_else(|| suggest::did_you_mean(name, keys()))
            .unwrap_or_else(|| format!("known keys: {}", keys().collect::<Vec<_>>().join(", "))),
    };
    Err(Box::new(
        Diagnostic::error("bake::eval::set_unknown_key", format!("`--set` has no key `{name}`: {}", argument.value))
            .at_part(argument.at, name, "no such key")
            .help(help),
    ))
}

fn apply_attribute(row: &'static AttributeRow, group: &[&Override], fields: &mut TargetFields) -> ReadOverride<()> {
    let last = *group.last().expect("a group has an argument");
    let fault = |argument: &Override, fault: OptionFault| Box::new(argument.bad_value(fault));
    match row.kind {
        AttributeKind::Text => fields.put(row.id, Field::Text(last.value.as_str().into()), last.at),
        AttributeKind::Bool => {
            let on = spec::boolean(&last.value).map_err(|it| fault(last, it))?;
            fields.put(row.id, Field::Bool(on), last.at);
        }
        AttributeKind::Entries { .. } => {
            let mut entries = fields.entries(row.id).map(|it| (**it).clone()).unwrap_or_default();
            for it in group {
                entries.insert(it.subkey.as_str().into(), Some(it.value.as_str().into()));
            }
            fields.put(row.id, Field::Entries(Arc::new(entries)), last.at);
        }
        AttributeKind::Resources => {
            let mut resources = match fields.get(row.id).map(|it| &it.field) {
                Some(Field::Resources(it)) => (**it).clone(),
                _ => ResourceTexts::default(),
            };
            for it in group {
                resources.set(&it.subkey, &it.value).map_err(|wrong| fault(it, wrong))?;
            }
            fields.put(row.id, Field::Resources(Arc::new(resources)), last.at);
        }
        AttributeKind::Texts => {
            let mut texts =
                if last.append || row.set == Set::AppendList { fields.texts(row.id).to_vec() } else { Vec::new() };
            texts.extend(group.iter().filter(|it| !it.value.is_empty()).map(|it| Arc::from(it.value.as_str())));
            fields.put(row.id, Field::Texts(Arc::new(texts)), last.at);
        }
        AttributeKind::Items(kind) => {
            let mut items =
                if last.append || row.set == Set::AppendList { fields.items(row.id).to_vec() } else { Vec::new() };
            for it in group.iter().filter(|it| !it.value.is_empty()) {
                let before = items.len();
                field::parse_items(kind, &it.value, &mut items).map_err(|wrong| fault(it, wrong))?;
                items[before..].iter_mut().for_each(|item| item.place_faults(|_| it.value_at));
            }
            fields.put(row.id, Field::Items(Arc::new(items)), last.at);
        }
        AttributeKind::Matrix => (),
    }
    Ok(())
}

/// Takes away an attribute, or one entry or item of it. What is not there is no fault: a pattern may match many targets.
fn unset(row: &'static AttributeRow, subkey: &str, fields: &mut TargetFields) {
    let Some(assigned) = fields.get(row.id).filter(|_| !subkey.is_empty()).cloned() else {
        fields.remove(row.id);
        return;
    };
    let field = match assigned.field {
        Field::Entries(mut entries) => {
            Arc::make_mut(&mut entries).remove(subkey);
            Field::Entries(entries)
        }
        Field::Items(mut items) => {
            let is_it = |item: &Item| match item {
                Item::Attest(it) => it.type_name() == subkey,
                Item::Secret(it) => it.id == subkey,
                Item::Ssh(it) => it.id == subkey,
                Item::CacheFrom(_) | Item::CacheTo(_) | Item::Output(_) | Item::Policy(_) => false,
            };
            Arc::make_mut(&mut items).retain(|item| !is_it(item));
            Field::Items(items)
        }
        Field::Resources(mut resources) => {
            Arc::make_mut(&mut resources).unset(subkey);
            Field::Resources(resources)
        }
        other => other,
    };
    fields.put(row.id, field, assigned.at);
}

fn apply_secret(argument: &Override, target: &str, fields: &mut TargetFields) -> ReadOverride<()> {
    let id = argument.subkey.as_str();
    let error = |message: String, help: String| {
        Box::new(Diagnostic::error("bake::eval::set_secret", message).at(argument.at, "as given").help(help))
    };
    let mut secret = Secret::parse(&argument.value).map_err(|fault| Box::new(argument.bad_value(fault)))?;
    if !(secret.id.is_empty() || secret.id == id) {
        return Err(error(
            format!("`--set` names the secret `{id}` but gives another id: {}", secret.id),
            format!("drop the id, or write {target}.secret.{}=…", secret.id),
        ));
    }
    id.clone_into(&mut secret.id);
    let mut items = fields.items(Id::Secret).to_vec();
    let declared: Vec<String> = items
        .iter()
        .filter_map(|item| if let Item::Secret(item) = item { Some(item.id.clone()) } else { None })
        .collect();
    let Some(ix) = declared.iter().position(|it| it == id) else {
        let help = match suggest::did_you_mean(id, declared.iter().map(String::as_str)) {
            Some(help) => help,
            None if declared.is_empty() => {
                format!("target `{target}` declares no secret; write {target}.secrets+=id={id},…")
            }
            None => format!("declared: {}", declared.join(", ")),
        };
        return Err(error(format!("target `{target}` declares no secret of this id: {id}"), help));
    };
    items[ix] = Item::Secret(secret);
    fields.put(Id::Secret, Field::Items(Arc::new(items)), argument.at);
    Ok(())
}

fn pushes(output: &Output) -> bool {
    matches!(output, Output::Image(_) | Output::Registry(_))
}

fn loads(output: &Output) -> bool {
    matches!(output, Output::Docker(docker) if docker.archive.dest.is_none())
}

/// The type of an output for which something is written, if none of the outputs does what is asked for.
fn unserved(items: &[Item], serves: fn(&Output) -> bool) -> Option<&str> {
    let outputs = || items.iter().filter_map(|item| if let Item::Output(it) = item { Some(it) } else { None });
    let is_served = outputs().any(|it| serves(&it.value));
    let mut written = outputs().filter(|it| !matches!(it.value, Output::Cacheonly(_) | Output::Unknown));
    written.next().filter(|_| !is_served).map(|it| it.exporter())
}

/// `--set=TARGET.push=true` and `push=false`, see <https://docs.docker.com/reference/cli/docker/buildx/bake/#set>.
fn push(items: &mut Vec<Item>, on: bool) {
    let is = |item: &Item, wanted: fn(&Output) -> bool| matches!(item, Item::Output(it) if wanted(&it.value));
    if !on {
        items.retain(|item| !is(item, |output| matches!(output, Output::Registry(_))));
    }
    for item in items.iter_mut() {
        if let Item::Output(it) = item
            && matches!(it.value, Output::Image(_))
        {
            *it = Arc::new(it.with_push(on));
        }
    }
    if on && items.iter().all(|item| is(item, |output| matches!(output, Output::Docker(_)))) {
        items.push(Item::Output(Arc::new(OptionItem::pushed_image())));
    }
}

/// `load=true`.
fn load(items: &mut Vec<Item>, on: bool) {
    let blocked = items.iter().any(|item| match item {
        Item::Output(it) => match &it.value {
            Output::Docker(docker) => docker.archive.dest.is_none(),
            Output::Image(_) | Output::Registry(_) | Output::Oci(_) => false,
            Output::Local(_) | Output::Tar(_) | Output::Cacheonly(_) | Output::Unknown => true,
        },
        _ => false,
    });
    if on && !blocked {
        items.push(Item::Output(Arc::new(OptionItem::of_type("docker"))));
    }
}
