//! The side of the helper: `bake __sandbox`, one thread, process 1 of a new pid namespace, its stdin a socket.
//!
//! 1. read the [`StepStart`] until the other side is shut
//! 2. namespaces: mount, ipc, uts, cgroup, and network if it is to have only a loopback device
//! 3. make all mounts detached, while the host's files can be seen; mount the root; pivot into it
//! 4. look up the user; attach /proc, /dev, /sys, then the spec's mounts in the order of their targets
//! 5. make and enter the working directory; stdin becomes a pipe at its end
//! 6. report what was made ([`HelperReport::Ready`]); limits, filter, capabilities, user
//! 7. exec; if anything failed, report the fault ([`HelperReport::Failed`])

use std::{
    io::{Read, Write},
    os::{fd::AsFd, unix::net::UnixStream},
    path::PathBuf,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Gid, Mode, OFlags, Uid, fchown, open},
    io::Errno,
    mount::{MountPropagationFlags, mount_change},
    process::{Signal, fchdir, set_parent_process_death_signal, setsid, umask},
    thread::{CapabilitySet, UnshareFlags},
};
use serde::{Deserialize, Serialize};

use super::{
    console,
    error::SandboxError,
    exec, filter,
    inside::{Inside, Make},
    limits::{self, KEPT},
    mounts,
    root::{self, Workshop},
    spec::SandboxSpec,
    stubs::MadeStubs,
    sys, system,
    user::{self, Ids},
};
use crate::spec::SecurityMode;

/// The instructions to `bake __sandbox`: JSON on its stdin, up to its end.
#[derive(Serialize, Deserialize)]
pub(super) struct StepStart<S> {
    pub(super) spec: S,
    /// Whether we are root of a user namespace only.
    pub(super) user_namespace: bool,
    /// Control groups to enter: their `cgroup.procs` files.
    pub(super) cgroups: Vec<PathBuf>,
    pub(super) network: NetworkSetup,
    /// The content of `/etc/resolv.conf`, where that of the host would not work.
    pub(super) resolv_conf: Option<String>,
}

/// The action of the helper on the network namespace in which it was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum NetworkSetup {
    /// Leaves it for a new one that has only a loopback device.
    Loopback,
    /// Stays in it.
    Inherit,
    /// Stays in it and drops NET_RAW, as it is the host's, where packets of others could be read or forged, or frames of
    /// a step are not looked at.
    InheritWithoutRaw,
}

/// The reports of `bake __sandbox`: one line of JSON each.
#[derive(Serialize, Deserialize)]
pub(super) enum HelperReport {
    /// All is set up; the command comes next.
    Ready(MadeStubs),
    /// A control group could not be entered, for this reason.
    Outside(String),
    /// There will be no command.
    Failed(SandboxError),
}

/// Becomes the command that the [`StepStart`] on stdin describes; returns, with exit code 1, only if that fails.
///
/// The fault is sent as [`HelperReport::Failed`] over the same socket. [`super::helper_main`] calls it when the first
/// argument is `__sandbox`.
pub(super) fn step_helper_main() -> u8 {
    sys::close_from(3);
    let Ok(socket) = take_stdin() else { return 1 };
    let error = match become_command(&socket) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    report(&socket, &HelperReport::Failed(error));
    1
}

/// A type without values: the result of a function that does not return when it succeeds.
enum Never {}

fn become_command(mut socket: &UnixStream) -> Result<Never, SandboxError> {
    let mut text = Vec::with_capacity(16 << 10);
    socket.read_to_end(&mut text).map_err(|error| SandboxError::io_setup("read its instructions", &error))?;
    let start: StepStart<SandboxSpec> = serde_json::from_slice(&text)
        .map_err(|error| SandboxError::io_setup("parse its instructions", &error.into()))?;
    drop(text);
    let StepStart { mut spec, user_namespace, cgroups, network, resolv_conf } = start;
    die_with_parent()?;
    step("start a session", setsid())?;
    umask(Mode::from_raw_mode(0o022));
    for procs in &cgroups {
        // Limits are best effort: the step runs without them, and the user is told.
        if let Err(error) = std::fs::write(procs, "0") {
            report(socket, &HelperReport::Outside(format!("a control group cannot be entered: {error}")));
        }
    }
    enter_namespaces(&spec, network)?;
    let (mut inside, ids) = enter_root(&spec, resolv_conf.as_deref(), user_namespace)?;
    if !spec.env.iter().any(|(name, _)| name == "HOME") {
        spec.env.push(("HOME".to_owned(), ids.home.clone()));
    }
    keep_last(&mut spec.env);
    enter_cwd(&spec.cwd, &ids, &mut inside)?;
    let root = inside.root().try_clone().map_err(|error| SandboxError::io_setup("keep its root", &error))?;
    limits::set_rlimits(&spec.ulimits)?;
    let ours = step("connect standard input", console::connect(spec.stdin, "/dev/pts/ptmx"))?;
    own_streams(&ids)?;
    step("hand over its end of standard input", console::hand_over(socket, ours.as_ref()))?;
    drop(ours);
    report(socket, &HelperReport::Ready(inside.into_made()));
    if spec.security == SecurityMode::Sandbox {
        step("install the system call filter", sys::install_filter(&filter::program(spec.owners)))?;
    }
    let allowed = match network {
        NetworkSetup::InheritWithoutRaw => KEPT.difference(CapabilitySet::NET_RAW),
        NetworkSetup::Loopback | NetworkSetup::Inherit => KEPT,
    };
    limits::become_user(&ids, spec.security, allowed, user_namespace)?;
    // A change of user cancels it.
    die_with_parent()?;
    if hung_up(socket) {
        return Err(SandboxError::Cancelled);
    }
    sys::default_sigpipe();
    Err(exec::exec(&root, &spec.args, &spec.env))
}

