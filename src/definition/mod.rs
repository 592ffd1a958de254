//! Bake files: found, read, and parsed into one unevaluated syntax, whatever their format.
//!
//! ```text
//! load ─► hcl  ─┐
//!       ► json ─┼─► syntax::Body, one per file     attribute: the table of every attribute
//!       ► yaml ─┘
//!       ► compose ─► syntax::Body of targets
//! ```

pub(crate) mod attribute;
pub(crate) mod compose;
pub(crate) mod hcl;
pub(crate) mod json;
pub(crate) mod load;
#[cfg(test)]
mod property_tests;
pub(crate) mod remote;
pub(crate) mod syntax;
pub(crate) mod yaml;
