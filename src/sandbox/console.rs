//! A step that the user talks to: its standard input is a pipe that we fill, or it has a pseudo terminal of its own.
//!
//! ```text
//! helper: opens the terminal in the /dev/pts of the step, or a pipe ─► sends our end of it over its socket
//! watch:  what the user types ─► our end ─► the step;   what the step writes to its terminal ─► the output of the step
//! ```
//!
//! The step never gets a descriptor of the user: a process that steers its terminal steers only its own. That the user's
//! terminal passes keys on as they are typed (raw mode) is seen to by the caller.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use rustix::{
    event::{PollFd, PollFlags},
    fs::{Mode, OFlags, open},
    io::Errno,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
        recvmsg, sendmsg,
    },
    pipe::{PipeFlags, pipe_with},
    process::ioctl_tiocsctty,
    pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt},
    stdio::{dup2_stderr, dup2_stdin, dup2_stdout},
    termios::{Winsize, tcgetwinsize, tcsetwinsize},
};

use super::{
    error::SandboxError,
    spec::{StepOutputFn, StepStdin, StepStream},
};

/// Connects standard input of this process, and with a terminal its output too, to what is returned; `None` where
/// nothing is to be connected. `ptmx` is the file that makes terminals.
///
/// A terminal becomes that of the session, which this process must lead.
pub(super) fn connect(stdin: StepStdin, ptmx: &str) -> rustix::io::Result<Option<OwnedFd>> {
    match stdin {
        StepStdin::Closed => Ok(None),
        StepStdin::Pipe => {
            let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC)?;
            dup2_stdin(&theirs)?;
            Ok(Some(ours))
        }
        StepStdin::Terminal => {
            let ours = open(ptmx, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
            unlockpt(&ours)?;
            let theirs = ioctl_tiocgptpeer(&ours, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
            ioctl_tiocsctty(&theirs)?;
            dup2_stdin(&theirs)?;
            dup2_stdout(&theirs)?;
            dup2_stderr(&theirs)?;
            Ok(Some(ours))
        }
    }
}

/// Sends a descriptor, with an empty line as the bytes that it needs to travel with.
pub(super) fn send(socket: &UnixStream, fd: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds = [fd];
    ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(socket, &[IoSlice::new(b"\n")], &mut ancillary, SendFlags::NOSIGNAL).map(drop)
}

/// Waits for the descriptor that [`send`] sent; `None` if the other side has closed without. `text` receives the bytes that
/// came until then.
pub(super) fn receive(socket: &UnixStream, text: &mut Vec<u8>) -> io::Result<Option<OwnedFd>> {
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut buffer = [0; 4096];
        let got = match recvmsg(socket, &mut [IoSliceMut::new(&mut buffer)], &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => continue,
            other => other?,
        };
        text.extend_from_slice(&buffer[..got.bytes]);
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(mut fds) = message
                && let Some(fd) = fds.next()
            {
                return Ok(Some(fd));
            }
        }
        if got.bytes == 0 {
            return Ok(None);
        }
    }
}

/// Our side of the conversation between the user and a step.
pub(super) struct Console<'a> {
    /// Where the user types; `None` when that has ended.
    user: Option<BorrowedFd<'a>>,
    /// The pipe to the step, or the master of its terminal; `None` once it is closed.
    step: Option<OwnedFd>,
    is_terminal: bool,
    /// What was typed and is not taken yet.
    typed: Vec<u8>,
    size: Option<Winsize>,
}

/// A thing that a console waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ConsoleEvent {
    UserTyped,
    StepTakes,
    StepWrote,
}

impl<'a> Console<'a> {
    /// A conversation of which nothing was passed on yet. `step` comes from [`receive`].
    pub(super) fn new(user: BorrowedFd<'a>, step: OwnedFd, stdin: StepStdin) -> Result<Self, SandboxError> {
        let unblocked = rustix::io::ioctl_fionbio(&step, true);
        unblocked.map_err(|errno| SandboxError::setup("talk to the command", errno))?;
        let is_terminal = stdin == StepStdin::Terminal;
        let mut console = Self { user: Some(user), step: Some(step), is_terminal, typed: Vec::new(), size: None };
        console.follow_size();
        Ok(console)
    }

    /// Whether [`Self::follow_size`] is to be called now and then.
    pub(super) const fn has_size(&self) -> bool {
        self.is_terminal
    }

    /// Gives the terminal of the step the size of the user's.
    pub(super) fn follow_size(&mut self) {
        let (true, Some(user), Some(step)) = (self.is_terminal, self.user, &self.step) else { return };
        // One without a size is no reason to end.
        let Ok(size) = tcgetwinsize(user) else { return };
        let was = self.size.map(|it| (it.ws_row, it.ws_col));
        if was != Some((size.ws_row, size.ws_col)) && tcsetwinsize(step, size).is_ok() {
            self.size = Some(size);
        }
    }

