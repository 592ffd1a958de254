//! Progress of a run, drawn from its events: `plain` lines, a live `tty`, `rawjson` records, or nothing.
//!
//! One thread draws, fed through a channel: nothing that runs waits for a terminal. What a process wrote is made harmless
//! before it is shown; a step that was found in the cache is counted, and shown in one line at most.

use std::{
    collections::BTreeMap,
    io::Write,
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::diagnostic::harmless;
use crate::report::{
    Diagnostic,
    event::{Ended, Event, Sink, StepId, Stream},
};

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
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
pub(crate) struct Progress {
    sender: mpsc::Sender<Event>,
    thread: JoinHandle<Summary>,
}

impl Progress {
    /// Starts drawing on standard error.
    pub(crate) fn start(mode: Mode) -> Self {
        let (sender, receiver) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut drawer = Drawer::new(mode);
            for event in receiver {
                drawer.event(event);
            }
            drawer.finish()
        });
        Self { sender, thread }
    }

    /// Where events go.
    pub(crate) fn sink(&self) -> Sink {
        let sender = self.sender.clone();
        Arc::new(move |event| {
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

struct StepView {
    number: usize,
    name: Arc<str>,
    started: Option<Instant>,
    announced: bool,
    bar: Option<ProgressBar>,
    digest: String,
    /// An unfinished line of output.
    rest: Vec<u8>,
    moved: Option<(Arc<str>, u64, u64)>,
}

struct Drawer {
    mode: Mode,
    begun: Instant,
    steps: BTreeMap<StepId, StepView>,
    summary: Summary,
    bars: Option<MultiProgress>,
}

impl Drawer {
    fn new(mode: Mode) -> Self {
        let bars = (mode == Mode::Tty).then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(15)));
        Self { mode, begun: Instant::now(), steps: BTreeMap::new(), summary: Summary::default(), bars }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Step { id, name, digest, .. } => {
                let number = self.steps.len() + 1;
                let view = StepView {
                    number,
                    name,
                    started: None,
                    announced: false,
                    bar: None,
                    digest: digest.map_or_else(|| format!("step:{number}"), |it| it.to_string()),
                    rest: Vec::new(),
                    moved: None,
                };
                self.steps.entry(id).or_insert(view);
            }
            Event::Started { id, why } => self.started(id, why.map(|why| why.0)),
            Event::Moved { id, what, done, total } => self.moved(id, &what, done, total),
            Event::Output { id, stream, bytes } => self.output(id, stream, &bytes),
            Event::Warning(warning) => self.warning(&warning),
            Event::Ended { id, how, took } => self.ended(id, &how, took),
            Event::Wrote { what, bytes, reused } => {
                if self.mode == Mode::Plain && !reused {
                    self.line(&format!("wrote {what} ({})", size(bytes)));
                }
                self.summary.wrote.push((what, bytes, reused));
            }
        }
    }

    fn started(&mut self, id: StepId, why: Option<String>) {
        let Some(step) = self.steps.get_mut(&id) else { return };
        step.started = Some(Instant::now());
        let (number, name) = (step.number, step.name.clone());
        match self.mode {
            Mode::Plain => {
                step.announced = true;
                self.line(&format!("#{number} {}", harmless(&name, false)));
                if let Some(why) = why {
                    self.line(&format!("#{number} runs again: {}", harmless(&why, false)));
                }
            }
            Mode::Tty => {
                if let Some(bars) = &self.bars {
                    let bar = bars.add(ProgressBar::new_spinner());
                    let style = ProgressStyle::with_template("{spinner} {wide_msg} {elapsed:.dim}");
                    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
                    bar.set_message(harmless(&name, false));
                    bar.enable_steady_tick(Duration::from_millis(120));
                    step.bar = Some(bar);
                }
            }
            Mode::RawJson => {
                let vertex = serde_json::json!({"digest": step.digest, "name": &*name, "started": now()});
                self.json("vertexes", &vertex);
            }
            Mode::Quiet => (),
        }
    }

    fn moved(&mut self, id: StepId, what: &Arc<str>, done: u64, total: u64) {
        let Some(step) = self.steps.get_mut(&id) else { return };
        let (digest, number) = (step.digest.clone(), step.number);
        let finished = total > 0
            && done >= total
            && step.moved.as_ref().is_none_or(|(it, before, _)| it != what || *before < total);
        step.moved = Some((what.clone(), done, total));
        match self.mode {
            Mode::Plain if finished => self.line(&format!("#{number} {what} {}", size(done))),
            Mode::Tty => {
                if let Some(bar) = &step.bar {
                    let of = if total > 0 { format!(" / {}", size(total)) } else { String::new() };
                    bar.set_message(format!("{}  {what} {}{of}", harmless(&step.name, false), size(done)));
                }
            }
            Mode::RawJson => {
                let status = serde_json::json!({"id": &**what, "vertex": digest, "current": done, "total": total, "timestamp": now()});
                self.json("statuses", &status);
            }
            _ => (),
        }
    }

    fn output(&mut self, id: StepId, stream: Stream, bytes: &[u8]) {
        let Some(step) = self.steps.get_mut(&id) else { return };
        match self.mode {
            Mode::Plain => {
                let number = step.number;
                let at = step.started.map_or(0.0, |it| it.elapsed().as_secs_f64());
                step.rest.extend_from_slice(bytes);
                let mut lines = Vec::new();
                while let Some(end) = step.rest.iter().position(|b| *b == b'\n') {
                    let line: Vec<u8> = step.rest.drain(..=end).collect();
                    lines.push(String::from_utf8_lossy(&line[..end]).trim_end_matches('\r').to_owned());
                }
                for line in lines {
                    self.line(&format!("#{number} {at:.3} {}", harmless(&line, false)));
                }
            }
            Mode::Tty => {
                let text = String::from_utf8_lossy(bytes);
                if let (Some(bar), Some(last)) = (&step.bar, text.lines().rev().find(|line| !line.trim().is_empty())) {
                    bar.set_message(format!("{}  {}", harmless(&step.name, false), harmless(last.trim(), false)));
                }
            }
            Mode::RawJson => {
                let stream = if stream == Stream::Stdout { 1 } else { 2 };
                let log = serde_json::json!({
                    "vertex": step.digest, "stream": stream, "data": String::from_utf8_lossy(bytes), "timestamp": now(),
                });
                self.json("logs", &log);
            }
            Mode::Quiet => (),
        }
    }

    fn warning(&mut self, warning: &Arc<Diagnostic>) {
        if self.mode == Mode::RawJson {
            let json = serde_json::json!({"short": warning.message, "detail": warning.help});
            self.json("warnings", &json);
        }
        self.summary.warnings.push(warning.clone());
    }

    fn ended(&mut self, id: StepId, how: &Ended, took: Duration) {
        let Some(step) = self.steps.get_mut(&id) else { return };
        let (number, name, announced) = (step.number, step.name.clone(), step.announced);
        let rest = std::mem::take(&mut step.rest);
        if let Some(bar) = step.bar.take() {
            bar.finish_and_clear();
        }
        let digest = step.digest.clone();
        if !rest.is_empty() && self.mode == Mode::Plain {
            self.line(&format!("#{number} {}", harmless(&String::from_utf8_lossy(&rest), false)));
        }
        let word = match how {
            Ended::Cached => "CACHED".to_owned(),
            Ended::Done => format!("DONE {:.1}s", took.as_secs_f64()),
            Ended::Failed(_) => "ERROR".to_owned(),
            Ended::Cancelled => "CANCELED".to_owned(),
        };
        match how {
            Ended::Cached => self.summary.n_cached += 1,
            Ended::Done => self.summary.n_run += 1,
            Ended::Failed(_) => self.summary.n_failed += 1,
            Ended::Cancelled => (),
        }
        let name = harmless(&name, false);
        match self.mode {
            Mode::Plain if announced => self.line(&format!("#{number} {word}")),
            Mode::Plain if matches!(how, Ended::Cancelled) => (),
            Mode::Plain => self.line(&format!("#{number} {word} {name}")),
            Mode::Tty if matches!(how, Ended::Done | Ended::Failed(_)) => {
                let mark = if matches!(how, Ended::Done) { "=>" } else { "ERROR" };
                let line = format!("{mark} {name}  {:.1}s", took.as_secs_f64());
                if let Some(bars) = &self.bars {
                    drop(bars.println(line));
                }
            }
            Mode::RawJson => {
                let error = if let Ended::Failed(fault) = how { Some(fault.to_string()) } else { None };
                let vertex = serde_json::json!({
                    "digest": digest, "name": name, "completed": now(),
                    "cached": matches!(how, Ended::Cached), "error": error,
                });
                self.json("vertexes", &vertex);
            }
            _ => (),
        }
    }

    fn finish(mut self) -> Summary {
        self.summary.took = self.begun.elapsed();
        if let Some(bars) = &self.bars {
            drop(bars.clear());
        }
        self.summary
    }

    fn json(&self, kind: &str, value: &serde_json::Value) {
        self.line(&serde_json::json!({ kind: [value] }).to_string());
    }

    /// One line on standard error; a reader that has gone away is no fault of the build.
    fn line(&self, text: &str) {
        drop(writeln!(std::io::stderr().lock(), "{text}"));
    }
}

