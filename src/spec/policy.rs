//! `policy`: rules that sources of a build must keep, as written.

use std::collections::BTreeMap;

use super::{OptionFault, boolean, csv, key_value, not_key_value};
use crate::report::suggest;

/// One policy in canonical form.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Policy {
    pub(crate) filename: Option<String>,
    pub(crate) reset: Option<bool>,
    pub(crate) disabled: Option<bool>,
    pub(crate) strict: Option<bool>,
    pub(crate) log_level: Option<String>,
}

const KEYS: [&str; 5] = ["filename", "reset", "disabled", "strict", "log-level"];

impl Policy {
    /// Reads `filename=F,strict=B…`.
    ///
    /// # Errors
    /// On an unknown key or a bad boolean.
    pub(crate) fn parse(text: &str) -> Result<Self, OptionFault> {
        let mut policy = Self::default();
        for field in csv::fields(text)? {
            let (key, value) = key_value(&field).ok_or_else(|| not_key_value(&field, text))?;
            policy.set(&key, value)?;
        }
        Ok(policy)
    }

    /// Reads the object form.
    ///
    /// # Errors
    /// On an unknown key or a bad boolean.
    pub(crate) fn from_entries(entries: &BTreeMap<String, String>) -> Result<Self, OptionFault> {
        let mut policy = Self::default();
        for (key, value) in entries {
            policy.set(key, value)?;
        }
        Ok(policy)
    }

    /// All options as text, in the order of the documentation.
    pub(crate) fn entries(&self) -> Vec<(&'static str, String)> {
        let flag = |key, value: Option<bool>| value.map(|it| (key, it.to_string()));
        [
            self.filename.clone().map(|it| ("filename", it)),
            flag("reset", self.reset),
            flag("disabled", self.disabled),
            flag("strict", self.strict),
            self.log_level.clone().map(|it| ("log-level", it)),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), OptionFault> {
        let flag = || {
            boolean(value).map_err(|fault| OptionFault { message: format!("`{key}` is {}", fault.message), ..fault })
        };
        match key {
            "filename" => self.filename = Some(value.to_owned()),
            "reset" => self.reset = Some(flag()?),
            "disabled" => self.disabled = Some(flag()?),
            "strict" => self.strict = Some(flag()?),
            "log-level" => self.log_level = Some(value.to_owned()),
            _ => {
                let help =
                    suggest::did_you_mean(key, KEYS).unwrap_or_else(|| format!("known keys: {}", KEYS.join(", ")));
                return Err(OptionFault::new(format!("unknown policy key: {key}")).help(help));
            }
        }
        Ok(())
    }
}