    /// What is to be waited for, in this order.
    pub(super) fn events(&self) -> Vec<ConsoleEvent> {
        let mut events = Vec::with_capacity(2);
        match self.typed.is_empty() {
            true if self.user.is_some() && self.step.is_some() => events.push(ConsoleEvent::UserTyped),
            false if self.step.is_some() => events.push(ConsoleEvent::StepTakes),
            _ => (),
        }
        if self.is_terminal && self.step.is_some() {
            events.push(ConsoleEvent::StepWrote);
        }
        events
    }

    /// The descriptor of an event from [`Self::events`].
    pub(super) fn poll_fd(&self, event: ConsoleEvent) -> Option<PollFd<'_>> {
        Some(match event {
            ConsoleEvent::UserTyped => PollFd::from_borrowed_fd(self.user?, PollFlags::IN),
            ConsoleEvent::StepTakes => PollFd::new(self.step.as_ref()?, PollFlags::OUT),
            ConsoleEvent::StepWrote => PollFd::new(self.step.as_ref()?, PollFlags::IN),
        })
    }

    /// Passes on what an event is about.
    pub(super) fn act(&mut self, event: ConsoleEvent, output: &mut StepOutputFn<'_>) -> Result<(), SandboxError> {
        match event {
            ConsoleEvent::UserTyped => self.read_user()?,
            ConsoleEvent::StepTakes => (),
            ConsoleEvent::StepWrote => {
                self.pass_output(output)?;
            }
        }
        self.pass_typed();
        Ok(())
    }

    fn read_user(&mut self) -> Result<(), SandboxError> {
        let Some(user) = self.user else { return Ok(()) };
        let mut buffer = [0; 4096];
        match rustix::io::read(user, &mut buffer) {
            // A terminal that was hung up gives an error in place of an end.
            Ok(0) | Err(Errno::IO) => self.user = None,
            Ok(n) => self.typed.extend_from_slice(&buffer[..n]),
            Err(Errno::INTR | Errno::AGAIN) => (),
            Err(errno) => return Err(SandboxError::setup("read standard input", errno)),
        }
        Ok(())
    }

    /// Writes what the step takes now; when all is written and the user has ended, the step reads an end.
    fn pass_typed(&mut self) {
        if let Some(step) = &self.step
            && !self.typed.is_empty()
        {
            match rustix::io::write(step, &self.typed) {
                Ok(n) => drop(self.typed.drain(..n)),
                Err(Errno::INTR | Errno::AGAIN) => (),
                // It reads no more.
                Err(_) => {
                    self.typed.clear();
                    self.user = None;
                }
            }
        }
        if self.user.is_none() && self.typed.is_empty() && !self.is_terminal {
            self.step = None;
        }
    }

    /// Reads once from the terminal of the step; false when there is nothing to read.
    fn pass_output(&mut self, output: &mut StepOutputFn<'_>) -> Result<bool, SandboxError> {
        let Some(step) = &self.step else { return Ok(false) };
        let mut buffer = [0; 16 << 10];
        match rustix::io::read(step, &mut buffer) {
            Ok(n) if n > 0 => {
                output(StepStream::Stdout, &buffer[..n]);
                Ok(true)
            }
            Err(Errno::INTR) => Ok(true),
            Err(Errno::AGAIN) => Ok(false),
            // No process has the terminal open any more.
            Ok(_) | Err(Errno::IO) => {
                self.step = None;
                Ok(false)
            }
            Err(errno) => Err(SandboxError::setup("read the output", errno)),
        }
    }

    /// Passes on what was written to the terminal last, after the step has ended.
    pub(super) fn drain(&mut self, output: &mut StepOutputFn<'_>) -> Result<(), SandboxError> {
        while self.is_terminal && self.pass_output(output)? {}
        Ok(())
    }

    /// Hangs up if the user's terminal is gone, so that the session of the step ends.
    pub(super) fn hang_up_if_gone(&mut self) {
        if self.is_terminal && self.user.is_none() {
            self.step = None;
        }
    }
}

/// Waits for our end of the standard input of a step, when it has one.
///
/// # Errors
/// When the socket cannot be read. A helper that is gone says why in its report.
pub(super) fn console_of<'a>(
    stdin: StepStdin,
    user: Option<BorrowedFd<'a>>,
    socket: &UnixStream,
    reports: &mut Vec<u8>,
) -> Result<Option<Console<'a>>, SandboxError> {
    let (Some(user), false) = (user, stdin == StepStdin::Closed) else { return Ok(None) };
    let received = receive(socket, reports);
    let received = received.map_err(|error| SandboxError::io_setup("read the report of its helper", &error))?;
    received.map(|step| Console::new(user, step, stdin)).transpose()
}

/// Sends our end of the standard input of a step to the process that watches it.
pub(super) fn hand_over(socket: &UnixStream, ours: Option<&OwnedFd>) -> rustix::io::Result<()> {
    ours.map_or(Ok(()), |ours| send(socket, ours.as_fd()))
}
