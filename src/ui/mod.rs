//! Everything printed: diagnostics, data, progress.

pub(crate) mod diagnostic;
pub(crate) mod output;
pub(crate) mod progress;
pub(crate) mod terminal;
