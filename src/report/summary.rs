//! Counts of one run, made from its events: how many steps ran, what was written, what was warned about.

use std::{sync::Arc, time::Duration};

use super::{
    Diagnostic,
    event::{Event, StepEnd},
};

/// Counts of what happened in a run so far: steps, warnings, outputs.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunSummary {
    /// Steps that ran and succeeded.
    pub(crate) n_run: usize,
    /// Steps whose result was found in the cache.
    pub(crate) n_cached: usize,
    /// Steps that ran and failed.
    pub(crate) n_failed: usize,
    pub(crate) wrote: Vec<WrittenOutput>,
    pub(crate) warnings: Vec<Arc<Diagnostic>>,
    /// The chain of steps that took longest, lowest first.
    pub(crate) critical_path: Arc<[(Arc<str>, Duration)]>,
    /// Time from the start of the run to its end; zero while it runs.
    pub(crate) took: Duration,
}

/// One file, folder or image that was written for the user.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WrittenOutput {
    /// A path or an image reference.
    pub(crate) what: Arc<str>,
    /// Size in bytes; 0 when it is not known.
    pub(crate) bytes: u64,
    /// It was there already and is as it should be.
    pub(crate) reused: bool,
}

impl RunSummary {
    /// Counts one event.
    pub(crate) fn count(&mut self, event: &Event) {
        match event {
            Event::Ended { how: StepEnd::Cached, .. } => self.n_cached += 1,
            Event::Ended { how: StepEnd::Done, .. } => self.n_run += 1,
            Event::Ended { how: StepEnd::Failed(_), .. } => self.n_failed += 1,
            Event::Warning(warning) => self.warnings.push(Arc::clone(warning)),
            Event::Wrote { what, bytes, reused } => {
                self.wrote.push(WrittenOutput { what: Arc::clone(what), bytes: *bytes, reused: *reused });
            }
            Event::CriticalPath { steps } => self.critical_path = Arc::clone(steps),
            // Why it had to be is among the warnings.
            Event::Restarted { .. } => {
                *self = Self { warnings: std::mem::take(&mut self.warnings), ..Self::default() };
            }
            Event::Ended { how: StepEnd::Cancelled, .. }
            | Event::Step { .. }
            | Event::Started { .. }
            | Event::Moved { .. }
            | Event::Output { .. } => (),
        }
    }
}
