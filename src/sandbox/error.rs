//! Why a step could not be run: each variant names its subject, and most know what the user can do about it.

use std::path::PathBuf;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a step could not be set up, or was stopped. It also crosses the socket from the helper.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
pub(crate) enum SandboxError {
    #[error("executable file not found in $PATH, which is {path}: `{program}`")]
    NotInPath { program: String, path: String },
    #[error("no such file or directory, the image has no executable of this name: `{program}`")]
    NotFound { program: String },
    #[error("no such file or directory: `{program}` exists, but its interpreter does not: `{interpreter}`")]
    MissingInterpreter { program: String, interpreter: String },
    #[error("permission denied, the user of the step may not execute: `{program}`")]
    NotExecutable { program: String },
    #[error("exec format error: neither a script with a `#!` line nor a program for this system: `{program}`")]
    NotAProgram { program: String },
    #[error("exec format error: `{program}` is a program for {machine}, which this machine ({host}) cannot execute")]
    WrongArchitecture { program: String, machine: String, host: String },
    #[error("cannot execute `{program}`: {}", os(*.errno))]
    Exec { program: String, errno: i32 },
    #[error("user not found in the image's /etc/passwd: `{user}`")]
    UserNotFound { user: String },
    #[error("group not found in the image's /etc/group: `{group}`")]
    GroupNotFound { group: String },
    #[error("cannot read the image's {file}: {reason}")]
    UserFile { file: String, reason: String },
    #[error("no user or group of this number exists in the user namespace: {id}")]
    Unmapped { id: u32 },
    #[error("cannot make the working directory `{path}`: {}", os(*.errno))]
    Cwd { path: String, errno: i32 },
    #[error("cannot mount on `{target}`: {reason}")]
    Mount { target: String, reason: String },
    #[error("mount source not found: `{path}`")]
    MountSource { path: String },
    #[error("{limit} cannot be set to {value}: {}", os(*.errno))]
    Limit { limit: String, value: String, errno: i32 },
    #[error("the sandbox could not {action}: {}", os(*.errno))]
    Setup { action: String, errno: i32 },
    #[error("the layers of the image cannot be mounted ({count} of them): {}", os(*.errno))]
    Overlay { count: usize, errno: i32 },
    #[error("cannot use the directory {}: {}", path.display(), os(*.errno))]
    HostPath { path: PathBuf, errno: i32 },
    #[error("the sandbox helper ended before the command was started: {status}")]
    HelperDied { status: String },
    #[error("`{}` could not run it: {message}", program.display())]
    Runtime { program: PathBuf, message: String },
    #[error("the network of the step cannot be connected: {reason}")]
    Network { reason: String },
    #[error("cancelled")]
    Cancelled,
    #[error(transparent)]
    Refused(#[from] Diagnosis),
}

impl SandboxError {
    /// The error of a system call that a step of the set-up needs; `action` completes "the sandbox could not".
    pub(super) fn setup(action: &str, errno: Errno) -> Self {
        Self::Setup { action: action.to_owned(), errno: errno.raw_os_error() }
    }

    /// As [`Self::setup`], for an error of the standard library.
    pub(super) fn io_setup(action: &str, error: &std::io::Error) -> Self {
        Self::Setup { action: action.to_owned(), errno: error.raw_os_error().unwrap_or(libc::EINVAL) }
    }

    /// Whether everything was ready, and the program is not there or cannot be executed.
    pub(crate) const fn is_missing_program(&self) -> bool {
        matches!(
            self,
            Self::NotInPath { .. }
                | Self::NotFound { .. }
                | Self::MissingInterpreter { .. }
                | Self::NotExecutable { .. }
                | Self::NotAProgram { .. }
                | Self::WrongArchitecture { .. }
                | Self::Exec { .. }
        )
    }

    /// The help for the user: what to change on this machine; `None` if we do not know.
    pub(crate) fn help(&self) -> Option<String> {
        Some(match self {
            Self::WrongArchitecture { machine, .. } => format!(
                "build for this machine's platform, or register an emulator for {machine} with the kernel: \
                 `docker run --privileged --rm tonistiigi/binfmt --install {machine}`, or install the package \
                 `qemu-user-static`"
            ),
            Self::MissingInterpreter { interpreter, .. } if interpreter.contains("/ld-") => format!(
                "the program is linked dynamically: install the C library that provides `{interpreter}`, or link it \
                 statically"
            ),
            Self::MissingInterpreter { interpreter, .. } if interpreter.ends_with('\r') => {
                "the script has Windows line ends: convert them with `dos2unix`".to_owned()
            }
            Self::MissingInterpreter { .. } => {
                "install the interpreter in an earlier step, or correct the `#!` line".to_owned()
            }
            Self::NotInPath { program, .. } | Self::NotFound { program } if program == "/bin/sh" => {
                "the image has no shell: use the exec form, `RUN [\"program\", \"argument\"]`".to_owned()
            }
            Self::NotInPath { .. } | Self::NotFound { .. } => {
                "install it in an earlier step, or correct its name".to_owned()
            }
            Self::NotExecutable { .. } => "`COPY --chmod=755`, or `RUN chmod +x` in an earlier step".to_owned(),
            Self::NotAProgram { .. } => "start the script with a line like `#!/bin/sh`".to_owned(),
            Self::UserNotFound { .. } | Self::GroupNotFound { .. } => {
                "create it in an earlier step, or use its number".to_owned()
            }
            Self::Unmapped { .. } => SUBUID_HELP.to_owned(),
            Self::Runtime { .. } => {
                "look at what the runtime says, or unset `BAKE_RUNTIME` to run steps in the sandbox of `bake`"
                    .to_owned()
            }
            Self::Network { .. } => {
                "run fewer steps at once with `--jobs`, or set `BAKE_NETWORK` to another tool".to_owned()
            }
            Self::Refused(diagnosis) => diagnosis.help.clone(),
            // The file system of a container is itself an overlay, which the kernel does not take as the upper one of another.
            Self::Overlay { errno, .. } if *errno == libc::EINVAL => {
                "in a container, let `BAKE_HOME` lie on a volume: a directory of its own file system cannot be mounted over"
                    .to_owned()
            }
            Self::Setup { errno, .. } if *errno == libc::EPERM => {
                "in a container, its seccomp profile has to allow namespaces and mounts, as `Unconfined` does: see \
                 docs/ci.md"
                    .to_owned()
            }
            _ => return None,
        })
    }
}

/// Why this machine does not let us make namespaces, and how to change that.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[error("{problem}")]
pub(crate) struct Diagnosis {
    pub(crate) problem: String,
    pub(crate) help: String,
}

/// The help for an image that needs more ids than the user's own.
pub(super) const SUBUID_HELP: &str = "give the user a range of ids: install the package `uidmap` (shadow-utils), then \
                                      `usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER`";

/// The system's words for an error number.
fn os(errno: i32) -> std::io::Error {
    std::io::Error::from_raw_os_error(errno)
}
