//! Watching a started step: passes its output on, stops it when the run is cancelled, and returns when it has ended.

use std::{
    os::fd::{BorrowedFd, OwnedFd},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use super::{
    cancel::StepCancel,
    cgroup::UnkeptLimit,
    console::Console,
    error::SandboxError,
    processes::{self, StepProcesses},
    spec::{StepOutputFn, StepStream},
};

/// What a step is connected to.
pub(super) struct StepStreams<'a> {
    /// Receives its output.
    pub(super) output: &'a mut (dyn FnMut(StepStream, &[u8]) + Send),
    /// What its standard input is fed from, unless that is closed by its spec.
    pub(super) user: Option<BorrowedFd<'a>>,
}

/// The end of a step's command: its exit code or signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exit {
    /// The exit code of the command; 128 + the signal if a signal killed it.
    pub(crate) code: i32,
    /// The signal that killed it.
    pub(crate) signal: Option<i32>,
    /// The kernel killed a process of the step because memory ran out.
    pub(crate) oom: bool,
    /// The step reached its limit of processes, which is this.
    pub(crate) pids_limit: Option<u64>,
    /// The limits of the spec that did not hold for it.
    pub(crate) unkept_limits: Vec<UnkeptLimit>,
}

/// A started process and the pipes of its output.
pub(super) struct Started {
    pid: Pid,
    pidfd: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
    which: StepProcesses,
}

impl Started {
    /// Starts `command` with its output connected to us.
    pub(super) fn spawn(
        mut command: std::process::Command,
        which: StepProcesses,
    ) -> Result<(Child, Self), SandboxError> {
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.map_err(|error| SandboxError::io_setup("start its helper", &error))?;
        let died = |status: &str| SandboxError::HelperDied { status: status.to_owned() };
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| died("it did not report a process id"))?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty());
        let pidfd = pidfd.map_err(|errno| SandboxError::setup("watch its helper", errno))?;
        match (child.stdout.take(), child.stderr.take()) {
            (Some(stdout), Some(stderr)) => {
                Ok((child, Self { pid, pidfd, stdout: stdout.into(), stderr: stderr.into(), which }))
            }
            _ => Err(died("its output is not connected")),
        }
    }

    /// Kills the process; as the first of its pid namespace it takes all processes of that namespace with it.
    pub(super) fn kill(&self) {
        let _ended_meanwhile = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }
}

/// How long a step may clean up after it was asked to end.
const GRACE: Duration = Duration::from_secs(10);
/// How often we look whether the step is done cleaning up.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// How often we look whether the user's terminal has another size.
const SIZE_TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// How far a step has been stopped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum StepStopState {
    Running,
    /// Asked to end; killed at the deadline.
    Asked {
        deadline: Instant,
    },
    Killed,
}

/// Passes output on until the command has ended and all of its output is read, and what the user types to it.
///
/// When `cancel` asks, the step is asked to end; when it kills, or the step takes too long to end, `stop` is called,
/// which must kill the step.
///
/// # Errors
/// When the system refuses to watch the process or to read its output.
pub(super) fn watch(
    started: &Started,
    mut console: Option<Console<'_>>,
    output: &mut StepOutputFn<'_>,
    cancel: &StepCancel,
    stop: &dyn Fn(),
) -> Result<(), SandboxError> {
    let mut buffer = vec![0; 64 << 10];
    let mut streams = [(StepStream::Stdout, Some(&started.stdout)), (StepStream::Stderr, Some(&started.stderr))];
    let mut state = StepStopState::Running;
    loop {
        let (asked, killed) = (cancel.asked(), cancel.killed());
        // Events stay readable: each is polled only until it was acted on.
        let events: &[_] = match state {
            StepStopState::Running => &[&asked, &killed],
            StepStopState::Asked { .. } => &[&killed],
            StepStopState::Killed => &[],
        };
        let mut fds = vec![PollFd::new(&started.pidfd, PollFlags::IN)];
        fds.extend(events.iter().map(|event| PollFd::new(*event, PollFlags::IN)));
        let first_stream = fds.len();
        fds.extend(streams.iter().filter_map(|(_, fd)| Some(PollFd::new((*fd)?, PollFlags::IN))));
        let first_of_console = fds.len();
        let of_console = console.as_ref().map(Console::events).unwrap_or_default();
        fds.extend(console.iter().flat_map(|it| of_console.iter().filter_map(|event| it.poll_fd(*event))));
        let timeout = match state {
            StepStopState::Asked { .. } => Some(&TICK),
            _ if console.as_ref().is_some_and(Console::has_size) => Some(&SIZE_TICK),
            _ => None,
        };
        match poll(&mut fds, timeout) {
            Err(Errno::INTR) => continue,
            other => other.map_err(|errno| SandboxError::setup("watch the command", errno))?,
        };
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        let next = next_state(state, &ready[1..first_stream], started);
        if next == StepStopState::Killed && state != StepStopState::Killed {
            stop();
        }
        state = next;
        if let Some(console) = &mut console {
            for (event, _) in of_console.iter().zip(&ready[first_of_console..]).filter(|(_, is_ready)| **is_ready) {
                console.act(*event, output)?;
            }
            console.follow_size();
            console.hang_up_if_gone();
        }
        let mut ready_streams = ready[first_stream..first_of_console].iter();
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
    // All processes of the namespace ended with its first one; what they wrote last is still in the pipes.
    for (stream, open) in streams {
        let Some(fd) = open else { continue };
        let unblocked = rustix::io::ioctl_fionbio(fd, true);
        unblocked.map_err(|errno| SandboxError::setup("read the output", errno))?;
        while pass_on(stream, fd, &mut buffer, output)? {}
    }
    console.map_or(Ok(()), |mut console| console.drain(output))
}

/// Acts on the events that were polled in `state`, the last of which is that the step is to be killed.
fn next_state(state: StepStopState, events: &[bool], started: &Started) -> StepStopState {
    let must_kill = events.last() == Some(&true);
    match state {
        StepStopState::Killed => StepStopState::Killed,
        _ if must_kill => StepStopState::Killed,
        StepStopState::Running if events.first() == Some(&true) => {
            match processes::ask_to_end(started.pid, started.which) {
                true => StepStopState::Asked { deadline: Instant::now() + GRACE },
                false => StepStopState::Killed,
            }
        }
        StepStopState::Asked { deadline }
            if Instant::now() >= deadline || !processes::any_catches_term(started.pid, started.which) =>
        {
            StepStopState::Killed
        }
        other => other,
    }
}

/// Reads once; false at the end of the stream.
fn pass_on(
    stream: StepStream,
    fd: &OwnedFd,
    buffer: &mut [u8],
    output: &mut StepOutputFn<'_>,
) -> Result<bool, SandboxError> {
    match rustix::io::read(fd, &mut *buffer) {
        Ok(0) | Err(Errno::AGAIN) => Ok(false),
        Ok(n) => {
            output(stream, &buffer[..n]);
            Ok(true)
        }
        Err(Errno::INTR) => Ok(true),
        Err(errno) => Err(SandboxError::setup("read the output", errno)),
    }
}
