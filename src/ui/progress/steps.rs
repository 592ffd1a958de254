//! The state of the steps of a run, shared by all views.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    oci::Digest,
    report::event::{Event, OutputStream, StepId},
    ui::terminal::harmless,
};

/// The steps of a run that an event has named, with their state.
#[derive(Default)]
pub(super) struct Steps {
    by_id: BTreeMap<StepId, ProgressStep>,
}

/// The state of one step.
pub(super) struct ProgressStep {
    /// In order of first mention, from 1.
    pub(super) number: usize,
    /// Fit for a terminal, one line.
    pub(super) name: String,
    pub(super) digest: String,
    pub(super) started: Option<Instant>,
    pub(super) ended: bool,
    pub(super) moved: BTreeMap<Arc<str>, Moved>,
    pub(super) stdout: Lines,
    pub(super) stderr: Lines,
    pub(super) log: Log,
}

/// The state of one transfer, in bytes.
#[derive(Clone, Copy)]
pub(super) struct Moved {
    pub(super) done: u64,
    pub(super) total: u64,
    pub(super) begun: Instant,
    pub(super) shown: Option<Instant>,
}

impl Moved {
    /// Whether everything was transferred; false while the total is not known.
    pub(super) fn is_complete(&self) -> bool {
        self.total > 0 && self.done >= self.total
    }
}

impl Steps {
    /// Updates the state of the steps from an event.
    pub(super) fn learn(&mut self, event: &Event) {
        match event {
            Event::Step { id, name, digest, .. } => {
                let digest = digest.as_ref().map(ToString::to_string);
                self.mention(*id, name, digest);
            }
            Event::Started { id, .. } => {
                if let Some(step) = self.by_id.get_mut(id) {
                    step.started = Some(Instant::now());
                }
            }
            Event::Moved { id, what, done, total } => {
                // Exports transfer data without having been announced as steps.
                self.mention(*id, what, None);
                if let Some(step) = self.by_id.get_mut(id) {
                    let now = Instant::now();
                    let new = Moved { done: 0, total: 0, begun: now, shown: None };
                    let moved = step.moved.entry(Arc::clone(what)).or_insert(new);
                    (moved.done, moved.total) = (*done, *total);
                }
            }
            Event::Ended { id, .. } => {
                if let Some(step) = self.by_id.get_mut(id) {
                    step.ended = true;
                }
            }
            Event::Output { .. }
            | Event::Warning(_)
            | Event::Wrote { .. }
            | Event::CriticalPath { .. }
            | Event::Restarted { .. } => (),
        }
    }

    fn mention(&mut self, id: StepId, name: &str, digest: Option<String>) {
        let number = self.by_id.len() + 1;
        self.by_id.entry(id).or_insert_with(|| ProgressStep {
            number,
            name: harmless(name.lines().next().unwrap_or("")),
            digest: digest.unwrap_or_else(|| Digest::of(format!("{number} {name}").as_bytes()).to_string()),
            started: None,
            ended: false,
            moved: BTreeMap::new(),
            stdout: Lines::default(),
            stderr: Lines::default(),
            log: Log::default(),
        });
    }

    /// The state of a step; `None` if no event has named it.
    pub(super) fn get_mut(&mut self, id: StepId) -> Option<&mut ProgressStep> {
        self.by_id.get_mut(&id)
    }

    /// The steps that run, the oldest first.
    pub(super) fn running(&self) -> Vec<&ProgressStep> {
        let mut running: Vec<&ProgressStep> =
            self.by_id.values().filter(|it| it.started.is_some() && !it.ended).collect();
        running.sort_by_key(|it| it.started);
        running
    }

    /// The transfers of steps that never start: exports, downloads, and layers of images, which are pulled and unpacked
    /// after the step of their image has ended.
    pub(super) fn moving(&self) -> impl Iterator<Item = (&Arc<str>, &Moved)> {
        let steps = self.by_id.values().filter(|step| step.started.is_none());
        steps.flat_map(|step| {
            step.moved.iter().filter(|(_, moved)| !moved.is_complete() && (!step.ended || moved.total > 0))
        })
    }

    /// The number of steps that have ended.
    pub(super) fn n_ended(&self) -> usize {
        self.by_id.values().filter(|it| it.ended).count()
    }

    /// The number of steps that an event has named.
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }
}

impl ProgressStep {
    /// Adds output of a stream and returns the lines that it completes.
    pub(super) fn lines(&mut self, stream: OutputStream, bytes: &[u8]) -> Vec<Vec<u8>> {
        match stream {
            OutputStream::Stdout => self.stdout.push(bytes),
            OutputStream::Stderr => self.stderr.push(bytes),
        }
    }

    /// Takes the last lines of both streams that have no line end.
    pub(super) fn unfinished_lines(&mut self) -> Vec<Vec<u8>> {
        [&mut self.stdout, &mut self.stderr].into_iter().filter_map(Lines::take).collect()
    }

    /// The time since the step started; zero if it has not.
    pub(super) fn runs_for(&self) -> Duration {
        self.started.map_or(Duration::ZERO, |it| it.elapsed())
    }
}

/// Cuts the output of a stream into lines.
#[derive(Default)]
pub(super) struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    /// A longer line, in bytes, is cut.
    const LONGEST: usize = 64 << 10;

    fn push(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut whole = Vec::new();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.rest.extend_from_slice(part);
            if part.ends_with(b"\n") || self.rest.len() > Self::LONGEST {
                whole.push(std::mem::take(&mut self.rest));
            }
        }
        whole
    }

    fn take(&mut self) -> Option<Vec<u8>> {
        (!self.rest.is_empty()).then(|| std::mem::take(&mut self.rest))
    }
}

/// The end of a step's output, kept to be shown if the step fails.
#[derive(Default)]
pub(super) struct Log {
    lines: VecDeque<String>,
    bytes: usize,
    n_dropped: usize,
}

impl Log {
    /// How many bytes are kept of a step.
    const MOST: usize = 1 << 20;

    /// Adds a line; beyond 1 MiB the oldest lines are dropped and counted.
    pub(super) fn push(&mut self, line: String) {
        self.bytes += line.len() + 1;
        self.lines.push_back(line);
        while self.bytes > Self::MOST {
            let Some(first) = self.lines.pop_front() else { break };
            self.bytes -= first.len() + 1;
            self.n_dropped += 1;
        }
    }

    /// The last line that is not blank.
    pub(super) fn last(&self) -> Option<&str> {
        self.lines.iter().rev().map(String::as_str).find(|line| !line.trim().is_empty())
    }

    /// The number of lines that are kept.
    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    /// Takes the lines that were kept, preceded by a note about those that were not.
    pub(super) fn take(&mut self) -> Vec<String> {
        let lost = (self.n_dropped > 0).then(|| format!("… {} lines before", self.n_dropped));
        let all = lost.into_iter().chain(std::mem::take(&mut self.lines)).collect();
        *self = Self::default();
        all
    }
}
