//! Stopping a run: one flag that async code waits for and that running processes are killed by.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crate::sandbox;

/// The cancellation of a run: set once; clones share it.
#[derive(Clone)]
pub(crate) struct SolveCancel(Arc<CancelState>);

struct CancelState {
    is_set: AtomicBool,
    wake: tokio::sync::Notify,
    sandbox: sandbox::StepCancel,
}

impl SolveCancel {
    /// A run that is not cancelled.
    ///
    /// # Errors
    /// When the process has no file descriptor left for it.
    pub(crate) fn new() -> Result<Self, sandbox::SandboxError> {
        let sandbox = sandbox::StepCancel::new()?;
        Ok(Self(Arc::new(CancelState { is_set: AtomicBool::new(false), wake: tokio::sync::Notify::new(), sandbox })))
    }

    /// Cancels the run at once: nothing new begins, transfers stop, and running processes are killed. Calling it again
    /// changes nothing.
    pub(crate) fn kill(&self) {
        self.0.is_set.store(true, Ordering::SeqCst);
        self.0.sandbox.cancel();
        self.0.wake.notify_waiters();
    }

    /// Cancels the run gently: nothing new begins, transfers stop, and running processes get SIGTERM and time to clean
    /// up.
    ///
    /// [`kill`](Self::kill) may follow and kills them. Asking again changes nothing. See `sandbox::StepCancel::ask`.
    pub(crate) fn ask_to_end(&self) {
        self.0.is_set.store(true, Ordering::SeqCst);
        self.0.sandbox.ask();
        self.0.wake.notify_waiters();
    }

    /// Whether [`ask_to_end`](Self::ask_to_end) or [`kill`](Self::kill) was called.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.0.is_set.load(Ordering::SeqCst)
    }

    /// The handle that stops sandboxed processes with this run; given to each process that is started.
    pub(crate) fn sandbox(&self) -> sandbox::StepCancel {
        self.0.sandbox.clone()
    }

    /// Waits until the run is cancelled.
    pub(crate) async fn cancelled(&self) {
        // Registered before the flag is read, so that no call of `kill` falls between the two.
        let mut wait = std::pin::pin!(self.0.wake.notified());
        wait.as_mut().enable();
        if !self.is_cancelled() {
            wait.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waiters_wake_whether_they_came_before_or_after() {
        let cancel = SolveCancel::new().expect("descriptors are left");
        let waiting = tokio::spawn({
            let cancel = cancel.clone();
            async move { cancel.cancelled().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished() && !cancel.is_cancelled());
        cancel.kill();
        waiting.await.expect("no panic");
        cancel.cancelled().await;
        assert!(cancel.is_cancelled());
    }
}
