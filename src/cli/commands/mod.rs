//! One file per command. Each takes the settings and returns the exit code.

pub(crate) mod build;
pub(crate) mod call;
pub(crate) mod check;
pub(crate) mod du;
pub(crate) mod fmt;
pub(crate) mod list;
pub(crate) mod plan;
pub(crate) mod print;
pub(crate) mod prune;
pub(crate) mod verify;
