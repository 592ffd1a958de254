//! YAML: text ─► a tree of values with their places.
//!
//! ```text
//! text ─► parse (anchors, merge keys; scalar, place, reindent) ─► node::YamlNode ─► compose
//!                                                                     └─► bake (a bake file in YAML) ─► json
//! ```

pub(crate) mod bake;
pub(crate) mod node;
pub(crate) mod parse;
mod place;
mod reindent;
mod scalar;

pub(crate) use bake::{body, is_bake};
pub(crate) use parse::parse;
