//! The client's side of a BuildKit session: a gRPC server inside this process, reached by the daemon through a stream that
//! we opened. Through it the daemon reads folders, secrets and blobs, and sends results.
//!
//! ```text
//! Control/Session stream ─► tunnel ─► server (HTTP/2) ─► filesync  folders to the daemon: walk, follow
//!                                                     ├► filesend  results from the daemon: a file, or receive a folder
//!                                                     └► services: what this session offers
//! ```
//!
//! A service takes a `call` and what it needs of the session, and knows no other service; `services` gathers what all of
//! them offer, `method` names what can be called, and only `server` joins the two.
//!
//! Everything that a daemon sends is untrusted: names, patterns, contents. What it may read is what `services` lists.
//! Services: <https://github.com/moby/buildkit/tree/master/session>.

mod agent;
mod auth;
mod blobs;
mod call;
mod content;
mod filesend;
mod filesync;
mod folder;
#[cfg(test)]
mod folder_tests;
mod follow;
mod method;
mod open;
#[cfg(test)]
mod open_tests;
mod packet;
mod receive;
mod secrets;
mod sent_path;
mod server;
#[cfg(test)]
mod service_tests;
mod services;
mod ssh;
#[cfg(test)]
mod tests;
mod traffic;
mod tunnel;
mod upload;
mod walk;

pub(crate) use agent::{of_keys, only_signing};
pub(crate) use auth::RegistryAccess;
pub(crate) use blobs::{ContentPlace, ReceivedBlobs};
pub(crate) use filesend::{FileReceiver, ReceivedFile, Receiver};
pub(crate) use filesync::SyncedFolder;
pub(crate) use folder::FolderTarget;
pub(crate) use open::{Session, SessionIdentity};
pub(crate) use packet::FileStat;
pub(crate) use receive::FolderReceiver;
pub(crate) use secrets::SecretSource;
pub(crate) use services::SessionServices;
pub(crate) use ssh::{SshSource, SshStream};
pub(crate) use traffic::SentBytes;
