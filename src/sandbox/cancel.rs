//! Stopping the steps of a run: first by asking them, then by killing them. One value is shared by all steps of the run.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use rustix::event::{EventfdFlags, eventfd};

use super::error::SandboxError;

/// Stops the steps of a run: cloned into each of them; once raised it stays raised.
///
/// The first interrupt of the user calls [`Self::ask`], the second one [`Self::cancel`], as does a build that failed.
#[derive(Clone, Debug)]
pub(crate) struct StepCancel(Arc<CancelSignals>);

const RUNNING: u8 = 0;
const ASKED: u8 = 1;
const KILLED: u8 = 2;

#[derive(Debug)]
struct CancelSignals {
    /// [`RUNNING`], [`ASKED`] or [`KILLED`]; it only grows.
    level: AtomicU8,
    /// Event descriptors: readable from the moment on that their level is reached, and never read.
    asked: OwnedFd,
    killed: OwnedFd,
}

impl StepCancel {
    /// A handle with nothing cancelled.
    ///
    /// # Errors
    /// When the system has no more descriptors.
    pub(crate) fn new() -> Result<Self, SandboxError> {
        let event = || {
            eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
                .map_err(|errno| SandboxError::setup("make an event", errno))
        };
        Ok(Self(Arc::new(CancelSignals { level: AtomicU8::new(RUNNING), asked: event()?, killed: event()? })))
    }

    /// Asks running steps to end, and lets no other begin.
    ///
    /// Processes that catch SIGTERM receive it, the others are halted. A step is killed as soon as none of its
    /// processes catches SIGTERM (any more), and in any case after ten seconds.
    pub(crate) fn ask(&self) {
        self.raise(ASKED);
    }

    /// Kills running steps at once, and lets no other begin.
    pub(crate) fn cancel(&self) {
        self.raise(KILLED);
    }

    /// Whether steps were asked to end or killed.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.0.level.load(Ordering::Acquire) != RUNNING
    }

    /// A descriptor that is readable once steps are asked to end.
    pub(super) fn asked(&self) -> BorrowedFd<'_> {
        self.0.asked.as_fd()
    }

    /// A descriptor that is readable once steps are to be killed.
    pub(super) fn killed(&self) -> BorrowedFd<'_> {
        self.0.killed.as_fd()
    }

    fn raise(&self, level: u8) {
        self.0.level.fetch_max(level, Ordering::AcqRel);
        let event = if level == KILLED { &self.0.killed } else { &self.0.asked };
        // A write fails only when the counter is full, and then the descriptor is readable already.
        let _raised = rustix::io::write(event, &1_u64.to_ne_bytes());
    }
}
