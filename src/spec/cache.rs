//! `cache-from` and `cache-to`: where a cache is read or written, as written.

use std::collections::BTreeMap;

use super::{OptionFault, csv, key_value, not_key_value};
use crate::report::suggest;

/// One cache in canonical form.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RemoteCache {
    pub(crate) kind: String,
    /// The other options; keys in lower case.
    pub(crate) attrs: BTreeMap<String, String>,
}

/// The types that the peer knows.
pub(crate) const KINDS: &[&str] = &["registry", "local", "inline", "gha", "s3", "azblob"];

impl RemoteCache {
    /// Reads `type=T,k=v…`, or plain references, each of which is a cache of its own.
    ///
    /// # Errors
    /// When `type` is missing or a field is not `key=value`.
    pub(crate) fn parse(text: &str) -> Result<Vec<Self>, OptionFault> {
        let fields = csv::fields(text)?;
        if fields.iter().all(|field| !field.contains('=')) {
            return Ok(fields
                .into_iter()
                .map(|reference| Self {
                    kind: "registry".to_owned(),
                    attrs: BTreeMap::from([("ref".to_owned(), reference)]),
                })
                .collect());
        }
        let mut cache = Self::default();
        for field in &fields {
            let (key, value) = key_value(field).ok_or_else(|| not_key_value(field, text))?;
            cache.set(key, value.to_owned());
        }
        cache.checked(text).map(|it| vec![it])
    }

    /// Reads the object form.
    ///
    /// # Errors
    /// When `type` is missing.
    pub(crate) fn from_entries(entries: &BTreeMap<String, String>) -> Result<Self, OptionFault> {
        let mut cache = Self::default();
        for (key, value) in entries {
            cache.set(key.to_lowercase(), value.clone());
        }
        cache.checked("")
    }

    /// All options as text, `type` among them, sorted.
    pub(crate) fn entries(&self) -> BTreeMap<&str, &str> {
        let mut all: BTreeMap<&str, &str> = self.attrs.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        all.insert("type", &self.kind);
        all
    }

    /// What is wrong with the type or the mode, for the build step.
    pub(crate) fn fault(&self) -> Option<OptionFault> {
        if !KINDS.contains(&self.kind.as_str()) {
            let known = suggest::did_you_mean(&self.kind, KINDS.iter().copied())
                .unwrap_or_else(|| format!("known types: {}", KINDS.join(", ")));
            return Some(OptionFault::new(format!("not a cache type: {}", self.kind)).help(known));
        }
        match self.attrs.get("mode").map(String::as_str) {
            None | Some("min" | "max" | "") => None,
            Some(mode) => {
                Some(OptionFault::new(format!("not a cache mode: {mode}")).help("write mode=min or mode=max"))
            }
        }
    }

    fn set(&mut self, key: String, value: String) {
        if key == "type" {
            self.kind = value;
        } else {
            self.attrs.insert(key, value);
        }
    }

    fn checked(self, text: &str) -> Result<Self, OptionFault> {
        if !self.kind.is_empty() {
            return Ok(self);
        }
        let shown = if text.is_empty() { String::new() } else { format!(" in: {text}") };
        Err(OptionFault::new(format!("`type` is missing{shown}"))
            .help(format!("give a type: {}; a lone image reference means type=registry", KINDS.join(", "))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_are_read_in_all_forms() {
        let print = |text: &str| match RemoteCache::parse(text) {
            Ok(all) => all.iter().map(|it| format!("{:?}", it.entries())).collect::<Vec<_>>().join(" "),
            Err(fault) => fault.message,
        };
        assert_eq!(print("r/a,r/b"), r#"{"ref": "r/a", "type": "registry"} {"ref": "r/b", "type": "registry"}"#);
        assert_eq!(print("type=gha,Scope=x"), r#"{"scope": "x", "type": "gha"}"#);
        assert_eq!(print("ref=x"), "`type` is missing in: ref=x");
        assert_eq!(print("type=registry,ref"), "`ref` is not `key=value` in: type=registry,ref");
    }
}
