//! What the working tree and git have for `bake affected`: the revisions that are compared, the definition and its builds
//! at each of them, the paths that differ.
//!
//! ```text
//! revisions: --since, --until ─► commits ─► worktree: paths that differ, past states ─► state: plan, what builds read
//!                                              └──────────────► answer ◄──────────────────┘
//! ```
//!
//! What follows from them is decided in `affected`, which is pure.

mod answer;
mod ignored;
mod revisions;
mod state;
mod worktree;

pub(crate) use answer::{Answered, answer, names_of};
pub(crate) use revisions::Compared;
