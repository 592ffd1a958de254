//! Standard output and standard error outside of progress: data goes to the one, messages to the other.

use std::{
    borrow::Cow,
    io::{self, IsTerminal, Write},
    sync::atomic::{AtomicBool, Ordering},
};

use super::{
    diagnostic::{DiagnosticLook, MAX_SHOWN, render},
    machine,
    masking::shown,
    report as reports,
    terminal::{harmless_json, harmless_lines},
};
use crate::report::{Diagnostic, SourceMap};

/// Writes text to standard output. On a terminal nothing in it steers the terminal; elsewhere it stays as it is.
///
/// # Errors
/// When the text cannot be written. A reader that went away is no error.
pub(crate) fn data(text: &str) -> io::Result<()> {
    styled_data(&fit_for_stdout(text))
}

/// As [`data`], for a JSON text: what would steer a terminal is escaped as JSON escapes it.
///
/// # Errors
/// As [`data`].
pub(crate) fn json(text: &str) -> io::Result<()> {
    if stdout_is_terminal() { styled_data(&harmless_json(text)) } else { styled_data(text) }
}

/// As [`data`], for text with colours of our own, whose other parts went through [`fit_for_stdout`].
///
/// # Errors
/// As [`data`].
pub(crate) fn styled_data(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(shown(text).as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Makes foreign text fit to stand in styled text for standard output.
pub(crate) fn fit_for_stdout(text: &str) -> Cow<'_, str> {
    if stdout_is_terminal() { harmless_lines(text) } else { Cow::Borrowed(text) }
}

/// Whether what is told on standard error is read by a program; see [`tell_programs`].
static FOR_PROGRAMS: AtomicBool = AtomicBool::new(false);

/// From now on diagnostics and messages are JSON, one object a line, as progress is (`--progress=rawjson`).
pub(crate) fn tell_programs() {
    FOR_PROGRAMS.store(true, Ordering::Relaxed);
}

/// A stream of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PassedStream {
    Stdout,
    Stderr,
}

/// Writes what a process writes that the user talks to, as it is, secrets too. What cannot be written is dropped.
pub(crate) fn pass_on(bytes: &[u8], stream: PassedStream) {
    drop(match stream {
        PassedStream::Stdout => {
            let mut out = io::stdout().lock();
            out.write_all(bytes).and_then(|()| out.flush())
        }
        PassedStream::Stderr => io::stderr().lock().write_all(bytes),
    });
}

/// Whether what is told on standard error is JSON; see [`tell_programs`].
pub(crate) fn tells_programs() -> bool {
    FOR_PROGRAMS.load(Ordering::Relaxed)
}

/// Writes text for a program to a stream, as it is: what must not be shown was masked where it was made.
///
/// # Errors
/// When the text cannot be written. A reader that went away is no error.
pub(crate) fn report(text: &str, stream: PassedStream) -> io::Result<()> {
    let written = match stream {
        PassedStream::Stdout => {
            let mut out = io::stdout().lock();
            out.write_all(text.as_bytes()).and_then(|()| out.flush())
        }
        PassedStream::Stderr => io::stderr().lock().write_all(text.as_bytes()),
    };
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Writes a message to standard error; nothing in it steers a terminal. A message that cannot be written is dropped.
pub(crate) fn words(text: &str) {
    if FOR_PROGRAMS.load(Ordering::Relaxed) {
        return write_line(&machine::message(&shown(text)));
    }
    write_stderr(&harmless_lines(&shown(text)));
}

fn write_stderr(text: &str) {
    drop(io::stderr().lock().write_all(text.as_bytes()));
}

/// Writes one JSON text as a line of standard error.
fn write_line(json: &str) {
    write_stderr(&format!("{}\n", harmless_json(json)));
}

/// Shows diagnostics on standard error; of very many only the first.
pub(crate) fn diagnostics(all: &[Diagnostic], sources: &SourceMap, color: bool) {
    show(all, sources, color, MAX_SHOWN);
}

/// As [`diagnostics`], and shows all of them, however many they are.
pub(crate) fn all_diagnostics(all: &[Diagnostic], sources: &SourceMap, color: bool) {
    show(all, sources, color, usize::MAX);
}

fn show(all: &[Diagnostic], sources: &SourceMap, color: bool, at_most: usize) {
    reports::record(all, sources);
    if FOR_PROGRAMS.load(Ordering::Relaxed) {
        all.iter().for_each(|it| write_line(&machine::line(&masked(it), sources)));
    } else if !all.is_empty() {
        // Rendering has made the texts harmless and added colours of our own.
        write_stderr(&shown(&render(all, sources, look(color), at_most)));
    }
}

/// A diagnostic without sensitive values: in base64 they could not be found.
fn masked(it: &Diagnostic) -> Diagnostic {
    let mask = |text: &String| shown(text).into_owned();
    Diagnostic {
        message: mask(&it.message),
        help: it.help.as_ref().map(mask),
        causes: it.causes.iter().map(mask).collect(),
        output: it.output.as_ref().map(mask),
        ..it.clone()
    }
}

/// The colour and width for standard error; `color` says whether the user allows colour.
pub(crate) fn look(color: bool) -> DiagnosticLook {
    let is_terminal = io::stderr().is_terminal();
    let width =
        rustix::termios::tcgetwinsize(io::stderr()).ok().map(|it| usize::from(it.ws_col)).filter(|it| *it >= 40);
    DiagnosticLook { color: color && is_terminal, width: if is_terminal { Some(width.unwrap_or(80)) } else { None } }
}

/// Whether standard output is a terminal.
pub(crate) fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Whether a question can be asked: both standard input and standard error are terminals.
pub(crate) fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks a question on the terminal; anything but yes is no.
pub(crate) fn confirm(question: &str) -> bool {
    words(question);
    let mut answer = String::new();
    let read = io::stdin().read_line(&mut answer);
    read.is_ok() && matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}
