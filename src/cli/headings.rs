//! The headings under which `--help` lists flags.

pub(super) const FILES: &str = "Definition";
pub(super) const CHANGE: &str = "Changes to targets";
pub(super) const SHOW: &str = "Show, do not build";
pub(super) const COMPARE: &str = "Build a part";
pub(super) const RUN: &str = "Run";
