//! The documents of an image: config, manifest, index, attestations, cache config.
//!
//! ```text
//! builds + packed layers ─► config ─► image (manifests, index; statement for attestations) ─► AssembledImage
//! records + packed layers ─► cache_content, joined with what is there ─► cache_config (its JSON)
//! ```
//!
//! Pure: equal inputs give equal bytes.

mod build_info;
mod cache_config;
mod cache_content;
mod config;
mod document;
mod image;
mod statement;

pub(crate) use cache_config::{
    CacheDocuments, Imported, cache_records, content, images, is_cache_config, object_document, object_records, parts,
    records,
};
pub(crate) use cache_content::CacheContent;
pub(crate) use config::rfc3339;
pub(crate) use document::{DocumentDescriptor, descriptor, index_document};
pub(crate) use image::{AssembledImage, BlobContent, ImageBlob, assemble};
pub(crate) use statement::{StatementSubject, WantedStatements, metadata_predicate};
