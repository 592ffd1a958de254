//! Everything printed: diagnostics, data, progress, the log for developers.

pub(crate) mod diagnostic;
pub(crate) mod log;
pub(crate) mod machine;
pub(crate) mod output;
pub(crate) mod progress;
pub(crate) mod raw_terminal;
pub(crate) mod terminal;
