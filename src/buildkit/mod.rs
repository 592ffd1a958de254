//! A BuildKit daemon, spoken to: connections to it, sessions by which it reads and writes files, and solves that are held at
//! its gateway. Knows no plan: `engine::fleet` does.
//!
//! ```text
//! session: what the daemon may read and write here
//! daemon:  builds, their steps, the gateway ─ message: what stays bytes there, llb: definitions that are made here
//! fault:   an error of a daemon, taken apart
//! ```

pub(crate) mod daemon;
pub(crate) mod fault;
pub(crate) mod llb;
pub(crate) mod message;
pub(crate) mod session;
