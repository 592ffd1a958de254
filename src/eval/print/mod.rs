//! Output of evaluation that is printed instead of built: `--print` and `--list`.
//!
//! ```text
//! Evaluation ─► plan (`--print`, JSON that is a bake file again) ─► bake_file (the same in HCL and YAML)
//! targets, variables ─► list (`--list`, a table or JSON)
//! ```

pub(crate) mod bake_file;
pub(crate) mod list;
pub(crate) mod plan;
