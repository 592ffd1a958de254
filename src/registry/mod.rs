//! Images where they are kept: registries (distribution protocol) and OCI layout folders. Resolve, pull, push.
//!
//! ```text
//! Client ── api.rs (requests, retries) ── auth.rs (tokens) ── credentials.rs (config.json, helpers)
//!    │            └─ host.rs (schemes, mirrors, certificates)
//!    ├─ pull.rs  resolve, manifests, blobs
//!    └─ push.rs  uploads, mounts, manifests bottom up
//! Layout ── layout.rs    the same answers from a folder
//!           image.rs     choice of a platform, reading of manifests: shared by both
//! ```
//!
//! Nothing here knows the store or builds: blobs are written into what the caller opens, documents are looked up in
//! what the caller gives. Whatever a server sends is bounded and verified before it is believed.

mod api;
mod auth;
mod client;
mod credentials;
mod error;
mod host;
mod http;
mod image;
mod layout;
mod pull;
mod push;
#[cfg(test)]
mod tests;

pub(crate) use client::{Client, ClientOptions, TransferProgress};
#[cfg(test)]
use client::{HostOptions, Mirror};
pub(crate) use error::{RegistryError, RequestTarget};
pub(crate) use image::{Document, Documents, NoDocuments, RegistryImage};
pub(crate) use layout::Layout;
pub(crate) use push::{BlobSource, Push, Upload};
