//! Fields: the attributes of a target as canonical data, decoded from values and merged by the rules of the table.
//!
//! A field is what `--print` shows. Whether a platform is a platform is asked later, in `target`.

#![expect(clippy::rc_buffer, reason = "lists are extended in place when nobody else holds them")]

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use crate::{
    definition::{
        attribute::{AttributeKind, AttributeRow, Id, ItemKind, Merge},
        syntax::Expr,
    },
    eval::{expression::place, value::types::Value},
    report::{Diagnostic, Span},
    spec::{
        Attest, CacheExport, CacheImport, OptionFault, OptionItem, Output, Policy, ResourceTexts, Secret, Ssh,
        options::OptionTexts,
    },
};

/// A map attribute; a value of `None` is a null, which means "unset".
pub(crate) type Entries = BTreeMap<Arc<str>, Option<Arc<str>>>;

/// The value of one attribute in canonical form. Cheap to clone.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Field {
    Text(Arc<str>),
    Bool(bool),
    Texts(Arc<Vec<Arc<str>>>),
    Entries(Arc<Entries>),
    Items(Arc<Vec<Item>>),
    Resources(Arc<ResourceTexts>),
}

/// One parsed item of a composable attribute (`output`, `secret`, …). Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Attest(Arc<OptionItem<Attest>>),
    CacheFrom(Arc<OptionItem<CacheImport>>),
    CacheTo(Arc<OptionItem<CacheExport>>),
    Output(Arc<OptionItem<Output>>),
    Policy(Policy),
    Secret(Secret),
    Ssh(Ssh),
}

impl Item {
    /// Says where the faults of the options stand, for those that do not know it yet; `place` is given the option.
    pub(crate) fn place_faults(&mut self, place: impl Fn(&str) -> Span) {
        match self {
            Self::Attest(item) => place_in(item, place),
            Self::CacheFrom(item) => place_in(item, place),
            Self::CacheTo(item) => place_in(item, place),
            Self::Output(item) => place_in(item, place),
            Self::Policy(_) | Self::Secret(_) | Self::Ssh(_) => (),
        }
    }
}

/// Items are rarely at fault: most are left as they are, whoever shares them.
fn place_in<T: Clone>(item: &mut Arc<OptionItem<T>>, place: impl Fn(&str) -> Span) {
    if !(item.faults.is_empty() && item.unknown.is_empty() && item.notes.is_empty()) {
        Arc::make_mut(item).place_faults(place);
    }
}

/// One attribute that is set: its value and its place.
#[derive(Clone, Debug)]
pub(crate) struct Assigned {
    pub(crate) id: Id,
    pub(crate) field: Field,
    /// Where it was last set.
    pub(crate) at: Span,
}

/// The attributes of a target that are set, before they are typed.
#[derive(Clone, Debug, Default)]
pub(crate) struct TargetFields {
    /// *Invariant:* ascending by id, each id once.
    all: Vec<Assigned>,
    /// Warnings of `push` and `load`, given on the command line, that its outputs do not serve: of this target alone, not of
    /// those that inherit from it.
    pub(super) unserved: Vec<Diagnostic>,
}

/// Why a value does not fit an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Misfit {
    /// What follows the attribute's name: empty, `[1]`, `.key`.
    pub(crate) path: String,
    /// What follows `` `tags[1]` ``: ``must be a string, not a list``, or a whole sentence after a colon.
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

impl Misfit {
    fn wants(path: String, wanted: &str, got: &Value) -> Self {
        Self { path, message: format!(" must be {wanted}, but is: {}", got.kind()), help: None }
    }

    fn fault(path: String, fault: OptionFault) -> Self {
        Self { path, message: format!(": {}", fault.message), help: fault.help }
    }
}

impl TargetFields {
    /// The value and place of an attribute; `None` if it is not set.
    pub(crate) fn get(&self, id: Id) -> Option<&Assigned> {
        self.all.binary_search_by_key(&id, |it| it.id).ok().map(|ix| &self.all[ix])
    }

