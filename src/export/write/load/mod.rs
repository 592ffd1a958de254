//! Images handed to a container engine of the machine: the API socket of Docker or podman, their command line, or containerd.
//! An engine that has the image already is sent nothing.

mod command;
mod containerd;
mod containerd_api;
mod endpoint;
mod engine;
mod http;

pub(crate) use engine::{engine_answers, ready, send};
pub(super) use engine::{load, stage};
