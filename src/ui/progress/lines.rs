//! Lines of progress on their way to standard error, and the text that all ways of showing it share.

use std::io::Write;

use crate::ui::{masking, terminal::harmless};

/// Buffered lines for standard error. A reader that is gone is no fault of the build.
pub(super) struct LineOutput {
    waiting: String,
    to: Box<dyn Write + Send>,
}

impl LineOutput {
    const FULL: usize = 32 << 10;

    /// No lines yet; what is written goes to `to`.
    pub(super) fn new(to: Box<dyn Write + Send>) -> Self {
        Self { waiting: String::new(), to }
    }

    /// Writes one line, sensitive values masked; it is sent on when 32 KiB are waiting.
    pub(super) fn line(&mut self, line: &str) {
        self.waiting.push_str(&masking::shown(line));
        self.waiting.push('\n');
        if self.waiting.len() > Self::FULL {
            self.flush();
        }
    }

    /// Sends on all lines that wait.
    pub(super) fn flush(&mut self) {
        if !self.waiting.is_empty() {
            let _nobody_reads = self.to.write_all(self.waiting.as_bytes()).and_then(|()| self.to.flush());
            self.waiting.clear();
        }
    }
}

/// The notice that a plan runs once more.
pub(super) fn restarted(reason: &str) -> String {
    format!("{}: building again", harmless(reason))
}
