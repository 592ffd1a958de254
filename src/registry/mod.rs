//! Images where they are kept: registries (distribution protocol) and OCI layout folders. Resolve, pull, push.
//!
//! ```text
//! pull.rs   resolve, manifests, blobs ───────┐
//! push.rs   uploads, mounts, manifests ──────┴─► api.rs  one request: redirects, retries
//! copy.rs   from one repository into another: pull and push
//!   client.rs       the registries of a run        │
//!   host.rs         one registry, one mirror ◄─────┤
//!   auth.rs         challenges, tokens ◄───────────┘
//!   credentials.rs  config.json, helpers
//!   delegate.rs     tokens for a program that must not have the password
//!   settings        files ─► how a host is reached; connections.rs certificates ─► http.rs HTTP clients by security
//! layout.rs  the same answers from a folder
//! image.rs   choice of a platform, reading of manifests: shared by pull and layout
//! ```
//!
//! Nothing here knows the store or builds: blobs are written into what the caller opens, documents are looked up in
//! what the caller gives. Whatever a server sends is bounded and verified before it is believed.

mod api;
mod auth;
mod client;
mod connections;
mod copy;
mod credentials;
mod delegate;
mod error;
#[cfg(feature = "fuzzing")]
mod fuzz;
mod host;
mod http;
mod image;
mod layout;
mod options;
mod pull;
mod push;
mod replace;
mod settings;
#[cfg(test)]
mod tests;

pub(crate) use client::Client;
pub(crate) use error::RegistryError;
#[cfg(feature = "fuzzing")]
pub(crate) use fuzz::{fuzz_documents, fuzz_headers};
pub(crate) use image::{Document, Documents, NoDocuments, RegistryImage};
pub(crate) use layout::Layout;
pub(crate) use options::ClientOptions;
pub(crate) use push::{BlobSource, NameTarget, Push, Upload};
#[cfg(test)]
use settings::{HostSettings, MirrorSettings, RegistryAddress};
pub(crate) use settings::{SettingsFiles, load as load_settings};
