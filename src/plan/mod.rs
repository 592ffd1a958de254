//! The plan: builds and exports as a graph, each kind of work once, made of the targets that were asked for.
//!
//! ```text
//! eval::Evaluated ─ make ─► Plan { graph of Build and Export } ─► engine
//!                               └─ need: privileges       └─ explain: as text, JSON, dot
//! ```

pub(crate) mod build;
pub(crate) mod dest;
pub(crate) mod explain;
pub(crate) mod export;
mod key;
pub(crate) mod make;
mod namespace;
pub(crate) mod need;
mod nodes;
mod shared;

pub(crate) use crate::eval::target::typed::TargetName;
pub(crate) use build::Build;
pub(crate) use export::Export;
pub(crate) use key::PlanKey;
pub(crate) use namespace::CacheNamespace;
pub(crate) use nodes::{Plan, PlanLink, PlanNode, TargetNodes};
