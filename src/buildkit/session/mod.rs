//! The client's side of a BuildKit session: a gRPC server inside this process, reached by the daemon through a stream that
//! we opened. Through it the daemon reads folders, secrets and blobs, and sends results.
//!
//! ```text
//! Control/Session stream ─► tunnel ─► server (HTTP/2) ─► filesync  folders to the daemon: walk, follow
//!                                                     ├► filesend  results from the daemon: a file, or receive a folder
//!                                                     └► services: what this session offers
//! ```
//!
//! Everything that a daemon sends is untrusted: names, patterns, contents. What it may read is what `services` lists.
//! Services: <https://github.com/moby/buildkit/tree/master/session>.

mod filesend;
mod filesync;
mod follow;
mod open;
mod packet;
mod server;
mod services;
#[cfg(test)]
mod tests;
mod traffic;
mod tunnel;
mod walk;

pub(crate) use filesend::{FileReceiver, ReceivedFile};
pub(crate) use open::{Session, SessionIdentity};
pub(crate) use services::{Receiver, SessionServices, SyncedFolder};
pub(crate) use traffic::SentBytes;
