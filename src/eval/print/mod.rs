//! What evaluation shows instead of handing it to the plan.
//!
//! ```text
//! Evaluation ─► plan (`--print`, JSON that is a bake file again)
//! targets, variables ─► list (`--list`, a table or JSON)
//! ```

pub(crate) mod list;
pub(crate) mod plan;
