//! Bake files: found, read, and parsed into one unevaluated syntax, whatever their format.
//!
//! ```text
//! load ─► hcl  ─┐                                  include: further files, named by `include` blocks
//!       ► json ─┼─► syntax::Body, one per file     attribute: the table of every attribute
//!       ► yaml ─┘
//!       ► compose ─► syntax::Body of targets
//! ```

pub(crate) mod attribute;
pub(crate) mod compose;
pub(crate) mod hcl;
mod include;
pub(crate) mod json;
pub(crate) mod load;
pub(crate) mod remote;
pub(crate) mod syntax;
pub(crate) mod var_file;
pub(crate) mod yaml;
