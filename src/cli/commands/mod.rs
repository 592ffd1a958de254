//! One file per command. Each takes the settings and returns the exit code.

pub(crate) mod affected;
pub(crate) mod build;
pub(crate) mod builders;
pub(crate) mod call;
pub(crate) mod check;
pub(crate) mod command_line;
pub(crate) mod convert;
pub(crate) mod debug;
pub(crate) mod du;
pub(crate) mod explain;
pub(crate) mod fmt;
pub(crate) mod image_id;
pub(crate) mod imagetools;
mod imagetools_create;
mod imagetools_inspect;
pub(crate) mod list;
pub(crate) mod log;
pub(crate) mod matrix;
mod metadata;
pub(crate) mod plan;
pub(crate) mod print;
pub(crate) mod prune;
pub(crate) mod releases;
mod shell;
pub(crate) mod store_archive;
mod store_filter;
pub(crate) mod verify;
