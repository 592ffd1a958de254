//! Compose files ─► one project ─► a body of targets, as the base under all bake files.
//!
//! ```text
//! yaml ─► interpolate ─► include ─► extends ─► merge (file onto file) ─► target (service ─► target block)
//! └──────────────────────── driven by model ───────────────────────┘       └─► bake_fields (`x-bake`)
//! ```
//!
//! Only the keys of a service that a build needs are looked at. Nothing is read here: further files come from
//! [`ComposeFileReader`](super::read::ComposeFileReader).

mod bake_fields;
pub(super) mod dotenv;
mod extends;
mod include;
mod interpolate;
mod lookup;
mod merge;
mod model;
mod target;
#[cfg(test)]
mod tests;
mod value;

pub(crate) use model::{ComposeFile, LoadedCompose, load, load_kept};
