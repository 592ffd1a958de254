//! Progress of a run as a stream of events: the dispatcher numbers them, `ui` renders them.
//!
//! An event carries no text formatted for a screen and no secret.

use std::{sync::Arc, time::Duration};

use super::diagnostic::Diagnostic;
use crate::oci::Digest;

/// Numbers one vertex (or export) within a run, in order of first mention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StepId(pub(crate) u32);

/// Why a step ran although an earlier run had a similar one: `ENV C changed`, `src/a changed`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Why(pub(crate) String);

/// Which stream of a process a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutputStream {
    Stdout,
    Stderr,
}

/// How a step ended.
#[derive(Clone, Debug)]
pub(crate) enum Ended {
    /// Found in the cache; nothing ran.
    Cached,
    /// Ran and succeeded.
    Done,
    /// Ran and failed; the diagnostic is reported once by the unit, not by each step.
    Failed(Arc<Diagnostic>),
    /// Stopped because something else failed or the user asked.
    Cancelled,
}

/// Something that happened to a step of a run.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A step is known. `name` is what the user reads: `[web build 2/5] RUN make`.
    Step { id: StepId, name: Arc<str>, digest: Option<Digest> },
    /// Its work began.
    Started { id: StepId, why: Option<Why> },
    /// Bytes moved; `total` is 0 when unknown.
    Moved { id: StepId, what: Arc<str>, done: u64, total: u64 },
    /// Output of its process.
    Output { id: StepId, stream: OutputStream, bytes: bytes::Bytes },
    /// A fault that does not stop it.
    Warning(Arc<Diagnostic>),
    /// It ended after `took`.
    Ended { id: StepId, how: Ended, took: Duration },
    /// Something written for the user: a file, a folder, a pushed image. `reused` when it was there already.
    Wrote { what: Arc<str>, bytes: u64, reused: bool },
    /// The whole plan runs again for this reason: what earlier events said about steps no longer counts.
    Restarted { reason: Arc<str> },
}

/// Where events are sent. Unbounded, because producers are paced by their own work.
pub(crate) type Sink = Arc<dyn Fn(Event) + Send + Sync>;
