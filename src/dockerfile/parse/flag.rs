//! Flags of instructions: which there are, and their values.

use crate::{
    dockerfile::{
        fault::fault,
        lex::{FlagWord, SourcePlace},
    },
    report::{Diagnostic, Spanned, suggest},
};

/// The type of the value of a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    Bool,
    Text,
    /// May be repeated.
    List,
}

/// The flags that one instruction knows, without `--`, each with the type of its value.
pub(super) type KnownFlags = &'static [(&'static str, Takes)];

pub(super) const NONE: KnownFlags = &[];
pub(super) const FROM: KnownFlags = &[("platform", Takes::Text)];
pub(super) const RUN: KnownFlags = &[("mount", Takes::List), ("network", Takes::Text), ("security", Takes::Text)];
pub(super) const COPY: KnownFlags = &[
    ("chmod", Takes::Text),
    ("chown", Takes::Text),
    ("exclude", Takes::List),
    ("from", Takes::Text),
    ("link", Takes::Bool),
    ("parents", Takes::Bool),
];
pub(super) const ADD: KnownFlags = &[
    ("checksum", Takes::Text),
    ("chmod", Takes::Text),
    ("chown", Takes::Text),
    ("exclude", Takes::List),
    ("keep-git-dir", Takes::Bool),
    ("link", Takes::Bool),
    ("unpack", Takes::Bool),
];
pub(super) const HEALTHCHECK: KnownFlags = &[
    ("interval", Takes::Text),
    ("retries", Takes::Text),
    ("start-interval", Takes::Text),
    ("start-period", Takes::Text),
    ("timeout", Takes::Text),
];

/// The flags that were written for one instruction; all are known and their values are of the right type.
pub(super) struct FlagSet {
    given: Vec<(&'static str, Spanned<String>)>,
}

impl FlagSet {
    /// Checks the flags of an instruction against those that it knows.
    ///
    /// # Errors
    /// For an unknown flag, one that is repeated and is not a list, and a value that is missing or no `true` or
    /// `false`.
    pub(super) fn read(words: Vec<FlagWord>, known: KnownFlags, place: &SourcePlace) -> Result<Self, Diagnostic> {
        let mut given: Vec<(&'static str, Spanned<String>)> = Vec::new();
        for word in words {
            let at = place.at(word.range);
            let (flag, value) = match word.text.split_once('=') {
                Some((flag, value)) => (flag, Some(value)),
                None => (word.text.as_str(), None),
            };
            let name = flag.strip_prefix("--").unwrap_or(flag);
            let Some((name, takes)) = known.iter().find(|(it, _)| *it == name) else {
                let fault = fault("bake::dockerfile::unknown_flag", format!("unknown flag: {flag}"), at, "this flag");
                if name == "device" {
                    return Err(fault.help("devices of the machine are not handed to steps by this engine"));
                }
                return Err(match suggest::nearest(name, known.iter().map(|(it, _)| *it)) {
                    Some(near) => fault.help(format!("did you mean `--{near}`?")),
                    None => fault,
                });
            };
            if *takes != Takes::List && given.iter().any(|(it, _)| it == name) {
                let message = format!("duplicate flag: {flag}");
                return Err(fault("bake::dockerfile::duplicate_flag", message, at, "given again"));
            }
            let value = match (takes, value) {
                (Takes::Bool, None) => "true".to_owned(),
                (Takes::Bool, Some("")) | (Takes::Text | Takes::List, None) => {
                    let message = format!("the flag has no value: {flag}");
                    return Err(fault("bake::dockerfile::missing_flag_value", message, at, "this flag")
                        .help(format!("write `{flag}=value`")));
                }
                (Takes::Bool, Some(value)) => match value.to_ascii_lowercase().as_str() {
                    known @ ("true" | "false") => known.to_owned(),
                    _ => {
                        let message = format!("`{flag}` is true or false, not: {value}");
                        return Err(fault("bake::dockerfile::bad_flag_value", message, at, "this flag"));
                    }
                },
                (_, Some(value)) => value.to_owned(),
            };
            given.push((name, Spanned::new(value, at)));
        }
        Ok(Self { given })
    }

    /// The value of a flag that is given at most once; `None` if it is not given.
    pub(super) fn text(&mut self, name: &str) -> Option<Spanned<String>> {
        self.peek(name).cloned()
    }

    /// The value of a flag by reference; of a repeated one the first.
    pub(super) fn peek(&self, name: &str) -> Option<&Spanned<String>> {
        self.given.iter().find(|(it, _)| *it == name).map(|(_, value)| value)
    }

    /// The value of a flag that is `true` or `false`; `None` if it is not given.
    pub(super) fn boolean(&self, name: &str) -> Option<bool> {
        self.peek(name).map(|it| it.value == "true")
    }

    /// All values of a repeatable flag, in the order of the file.
    pub(super) fn list(&self, name: &str) -> Vec<Spanned<String>> {
        self.given.iter().filter(|(it, _)| *it == name).map(|(_, value)| value.clone()).collect()
    }
}
