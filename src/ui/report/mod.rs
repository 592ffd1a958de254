//! Reports: what a command told, and what became of its targets, in the formats that CI services read.
//!
//! ```text
//! output::diagnostics ─► collected ◄─ results of a run
//!                            │ finding (places as files and lines, fingerprints)
//!                            └─► format (THE TABLE) ─► github | gitlab | sarif | junit | summary ─► text
//! ```
//!
//! Every diagnostic that is told is collected where it is told, so nothing is formatted or decided a second time. A new format is
//! one file and one row of the table in `format`. Where the text goes is decided in `cli`.

mod collected;
mod finding;
mod format;
mod github;
mod gitlab;
mod junit;
mod rules;
mod sarif;
mod summary;

pub(crate) use collected::{begin, is_empty, planned, record, text};
pub(crate) use finding::ReportPaths;
pub(crate) use format::ReportFormat;