    /// The value of an attribute that is a string; `None` if it is not set.
    pub(crate) fn text(&self, id: Id) -> Option<&Arc<str>> {
        match self.get(id).map(|it| &it.field) {
            Some(Field::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// The value of an attribute that is a list of strings; empty if it is not set.
    pub(crate) fn texts(&self, id: Id) -> &[Arc<str>] {
        match self.get(id).map(|it| &it.field) {
            Some(Field::Texts(texts)) => texts,
            _ => &[],
        }
    }

    /// The value of an attribute that is a map; `None` if it is not set.
    pub(crate) fn entries(&self, id: Id) -> Option<&Arc<Entries>> {
        match self.get(id).map(|it| &it.field) {
            Some(Field::Entries(entries)) => Some(entries),
            _ => None,
        }
    }

    /// The parsed items of a composable attribute (`output`, `secret`, …); empty if it is not set.
    pub(crate) fn items(&self, id: Id) -> &[Item] {
        match self.get(id).map(|it| &it.field) {
            Some(Field::Items(items)) => items,
            _ => &[],
        }
    }

    /// The place where an attribute was last set; `None` if it is not set.
    pub(crate) fn at(&self, id: Id) -> Option<Span> {
        self.get(id).map(|it| it.at)
    }

    /// All attributes that are set, in the order of the table in `definition/attribute.rs`.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Assigned> {
        self.all.iter()
    }

    /// Sets an attribute, replacing any earlier value.
    pub(crate) fn put(&mut self, id: Id, field: Field, at: Span) {
        let assigned = Assigned { id, field, at };
        match self.all.binary_search_by_key(&id, |it| it.id) {
            Ok(ix) => self.all[ix] = assigned,
            Err(ix) => self.all.insert(ix, assigned),
        }
    }

    /// Removes an attribute.
    pub(crate) fn remove(&mut self, id: Id) {
        self.all.retain(|it| it.id != id);
    }

    /// Merges a later definition of one attribute onto the present value, by the rule of the attribute.
    pub(crate) fn merge(&mut self, later: &Assigned) {
        match self.all.binary_search_by_key(&later.id, |it| it.id) {
            Ok(ix) => {
                let mine = &mut self.all[ix];
                if merge_field(later.id.row(), &mut mine.field, &later.field) {
                    mine.at = later.at;
                }
            }
            Err(ix) => self.all.insert(ix, later.clone()),
        }
    }

    /// Merges all attributes of a later definition onto these.
    pub(crate) fn merge_all(&mut self, later: &Self) {
        later.all.iter().for_each(|it| self.merge(it));
    }

    /// Drops duplicates and deleted contexts, and gives `network=host` its entitlement.
    pub(crate) fn normalise(&mut self) {
        for assigned in &mut self.all {
            match &mut assigned.field {
                Field::Texts(texts) => dedup_texts(texts),
                Field::Items(items) => dedup_items(assigned.id.row(), items),
                Field::Entries(entries)
                    if assigned.id == Id::Contexts
                        && entries.values().any(|it| it.as_deref().is_none_or(str::is_empty)) =>
                {
                    Arc::make_mut(entries).retain(|_, it| it.as_deref().is_some_and(|it| !it.is_empty()));
                }
                _ => (),
            }
        }
        if self.text(Id::Network).is_some_and(|it| &**it == "host") {
            let at = self.at(Id::Network).expect("it is set");
            self.add_entitlements(["network.host"], at);
        }
    }

    /// Adds entitlements, those that are there already excepted.
    pub(crate) fn add_entitlements<'a>(&mut self, names: impl IntoIterator<Item = &'a str>, at: Span) {
        let mut all = self.texts(Id::Entitlements).to_vec();
        let before = all.len();
        for name in names {
            if !all.iter().any(|it| &**it == name) {
                all.push(name.into());
            }
        }
        if all.len() > before {
            let at = self.at(Id::Entitlements).unwrap_or(at);
            self.put(Id::Entitlements, Field::Texts(Arc::new(all)), at);
        }
    }
}

/// Converts a value to an attribute; `None` is "not set".
///
/// Faults that the peer passes over go to `warnings`; those of options are kept in the items, with their places in
/// `expr`, which is what the value was computed from.
///
/// # Errors
/// When the value does not fit.
pub(crate) fn decode(
    row: &AttributeRow,
    value: &Value,
    expr: Option<&Expr>,
    warnings: &mut Vec<Misfit>,
) -> Result<Option<Field>, Misfit> {
    if matches!(value, Value::Null(_)) {
        return Ok(None);
    }
    let wants = || {
        let mut misfit = Misfit::wants(String::new(), row.wants(), value);
        if matches!(row.kind, AttributeKind::Texts | AttributeKind::Items(_))
            && let Some(text) = value.to_text()
        {
            misfit.help = Some(format!("write [\"{text}\"]"));
        }
        match (row.kind, value.items()) {
            (AttributeKind::Text, Some([one])) => misfit.help = one.to_text().map(|it| format!("write \"{it}\"")),
            (AttributeKind::Bool, _) => misfit.help = Some("write true or false".to_owned()),
            (AttributeKind::Entries { .. }, _) => misfit.help = Some("write { name = \"value\" }".to_owned()),
            _ => (),
        }
        misfit
    };
    let field = match row.kind {
        AttributeKind::Text => Field::Text(value.to_text().ok_or_else(wants)?),
        AttributeKind::Bool => Field::Bool(truth(value).ok_or_else(|| match value {
            Value::String(text) => Misfit {
                path: String::new(),
                message: format!(" must be a bool, not the string: {text}"),
                help: Some("write true or false".to_owned()),
            },
            _ => wants(),
        })?),
        AttributeKind::Texts => Field::Texts(Arc::new(texts(value.items().ok_or_else(wants)?, "")?)),
        AttributeKind::Entries { null_ok } => {
            Field::Entries(Arc::new(entries(value.entries().ok_or_else(wants)?, null_ok)?))
        }
        AttributeKind::Items(kind) => {
            let elements = value.items().ok_or_else(wants)?;
            let mut items = Vec::with_capacity(elements.len());
            for (ix, element) in elements.iter().enumerate() {
                let before = items.len();
                decode_item(kind, element, ix, &mut items, warnings)?;
                if let Some(expr) = expr {
                    let place = |key: &str| place::within(expr, &format!("[{ix}].{key}"));
                    items[before..].iter_mut().for_each(|item| item.place_faults(place));
                }
            }
            Field::Items(Arc::new(items))
        }
        AttributeKind::Resources => {
            let mut resources = ResourceTexts::default();
            for (key, value) in value.entries().ok_or_else(wants)?.iter() {
                let path = || format!(".{key}");
                if matches!(value, Value::Null(_)) {
                    continue;
                }
                let text = value.to_text().ok_or_else(|| Misfit::wants(path(), "a string or number", value))?;
                if crate::spec::resources::KEYS.contains(&&**key) {
                    resources.set(key, &text).map_err(|fault| Misfit::fault(path(), fault))?;
                } else {
                    warnings.push(Misfit::fault(path(), ResourceTexts::unknown_key(key)));
                }
            }
            Field::Resources(Arc::new(resources))
        }
        AttributeKind::Matrix => return Ok(None),
    };
    Ok(Some(field))
}

/// Parses an item in its inline form (`type=local,dest=out`), as `--set` gives it, and appends it to `items`.
///
/// # Errors
/// When the text is not of the attribute's language.
pub(crate) fn parse_items(kind: ItemKind, text: &str, items: &mut Vec<Item>) -> Result<(), OptionFault> {
    match kind {
        ItemKind::Attest => items.push(Item::Attest(Arc::new(OptionItem::<Attest>::parse(text)?))),
        ItemKind::CacheFrom => {
            let caches = OptionItem::<CacheImport>::parse(text)?.into_iter();
            items.extend(caches.map(|cache| Item::CacheFrom(Arc::new(cache))));
        }
        ItemKind::CacheTo => {
            let caches = OptionItem::<CacheExport>::parse(text)?.into_iter();
            items.extend(caches.map(|cache| Item::CacheTo(Arc::new(cache))));
        }
        ItemKind::Output => items.push(Item::Output(Arc::new(OptionItem::<Output>::parse(text)?))),
        ItemKind::Policy => items.push(Item::Policy(Policy::parse(text)?)),
        ItemKind::Secret => items.push(Item::Secret(Secret::parse(text)?)),
        ItemKind::Ssh => items.push(Item::Ssh(Ssh::parse(text))),
    }
    Ok(())
}

fn decode_item(
    kind: ItemKind,
    value: &Value,
    ix: usize,
    items: &mut Vec<Item>,
    warnings: &mut Vec<Misfit>,
) -> Result<(), Misfit> {
    let path = || format!("[{ix}]");
    if let Value::String(text) = value {
        if text.is_empty() {
            return Ok(());
        }
        return parse_items(kind, text, items).map_err(|fault| Misfit::fault(path(), fault));
    }
    let Some(members) = value.entries() else {
        return Err(Misfit::wants(path(), "an object or a string", value));
    };
    if kind == ItemKind::Ssh {
        items.push(Item::Ssh(ssh(members, ix, warnings)?));
        return Ok(());
    }
    let mut plain = BTreeMap::new();
    for (key, value) in members {
        if matches!(value, Value::Null(_)) {
            continue;
        }
        let text =
            value.to_text().ok_or_else(|| Misfit::wants(format!("[{ix}].{key}"), "a string, number or bool", value))?;
        plain.insert(key.to_string(), text.to_string());
    }
    let item = match kind {
        ItemKind::Attest => OptionItem::<Attest>::from_entries(&plain).map(|attest| {
            if attest.type_name().is_empty() {
                let fault =
                    OptionFault::new("`type` is missing").help("write type = \"provenance\" or type = \"sbom\"");
                warnings.push(Misfit::fault(path(), fault));
            }
            Item::Attest(Arc::new(attest))
        }),
        ItemKind::CacheFrom => {
            OptionItem::<CacheImport>::from_entries(&plain).map(|cache| Item::CacheFrom(Arc::new(cache)))
        }
        ItemKind::CacheTo => {
            OptionItem::<CacheExport>::from_entries(&plain).map(|cache| Item::CacheTo(Arc::new(cache)))
        }
        ItemKind::Output => OptionItem::<Output>::from_entries(&plain).map(|output| Item::Output(Arc::new(output))),
        ItemKind::Policy => Policy::from_entries(&plain).map(Item::Policy),
        ItemKind::Secret => {
            let (secret, unknown) = Secret::from_entries(&plain);
            warnings.extend(unknown.into_iter().map(|fault| Misfit::fault(path(), fault)));
            Ok(Item::Secret(secret))
        }
        ItemKind::Ssh => Ok(Item::Ssh(Ssh::default())),
    };
    items.push(item.map_err(|fault| Misfit::fault(path(), fault))?);
    Ok(())
}

fn ssh(members: &BTreeMap<Arc<str>, Value>, ix: usize, warnings: &mut Vec<Misfit>) -> Result<Ssh, Misfit> {
    let mut ssh = Ssh::default();
    for (key, value) in members {
        match &**key {
            _ if matches!(value, Value::Null(_)) => (),
            "id" => {
                ssh.id =
                    value.to_text().ok_or_else(|| Misfit::wants(format!("[{ix}].id"), "a string", value))?.to_string();
            }
            "paths" => {
                let at = format!("[{ix}].paths");
                let list = value.items().ok_or_else(|| Misfit::wants(at.clone(), "a list of strings", value))?;
                ssh.paths = texts(list, &at)?.iter().map(ToString::to_string).collect();
            }
            other => {
                let fault = OptionFault::new(format!("unknown ssh key: {other}"))
                    .help("an ssh object has the keys id and paths");
                warnings.push(Misfit::fault(format!("[{ix}]"), fault));
            }
        }
    }
    Ok(ssh)
}

fn truth(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(flag) => Some(*flag),
        Value::String(text) => match &**text {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

fn texts(elements: &[Value], path: &str) -> Result<Vec<Arc<str>>, Misfit> {
    let one = |(ix, value): (usize, &Value)| {
        value.to_text().ok_or_else(|| Misfit::wants(format!("{path}[{ix}]"), "a string", value))
    };
    elements.iter().enumerate().map(one).collect()
}

fn entries(members: &BTreeMap<Arc<str>, Value>, null_ok: bool) -> Result<Entries, Misfit> {
    let one = |(key, value): (&Arc<str>, &Value)| match value {
        Value::Null(_) if null_ok => Ok((key.clone(), None)),
        _ => match value.to_text() {
            Some(text) => Ok((key.clone(), Some(text))),
            None => Err(Misfit::wants(format!(".{key}"), "a string", value)),
        },
    };
    members.iter().map(one).collect()
}

/// Combines by rule; `false` if the later one changes nothing.
pub(super) fn merge_field(row: &AttributeRow, mine: &mut Field, later: &Field) -> bool {
    match (mine, later) {
        (Field::Texts(mine), Field::Texts(later)) if row.merge == Merge::Append => {
            Arc::make_mut(mine).extend(later.iter().cloned());
        }
        (Field::Entries(mine), Field::Entries(later)) if row.merge == Merge::ByKey => {
            let changes = later.iter().filter(|(_, value)| value.is_some());
            let mine = Arc::make_mut(mine);
            changes.for_each(|(key, value)| {
                mine.insert(key.clone(), value.clone());
            });
        }
        (Field::Items(mine), Field::Items(later)) if matches!(row.merge, Merge::Append | Merge::ById) => {
            Arc::make_mut(mine).extend(later.iter().cloned());
            dedup_items(row, mine);
        }
        (Field::Resources(mine), Field::Resources(later)) => Arc::make_mut(mine).merge(later),
        (_, Field::Text(later)) if row.merge == Merge::ReplaceNonEmpty && later.is_empty() => return false,
        (mine, later) => *mine = later.clone(),
    }
    true
}

/// Keeps the first of equal texts; drops empty ones.
fn dedup_texts(texts: &mut Arc<Vec<Arc<str>>>) {
    let mut seen = HashSet::with_capacity(texts.len());
    if texts.iter().all(|it| !it.is_empty() && seen.insert(&**it)) {
        return;
    }
    let mut seen = HashSet::new();
    let kept = texts.iter().filter(|it| !it.is_empty() && seen.insert(&***it)).cloned().collect();
    *texts = Arc::new(kept);
}

/// What an item is recognised by among those of its attribute.
#[derive(PartialEq, Eq, Hash)]
enum ItemKey<'a> {
    Name(&'a str),
    Texts(&'a OptionTexts),
}

/// Of items with one type or id the last takes the first one's place; of equal ones the first stays.
fn dedup_items(row: &AttributeRow, items: &mut Arc<Vec<Item>>) {
    if items.len() < 2 || !row.is_deduplicated() {
        return;
    }
    let mut places: HashMap<ItemKey<'_>, usize> = HashMap::with_capacity(items.len());
    let mut kept: Vec<Item> = Vec::with_capacity(items.len());
    for item in items.iter() {
        let (key, replaces) = match item {
            Item::Attest(it) => (ItemKey::Name(it.type_name()), true),
            Item::Secret(it) => (ItemKey::Name(&it.id), true),
            Item::Ssh(it) => (ItemKey::Name(&it.id), true),
            Item::CacheFrom(it) => (ItemKey::Texts(it.texts()), false),
            Item::CacheTo(it) => (ItemKey::Texts(it.texts()), false),
            Item::Output(it) => (ItemKey::Texts(it.texts()), false),
            Item::Policy(_) => continue,
        };
        match places.get(&key) {
            Some(ix) if replaces => kept[*ix] = item.clone(),
            Some(_) => (),
            None => {
                places.insert(key, kept.len());
                kept.push(item.clone());
            }
        }
    }
    *items = Arc::new(kept);
}
