//! Descriptors, manifests and indexes as they are written, with the media types of layers (OCI image spec, "Content
//! Descriptors", "Image ManifestDocument", "Image IndexDocument"; Docker image manifest version 2, schema 2).
//!
//! The types and builders of `oci-spec` were tried and not taken: their annotations are a `HashMap`, so equal inputs
//! would give other bytes in each run, and their platform knows no `os.version` of Docker's form. What is read from
//! others is parsed with `oci-spec`.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    oci::{Digest, Platform, media},
    spec::compression::Codec,
};

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

/// The media type of a layer by compression, Docker or OCI types, and whether it is non-distributable.
pub(crate) fn layer_type(codec: Codec, docker: bool, nondist: bool) -> &'static str {
    match (codec, docker, nondist) {
        (Codec::Uncompressed, false, false) => media::OCI_LAYER,
        (Codec::Gzip | Codec::Estargz, false, false) => media::OCI_LAYER_GZIP,
        (Codec::Zstd, false, false) => media::OCI_LAYER_ZSTD,
        (Codec::Uncompressed, true, false) => media::DOCKER_LAYER,
        (Codec::Gzip | Codec::Estargz, true, false) => media::DOCKER_LAYER_GZIP,
        (Codec::Zstd, true, false) => media::DOCKER_LAYER_ZSTD,
        (Codec::Uncompressed, false, true) => "application/vnd.oci.image.layer.nondistributable.v1.tar",
        (Codec::Gzip | Codec::Estargz, false, true) => "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        (Codec::Zstd, false, true) => "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
        (Codec::Uncompressed, true, true) => "application/vnd.docker.image.rootfs.foreign.diff.tar",
        (_, true, true) => "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    }
}

/// `index.json` of an archive: one descriptor per name, all of the same root.
pub(crate) fn index_document(descriptors: &[DocumentDescriptor]) -> Vec<u8> {
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": descriptors});
    index.to_string().into_bytes()
}
