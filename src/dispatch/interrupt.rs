//! SIGINT and SIGTERM: what a run hears of them, and the guarantee that they always end the process.
//!
//! The first signal asks running steps to end, with a grace period; the second ends the run at once. The thread that
//! watches the signals does nothing else, so that a run which is stuck (in a system call, in a lock) ends all the same.
//! A process may die at any moment without losing anything on disk, so nothing is tidied up on that way.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};

/// The time that steps which were asked to end may take before they are killed.
pub(super) const GRACE: Duration = Duration::from_secs(10);
/// A run gets this much longer than it needs to end by itself, before the process ends without it.
const MARGIN: Duration = Duration::from_secs(2);

/// The receiving end for the interrupts of one run.
pub(crate) struct Interrupts {
    signals: mpsc::UnboundedReceiver<()>,
    is_heard: Arc<AtomicBool>,
}

/// The sending end for the interrupts of one run.
pub(crate) struct InterruptSender {
    signals: mpsc::UnboundedSender<()>,
    is_heard: Arc<AtomicBool>,
}

/// Makes a connected pair: what is sent to the one is received by the other.
pub(crate) fn interrupts() -> (InterruptSender, Interrupts) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let is_heard = Arc::new(AtomicBool::new(false));
    let sender = InterruptSender { signals: sender, is_heard: Arc::clone(&is_heard) };
    (sender, Interrupts { signals: receiver, is_heard })
}

impl Interrupts {
    /// From now on interrupts are for the run to act on; until then an interrupt ends the process at once.
    pub(crate) fn listen(&self) {
        self.is_heard.store(true, Ordering::Release);
    }

    /// Waits for the next interrupt.
    pub(crate) async fn next(&mut self) {
        if self.signals.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether an interrupt has come that [`Interrupts::next`] has not returned for.
    pub(super) fn was_raised(&mut self) -> bool {
        self.signals.try_recv().is_ok()
    }
}

impl InterruptSender {
    /// Sends an interrupt to the run; false if the run does not listen.
    pub(super) fn send(&self) -> bool {
        self.is_heard.load(Ordering::Acquire) && self.signals.send(()).is_ok()
    }
}

/// Why [`watch`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WatchEnd {
    /// The work has ended with this exit code.
    Done(u8),
    /// The work ended without a result: it panicked.
    Panicked,
    /// Interrupted, and the work did not or could not end in time.
    Interrupted,
}

/// Passes signals on to a run until its work is done or has to be left behind. Blocks; call it on a thread of its own.
///
/// # Errors
/// When the system gives no descriptors for it.
pub(crate) fn watch(work: oneshot::Receiver<u8>, sender: &InterruptSender) -> std::io::Result<WatchEnd> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut int, mut term) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        Ok(watch_signals(work, sender, async || next_signal(&mut int, &mut term).await).await)
    })
}

async fn next_signal(int: &mut Signal, term: &mut Signal) {
    tokio::select! {
        _ = int.recv() => (),
        _ = term.recv() => (),
    }
}

async fn watch_signals(
    mut work: oneshot::Receiver<u8>,
    sender: &InterruptSender,
    mut next: impl AsyncFnMut(),
) -> WatchEnd {
    let mut deadline: Option<Instant> = None;
    loop {
        let over = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            done = &mut work => return done.map_or(WatchEnd::Panicked, WatchEnd::Done),
            () = over => return WatchEnd::Interrupted,
            () = next() => {
                if !sender.send() {
                    return WatchEnd::Interrupted;
                }
                deadline = Some(match deadline {
                    None => Instant::now() + 2 * GRACE + MARGIN,
                    Some(deadline) => deadline.min(Instant::now() + MARGIN),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Watches work that ends with `done`, or never, while `n_signals` signals come at once.
    fn watched(done: Option<Option<u8>>, n_signals: usize, is_heard: bool) -> WatchEnd {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (sender, interrupts) = interrupts();
        if is_heard {
            interrupts.listen();
        }
        let (send, work) = oneshot::channel();
        let _never = match done {
            Some(Some(code)) => {
                send.send(code).unwrap();
                None
            }
            Some(None) => {
                drop(send);
                None
            }
            None => Some(send),
        };
        let mut left = n_signals;
        let next = async || {
            if left == 0 {
                std::future::pending::<()>().await;
            }
            left -= 1;
        };
        runtime.block_on(watch_signals(work, &sender, next))
    }

    #[test]
    fn work_that_ends_says_how() {
        assert_eq!(watched(Some(Some(3)), 0, true), WatchEnd::Done(3));
        assert_eq!(watched(Some(None), 0, true), WatchEnd::Panicked);
    }

    #[test]
    fn a_signal_that_no_run_hears_ends_the_process() {
        assert_eq!(watched(None, 1, false), WatchEnd::Interrupted);
    }

    #[test]
    fn signals_reach_the_run_that_listens() {
        let (sender, mut interrupts) = interrupts();
        assert!(!sender.send(), "nobody listens yet");
        interrupts.listen();
        assert!(sender.send());
        assert!(interrupts.was_raised());
        assert!(!interrupts.was_raised());
    }
}
