//! Runs a plan on an engine and makes one outcome of it.
//!
//! ```text
//! interrupt: SIGINT, SIGTERM ──────────────────────────┐
//! dispatcher: which node starts when (no I/O) ◄─events─┤ run: the executor ──► engine ──events──► log ──► ui
//!                                             ─answers─►      └─► outcome ──► cli: exit code
//! ```
//!
//! Builds are ordered at once and wait for each other inside the engine. When results become visible depends on the mode:
//!
//! | mode | an export starts | a failure |
//! | --- | --- | --- |
//! | `fail-fast` | when its builds are done; what others can see (a push) waits for every build of the plan | stops everything |
//! | `defer-output` | is staged when its builds are done; one unit publishes everything when all is staged | stops everything; nothing is visible |
//! | `defer-error` | when its builds are done | stops what needs the failed node |
//!
//! Nothing here knows which engine runs.

mod dispatcher;
pub(crate) mod interrupt;
mod log;
pub(crate) mod outcome;
mod run;
#[cfg(test)]
mod tests;

pub(crate) use outcome::{RunEnd, RunOutcome};
pub(crate) use run::run;
