//! Runs plan nodes. The boundary is the node (a build, an export): that is what a BuildKit could take over whole.
//!
//! ```text
//! boundary: what dispatch asks of any engine
//! embedded: plan ─► context: where each build reads from ─► lower: one graph for all ─► solve ─► export
//!                     image: answers what the frontend asks of images
//! ```

pub(crate) mod base;
pub(crate) mod boundary;
pub(crate) mod build_info;
pub(crate) mod cache;
pub(crate) mod call;
pub(crate) mod check;
pub(crate) mod context;
pub(crate) mod embedded;
mod epoch;
pub(crate) mod explain;
pub(crate) mod fleet;
mod host_gateway;
pub(crate) mod image;
pub(crate) mod lower;
pub(crate) mod lowering_diagnostic;
pub(crate) mod outputs;
mod own_input;
pub(crate) mod provenance;
pub(crate) mod reading;
mod remote;
mod sbom;
pub(crate) mod secret;
pub(crate) mod steps;
#[cfg(test)]
mod tests;
pub(crate) mod uses;

pub(crate) use crate::{
    dockerfile::check::report::CheckFinding,
    export::{ExportReceipt, PendingRelease, engine_answers, pending_releases},
    solve::{
        cancel::SolveCancel,
        op::held::{HeldFault, HeldProcess, HeldSlot, HeldStep},
        runner::Runner,
        shared::SharedCaches,
    },
};
pub(crate) use boundary::{BuildWork, CancelMode, Engine, ExportGate, NodeFailure, PreparedEngine, PublishedExport};
