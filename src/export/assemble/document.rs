//! Descriptors, manifests and indexes as they are written, with the media types of layers (OCI image spec, "Content
//! Descriptors", "Image Manifest", "Image Index"; Docker image manifest version 2, schema 2).
//!
//! The types and builders of `oci-spec` were tried and not taken: their annotations are a `HashMap`, so equal inputs
//! would give other bytes in each run, and their platform knows no `os.version` of Docker's form. What is read from
//! others is parsed with `oci-spec`.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::oci::{Digest, Platform, media};

/// A descriptor as it is written: its keys and annotations in a fixed order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DocumentDescriptor {
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<Platform>,
}

/// An image manifest as it is written (OCI image spec, manifest.md).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ManifestDocument {
    pub(super) schema_version: u32,
    pub(super) media_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) artifact_type: Option<&'static str>,
    pub(super) config: DocumentDescriptor,
    pub(super) layers: Vec<DocumentDescriptor>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) annotations: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) subject: Option<DocumentDescriptor>,
}

/// An image index as it is written (OCI image spec, image-index.md).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct IndexDocument {
    pub(super) schema_version: u32,
    pub(super) media_type: &'static str,
    pub(super) manifests: Vec<DocumentDescriptor>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) annotations: BTreeMap<String, String>,
}

/// A descriptor without annotations and platform. `size` in bytes.
pub(crate) fn descriptor(media_type: &str, digest: Digest, size: u64) -> DocumentDescriptor {
    let media_type = media_type.to_owned();
    DocumentDescriptor { media_type, digest, size, data: None, annotations: BTreeMap::new(), platform: None }
}

/// `index.json` of an archive: one descriptor per name, all of the same root.
pub(crate) fn index_document(descriptors: &[DocumentDescriptor]) -> Vec<u8> {
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": descriptors});
    index.to_string().into_bytes()
}
