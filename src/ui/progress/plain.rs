//! Progress as lines for a log; each line starts with the number of its step. A step that was found in the cache takes one
//! line; a step that runs has one at its start and one at its end; its output has the seconds since the start.
//!
//! ```text
//! #4 CACHED [web 1/5] FROM alpine:3
//! #5 [web 2/5] RUN make
//! #5 0.123 cc -o web web.c
//! #5 DONE 0.3s
//! ```

use std::time::{Duration, Instant};

use super::{
    conclusion::size,
    lines::{LineOutput, restarted},
    steps::{Moved, Steps},
};
use crate::{
    report::event::{Event, StepEnd},
    ui::terminal::{self, Colors, harmless},
};

/// How often a long transfer reports how far it is.
const REMIND: Duration = Duration::from_secs(5);

/// Writes the lines for an event.
pub(super) fn show(event: &Event, steps: &mut Steps, out: &mut LineOutput) {
    match event {
        Event::Started { id, why } => {
            let Some(step) = steps.get_mut(*id) else { return };
            out.line(&format!("#{} {}", step.number, step.name));
            if let Some(why) = why {
                out.line(&format!("#{} runs again: {}", step.number, harmless(&why.0)));
            }
        }
        Event::Moved { id, what, .. } => {
            let Some(step) = steps.get_mut(*id) else { return };
            let number = step.number;
            if let Some(moved) = step.moved.get_mut(what)
                && is_due(moved)
            {
                moved.shown = Some(Instant::now());
                let seconds = moved.begun.elapsed().as_secs_f64();
                out.line(&format!("#{number} {} {} {seconds:.1}s", harmless(what), amount(moved)));
            }
        }
        Event::Output { id, stream, bytes } => {
            let Some(step) = steps.get_mut(*id) else { return };
            let (number, at) = (step.number, step.runs_for().as_secs_f64());
            for line in step.lines(*stream, bytes) {
                out.line(&format!("#{number} {at:.3} {}", terminal::line(&line, Colors::Drop)));
            }
        }
        Event::Ended { id, how, took } => {
            let Some(step) = steps.get_mut(*id) else { return };
            let at = step.runs_for().as_secs_f64();
            for line in step.unfinished_lines() {
                out.line(&format!("#{} {at:.3} {}", step.number, terminal::line(&line, Colors::Drop)));
            }
            let word = match how {
                StepEnd::Cached => "CACHED".to_owned(),
                StepEnd::Done => format!("DONE {:.1}s", took.as_secs_f64()),
                StepEnd::Failed(_) => "ERROR".to_owned(),
                StepEnd::Cancelled => "CANCELED".to_owned(),
            };
            match (how, step.started) {
                (_, Some(_)) => out.line(&format!("#{} {word}", step.number)),
                // A step that never started needs no line about its end.
                (StepEnd::Cancelled, None) => (),
                (_, None) => out.line(&format!("#{} {word} {}", step.number, step.name)),
            }
        }
        Event::Wrote { what, bytes, reused: false } => {
            let size = if *bytes > 0 { format!(" ({})", size(*bytes)) } else { String::new() };
            out.line(&format!("wrote {}{size}", harmless(what)));
        }
        Event::Restarted { reason } => out.line(&restarted(reason)),
        // The conclusion tells it.
        Event::CriticalPath { .. } => (),
        Event::Step { .. } | Event::Warning(_) | Event::Wrote { .. } => (),
    }
}

/// Whether a transfer is to be reported now: at its end, and every [`REMIND`] before.
fn is_due(moved: &Moved) -> bool {
    match moved.shown {
        _ if moved.is_complete() => true,
        Some(last) => last.elapsed() >= REMIND,
        None => moved.begun.elapsed() >= REMIND,
    }
}

/// Formats how far a transfer is: `1.0 MiB / 5.0 MiB`.
pub(super) fn amount(moved: &Moved) -> String {
    match moved.total {
        0 => size(moved.done),
        total if moved.done >= total => size(total),
        total => format!("{} / {}", size(moved.done), size(total)),
    }
}
