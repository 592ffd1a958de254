//! Errors of a daemon, taken apart: the place in the Dockerfile, the step, the exit code of its process.
//!
//! Details come as a `google.rpc.Status` whose parts are JSON
//! (<https://github.com/moby/buildkit/blob/master/solver/errdefs/errdefs.proto>).

use std::error::Error as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bollard_buildkit_proto::google::rpc;
use prost::Message as _;
use serde::{Deserialize, Deserializer, de::Error as _};
use tonic::{Code, Status};

/// An error of a daemon.
#[derive(Clone, Debug)]
pub(crate) struct DaemonFault {
    pub(crate) code: Code,
    /// In the words of the daemon, without what each of its errors begins with.
    pub(crate) message: String,
    /// Where in a Dockerfile.
    pub(crate) place: Option<FaultPlace>,
    /// The digest of the step that failed.
    pub(crate) vertex: Option<String>,
    /// The exit code of the step's process.
    pub(crate) exit_code: Option<u32>,
    /// The daemon says more than a message: it is the build's fault, and not that of a connection.
    has_details: bool,
    /// The connection failed, and no daemon said anything.
    is_of_transport: bool,
}

/// Whose fault an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blame {
    Build,
    Node,
    /// The node has to be asked whether it is there.
    Unknown,
}

/// Lines of a Dockerfile.
#[derive(Clone, Debug)]
pub(crate) struct FaultPlace {
    pub(crate) filename: String,
    /// The whole text.
    pub(crate) text: Vec<u8>,
    /// First and last line, from 1.
    pub(crate) lines: Option<(u32, u32)>,
}

#[derive(Deserialize)]
struct SourceDetail {
    info: Option<InfoDetail>,
    #[serde(default)]
    ranges: Option<Vec<RangeDetail>>,
}

#[derive(Deserialize)]
struct InfoDetail {
    #[serde(default)]
    filename: String,
    #[serde(default, deserialize_with = "base64_bytes")]
    data: Vec<u8>,
}

#[derive(Deserialize)]
struct RangeDetail {
    #[serde(default)]
    start: PositionDetail,
    #[serde(default)]
    end: PositionDetail,
}

#[derive(Deserialize, Default)]
struct PositionDetail {
    #[serde(default)]
    line: u32,
}

#[derive(Deserialize)]
struct VertexDetail {
    #[serde(default)]
    digest: String,
}

#[derive(Deserialize)]
struct ExitDetail {
    #[serde(default, alias = "Code")]
    code: u32,
}

fn base64_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
    STANDARD.decode(text).map_err(D::Error::custom)
}

impl DaemonFault {
    /// Takes an error apart. Details that cannot be read are left out: the message is always there.
    pub(crate) fn of(status: &Status) -> Self {
        let mut fault = Self {
            code: status.code(),
            message: cleaned(status.message()),
            place: None,
            vertex: None,
            exit_code: None,
            has_details: false,
            is_of_transport: status.source().is_some(),
        };
        let Ok(details) = rpc::Status::decode(status.details()) else { return fault };
        for detail in details.details {
            let kind = detail.type_url.rsplit('/').next().unwrap_or_default();
            let kind = kind.strip_suffix("+json").unwrap_or(kind);
            fault.has_details |= kind.contains("errdefs") || kind.contains("ExitMessage");
            fault.add(kind, &detail.value);
        }
        fault
    }

    fn add(&mut self, kind: &str, json: &[u8]) {
        match kind.rsplit('.').next() {
            Some("Source") if self.place.as_ref().is_none_or(|place| place.lines.is_none()) => {
                let Ok(SourceDetail { info: Some(info), ranges }) = serde_json::from_slice(json) else { return };
                let ranges = ranges.unwrap_or_default();
                let first = ranges.iter().map(|range| range.start.line).filter(|line| *line > 0).min();
                let last = ranges.iter().map(|range| range.end.line.max(range.start.line)).max();
                let lines = first.map(|first| (first, last.unwrap_or(first).max(first)));
                self.place = Some(FaultPlace { filename: info.filename, text: info.data, lines });
            }
            Some("Vertex") => {
                let found = serde_json::from_slice::<VertexDetail>(json).ok();
                self.vertex = self.vertex.take().or(found.map(|it| it.digest).filter(|it| !it.is_empty()));
            }
            Some("ExitMessage") => {
                self.exit_code = serde_json::from_slice::<ExitDetail>(json).ok().map(|it| it.code).or(self.exit_code);
            }
            _ => (),
        }
    }

