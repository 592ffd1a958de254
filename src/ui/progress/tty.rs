//! Progress on a terminal: running steps are live lines at the bottom, finished steps are permanent lines above them. Steps
//! that came from the cache are only counted. Everything is drawn by the one thread that owns this view.

use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{
    lines::restarted,
    plain::amount,
    steps::{ProgressStep, Steps},
};
use crate::{
    report::{
        event::{Event, StepEnd},
        summary::RunSummary,
    },
    ui::{
        masking,
        terminal::{self, Colors, harmless},
    },
};

/// How many running steps are shown at a time.
const MOST_STEPS: usize = 8;
/// The diagnostic of a failed step shows this many lines of output; longer output is shown here as a whole.
const SHOWN_WITH_FAULT: usize = 30;

/// The live progress view on a terminal: one line about the run, one for each running step.
pub(super) struct Tty {
    bars: MultiProgress,
    /// The line about the whole run; `live` are the lines about running steps.
    head: ProgressBar,
    live: Vec<ProgressBar>,
}

impl Tty {
    /// An empty view on standard error, redrawn at most 20 times a second.
    pub(super) fn new() -> Self {
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(20));
        let head = bars.add(bar());
        Self { bars, head, live: Vec::new() }
    }

    /// Prints the lines that an event leaves above the live part: steps that ended, and their output if they failed.
    pub(super) fn show(&mut self, event: &Event, steps: &mut Steps) {
        match event {
            Event::Started { id, why: Some(why) } => {
                if let Some(step) = steps.get_mut(*id) {
                    self.print(&format!("   {} runs again: {}", step.name, harmless(&why.0)));
                }
            }
            Event::Output { id, stream, bytes } => {
                let Some(step) = steps.get_mut(*id) else { return };
                for line in step.lines(*stream, bytes) {
                    step.log.push(masking::shown(&terminal::line(&line, Colors::Keep)).into_owned());
                }
            }
            Event::Ended { id, how, took } => {
                let Some(step) = steps.get_mut(*id) else { return };
                for line in step.unfinished_lines() {
                    step.log.push(masking::shown(&terminal::line(&line, Colors::Keep)).into_owned());
                }
                let seconds = took.as_secs_f64();
                match how {
                    StepEnd::Done => self.print(&format!("=> {}  {seconds:.1}s", step.name)),
                    StepEnd::Failed(_) => {
                        let mut text = format!("ERROR {}  {seconds:.1}s", step.name);
                        if step.log.len() > SHOWN_WITH_FAULT {
                            step.log.take().iter().for_each(|line| text.extend(["\n  | ", line]));
                        }
                        self.print(&text);
                    }
                    StepEnd::Cached | StepEnd::Cancelled => (),
                }
                drop(step.log.take());
            }
            Event::Restarted { reason } => self.print(&restarted(reason)),
            _ => (),
        }
    }

    /// Redraws the live lines.
    pub(super) fn redraw(&mut self, steps: &Steps, summary: &RunSummary, time: Duration) {
        let lines = lines(steps);
        self.head.set_message(head(steps, summary));
        self.head.set_prefix(format!("{:.1}s", time.as_secs_f64()));
        while self.live.len() < lines.len() {
            self.live.push(self.bars.add(bar()));
        }
        for unused in self.live.drain(lines.len()..) {
            unused.finish_and_clear();
            self.bars.remove(&unused);
        }
        for (bar, (text, time)) in self.live.iter().zip(lines) {
            bar.set_message(masking::shown(&text).into_owned());
            bar.set_prefix(time);
        }
    }

    /// Removes the live lines.
    pub(super) fn finish(&mut self) {
        for bar in self.live.drain(..).chain([self.head.clone()]) {
            bar.finish_and_clear();
        }
        // A terminal that has gone away needs no clearing.
        let _gone = self.bars.clear();
    }

    fn print(&self, line: &str) {
        let _gone = self.bars.println(masking::shown(line));
    }
}

/// A line with a text, cut to fit, and a time at the right.
fn bar() -> ProgressBar {
    let bar = ProgressBar::no_length();
    let style = ProgressStyle::with_template("{wide_msg} {prefix:.dim}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar
}

/// The text of the line about the whole run.
fn head(steps: &Steps, summary: &RunSummary) -> String {
    let cached = if summary.n_cached > 0 { format!(", {} from the cache", summary.n_cached) } else { String::new() };
    format!("[+] {} of {} steps{cached}", steps.n_ended(), steps.len())
}

/// The lines about running steps, each with its time: the name, and the last line of output or a transfer.
fn lines(steps: &Steps) -> Vec<(String, String)> {
    let running = steps.running();
    let mut lines = Vec::new();
    for step in running.iter().take(MOST_STEPS) {
        lines.push((format!(" => {}", step.name), format!("{:.1}s", step.runs_for().as_secs_f64())));
        if let Some(last) = latest(step) {
            lines.push((format!("    {last}"), String::new()));
        }
    }
    if running.len() > MOST_STEPS {
        lines.push((format!(" => and {} more", running.len() - MOST_STEPS), String::new()));
    }
    for (what, moved) in steps.moving().take(MOST_STEPS) {
        let time = format!("{:.1}s", moved.begun.elapsed().as_secs_f64());
        lines.push((format!(" => {} {}", harmless(what), amount(moved)), time));
    }
    lines
}

fn latest(step: &ProgressStep) -> Option<String> {
    let moving = step.moved.iter().find(|(_, moved)| !moved.is_complete());
    let moving = moving.map(|(what, moved)| format!("{} {}", harmless(what), amount(moved)));
    moving.or_else(|| step.log.last().map(|line| terminal::line(line.as_bytes(), Colors::Drop)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::event::{OutputStream, StepId};

    #[test]
    fn live_lines_show_what_runs_and_its_last_words() {
        let mut steps = Steps::default();
        let mut tty = Tty::new();
        let id = StepId(4);
        for event in [
            Event::Step { id, name: "[web 2/5] RUN make".into(), digest: None },
            Event::Started { id, why: None },
            Event::Output { id, stream: OutputStream::Stdout, bytes: "one\n\u{1b}[31mtwo\n\n".into() },
            Event::Moved { id: StepId(9), what: "pushing app".into(), done: 1 << 20, total: 4 << 20 },
        ] {
            steps.learn(&event);
            tty.show(&event, &mut steps);
        }
        let texts: Vec<String> = lines(&steps).into_iter().map(|(text, _)| text).collect();
        assert_eq!(texts, [" => [web 2/5] RUN make", "    two", " => pushing app 1.0 MiB / 4.0 MiB"]);
        let summary = RunSummary { n_cached: 3, ..RunSummary::default() };
        assert_eq!(head(&steps, &summary), "[+] 0 of 2 steps, 3 from the cache");
        tty.redraw(&steps, &summary, Duration::from_secs(1));
        tty.finish();
    }
}
