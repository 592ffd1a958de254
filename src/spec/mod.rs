//! The option mini-languages: what stands inside the strings and objects of `output`, `cache-from`, `secret` and their
//! like, parsed once into records. Nothing here knows targets or files: a [`OptionFault`] says what is wrong with one text,
//! and the caller adds whose text it was and where it stands.
//!
//! ```text
//! text ─► csv ─┬─► options ─► output cache attest     secret policy     ssh annotation ulimit size call entitlement context
//! object ──────┘
//! ```

pub(crate) mod annotation;
pub(crate) mod attest;
pub(crate) mod cache;
pub(crate) mod call;
pub(crate) mod compression;
pub(crate) mod context;
pub(crate) mod csv;
pub(crate) mod dockerfile;
pub(crate) mod entitlement;
pub(crate) mod glob;
pub(crate) mod hosts;
mod key;
pub(crate) mod network;
pub(crate) mod options;
pub(crate) mod output;
pub(crate) mod policy;
pub(crate) mod resources;
pub(crate) mod secret;
pub(crate) mod size;
pub(crate) mod ssh;
pub(crate) mod tag;
pub(crate) mod ulimit;

pub(crate) use attest::Attest;
pub(crate) use cache::{CacheExport, CacheImport};
pub(crate) use call::CallMethod;
pub(crate) use entitlement::Entitlement;
pub(crate) use network::BuildNetwork;
pub(crate) use options::OptionItem;
pub(crate) use output::Output;
pub(crate) use policy::Policy;
pub(crate) use resources::{ResourceLimits, ResourceTexts};
pub(crate) use secret::Secret;
pub(crate) use ssh::Ssh;
pub(crate) use tag::ImageTag;
pub(crate) use ulimit::Ulimit;

use crate::report::Span;

/// What is wrong with one option text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OptionFault {
    /// Lower case, names in backticks, the offending value at the end.
    pub(crate) message: String,
    /// What to type instead.
    pub(crate) help: Option<String>,
    /// The option at fault, empty if it is the text as a whole: finds the member of an object.
    pub(crate) key: String,
    /// What of the text is at fault, as in `compression=zst`; empty if it is the text as a whole.
    pub(crate) part: String,
    /// Where the text stands. Set by the caller, which alone knows it.
    pub(crate) at: Option<Span>,
}

impl OptionFault {
    /// A fault of the whole text, without help.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None, key: String::new(), part: String::new(), at: None }
    }

    /// Sets what to type instead.
    #[must_use]
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Says that one option is at fault, and what its value is.
    #[must_use]
    pub(crate) fn of(mut self, key: &str, value: &str) -> Self {
        key.clone_into(&mut self.key);
        self.part = format!("{key}={value}");
        self
    }
}

/// Reads a boolean as the peer's flags do.
///
/// # Errors
/// Names the text and what is accepted.
pub(crate) fn boolean(text: &str) -> Result<bool, OptionFault> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(OptionFault::new(format!("not a boolean: {text}")).help("write true or false")),
    }
}

/// Splits one `key=value`; the key is trimmed and in lower case.
fn key_value(field: &str) -> Option<(String, &str)> {
    field.split_once('=').map(|(key, value)| (key.trim().to_lowercase(), value))
}

/// The fault of a field that is not `key=value`.
fn not_key_value(field: &str, all: &str) -> OptionFault {
    OptionFault::new(format!("`{field}` is not `key=value` in: {all}")).help(format!("write `{field}=VALUE`"))
}
