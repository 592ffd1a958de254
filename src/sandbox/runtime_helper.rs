//! The side of the helper: `bake __runtime`, between `bake` and a container runtime, its stdin a socket. It starts the
//! runtime, becomes its exit code, and sees to it that the step ends when `bake` is gone and the socket closes.

use std::{
    ffi::OsString,
    io::{self, BufRead as _, Read as _},
    os::{
        fd::AsFd as _,
        unix::{net::UnixStream, process::ExitStatusExt as _},
    },
    path::PathBuf,
    process::{Command, Stdio},
    thread,
};

use rustix::{
    fs::CWD,
    mount::{MountPropagationFlags, mount_change},
    process::setsid,
    thread::UnshareFlags,
};
use serde::{Deserialize, Serialize};

use super::{
    command::command,
    console,
    fsmount::{self, NODEV, NOEXEC, NOSUID},
    spec::StepStdin,
    sys,
};

/// The instructions to `bake __runtime`: one line of JSON on its stdin, sent before anything else.
#[derive(Serialize, Deserialize)]
pub(super) struct RuntimeStart {
    /// Runs the container (`runc run …`); its exit code becomes that of the helper.
    pub(super) run: RuntimeCommand,
    /// Kills and removes that container (`runc delete --force …`); used with [`RuntimeLifetime::Watched`] only.
    pub(super) delete: RuntimeCommand,
    /// Control groups to enter: their `cgroup.procs` files.
    pub(super) cgroups: Vec<PathBuf>,
    pub(super) lifetime: RuntimeLifetime,
    /// What the runtime, and through it the command, reads. Our end of it is sent back over the socket.
    pub(super) stdin: StepStdin,
}

/// A command line and its environment.
#[derive(Serialize, Deserialize)]
pub(super) struct RuntimeCommand {
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
}

/// The means by which a step of an OCI runtime is ended when `bake` ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum RuntimeLifetime {
    /// The helper is process 1 of a pid namespace, all of which the kernel kills when it ends.
    PidNamespace,
    /// The helper has the runtime kill the container: where no new /proc can be mounted, without which a runtime does not
    /// find its processes in a pid namespace.
    Watched,
}

impl RuntimeCommand {
    /// The program, arguments and environment of a command.
    pub(super) fn of(command: &Command) -> Self {
        let owned = |it: &std::ffi::OsStr| it.to_owned();
        let env = command.get_envs().filter_map(|(name, value)| Some((owned(name), owned(value?))));
        Self {
            program: owned(command.get_program()),
            args: command.get_args().map(owned).collect(),
            env: env.collect(),
        }
    }

    fn command(&self) -> Command {
        let mut command = command(&self.program);
        command.args(&self.args).envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// Runs the container that stdin describes and returns its exit code.
///
/// `sandbox::helper_main` calls it when the first argument is `__runtime`.
pub(super) fn runtime_helper_main() -> u8 {
    const FAILED: u8 = 255;
    sys::close_from(3);
    let Ok(socket) = io::stdin().as_fd().try_clone_to_owned() else { return FAILED };
    let mut socket = UnixStream::from(socket);
    let mut line = String::new();
    if io::BufReader::new(&socket).read_line(&mut line).is_err() {
        return FAILED;
    }
    let Ok(start) = serde_json::from_str::<RuntimeStart>(&line) else { return FAILED };
    for procs in &start.cgroups {
        // Limits are best effort.
        let _without = std::fs::write(procs, "0");
    }
    if start.lifetime == RuntimeLifetime::PidNamespace && show_own_processes().is_err() {
        return FAILED;
    }
    if connect(&socket, start.stdin).is_err() {
        return FAILED;
    }
    let mut runtime = start.run.command();
    if start.stdin != StepStdin::Closed {
        runtime.stdin(Stdio::inherit());
    }
    let Ok(mut runtime) = runtime.spawn() else { return FAILED };
    let watching = thread::Builder::new().spawn(move || {
        // Nothing more is sent: this returns when the other side is gone.
        let _closed = socket.read(&mut [0]);
        if start.lifetime == RuntimeLifetime::Watched {
            let _gone = start.delete.command().stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
        sys::exit_now(FAILED.into());
    });
    if watching.is_err() {
        let _gone = runtime.kill();
    }
    match runtime.wait() {
        Ok(status) => {
            let code = status.code().or(status.signal().map(|signal| 128 + signal));
            code.and_then(|code| u8::try_from(code).ok()).unwrap_or(FAILED)
        }
        Err(_) => FAILED,
    }
}

/// Replaces the socket as our standard input, which the runtime inherits, where the step is to have one. A terminal is one of
/// the host: the runtime makes that of the step, and passes on keys and size.
fn connect(socket: &UnixStream, stdin: StepStdin) -> rustix::io::Result<()> {
    if stdin == StepStdin::Terminal {
        setsid()?;
    }
    let ours = console::connect(stdin, "/dev/ptmx")?;
    console::hand_over(socket, ours.as_ref())
}

/// Mounts the /proc of our pid namespace over that of `bake`, for us and the runtime alone.
fn show_own_processes() -> rustix::io::Result<()> {
    sys::unshare(UnshareFlags::NEWNS)?;
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
    fsmount::make("proc", &[], NOSUID | NODEV | NOEXEC)?.attach(CWD, "/proc").map(drop)
}
