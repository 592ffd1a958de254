//! Bake files: found, read, and parsed into one unevaluated syntax, whatever their format.
//!
//! ```text
//! load ─► hcl  ─┐                                  include: further files, named by `include` blocks
//!       ► json ─┼─► syntax::Body, one per file     attribute: the table of every attribute
//!       ► yaml ─┘
//!       ► compose ─► syntax::Body of targets
//! format: text ─► the same text laid out, held against its shape
//! ```

pub(crate) mod attribute;
pub(crate) mod compose;
pub(crate) mod format;
pub(crate) mod hcl;
mod include;
pub(crate) mod json;
pub(crate) mod kept;
pub(crate) mod load;
pub(crate) mod origin;
#[cfg(test)]
mod property_tests;
pub(crate) mod read;
pub(crate) mod remote;
mod shape;
pub(crate) mod syntax;
pub(crate) mod var_file;
pub(crate) mod yaml;
