//! The user's terminal while a process in a sandbox has one of its own: keys are passed on as they are typed, and nothing is
//! shown but what that process writes.

use std::{
    io,
    os::fd::BorrowedFd,
    sync::{Mutex, PoisonError},
};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

/// How the terminal was before; it is put back even if the process ends on another way.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// The terminal of standard input is in raw mode until this is dropped.
pub(crate) struct RawTerminal;

impl RawTerminal {
    /// Puts the terminal of standard input into raw mode (cfmakeraw(3)).
    ///
    /// # Errors
    /// When it is no terminal.
    pub(crate) fn start(stdin: BorrowedFd<'_>) -> io::Result<Self> {
        let before = tcgetattr(stdin)?;
        let mut raw = before.clone();
        raw.make_raw();
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        tcsetattr(stdin, OptionalActions::Drain, &raw)?;
        Ok(Self)
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        leave();
    }
}

/// Puts the terminal back as it was, if it is in raw mode.
pub(crate) fn leave() {
    if let Some(before) = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take() {
        let _is_gone = tcsetattr(io::stdin(), OptionalActions::Drain, &before);
    }
}
