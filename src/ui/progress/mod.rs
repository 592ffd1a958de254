//! Progress of a run, drawn from its events.
//!
//! ```text
//! events ─► channel ─► one thread: Steps (what is known) ─► plain | tty | rawjson ─► standard error
//! ```
//!
//! Nothing that runs waits for a terminal, save a command whose output comes faster than it can be shown. What a process
//! wrote is made harmless before it is shown; a step that was found in the cache is one short line at most.

mod conclusion;
mod plain;
mod rawjson;
mod steps;
mod tty;

use std::{
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, PoisonError, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::output;
use crate::report::{
    Diagnostic,
    event::{Ended, Event, Sink},
};
use steps::Steps;

pub(crate) use conclusion::conclusion;

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProgressMode {
    Plain,
    Tty,
    RawJson,
    Quiet,
}

/// What a run came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Summary {
    pub(crate) n_run: usize,
    pub(crate) n_cached: usize,
    pub(crate) n_failed: usize,
    /// What was written, and whether it was there already.
    pub(crate) wrote: Vec<(Arc<str>, u64, bool)>,
    pub(crate) warnings: Vec<Arc<Diagnostic>>,
    pub(crate) took: Duration,
}

/// Draws on a thread of its own until it is finished.
pub(crate) struct ProgressView {
    sender: mpsc::Sender<Event>,
    backlog: Arc<Backlog>,
    thread: JoinHandle<Summary>,
}

impl ProgressView {
    /// Starts drawing on standard error.
    pub(crate) fn start(mode: ProgressMode) -> Self {
        let (sender, receiver) = mpsc::channel();
        let backlog = Arc::new(Backlog::new());
        let drained = Drained(Arc::clone(&backlog));
        let thread = std::thread::spawn(move || draw(&receiver, &drained, SharedView::new(mode)));
        Self { sender, backlog, thread }
    }

    /// Where events go.
    pub(crate) fn sink(&self) -> Sink {
        let (sender, backlog) = (self.sender.clone(), Arc::clone(&self.backlog));
        Arc::new(move |event| {
            if let Event::Output { bytes, .. } = &event {
                backlog.wait_for_room(bytes.len());
            }
            // The drawer ends only after the last sender.
            drop(sender.send(event));
        })
    }

    /// Draws what is left. Every sink must be gone by now.
    pub(crate) fn finish(self) -> Summary {
        drop(self.sender);
        self.thread.join().unwrap_or_default()
    }
}

/// How much output of commands waits to be drawn; nothing once nobody draws any more.
struct Backlog {
    bytes: Mutex<Option<usize>>,
    less: Condvar,
}

impl Backlog {
    const MOST: usize = 8 << 20;

    fn new() -> Self {
        Self { bytes: Mutex::new(Some(0)), less: Condvar::new() }
    }

    fn wait_for_room(&self, len: usize) {
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = self.less.wait_while(bytes, |bytes| bytes.is_some_and(|it| it > Self::MOST));
        let mut bytes = bytes.unwrap_or_else(PoisonError::into_inner);
        *bytes = bytes.map(|it| it.saturating_add(len));
    }

    fn update(&self, change: impl FnOnce(Option<usize>) -> Option<usize>) {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        *bytes = change(*bytes);
        self.less.notify_all();
    }
}

/// The drawer's end of the backlog: when it goes, for whatever reason, nobody waits any more.
struct Drained(Arc<Backlog>);

impl Drop for Drained {
    fn drop(&mut self) {
        self.0.update(|_| None);
    }
}

/// The live view is brought up to date this often.
const TICK: Duration = Duration::from_millis(100);

