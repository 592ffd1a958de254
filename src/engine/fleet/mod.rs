//! The fleet engine: a plan on one BuildKit or several of them.
//!
//! ```text
//! request, folder: builds of the plan ─► what the frontend of a daemon is asked for, and the folders of this machine
//! place:           builds ─► nodes (pure)
//! prepare:         checks everything, connects, places ─► FleetEngine
//! job:             one build on one node: solved, held at the gateway, returned or given up
//!    services, cache: what its session serves; output: where its result arrives
//! progress, fault: what daemons tell, as events and diagnostics
//! ```
//!
//! Nothing is built here, and the store is used for what arrives alone.

mod cache;
mod engine;
mod fault;
mod folder;
mod job;
mod job_spec;
mod node;
mod output;
mod place;
mod prepare;
mod progress;
mod request;
mod services;
mod world;

pub(crate) use prepare::{FleetSetup, prepare};
