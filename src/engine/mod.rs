//! Runs plan nodes. The boundary is the node (a build, an export): that is what a BuildKit could take over whole.
//!
//! ```text
//! plan ─► context: where each build reads from ─► dockerfile: one graph for all ─► solve ─► export
//! ```

pub(crate) mod context;
pub(crate) mod embedded;
pub(crate) mod image;
pub(crate) mod secret;
