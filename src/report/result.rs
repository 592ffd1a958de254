//! What became of each target of a run, as data for reports: its builds, its outputs, what it is called.
//!
//! How it is written is decided in `ui`; what is told while a run goes on are the events.

use std::{sync::Arc, time::Duration};

use super::Diagnostic;

/// One target of a run, with what became of it.
#[derive(Clone, Debug)]
pub(crate) struct TargetResult {
    pub(crate) name: Arc<str>,
    /// The names of its image.
    pub(crate) tags: Vec<String>,
    /// The digest of its image, if an exporter told it.
    pub(crate) digest: Option<String>,
    /// One for each platform.
    pub(crate) builds: Vec<BuildResult>,
    /// One for each output that writes something.
    pub(crate) outputs: Vec<OutputResult>,
}

/// The build of a target for one platform.
#[derive(Clone, Debug)]
pub(crate) struct BuildResult {
    pub(crate) platform: String,
    pub(crate) end: ResultEnd,
    /// The time of the steps that ran for it, without what they waited for. Steps that several builds share count for each.
    pub(crate) took: Duration,
}

/// One output of a target.
#[derive(Clone, Debug)]
pub(crate) struct OutputResult {
    pub(crate) end: ResultEnd,
    /// The size of what was written or is there; 0 when it is not known.
    pub(crate) bytes: u64,
}

/// The way in which a build or an output ended.
#[derive(Clone, Debug)]
pub(crate) enum ResultEnd {
    /// Steps ran; of an output: it was written or is there.
    Done,
    /// No step had to run.
    Cached,
    Failed(Arc<Diagnostic>),
    /// It was stopped, or what it needs failed, or the run ended before.
    NotRun,
}

impl TargetResult {
    /// The fault of its first build or output that failed.
    pub(crate) fn fault(&self) -> Option<&Arc<Diagnostic>> {
        let builds = self.builds.iter().map(|build| &build.end);
        builds.chain(self.outputs.iter().map(|output| &output.end)).find_map(|end| match end {
            ResultEnd::Failed(fault) => Some(fault),
            ResultEnd::Done | ResultEnd::Cached | ResultEnd::NotRun => None,
        })
    }

    /// The size of its result: that of its largest output.
    pub(crate) fn bytes(&self) -> u64 {
        self.outputs.iter().map(|output| output.bytes).max().unwrap_or(0)
    }
}
