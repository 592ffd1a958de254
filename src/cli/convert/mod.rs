//! Scripts of `docker build` lines and Compose files as bake files.
//!
//! ```text
//! script ─ token (word) ─► shell: commands ─► script (docker, target, link) ─┐
//! Compose ─ definition::compose, which keeps variables ─► compose ───────────┴─► variables ─► bake file, notes
//! ```

pub(crate) mod compose;
mod docker;
pub(crate) mod link;
pub(crate) mod script;
mod shell;
mod target;
pub(crate) mod token;
mod variables;
mod word;
