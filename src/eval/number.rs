//! To be written.

/// A number.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Number(pub(crate) i64);
