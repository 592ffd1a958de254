//! The thread that draws progress, and the ways of showing it.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, PoisonError, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{lines::LineOutput, plain, rawjson, steps::Steps, tty};
use crate::report::{
    event::{Event, Sink},
    summary::RunSummary,
};

/// The form in which progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProgressMode {
    Plain,
    Tty,
    RawJson,
    Quiet,
}

/// The progress view of a run, drawn by a thread of its own until it is finished.
pub(crate) struct ProgressView {
    sender: mpsc::Sender<DrawMessage>,
    backlog: Arc<Backlog>,
    thread: JoinHandle<RunSummary>,
}

/// What the drawing thread receives.
enum DrawMessage {
    Event(Event),
    /// Draw nothing more, even though somebody may still send.
    End,
}

impl ProgressView {
    /// Starts a thread that draws on standard error what [`sink`](Self::sink) is sent, until [`finish`](Self::finish)
    /// or [`abandon`](Self::abandon).
    pub(crate) fn start(mode: ProgressMode) -> Self {
        let (sender, receiver) = mpsc::channel();
        let backlog = Arc::new(Backlog::new());
        let drained = Drained(Arc::clone(&backlog));
        let thread = std::thread::spawn(move || draw(&receiver, &drained, SharedView::new(mode)));
        Self { sender, backlog, thread }
    }

    /// The function that events of the run are sent to; it waits when too much output is not drawn yet.
    pub(crate) fn sink(&self) -> Sink {
        let (sender, backlog) = (self.sender.clone(), Arc::clone(&self.backlog));
        Arc::new(move |event| {
            if let Event::Output { bytes, .. } = &event {
                backlog.wait_for_room(bytes.len());
            }
            // A view that is gone draws nothing; that is no fault of the run.
            drop(sender.send(DrawMessage::Event(event)));
        })
    }

    /// Draws what is left and returns once every sink is gone.
    pub(crate) fn finish(self) {
        drop(self.sender);
        // A panic of the drawing thread has cost the view only: the outcome is not made from it.
        drop(self.thread.join());
    }

    /// Draws what has been sent until now and returns, although work that was left behind may still hold a sink.
    pub(crate) fn abandon(self) {
        drop(self.sender.send(DrawMessage::End));
        self.finish();
    }
}

/// How many bytes of output wait to be drawn; `None` once the drawing thread has ended.
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

/// Ends the backlog when the drawing thread ends, for whatever reason, so that no sender waits for it.
struct Drained(Arc<Backlog>);

impl Drop for Drained {
    fn drop(&mut self) {
        self.0.update(|_| None);
    }
}

/// How often the live view is redrawn.
const TICK: Duration = Duration::from_millis(100);

fn draw(messages: &mpsc::Receiver<DrawMessage>, drained: &Drained, mut view: SharedView) -> RunSummary {
    let begun = Instant::now();
    let mut steps = Steps::default();
    let mut summary = RunSummary::default();
    let mut rested = begun;
    loop {
        // Output is written in one piece when no message is left, and at least once a tick.
        let message = match messages.try_recv() {
            Ok(message) if rested.elapsed() < TICK => message,
            Ok(message) => {
                view.rest(&steps, &summary, begun);
                rested = Instant::now();
                message
            }
            Err(mpsc::TryRecvError::Disconnected) => break,
            Err(mpsc::TryRecvError::Empty) => {
                view.rest(&steps, &summary, begun);
                rested = Instant::now();
                match if view.is_live() { messages.recv_timeout(TICK) } else { disconnected(messages.recv()) } {
                    Ok(message) => message,
                    Err(mpsc::RecvTimeoutError::Timeout) => continue,
                    Err(mpsc::RecvTimeoutError::Disconnected) => break,
                }
            }
        };
        let DrawMessage::Event(event) = message else { break };
        let len = if let Event::Output { bytes, .. } = &event { bytes.len() } else { 0 };
        summary.count(&event);
        if matches!(event, Event::Restarted { .. }) {
            steps = Steps::default();
        }
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

/// A way of showing progress, with its destination.
enum SharedView {
    Plain(LineOutput),
    Tty(tty::Tty),
    RawJson(LineOutput),
    Quiet,
}

impl SharedView {
    fn new(mode: ProgressMode) -> Self {
        match mode {
            ProgressMode::Plain => Self::Plain(LineOutput::new(Box::new(io::stderr()))),
            ProgressMode::Tty => Self::Tty(tty::Tty::new()),
            ProgressMode::RawJson => Self::RawJson(LineOutput::new(Box::new(io::stderr()))),
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

    /// Called when no message is left: flushes or redraws.
    fn rest(&mut self, steps: &Steps, summary: &RunSummary, begun: Instant) {
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

#[cfg(test)]
mod tests;
