//! A BuildKit daemon, spoken to: connections to it, sessions by which it reads and writes files, and solves that are held at
//! its gateway. Knows no plan: `engine::fleet` does.
//!
//! ```text
//! builder: names ─► nodes, and what each is
//! address ─► connect ─┬─ unix, tcp ─► tls
//!                     ├─ docker_host ─► docker_transport ─► stream
//!                     └─ process (ssh, kubectl)
//! setup: what of the world connections need
//!
//! session: what the daemon may read and write here
//! daemon:  builds, their steps, the gateway ─ message: what stays bytes there, llb: definitions that are made here
//! fault:   an error of a daemon, taken apart
//! ```

mod address;
pub(crate) mod builder;
mod connect;
mod connect_fault;
pub(crate) mod daemon;
mod docker_host;
mod docker_transport;
pub(crate) mod fault;
pub(crate) mod llb;
pub(crate) mod message;
mod process;
pub(crate) mod session;
mod setup;
mod stream;
mod tls;

pub(crate) use address::{NodeAddress, SshPlace};
pub(crate) use connect::Connection;
pub(crate) use docker_host::{DockerHost, DockerTls, DockerWorld, USUAL_SOCKET};
pub(crate) use setup::ConnectSetup;
