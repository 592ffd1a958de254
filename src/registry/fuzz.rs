//! The registry's part of the fuzz targets: the parsers of documents and headers, which this module keeps to itself.
//!
//! Compiled only with the feature `fuzzing`; `crate::fuzz` is the face of it.

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use url::Url;

use super::{
    api,
    auth::{self, Challenge},
    error,
    image::{self, Document, ParsedDocument},
    pull,
};
use crate::oci::{Digest, Platform, media};

/// Reads the bytes as each kind of document that a registry or a layout folder may send.
pub(crate) fn fuzz_documents(bytes: &[u8]) {
    let platform = Platform::normalised("linux", "arm64", Some("v8"));
    let mut own = Document::of_bytes(Digest::of(bytes), bytes.to_vec());
    for media_type in [own.media_type.clone(), media::OCI_INDEX.to_owned(), media::OCI_MANIFEST.to_owned()] {
        own.media_type = media_type;
        match own.parse() {
            Ok(ParsedDocument::Index(entries)) => {
                if let Ok(chosen) = image::choose(&entries, &platform) {
                    assert!(entries.contains(chosen), "the choice is one of the entries");
                }
            }
            Ok(ParsedDocument::Manifest { layers, .. }) => {
                assert!(layers.iter().all(|layer| image::digest_of(layer).is_ok()), "every layer has a sha256 digest");
                image::read_config(bytes, &layers).ok();
            }
            Err(why) => assert!(!why.is_empty(), "a refusal says why"),
        }
    }
    if let Ok(config) = image::read_config(bytes, &[]) {
        assert!(config.rootfs.diff_ids.is_empty(), "as many diff ids as layers");
    }
}

/// Reads the bytes as lines `name: value`, and these as the headers of an answer.
pub(crate) fn fuzz_headers(bytes: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(&line[colon + 1..]);
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    if let Some(Challenge::Bearer { scope: Some(scope), .. }) = auth::challenge(&headers) {
        let merged = auth::merge_scopes(scope.split(' '));
        assert_eq!(auth::merge_scopes(merged.split(' ')), merged, "merged scopes stay as they are");
    }
    api::retry_after(&headers);
    pull::range_start(&headers);
    pull::media_type(&headers);
    let from = Url::parse("https://registry.example/v2/a/blobs/uploads/").expect("a URL");
    if let Ok(Some(next)) = api::location(&from, &headers) {
        assert_eq!(next.scheme(), "https", "TLS is never left");
    }
    error::registry_words(bytes);
}
