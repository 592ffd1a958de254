//! Progress of a run as a stream of events: the engine numbers the steps, `ui` renders the events.
//!
//! An event carries no text formatted for a screen and no secret.

use std::{sync::Arc, time::Duration};

use super::diagnostic::Diagnostic;
use crate::oci::Digest;

/// The number of one step (a vertex or an export) within a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StepId(pub(crate) u32);

/// Why a step ran although an earlier run had a similar one: `ENV C changed`, `src/a changed`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Why(pub(crate) String);

/// The stream of a process that some output came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutputStream {
    Stdout,
    Stderr,
}

/// How a step ended.
#[derive(Clone, Debug)]
pub(crate) enum StepEnd {
    /// Found in the cache; nothing ran.
    Cached,
    /// Ran and succeeded.
    Done,
    /// Ran and failed; the diagnostic is reported once by the unit, not by each step.
    Failed(Arc<Diagnostic>),
    /// Stopped because something else failed or the user asked.
    Cancelled,
}

/// Something that happened in a run: to one of its steps (the variants with an `id`), or to the run as a whole.
///
/// A step sends `Step`, then `Started` if its own work (a process, file actions) begins, and at last `Ended`. `Moved`
/// may come without a `Step` (exports), and after `Ended` (layers of a base image, pulled when something looks inside).
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A step is known. `name` is what the user reads: `[web build 2/5] RUN make`.
    Step { id: StepId, name: Arc<str>, digest: Option<Digest> },
    /// The step's own work began; a step found in the cache does not send this.
    Started { id: StepId, why: Option<Why> },
    /// Bytes moved; `total` is 0 when unknown.
    Moved { id: StepId, what: Arc<str>, done: u64, total: u64 },
    /// Output of the step's process.
    Output { id: StepId, stream: OutputStream, bytes: bytes::Bytes },
    /// A fault that does not stop the run.
    Warning(Arc<Diagnostic>),
    /// The step ended; its work took `took`.
    Ended { id: StepId, how: StepEnd, took: Duration },
    /// Something written for the user: a file, a folder, a pushed image. `reused` when it was there already.
    Wrote { what: Arc<str>, bytes: u64, reused: bool },
    /// The chain of steps that took longest, lowest first, with their times; sent at the end of a run in which steps ran.
    CriticalPath { steps: Arc<[(Arc<str>, Duration)]> },
    /// The whole plan runs again for this reason: what earlier events said about steps no longer counts.
    Restarted { reason: Arc<str> },
}

/// A function that events are sent to. Unbounded, because producers are paced by their own work.
pub(crate) type Sink = Arc<dyn Fn(Event) + Send + Sync>;
