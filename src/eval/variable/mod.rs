//! Values of variables.
//!
//! ```text
//! --var-file ─► var_file ─┐
//! --var, environment ─────┼─► resolve ─► Value (converted to the declared type and validated)
//! attribute or default ───┘
//! ```

pub(crate) mod resolve;
pub(crate) mod var_file;
