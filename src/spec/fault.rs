//! What is wrong with one text of an option, and the booleans that all options share.

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
