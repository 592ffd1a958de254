//! The constructor of Dockerfile errors: one code, one message, one place.

use crate::report::{Diagnostic, Span};

/// Makes an error about one place of a Dockerfile; `label` says what is there.
pub(super) fn fault(code: &'static str, message: String, at: Span, label: impl Into<String>) -> Diagnostic {
    Diagnostic::error(code, message).at(at, label)
}
