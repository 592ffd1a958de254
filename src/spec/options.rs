//! Options as `key=value`: one item of `output`, `cache-from`, `cache-to` or `attest`, as text and as what it means.
//!
//! An item is parsed once. [`OptionReader`] hands out its options by name and collects what is wrong, so that the names
//! that an item knows are written down in one place: where they are read. What a fault means for the command is decided
//! by the caller: `--print` shows an item that a build refuses.

use std::collections::BTreeMap;

use super::{
    csv::{self, key_value, not_key_value},
    fault::{OptionFault, boolean},
};
use crate::report::{Span, suggest};

/// Options with which object stores and services are accessed.
const SECRET: &[&str] = &["secret_access_key", "session_token", "token", "ghtoken", "gcp_json_key"];

/// What must not be shown of a text that may not be well formed: the values of such options. A comma in a value that is not
/// quoted cuts it, and its pieces are hidden one by one.
pub(crate) fn secrets_in(text: &str) -> impl Iterator<Item = &str> {
    let mut is_secret = false;
    text.split([',', '\n']).filter_map(move |field| {
        let value = match field.split_once('=') {
            Some((key, value)) if SECRET.contains(&key.trim_matches([' ', '"']).to_lowercase().as_str()) => {
                is_secret = true;
                value
            }
            Some(_) => {
                is_secret = false;
                ""
            }
            None => field,
        };
        let value = value.trim_matches(['"', '\r']);
        (is_secret && !value.is_empty()).then_some(value)
    })
}

/// The canonical text of an item, as `--print` shows it: each option with its value.
pub(crate) type OptionTexts = BTreeMap<String, String>;

/// One item: its text beside its meaning.
///
/// Two items are equal if their texts and values are, wherever they stand.
#[derive(Clone, Debug)]
pub(crate) struct OptionItem<T> {
    texts: OptionTexts,
    pub(crate) value: T,
    /// What a build refuses. The value has defaults in these places.
    pub(crate) faults: Vec<OptionFault>,
    /// Options that this engine does not know. Another one may: they are kept in the text.
    pub(crate) unknown: Vec<OptionFault>,
    /// Options that have no effect, for a warning.
    pub(crate) notes: Vec<OptionFault>,
    /// Where options stand whose values are checked only after the item was parsed.
    places: Vec<OptionPlace>,
}

/// Where an option of an item stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OptionPlace {
    key: String,
    /// `key=value`, as it stands in an item that is written as one text.
    pub(crate) part: String,
    /// The item, or the member of an object; `None` when the item does not come from a file.
    pub(crate) at: Option<Span>,
}

#[cfg(not(feature = "unkeyed"))]
impl<T: PartialEq> PartialEq for OptionItem<T> {
    fn eq(&self, other: &Self) -> bool {
        self.texts == other.texts && self.value == other.value
    }
}

#[cfg(feature = "unkeyed")]
impl<T> PartialEq for OptionItem<T> {
    fn eq(&self, other: &Self) -> bool {
        self.texts == other.texts
    }
}

#[cfg(not(feature = "unkeyed"))]
impl<T: Eq> Eq for OptionItem<T> {}

#[cfg(feature = "unkeyed")]
impl<T> Eq for OptionItem<T> {}