fn draw(events: &mpsc::Receiver<Event>, drained: &Drained, mut view: SharedView) -> Summary {
    let begun = Instant::now();
    let mut steps = Steps::default();
    let mut summary = Summary::default();
    let mut rested = begun;
    loop {
        // What is written is kept together until there is nothing more to do, or for a moment.
        let event = match events.try_recv() {
            Ok(event) if rested.elapsed() < TICK => event,
            Ok(event) => {
                view.rest(&steps, &summary, begun);
                rested = Instant::now();
                event
            }
            Err(mpsc::TryRecvError::Disconnected) => break,
            Err(mpsc::TryRecvError::Empty) => {
                view.rest(&steps, &summary, begun);
                rested = Instant::now();
                match if view.is_live() { events.recv_timeout(TICK) } else { disconnected(events.recv()) } {
                    Ok(event) => event,
                    Err(mpsc::RecvTimeoutError::Timeout) => continue,
                    Err(mpsc::RecvTimeoutError::Disconnected) => break,
                }
            }
        };
        let len = if let Event::Output { bytes, .. } = &event { bytes.len() } else { 0 };
        summary.count(&event);
        steps.learn(&event);
        view.show(&event, &mut steps);
        if len > 0 {
            drained.0.update(|bytes| bytes.map(|it| it.saturating_sub(len)));
        }
    }
    view.finish();
    summary.took = begun.elapsed();
    summary
}

fn disconnected<T>(received: Result<T, mpsc::RecvError>) -> Result<T, mpsc::RecvTimeoutError> {
    received.map_err(|_| mpsc::RecvTimeoutError::Disconnected)
}

impl Summary {
    fn count(&mut self, event: &Event) {
        match event {
            Event::Ended { how: Ended::Cached, .. } => self.n_cached += 1,
            Event::Ended { how: Ended::Done, .. } => self.n_run += 1,
            Event::Ended { how: Ended::Failed(_), .. } => self.n_failed += 1,
            Event::Warning(warning) => self.warnings.push(Arc::clone(warning)),
            Event::Wrote { what, bytes, reused } => self.wrote.push((Arc::clone(what), *bytes, *reused)),
            _ => (),
        }
    }
}

/// One way of showing, and where to.
enum SharedView {
    Plain(Out),
    Tty(tty::Tty),
    RawJson(Out),
    Quiet,
}

impl SharedView {
    fn new(mode: ProgressMode) -> Self {
        match mode {
            ProgressMode::Plain => Self::Plain(Out::new(Box::new(io::stderr()))),
            ProgressMode::Tty => Self::Tty(tty::Tty::new()),
            ProgressMode::RawJson => Self::RawJson(Out::new(Box::new(io::stderr()))),
            ProgressMode::Quiet => Self::Quiet,
        }
    }

    /// Whether it changes with time alone.
    fn is_live(&self) -> bool {
        matches!(self, Self::Tty(_))
    }

    fn show(&mut self, event: &Event, steps: &mut Steps) {
        match self {
            Self::Plain(out) => plain::show(event, steps, out),
            Self::Tty(tty) => tty.show(event, steps),
            Self::RawJson(out) => rawjson::show(event, steps, out),
            Self::Quiet => (),
        }
    }

    /// There is nothing more to show for the moment.
    fn rest(&mut self, steps: &Steps, summary: &Summary, begun: Instant) {
        match self {
            Self::Plain(out) | Self::RawJson(out) => out.flush(),
            Self::Tty(tty) => tty.redraw(steps, summary, begun.elapsed()),
            Self::Quiet => (),
        }
    }

    fn finish(&mut self) {
        match self {
            Self::Plain(out) | Self::RawJson(out) => out.flush(),
            Self::Tty(tty) => tty.finish(),
            Self::Quiet => (),
        }
    }
}

/// Lines on their way to the user. That nobody reads them any more is no fault of the build.
struct Out {
    waiting: String,
    to: Box<dyn Write + Send>,
}

impl Out {
    const FULL: usize = 32 << 10;

    fn new(to: Box<dyn Write + Send>) -> Self {
        Self { waiting: String::new(), to }
    }

    fn line(&mut self, line: &str) {
        self.waiting.push_str(&output::shown(line));
        self.waiting.push('\n');
        if self.waiting.len() > Self::FULL {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if !self.waiting.is_empty() {
            let _nobody_reads = self.to.write_all(self.waiting.as_bytes()).and_then(|()| self.to.flush());
            self.waiting.clear();
        }
    }
}

#[cfg(test)]
mod tests;
