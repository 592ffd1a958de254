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

pub(crate) use cache_config::{CACHE_CONFIG, Imported, cache_config, cache_document, parts, records};
pub(crate) use config::rfc3339;
pub(crate) use document::{DocumentDescriptor, descriptor, index_document, layer_type};
pub(crate) use image::{AssembledImage, BlobContent, ImageBlob, assemble};
pub(crate) use statement::{StatementSubject, metadata_predicate, statements};
