//! Output of evaluation that is printed instead of built: `--print` and `--list`.
//!
//! ```text
//! Evaluation ─► plan (`--print`, JSON that is a bake file again)
//! targets, variables ─► list (`--list`, a table or JSON)
//! ```

pub(crate) mod list;
pub(crate) mod plan;