impl<T> OptionItem<T> {
    /// Parses the options of an item.
    pub(super) fn read(texts: OptionTexts, read: impl FnOnce(&mut OptionReader<'_>) -> T) -> Self {
        let mut options = OptionReader::new(&texts);
        let value = read(&mut options);
        let unknown = options.unknown();
        let OptionReader { faults, notes, places, .. } = options;
        Self { texts, value, faults, unknown, notes, places }
    }

    /// The options that a reader of the type `kind` asks for.
    #[cfg(test)]
    pub(super) fn known(kind: &str, read: impl FnOnce(&mut OptionReader<'_>) -> T) -> Vec<&'static str> {
        let texts = OptionTexts::from([("type".to_owned(), kind.to_owned())]);
        let mut options = OptionReader::new(&texts);
        drop(read(&mut options));
        options.known.retain(|key| *key != "type");
        options.known.sort_unstable();
        options.known.dedup();
        options.known
    }

    /// Parses changed options of the same item. What has not changed still stands where it stood.
    pub(super) fn reread(&self, texts: OptionTexts, read: impl FnOnce(&mut OptionReader<'_>) -> T) -> Self {
        let mut changed = Self::read(texts, read);
        for fault in changed.faults.iter_mut().chain(&mut changed.unknown).chain(&mut changed.notes) {
            let mut before = self.faults.iter().chain(&self.unknown).chain(&self.notes);
            fault.at = before.find(|it| it.key == fault.key).and_then(|it| it.at);
        }
        for place in &mut changed.places {
            place.at = self.place(&place.key).and_then(|before| before.at);
        }
        changed
    }

    /// Where an option stands whose value is checked after the item was parsed; `None` when it is not given.
    pub(crate) fn place(&self, key: &str) -> Option<&OptionPlace> {
        self.places.iter().find(|place| place.key == key)
    }

    /// The canonical text: what `--print` shows.
    pub(crate) const fn texts(&self) -> &OptionTexts {
        &self.texts
    }

    /// The values of options that must not be shown: keys and tokens.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &str> {
        let values = SECRET.iter().filter_map(|key| self.texts.get(*key));
        values.map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Says where faults and options stand, for those that do not know it yet. `place` is given the name of the option.
    pub(crate) fn place_faults(&mut self, place: impl Fn(&str) -> Span) {
        self.places.iter_mut().filter(|it| it.at.is_none()).for_each(|it| it.at = Some(place(&it.key)));
        let all = self.faults.iter_mut().chain(&mut self.unknown).chain(&mut self.notes);
        all.filter(|fault| fault.at.is_none()).for_each(|fault| fault.at = Some(place(&fault.key)));
    }
}

/// Reads `key=value,…` with keys in lower case; of a key that is written twice the last one counts.
///
/// # Errors
/// When a field is not `key=value`.
pub(super) fn from_csv(text: &str) -> Result<OptionTexts, OptionFault> {
    let pair = |field: &String| key_value(field).map(|(key, value)| (key, value.to_owned()));
    csv::fields(text)?.iter().map(|field| pair(field).ok_or_else(|| not_key_value(field, text))).collect()
}

/// The options of an object, keys in lower case.
pub(super) fn from_object(entries: &BTreeMap<String, String>) -> OptionTexts {
    entries.iter().map(|(key, value)| (key.to_lowercase(), value.clone())).collect()
}

/// Hands out the options of one item by name.
pub(crate) struct OptionReader<'a> {
    texts: &'a OptionTexts,
    /// What has the options, for messages: the type.
    kind: &'a str,
    /// The names that were asked for.
    known: Vec<&'static str>,
    /// How many of them the item has, and how many options were taken otherwise.
    n_found: usize,
    /// Names of other options that were taken.
    taken: Vec<&'a str>,
    /// Any option may be written: nobody knows what the type takes.
    is_open: bool,
    faults: Vec<OptionFault>,
    notes: Vec<OptionFault>,
    places: Vec<OptionPlace>,
}

impl<'a> OptionReader<'a> {
    fn new(texts: &'a OptionTexts) -> Self {
        let mut options = Self {
            texts,
            kind: "",
            known: Vec::new(),
            n_found: 0,
            taken: Vec::new(),
            is_open: false,
            faults: Vec::new(),
            notes: Vec::new(),
            places: Vec::new(),
        };
        options.kind = options.given("type").unwrap_or_default();
        options
    }

    /// The value of `type`.
    pub(super) const fn kind(&self) -> &'a str {
        self.kind
    }

    /// The value of an option, even if it is empty.
    pub(super) fn given(&mut self, key: &'static str) -> Option<&'a str> {
        self.known.push(key);
        let found = self.texts.get(key).map(String::as_str);
        self.n_found += usize::from(found.is_some());
        found
    }

    /// The value of an option; empty means that it is not given.
    pub(super) fn text(&mut self, key: &'static str) -> Option<&'a str> {
        self.given(key).filter(|text| !text.is_empty())
    }

    /// As [`text`](Self::text), owned.
    pub(super) fn owned(&mut self, key: &'static str) -> Option<String> {
        self.text(key).map(str::to_owned)
    }

    /// A boolean; an empty value is true.
    pub(super) fn flag(&mut self, key: &'static str, default: bool) -> bool {
        self.given_flag(key).unwrap_or(default)
    }

    /// A boolean, if it is given; an empty value is true.
    pub(super) fn given_flag(&mut self, key: &'static str) -> Option<bool> {
        let text = self.given(key)?;
        if text.is_empty() {
            return Some(true);
        }
        if let Ok(flag) = boolean(text) {
            return Some(flag);
        }
        let help = Some("write true or false".to_owned());
        self.bad(key, text, format!("`{key}` is neither true nor false: {text}"), help);
        None
    }

    /// One of several words. `what` begins the message about another word, which follows a colon.
    pub(super) fn choice<V: Copy>(
        &mut self,
        key: &'static str,
        all: &[(&'static str, V)],
        default: V,
        what: &str,
    ) -> V {
        let Some(text) = self.text(key) else { return default };
        if let Some((_, value)) = all.iter().find(|(name, _)| *name == text) {
            return *value;
        }
        let names = || all.iter().map(|(name, _)| *name);
        let help = suggest::did_you_mean(text, names())
            .unwrap_or_else(|| format!("known are {}", names().collect::<Vec<_>>().join(", ")));
        self.bad(key, text, format!("{what}: {text}"), Some(help));
        default
    }

    /// A number; `what` begins the message about what is none.
    pub(super) fn number<N: std::str::FromStr>(&mut self, key: &'static str) -> Option<N> {
        let text = self.text(key)?;
        let number = text.parse().ok();
        if number.is_none() {
            self.bad(key, text, format!("`{key}` is not a number: {text}"), None);
        }
        number
    }

    /// An option with a form of its own; `help` says which.
    pub(super) fn parsed<V>(&mut self, key: &'static str, parse: fn(&str) -> Option<V>, help: &str) -> Option<V> {
        let text = self.text(key)?;
        let value = parse(text);
        if value.is_none() {
            self.bad(key, text, format!("`{key}` cannot be: {text}"), Some(help.to_owned()));
        }
        value
    }

    /// An option that must be given.
    pub(super) fn required(&mut self, key: &'static str, what: &str) -> String {
        let found = self.owned(key);
        if found.is_none() {
            let message = format!("{what} of type `{}` wants a `{key}`", self.kind);
            self.faults.push(OptionFault::new(message).help(format!("add {key}=…")));
        }
        found.unwrap_or_default()
    }

    /// An option that belongs to another attribute, which is a fault when it is given.
    pub(super) fn of_other(&mut self, key: &'static str, mine: &str, other: &str) {
        let Some(value) = self.texts.get(key) else { return };
        self.taken.push(key);
        let fault = OptionFault::new(format!("`{key}` is an option of {other}, not of {mine}"));
        self.faults
            .push(fault.help(format!("drop it here; to set it, write {other} = [\"…,{key}=…\"]")).of(key, value));
    }

    /// All options, for those whose names are not fixed; who takes one says so by [`take`](Self::take).
    pub(super) fn all(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.texts.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Says that an option without a fixed name is known.
    pub(super) fn take(&mut self, key: &'a str) {
        self.taken.push(key);
    }

    /// Says that nobody knows which options this type has.
    pub(super) const fn open(&mut self) {
        self.is_open = true;
    }

    /// The options that were not asked for, as written: all of them are right.
    pub(super) fn rest(&mut self) -> BTreeMap<String, String> {
        self.is_open = true;
        let is_rest = |(key, _): &(&String, &String)| !self.known.contains(&key.as_str());
        self.texts.iter().filter(is_rest).map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// Records that option `key` of the item has a bad value; `help` says what to write instead.
    pub(super) fn bad(&mut self, key: &str, value: &str, message: String, help: Option<String>) {
        self.faults.push(OptionFault { help, ..OptionFault::new(message) }.of(key, value));
    }

    /// Records a fault of the item.
    pub(super) fn fault(&mut self, fault: OptionFault) {
        self.faults.push(fault);
    }

    /// Records that two options exclude each other; `key` is the one that is pointed at.
    pub(super) fn conflict(&mut self, key: &str, one: &str, other: &str) {
        let value = self.texts.get(key).map_or("", String::as_str);
        self.faults.push(OptionFault::new(format!("{one} conflicts with {other}")).of(key, value));
    }

    /// Records that an option has no effect.
    pub(super) fn note(&mut self, key: &str, message: impl Into<String>) {
        let value = self.texts.get(key).map_or("", String::as_str);
        self.notes.push(OptionFault::new(message).of(key, value));
    }

    /// Keeps the place of an option, for whoever checks its value when the item was parsed.
    pub(super) fn judged_later(&mut self, key: &str) {
        let value = self.texts.get(key).map_or("", String::as_str);
        self.places.push(OptionPlace { key: key.to_owned(), part: format!("{key}={value}"), at: None });
    }

    /// The options that nobody asked for.
    fn unknown(&self) -> Vec<OptionFault> {
        if self.is_open || self.n_found + self.taken.len() >= self.texts.len() {
            return Vec::new();
        }
        let is_known = |key: &str| self.known.contains(&key) || self.taken.contains(&key);
        let known: Vec<&str> = self.known.iter().copied().filter(|key| *key != "type").collect();
        let of = |(key, value): (&String, &String)| {
            let help = match suggest::did_you_mean(key, known.iter().copied()) {
                Some(help) => help,
                None if known.is_empty() => format!("`{}` takes no options", self.kind),
                None => format!("options of `{}`: {}", self.kind, known.join(", ")),
            };
            OptionFault::new(format!("type `{}` has no such option: {key}", self.kind)).help(help).of(key, value)
        };
        self.texts.iter().filter(|(key, _)| !is_known(key)).map(of).collect()
    }
}

/// The fault of a `type` that does not exist.
pub(super) fn unknown_type(kind: &str, what: &str, known: &[&str]) -> OptionFault {
    let help = suggest::did_you_mean(kind, known.iter().copied())
        .unwrap_or_else(|| format!("known types: {}", known.join(", ")));
    OptionFault::new(format!("{what}: {kind}")).help(help).of("type", kind)
}