/// Takes the socket away from stdin, and leaves a pipe there that is at its end.
fn take_stdin() -> std::io::Result<UnixStream> {
    let socket = std::io::stdin().as_fd().try_clone_to_owned()?;
    let (end, _closed) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    sys::become_stdin(end.as_fd())?;
    Ok(socket.into())
}

fn die_with_parent() -> Result<(), SandboxError> {
    step("be tied to its parent", set_parent_process_death_signal(Some(Signal::KILL)))
}

/// Whether the parent is gone: its death before we asked for a signal would have been missed.
fn hung_up(socket: &UnixStream) -> bool {
    let mut fds = [PollFd::new(socket, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(poll(&mut fds, Some(&now)), Ok(1)) && fds[0].revents().contains(PollFlags::HUP)
}

fn enter_namespaces(spec: &SandboxSpec, network: NetworkSetup) -> Result<(), SandboxError> {
    let mut flags = UnshareFlags::NEWNS | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS | UnshareFlags::NEWCGROUP;
    if network == NetworkSetup::Loopback {
        flags |= UnshareFlags::NEWNET;
    }
    step("make namespaces", sys::unshare(flags))?;
    let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    step("make its mounts private", mount_change("/", private))?;
    step("set the host name", rustix::system::sethostname(spec.hostname.as_bytes()))?;
    if network == NetworkSetup::Loopback {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
        let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None);
        step("switch the loopback device on", socket.and_then(|it| sys::loopback_up(it.as_fd())))?;
    }
    Ok(())
}

/// Makes the root and all mounts, and enters it.
fn enter_root(
    spec: &SandboxSpec,
    resolv_conf: Option<&str>,
    user_namespace: bool,
) -> Result<(Inside, Ids), SandboxError> {
    let at = |path: &PathBuf| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        open(path.as_path(), flags, Mode::empty())
            .map_err(|errno| SandboxError::HostPath { path: path.clone(), errno: errno.raw_os_error() })
    };
    let upper = at(&spec.upper)?;
    let shop = Workshop { path: &spec.work, dir: at(&spec.work)?, user_namespace };
    let system = system::prepare(spec, &spec.work)?;
    let prepared = mounts::prepare(spec, resolv_conf, &shop)?;
    root::mount_root(spec, &upper, &shop)?;
    step("enter its root", root::enter(&shop))?;
    drop((upper, shop));
    let root = step("open its root", open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()))?;
    let mut inside = Inside::new(root);
    let ids = look_up_user(&spec.user, &inside)?;
    system::attach(system, spec, &mut inside)?;
    mounts::attach(prepared, &mut inside)?;
    Ok((inside, ids))
}

/// Resolves USER by the passwd and group files of the image.
pub(super) fn look_up_user(user: &str, inside: &Inside) -> Result<Ids, SandboxError> {
    let read = |file: &str| match inside.read(file, 10 << 20) {
        Ok(content) => Ok(content.unwrap_or_default()),
        Err(error) => Err(SandboxError::UserFile { file: file.to_owned(), reason: error.to_string() }),
    };
    user::resolve(user, &read("/etc/passwd")?, &read("/etc/group")?)
}

fn enter_cwd(cwd: &str, ids: &Ids, inside: &mut Inside) -> Result<(), SandboxError> {
    let path = if cwd.is_empty() { "/" } else { cwd };
    let failed = |errno: Errno| SandboxError::Cwd { path: path.to_owned(), errno: errno.raw_os_error() };
    let dir = inside.find_or_make(path, Make::Dir { uid: ids.uid, gid: ids.gid }).map_err(failed)?;
    fchdir(dir).map_err(failed)
}

/// Gives the user the pipes of its streams, because a command may open them by name (`/dev/stdout`).
fn own_streams(ids: &Ids) -> Result<(), SandboxError> {
    if ids.uid == 0 {
        return Ok(());
    }
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    for fd in [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()] {
        fchown(fd, Some(Uid::from_raw(ids.uid)), None::<Gid>).map_err(|errno| match errno {
            Errno::INVAL => SandboxError::Unmapped { id: ids.uid },
            errno => {
                SandboxError::Setup { action: "give the user its streams".to_owned(), errno: errno.raw_os_error() }
            }
        })?;
    }
    Ok(())
}

/// Removes repeated variables: of several values for one name the last is kept, in the place of the first.
pub(super) fn keep_last(env: &mut Vec<(String, String)>) {
    let mut kept: Vec<(String, String)> = Vec::with_capacity(env.len());
    let mut known: std::collections::HashMap<String, usize> = std::collections::HashMap::with_capacity(env.len());
    for (name, value) in env.drain(..) {
        match known.get(&name) {
            Some(ix) => kept[*ix].1 = value,
            None => {
                known.insert(name.clone(), kept.len());
                kept.push((name, value));
            }
        }
    }
    *env = kept;
}

fn report(mut socket: &UnixStream, report: &HelperReport) {
    if let Ok(mut line) = serde_json::to_vec(report) {
        line.push(b'\n');
        // Without a reader there is nobody to report to.
        let _unread = socket.write_all(&line);
    }
}

fn step<T>(action: &str, done: rustix::io::Result<T>) -> Result<T, SandboxError> {
    done.map_err(|errno| SandboxError::setup(action, errno))
}
