//! Runs a plan on an engine and makes one outcome of it.
//!
//! ```text
//! interrupt: SIGINT, SIGTERM ──────────────────────────┐
//! dispatcher: which node starts when (no I/O) ◄─events─┤ run: the executor ──► engine ──events──► log ──► ui
//!                                             ─answers─►      └─► outcome ──► cli: exit code
//! ```
//!
//! Builds are ordered at once and wait for each other inside the engine. An export starts when its builds are done, and
//! what others can see is published only when every build of the plan has succeeded. Nothing here knows which engine runs.

mod dispatcher;
pub(crate) mod interrupt;
mod log;
pub(crate) mod outcome;
mod run;
#[cfg(test)]
mod tests;

pub(crate) use outcome::{RunEnd, RunOutcome};
pub(crate) use run::run;
