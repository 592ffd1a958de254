//! Stages to vertices: walks the instructions of all stages that the target needs and keeps for each the tree so far, the
//! config so far, the variables and the history.
//!
//! ```text
//! arg (global) ─► stage::Nodes ─► base (images, contexts; asks) ─► instruction by instruction: arg, meta, run + mount, copy
//! └──────────────────────── driven by lowerer; state holds what is known of a stage ────────────────────────┘
//! ```

mod arg;
mod base;
mod copy;
mod lowerer;
mod meta;
mod mount;
mod run;
mod state;

pub(crate) use arg::epoch_option;
pub(crate) use lowerer::lower;
pub(super) use lowerer::reach;
