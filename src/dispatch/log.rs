//! The log of a run: every event of the engine passes through it on its way to the view.
//!
//! The outcome is made from what is noted here. A view that is slow, broken or gone changes nothing about the outcome.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use crate::report::{
    event::{Event, Sink},
    summary::RunSummary,
};

/// Notes what happens in a run and passes it on.
pub(super) struct RunLog {
    summary: Arc<Mutex<RunSummary>>,
    view: Sink,
    began: Instant,
}

impl RunLog {
    /// An empty log whose events go on to `view`.
    pub(super) fn new(view: Sink) -> Self {
        Self { summary: Arc::default(), view, began: Instant::now() }
    }

    /// Where an engine reports its events.
    pub(super) fn sink(&self) -> Sink {
        let (summary, view) = (Arc::clone(&self.summary), Arc::clone(&self.view));
        Arc::new(move |event| {
            // Output is the most frequent event and counts for nothing: it takes no lock.
            if !matches!(event, Event::Output { .. }) {
                summary.lock().unwrap_or_else(PoisonError::into_inner).count(&event);
            }
            view(event);
        })
    }

    /// What was noted until now, with the time that the run has taken.
    pub(super) fn summary(&self) -> RunSummary {
        let noted = self.summary.lock().unwrap_or_else(PoisonError::into_inner).clone();
        RunSummary { took: self.began.elapsed(), ..noted }
    }
}
