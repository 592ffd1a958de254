//! `tags`: names of the image.

use super::fault::OptionFault;
use crate::oci::Reference;

/// One name of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImageTag {
    /// As written.
    pub(crate) text: String,
    pub(crate) reference: Reference,
}

impl ImageTag {
    /// Parses a reference.
    ///
    /// # Errors
    /// When the text is none.
    pub(crate) fn parse(text: &str) -> Result<Self, OptionFault> {
        match Reference::parse(text) {
            Ok(reference) => Ok(Self { text: text.to_owned(), reference }),
            Err(error) => Err(OptionFault::new(error.to_string()).help("write [REGISTRY/]NAME[:TAG], in lower case")),
        }
    }
}
