//! Exit codes, and results on standard output with the exit code that follows.
//!
//! What is written to standard error is made elsewhere (`ui`).

use crate::ui::output;

/// Exit code: success.
pub(crate) const OK: u8 = 0;
/// Exit code: the definition or the build failed.
pub(crate) const FAILED: u8 = 1;
/// Exit code: bad usage.
pub(crate) const USAGE: u8 = 2;
/// Exit code: interrupted by SIGINT or SIGTERM.
pub(crate) const INTERRUPTED: u8 = 130;

/// Writes text to standard output; the exit code.
pub(crate) fn write(text: &str) -> u8 {
    written(output::data(text))
}

/// Writes JSON to standard output, without a line break of its own; sensitive values are masked, and on a terminal what
/// would steer it is escaped.
///
/// Returns [`OK`], also when the reader went away, or reports the error and returns [`FAILED`].
pub(crate) fn write_json(text: &str) -> u8 {
    written(output::json(text))
}

/// Writes text with colours of our own to standard output; the exit code.
pub(crate) fn write_styled(text: &str) -> u8 {
    written(output::styled_data(text))
}

/// The exit code of a command that wrote its result; a fault is reported.
fn written(result: std::io::Result<()>) -> u8 {
    match result {
        Ok(()) => OK,
        Err(error) => {
            output::words(&format!("bake: standard output cannot be written: {error}\n"));
            FAILED
        }
    }
}
