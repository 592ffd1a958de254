//! `attest`: which attestations go with the image.

use std::collections::BTreeMap;

use super::{OptionFault, boolean, csv, not_key_value};
use crate::report::suggest;

/// One attestation request in canonical form.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Attest {
    /// `provenance` or `sbom`; of several with one type the last counts.
    pub(crate) kind: String,
    pub(crate) disabled: bool,
    /// The other options; keys as written.
    pub(crate) attrs: BTreeMap<String, String>,
}

/// The types that exist.
pub(crate) const KINDS: &[&str] = &["provenance", "sbom"];

impl Attest {
    /// Reads `type=T[,disabled=B],k=v…`.
    ///
    /// # Errors
    /// When `type` is missing, `disabled` is no boolean or a field is not `key=value`.
    pub(crate) fn parse(text: &str) -> Result<Self, OptionFault> {
        let mut attest = Self::default();
        for field in csv::fields(text)? {
            let (key, value) = field.split_once('=').ok_or_else(|| not_key_value(&field, text))?;
            attest.set(key.trim(), value)?;
        }
        if attest.kind.is_empty() {
            return Err(
                OptionFault::new(format!("`type` is missing in: {text}")).help("write type=provenance or type=sbom")
            );
        }
        Ok(attest)
    }

    /// Reads the object form. `type` may be missing, as in the peer: the caller warns.
    ///
    /// # Errors
    /// When `disabled` is no boolean.
    pub(crate) fn from_entries(entries: &BTreeMap<String, String>) -> Result<Self, OptionFault> {
        let mut attest = Self::default();
        for (key, value) in entries {
            attest.set(key, value)?;
        }
        Ok(attest)
    }

    /// What is wrong with the type, for the build step.
    pub(crate) fn fault(&self) -> Option<OptionFault> {
        if KINDS.contains(&self.kind.as_str()) {
            return None;
        }
        let help = suggest::did_you_mean(&self.kind, KINDS.iter().copied())
            .unwrap_or_else(|| "write type=provenance or type=sbom".to_owned());
        Some(OptionFault::new(format!("not an attestation type: {}", self.kind)).help(help))
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), OptionFault> {
        match key.to_lowercase().as_str() {
            "type" => value.clone_into(&mut self.kind),
            "disabled" => {
                self.disabled = boolean(value)
                    .map_err(|fault| OptionFault { message: format!("`disabled` is {}", fault.message), ..fault })?;
            }
            _ => {
                self.attrs.insert(key.to_owned(), value.to_owned());
            }
        }
        Ok(())
    }
}
