//! The side of `bake`: starts the helper, hands over the spec, passes on output, waits, tidies up.

use std::{
    io::{Read, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{net::UnixStream, process::ExitStatusExt},
    },
    process::{Child, ExitStatus, Stdio},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, eventfd, poll},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
    thread::UnshareFlags,
};

use super::{
    agent::Forwarder,
    cgroup::{self, Cgroups},
    command::command,
    error::SandboxError,
    fsmount,
    helper::{HelperReport, Start},
    mounts::socket_name,
    namespace,
    runtime::{self, Runtime},
    spec::{SandboxMountKind, Spec},
    stubs, sys,
};

/// Which stream bytes came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StepStream {
    Stdout,
    Stderr,
}

/// How the command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exit {
    /// 128 + the signal if it was killed.
    pub(crate) code: i32,
    pub(crate) signal: Option<i32>,
    /// The kernel killed a process of it for want of memory.
    pub(crate) oom: bool,
}

/// Stops runs: cloned into each of them, raised once, stays raised.
#[derive(Clone, Debug)]
pub(crate) struct StepCancel(Arc<Raised>);

#[derive(Debug)]
struct Raised {
    flag: AtomicBool,
    /// Readable from then on; never read.
    event: OwnedFd,
}

impl StepCancel {
    /// One that is not raised.
    pub(crate) fn new() -> Result<Self, SandboxError> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let event = event.map_err(|errno| setup("make an event", errno))?;
        Ok(Self(Arc::new(Raised { flag: AtomicBool::new(false), event })))
    }

    /// Kills what runs under it, now and later.
    pub(crate) fn cancel(&self) {
        self.0.flag.store(true, Ordering::Release);
        // Full means raised already.
        let _raised = rustix::io::write(&self.0.event, &1_u64.to_ne_bytes());
    }

    /// Whether it was raised.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.0.flag.load(Ordering::Acquire)
    }
}

/// Runs the command to its end; blocks. `output` gets its streams in pieces of any length, as they come.
///
/// A command that started and failed is an [`Exit`]; an error means that it never started, or was cancelled.
pub(crate) fn run(
    runtime: &Runtime,
    spec: &Spec,
    output: &mut (dyn FnMut(StepStream, &[u8]) + Send),
    cancel: &StepCancel,
) -> Result<Exit, SandboxError> {
    if cancel.is_cancelled() {
        return Err(SandboxError::Cancelled);
    }
    if let Runtime::Program(program) = runtime {
        return runtime::run(program, spec, output, cancel);
    }
    let _agents = start_agents(spec)?;
    let cgroups = Cgroups::make(&spec.resources);
    let oom_before = oom_baseline();
    let start = Start { spec, user_namespace: namespace::is_user_namespace(), cgroups: cgroups.procs() };
    let start = serde_json::to_vec(&start).map_err(|error| io_setup("describe the container", &error.into()))?;
    let (ours, theirs) = UnixStream::pair().map_err(|error| io_setup("make a socket", &error))?;
    let status = thread::scope(|scope| {
        // A pid namespace is for the children of the thread that asks for it, and the helper dies with this thread.
        let keeper = thread::Builder::new().name("sandbox".to_owned());
        let keeper = keeper.spawn_scoped(scope, || keep(theirs, &ours, &start, output, cancel));
        let keeper = keeper.map_err(|error| io_setup("start a thread", &error))?;
        keeper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    if cancel.is_cancelled() {
        return Err(SandboxError::Cancelled);
    }
    let Some(made) = read_reports(&ours)? else { return Err(died(&status.to_string())) };
    stubs::clean(&spec.upper, &made);
    let signal = status.signal();
    let code = status.code().or(signal.map(|it| 128 + it)).unwrap_or(-1);
    let killed = code == 128 + libc::SIGKILL;
    let oom = cgroups.oom_killed() || (killed && cgroup::oom_kills() > oom_before);
    Ok(Exit { code, signal, oom })
}

/// A helper that runs, or a runtime.
pub(super) struct Started {
    pub(super) pidfd: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

/// Starts the helper as process 1 of a new pid namespace, tells it what to do, and watches it to its end.
fn keep(
    theirs: UnixStream,
    mut ours: &UnixStream,
    start: &[u8],
    output: &mut dyn FnMut(StepStream, &[u8]),
    cancel: &StepCancel,
) -> Result<ExitStatus, SandboxError> {
    // What fits into a socket waits there for the helper.
    const FITS: usize = 64 << 10;
    let (now, later) = start.split_at(start.len().min(FITS));
    ours.write_all(now).map_err(|error| io_setup("speak to its helper", &error))?;
    let (mut child, started) = spawn(theirs)?;
    // A helper that is gone says why in its report.
    let _gone = ours.write_all(later).and_then(|()| ours.shutdown(std::net::Shutdown::Write));
    let stop = || kill(&started);
    let watched = watch(&started, output, cancel, &stop).inspect_err(|_| stop());
    let status = child.wait().map_err(|error| io_setup("wait for the command", &error));
    watched.and(status)
}

fn spawn(socket: UnixStream) -> Result<(Child, Started), SandboxError> {
    sys::unshare(UnshareFlags::NEWPID).map_err(namespace::diagnose)?;
    let mut child = command(own_program())
        .arg("__sandbox")
        .stdin(Stdio::from(OwnedFd::from(socket)))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| io_setup("start its helper", &error))?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or_else(|| died("it has no number"))?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|errno| setup("watch its helper", errno))?;
    match (child.stdout.take(), child.stderr.take()) {
        (Some(stdout), Some(stderr)) => Ok((child, Started { pidfd, stdout: stdout.into(), stderr: stderr.into() })),
        _ => Err(died("its output is not connected")),
    }
}

/// Passes output on until the command has ended and all of it is read.
pub(super) fn watch(
    started: &Started,
    output: &mut dyn FnMut(StepStream, &[u8]),
    cancel: &StepCancel,
    stop: &dyn Fn(),
) -> Result<(), SandboxError> {
    let mut buffer = vec![0; 64 << 10];
    let mut streams = [(StepStream::Stdout, Some(&started.stdout)), (StepStream::Stderr, Some(&started.stderr))];
    let mut killed = false;
    loop {
        let mut fds = vec![PollFd::new(&started.pidfd, PollFlags::IN)];
        if !killed {
            fds.push(PollFd::new(&cancel.0.event, PollFlags::IN));
        }
        let first_stream = fds.len();
        fds.extend(streams.iter().filter_map(|(_, fd)| Some(PollFd::new((*fd)?, PollFlags::IN))));
        match poll(&mut fds, None) {
            Err(Errno::INTR) => continue,
            other => other.map_err(|errno| setup("watch the command", errno))?,
        };
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        if !killed && ready[1] {
            killed = true;
            stop();
        }
        let mut ready_streams = ready[first_stream..].iter();
        for (stream, open) in &mut streams {
            let Some(fd) = *open else { continue };
            if ready_streams.next() == Some(&true) && !pass_on(*stream, fd, &mut buffer, output)? {
                *open = None;
            }
        }
        if ready[0] {
            break;
        }
    }
    // All processes of the namespace are gone with its first; what they wrote lies in the pipes.
    for (stream, open) in streams {
        let Some(fd) = open else { continue };
        rustix::io::ioctl_fionbio(fd, true).map_err(|errno| setup("read the output", errno))?;
        while pass_on(stream, fd, &mut buffer, output)? {}
    }
    Ok(())
}

/// Kills the first process of the namespace, and with it all of them.
pub(super) fn kill(started: &Started) {
    let _ended_meanwhile = pidfd_send_signal(&started.pidfd, Signal::KILL);
}

/// Reads once; false at the end.
fn pass_on(
    stream: StepStream,
    fd: &OwnedFd,
    buffer: &mut [u8],
    output: &mut dyn FnMut(StepStream, &[u8]),
) -> Result<bool, SandboxError> {
    match rustix::io::read(fd, &mut *buffer) {
        Ok(0) | Err(Errno::AGAIN) => Ok(false),
        Ok(n) => {
            output(stream, &buffer[..n]);
            Ok(true)
        }
        Err(Errno::INTR) => Ok(true),
        Err(errno) => Err(setup("read the output", errno)),
    }
}

/// What the helper said before it became the command, or instead of it.
fn read_reports(mut socket: &UnixStream) -> Result<Option<stubs::MadeStub>, SandboxError> {
    let mut text = Vec::new();
    socket.read_to_end(&mut text).map_err(|error| io_setup("hear from its helper", &error))?;
    let mut ready = None;
    for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match serde_json::from_slice(line) {
            Ok(HelperReport::Ready(made)) => ready = Some(made),
            Ok(HelperReport::Failed(error)) => return Err(error),
            Err(error) => return Err(io_setup("understand its helper", &error.into())),
        }
    }
    Ok(ready)
}