fn now() -> String {
    jiff::Timestamp::now().to_string()
}

/// Bytes for people: `12.3 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    #[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// What a run came to, in a line or a few.
pub(crate) fn conclusion(summary: &Summary) -> String {
    let mut text = String::new();
    for (what, bytes, reused) in &summary.wrote {
        let note = match (*reused, *bytes) {
            (true, _) => "unchanged".to_owned(),
            (false, 0) => "written".to_owned(),
            (false, bytes) => size(bytes),
        };
        text.push_str("  ");
        text.push_str(what);
        text.push_str(&format!("  ({note})\n"));
    }
    let steps = |n: usize| if n == 1 { "1 step".to_owned() } else { format!("{n} steps") };
    let all_reused = summary.wrote.iter().all(|(_, _, reused)| *reused);
    let what = match (summary.n_run, summary.n_cached) {
        (0, _) if all_reused => "nothing to do: everything is up to date".to_owned(),
        (0, _) => "nothing had to run".to_owned(),
        (run, 0) => format!("ran {}", steps(run)),
        (run, cached) => format!("ran {}, {cached} from the cache", steps(run)),
    };
    text.push_str(&format!("{what} ({:.2} s)\n", summary.took.as_secs_f64()));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conclusions_say_what_was_made() {
        let mut summary = Summary::default();
        assert!(conclusion(&summary).starts_with("nothing to do"));
        summary.wrote.push(("out/a.tar".into(), 3 << 20, false));
        summary.n_run = 1;
        summary.n_cached = 2;
        let text = conclusion(&summary);
        assert!(text.contains("out/a.tar  (3.0 MiB)") && text.contains("ran 1 step, 2 from the cache"), "{text}");
    }
}
