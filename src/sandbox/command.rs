//! Other programs that `bake` starts: git, credential helpers.

use std::{ffi::OsStr, process::Command};

/// A program with an empty environment and no stdin; the caller adds what it needs.
#[expect(clippy::disallowed_methods, reason = "the one place that may")]
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().stdin(std::process::Stdio::null());
    command
}
