//! Other programs that `bake` starts: git, credential helpers, container runtimes, network tools.

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

/// A command with an empty environment and no stdin; the caller adds what it needs.
#[expect(clippy::disallowed_methods, reason = "the one place that may")]
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().stdin(std::process::Stdio::null());
    command
}

/// Finds an executable file by name in the absolute directories of `path`, as in `$PATH`, or where systems keep theirs.
pub(super) fn find_program(name: &str, path: &str) -> Option<PathBuf> {
    path.split(':')
        .filter(|dir| dir.starts_with('/'))
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/bin", "/bin"])
        .map(|dir| Path::new(dir).join(name))
        .find(|file| is_program(file))
}

/// Whether a path leads to a regular file that somebody may execute.
pub(super) fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
