//! Arguments, settings, commands.

/// Runs the program; the result is the exit code.
pub fn run() -> u8 {
    0
}
