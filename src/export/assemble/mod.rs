//! The documents of an image: config, manifest, index, attestations, cache config.
//!
//! ```text
//! builds + packed layers ─► config ─► image (manifests, index; statement for attestations) ─► AssembledImage
//! records + packed layers ─► cache_config
//! ```
//!
//! Pure: equal inputs give equal bytes.

mod cache_config;
mod config;
mod document;
mod image;
mod statement;

pub(in crate::export) use cache_config::{CACHE_CONFIG, Imported, cache_config, cache_document, parts, records};
pub(in crate::export) use config::rfc3339;
pub(in crate::export) use document::{DocumentDescriptor, descriptor, index_document, layer_type};
pub(in crate::export) use image::{AssembledImage, BlobContent, ImageBlob, assemble};
pub(in crate::export) use statement::{StatementSubject, metadata_predicate};