/// Our own program, by a read-only mount of its own: through /proc/PID/exe a container's root could write to it.
fn own_program() -> &'static str {
    static PROGRAM: OnceLock<(String, Option<OwnedFd>)> = OnceLock::new();
    let (path, _kept) = PROGRAM.get_or_init(|| match read_only_program() {
        Some(fd) => (format!("/proc/self/fd/{}", fd.as_raw_fd()), Some(fd)),
        None => ("/proc/self/exe".to_owned(), None),
    });
    path
}

fn read_only_program() -> Option<OwnedFd> {
    // By its path, as the link itself leads into the mounts of whoever started us.
    let path = std::fs::read_link("/proc/self/exe").ok()?;
    let fd = fsmount::bind_host(path.as_path(), fsmount::RDONLY).ok()?.into_fd()?;
    let (ours, found) = (rustix::fs::stat("/proc/self/exe").ok()?, rustix::fs::fstat(&fd).ok()?);
    // Another program may have taken its place since.
    ((ours.st_dev, ours.st_ino) == (found.st_dev, found.st_ino)).then_some(fd)
}

/// The sockets of `--mount=type=ssh`.
pub(super) fn start_agents(spec: &Spec) -> Result<Vec<Forwarder>, SandboxError> {
    let mut agents = Vec::new();
    for (ix, mount) in spec.mounts.iter().enumerate() {
        if let SandboxMountKind::Ssh { agent, mode, uid, gid } = &mount.kind {
            let socket = spec.work.join(socket_name(ix));
            let started = Forwarder::start(&socket, agent, *mode, *uid, *gid);
            agents.push(started.map_err(|error| io_setup("forward the SSH agent", &error))?);
        }
    }
    Ok(agents)
}

/// The machine's count of kills for want of memory when the first command was run.
fn oom_baseline() -> u64 {
    static BEFORE: OnceLock<u64> = OnceLock::new();
    *BEFORE.get_or_init(cgroup::oom_kills)
}

fn died(status: &str) -> SandboxError {
    SandboxError::HelperDied { status: status.to_owned() }
}

fn setup(action: &str, errno: Errno) -> SandboxError {
    SandboxError::Setup { action: action.to_owned(), errno: errno.raw_os_error() }
}

fn io_setup(action: &str, error: &std::io::Error) -> SandboxError {
    SandboxError::Setup { action: action.to_owned(), errno: error.raw_os_error().unwrap_or(libc::EINVAL) }
}
