//! Everything printed: diagnostics, data, progress, reports, the log for developers.

pub(crate) mod diagnostic;
pub(crate) mod log;
pub(crate) mod machine;
pub(crate) mod masking;
pub(crate) mod output;
pub(crate) mod progress;
pub(crate) mod raw_terminal;
pub(crate) mod report;
pub(crate) mod terminal;
