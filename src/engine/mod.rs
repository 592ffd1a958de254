//! Runs plan nodes. The boundary is the node (a build, an export): that is what a BuildKit could take over whole.
//!
//! ```text
//! boundary: what dispatch asks of any engine
//! embedded: plan ─► context: where each build reads from ─► lower: one graph for all ─► solve ─► export
//!                     image: answers what the frontend asks of images
//! ```

pub(crate) mod base;
pub(crate) mod boundary;
pub(crate) mod cache;
pub(crate) mod call;
pub(crate) mod check;
pub(crate) mod context;
pub(crate) mod embedded;
pub(crate) mod image;
pub(crate) mod lower;
pub(crate) mod provenance;
pub(crate) mod secret;
#[cfg(test)]
mod tests;

pub(crate) use crate::{
    export::ExportReceipt,
    solve::{cancel::SolveCancel, runner::Runner},
};
pub(crate) use boundary::{CancelMode, Engine, NodeFailure, PreparedEngine};
