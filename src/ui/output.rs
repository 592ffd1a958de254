//! What goes to standard output and standard error outside of progress: data to the one, words to the other.

use std::{
    borrow::Cow,
    io::{self, IsTerminal, Write},
    sync::OnceLock,
};

use super::diagnostic::{DiagnosticLook, render};
use crate::report::{Diagnostic, Hidden, SourceMap};

/// What must not be shown, wherever it comes from: everything that is written passes by here.
static HIDDEN: OnceLock<Hidden> = OnceLock::new();

/// Hides texts from now on; only the first call counts, of which there is one.
pub(crate) fn hide(hidden: Hidden) {
    HIDDEN.get_or_init(|| hidden.with_json());
}

/// A text as it may be shown.
pub(crate) fn shown(text: &str) -> Cow<'_, str> {
    HIDDEN.get().map_or(Cow::Borrowed(text), |hidden| hidden.mask(text))
}

/// Writes data to standard output. A reader that went away is fine.
///
/// # Errors
/// When the text cannot be written.
pub(crate) fn data(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(shown(text).as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Writes words to standard error; that it cannot be written is nobody's fault.
pub(crate) fn words(text: &str) {
    let written = io::stderr().lock().write_all(shown(text).as_bytes());
    drop(written);
}

/// Shows diagnostics on standard error.
pub(crate) fn diagnostics(all: &[Diagnostic], sources: &SourceMap, color: bool) {
    if !all.is_empty() {
        words(&render(all, sources, look(color)));
    }
}

/// How standard error looks; `color`: the user does not mind.
pub(crate) fn look(color: bool) -> DiagnosticLook {
    let is_terminal = io::stderr().is_terminal();
    let width =
        rustix::termios::tcgetwinsize(io::stderr()).ok().map(|it| usize::from(it.ws_col)).filter(|it| *it >= 40);
    DiagnosticLook { color: color && is_terminal, width: if is_terminal { Some(width.unwrap_or(80)) } else { None } }
}

/// Whether data goes to a terminal.
pub(crate) fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Whether there is somebody to ask.
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
