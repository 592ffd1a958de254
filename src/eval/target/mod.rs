//! Targets and groups: from blocks to typed targets.
//!
//! ```text
//! Block ─► block (matrix) ─► field (attributes as data) ─► inherit (parents below, overrides above) ─► typed (Target)
//!            └─► group (names and patterns of the command line) ─► link (targets that contexts need)
//!
//! beside them: rebase (paths of files of other folders), pattern (shell patterns over names), attribute_value (`target.x.y`)
//! ```

mod attribute_value;
pub(crate) mod block;
pub(crate) mod defaults;
pub(crate) mod field;
pub(crate) mod group;
pub(crate) mod inherit;
pub(crate) mod link;
mod outputs;
pub(crate) mod overrides;
pub(crate) mod pattern;
pub(crate) mod rebase;
pub(crate) mod shared_caches;
pub(crate) mod typed;

#[cfg(test)]
mod tests;
