//! Runs plan nodes. The boundary is the node (a build, an export): that is what a BuildKit could take over whole.
//!
//! ```text
//! plan ─► context: where each build reads from ─► lower: one graph for all ─► solve ─► export
//!            image: answers what the frontend asks of images
//! ```

pub(crate) mod base;
pub(crate) mod cache;
pub(crate) mod call;
pub(crate) mod check;
pub(crate) mod context;
pub(crate) mod embedded;
pub(crate) mod image;
pub(crate) mod lower;
pub(crate) mod provenance;
pub(crate) mod secret;

pub(crate) use crate::{
    export::{BuiltImage, ExportReceipt},
    solve::{cancel::SolveCancel, failure::SolveFailure, runner::Runner},
};
pub(crate) use embedded::Setup;
