//! Object stores as places of shared caches: blobs under their digests, and documents under names.
//!
//! ```text
//! settings   options and environment ─► ObjectCache: place, access, names of objects
//! stores     place and access ─► holder, made when it is first asked for
//! holder     what every place can do ─┬─ bucket: S3, Azure Blob Storage, Google Cloud Storage (crate `object_store`),
//!                                     │  made by clouds, aws_profile
//!                                     └─ actions: the cache service of GitHub Actions
//! transport  the HTTP client of all
//! ```
//!
//! A new kind of place is one file with its [`ObjectHolder`], one variant of `oci::ObjectPlace`, and its arm in `settings`
//! and `stores`. Nothing here knows what documents mean, and no blob is verified here: who reads one does that.

mod actions;
mod aws_profile;
mod bucket;
mod clouds;
mod error;
mod holder;
mod settings;
mod stores;
mod transport;

pub(crate) use holder::{Expected, ObjectHolder, Replaced};
pub(crate) use settings::{ObjectCache, Unavailable};
pub(crate) use stores::ObjectStores;
