//! Build information in the image config: a JSON document in base64, as BuildKit wrote it until version 0.11
//! (<https://github.com/moby/buildkit/blob/v0.11.6/docs/buildinfo.md>).
//!
//! Equal builds give equal bytes on every machine.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Serialize;

use crate::{
    export::built::{BuildInfo, BuildInfoSource, BuildInfoSourceKind},
    spec::output::BuildInfoDetail,
};

/// The key of the image config that holds it.
pub(super) const BUILD_INFO: &str = "moby.buildkit.buildinfo.v0";

#[derive(Serialize)]
struct BuildInfoDocument<'a> {
    frontend: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    attrs: Option<&'a BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sources: Vec<SourceDocument<'a>>,
}

#[derive(Serialize)]
struct SourceDocument<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(rename = "ref")]
    reference: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pin: Option<&'a str>,
}

/// The value of [`BUILD_INFO`]; `None` when nothing is to be said.
pub(super) fn build_info(info: &BuildInfo, detail: BuildInfoDetail) -> Option<String> {
    let attrs = match detail {
        BuildInfoDetail::Nothing => return None,
        BuildInfoDetail::Sources => None,
        BuildInfoDetail::Attributes => Some(&info.attributes),
    };
    let sources = info.sources.iter().map(document).collect();
    let document = BuildInfoDocument { frontend: "dockerfile.v0", attrs, sources };
    Some(STANDARD.encode(serde_json::to_vec(&document).expect("build information is plain data")))
}

fn document(source: &BuildInfoSource) -> SourceDocument<'_> {
    let kind = match source.kind {
        BuildInfoSourceKind::DockerImage => "docker-image",
        BuildInfoSourceKind::OciLayout => "oci-layout",
        BuildInfoSourceKind::Git => "git",
        BuildInfoSourceKind::Http => "http",
    };
    SourceDocument { kind, reference: &source.reference, pin: source.pin.as_deref() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_written_when_they_are_asked_for() {
        let info = BuildInfo {
            attributes: BTreeMap::from([("build-arg:A".to_owned(), "1".to_owned())]),
            sources: vec![BuildInfoSource {
                kind: BuildInfoSourceKind::Git,
                reference: "https://example.com/a.git#main".to_owned(),
                pin: Some("0123".to_owned()),
            }],
        };
        let text = |detail| {
            let encoded = build_info(&info, detail)?;
            Some(String::from_utf8(STANDARD.decode(encoded).expect("base64")).expect("UTF-8"))
        };
        let sources = r#""sources":[{"type":"git","ref":"https://example.com/a.git#main","pin":"0123"}]}"#;
        assert_eq!(text(BuildInfoDetail::Nothing), None);
        assert_eq!(text(BuildInfoDetail::Sources), Some(format!(r#"{{"frontend":"dockerfile.v0",{sources}"#)));
        let attrs = r#""attrs":{"build-arg:A":"1"}"#;
        assert_eq!(
            text(BuildInfoDetail::Attributes),
            Some(format!(r#"{{"frontend":"dockerfile.v0",{attrs},{sources}"#))
        );
    }
}