    /// Who is at fault, as far as the error itself says.
    pub(crate) const fn blames(&self) -> Blame {
        match self.code {
            _ if self.has_details => Blame::Build,
            // It was made on this side: no answer came.
            _ if self.is_of_transport => Blame::Node,
            // A daemon that ends cancels its builds; but what it passes on of a registry can have the same codes.
            Code::Unavailable | Code::Cancelled => Blame::Unknown,
            _ => Blame::Build,
        }
    }
}

/// A message without control characters, and without the words that say nothing: each error of a solve begins with `failed to solve`, and refs have random
/// names.
fn cleaned(message: &str) -> String {
    let mut text = message;
    while let Some(rest) = text.strip_prefix("failed to solve: ") {
        text = rest;
    }
    let mut words: String = text.chars().filter(|c| !c.is_control() || *c == '\n').collect();
    for (begin, end) in [("failed to calculate checksum of ref ", ": "), ("rpc error: code = ", " desc = ")] {
        if let Some((before, rest)) = words.split_once(begin)
            && let Some((_, rest)) = rest.split_once(end)
        {
            words = format!("{before}{rest}");
        }
    }
    words.strip_prefix("failed to compute cache key: ").map_or_else(|| words.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard_buildkit_proto::google::protobuf::Any;

    fn status(details: &[(&str, &str)]) -> Status {
        let any = |(kind, json): &(&str, &str)| Any { type_url: (*kind).to_owned(), value: json.as_bytes().to_vec() };
        let all = rpc::Status { code: 2, message: String::new(), details: details.iter().map(any).collect() };
        Status::with_details(Code::Unknown, "failed to solve: process failed", all.encode_to_vec().into())
    }

    #[test]
    fn the_place_the_step_and_the_exit_code_are_found() {
        let source =
            r#"{"info":{"filename":"Dockerfile","data":"RlJPTSBh"},"ranges":[{"start":{"line":3},"end":{"line":4}}]}"#;
        let fault = DaemonFault::of(&status(&[
            ("github.com/moby/buildkit/errdefs.Source+json", source),
            ("github.com/moby/buildkit/errdefs.Vertex+json", r#"{"digest":"sha256:1"}"#),
            ("github.com/moby/buildkit/frontend/gateway/pb.ExitMessage+json", r#"{"Code":7}"#),
        ]));
        let place = fault.place.as_ref().expect("a place");
        assert_eq!((place.text.as_slice(), place.lines), (b"FROM a".as_slice(), Some((3, 4))));
        assert_eq!((fault.vertex.as_deref(), fault.exit_code), (Some("sha256:1"), Some(7)));
        assert_eq!(fault.message, "process failed");
        assert_eq!(fault.blames(), Blame::Build);
    }

    #[test]
    fn details_that_are_no_json_leave_the_message() {
        let fault = DaemonFault::of(&status(&[("x/errdefs.Source+json", "{{"), ("y", "")]));
        assert!(fault.place.is_none() && fault.message == "process failed");
        let registry = Status::unknown("failed to push: net/http: request canceled while waiting for connection");
        assert_eq!(DaemonFault::of(&registry).blames(), Blame::Build);
        assert_eq!(DaemonFault::of(&Status::cancelled("operation was canceled")).blames(), Blame::Unknown);
        let broken = Status::from_error(Box::new(std::io::Error::other("transport error")));
        assert_eq!(DaemonFault::of(&broken).blames(), Blame::Node);
    }
}
