//! The Dockerfile frontend: text to instructions to the graph of one build. Pure: what it needs from the world
//! (contexts, configs of base images) comes in as [`options::Options`] and [`options::Known`].
//!
//! ```text
//! text ─► lex (lines, words) ─► parse (typed instructions) ─► stage (names, reachable) ─► lower ─► graph
//!                                                 expand (variables) ──────────────────────┘  └─► check (warnings)
//! ```

pub(crate) mod check;
pub(crate) mod expand;
mod fault;
#[cfg(feature = "fuzzing")]
mod fuzz;
pub(crate) mod ignore;
pub(crate) mod instruction;
mod lex;
mod lower;
pub(crate) mod options;
pub(crate) mod outline;
mod parse;
pub(crate) mod remote;
mod stage;
mod value;

#[cfg(test)]
mod tests;

#[cfg(feature = "fuzzing")]
pub(crate) use fuzz::fuzz_lower;
pub(crate) use instruction::ParsedDockerfile;
pub(crate) use lower::{epoch_option, lower};
pub(crate) use parse::parse;
