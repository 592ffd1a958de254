//! What image configs say about a build: its sources with digests, and the attributes of its request.
//!
//! Nothing here depends on the machine: no path of it, no time, no value of a secret or of a hidden build argument.

use std::collections::BTreeMap;

use super::{context::Contexts, provenance};
use crate::{
    dockerfile::options::Lowered,
    export::{BuildInfo, BuildInfoSource, BuildInfoSourceKind},
    graph::{Graph, ImageOp, Op},
    oci::{Digest, LayerOrigin, Reference},
    plan::Build,
    report::{hidden::MASK, url::without_credentials},
    spec::{NetworkMode, context::ContextSource},
};

/// The build information of a build that has not run: what its sources of unknown content are is asked when it has.
pub(crate) struct PendingBuildInfo {
    attributes: BTreeMap<String, String>,
    /// Each with the digest of its vertex.
    sources: Vec<(BuildInfoSource, Digest)>,
}

impl PendingBuildInfo {
    /// Collects what is known before the build runs.
    pub(crate) fn of(build: &Build, lowered: &Lowered, graph: &Graph, contexts: &Contexts) -> Self {
        let vertices = provenance::needed(graph, lowered.result).into_iter();
        let sources = vertices.filter_map(|ix| {
            let vertex = graph.get(ix);
            let source = match &vertex.op {
                Op::Image(image) => image_source(image, build, contexts),
                Op::Git(git) => {
                    let url = without_credentials(&git.url);
                    let name = git.reference.as_ref().map(|name| format!("#{name}")).unwrap_or_default();
                    source(BuildInfoSourceKind::Git, format!("{url}{name}"), None)
                }
                Op::Http(http) => {
                    let pin = http.checksum.map(|digest| digest.to_string());
                    source(BuildInfoSourceKind::Http, without_credentials(&http.url).into_owned(), pin)
                }
                Op::Scratch | Op::Local(_) | Op::Exec(_) | Op::File(_) | Op::Merge => return None,
            };
            Some((source, vertex.digest))
        });
        Self { attributes: attributes(build), sources: sources.collect() }
    }

    /// The build information after the build. `pin` returns the commit or digest of a fetched source by its vertex.
    pub(crate) fn finish(&self, pin: impl Fn(&Digest) -> Option<String>) -> BuildInfo {
        let pinned = |(source, vertex): &(BuildInfoSource, Digest)| {
            let pin = source.pin.clone().or_else(|| pin(vertex));
            BuildInfoSource { pin, ..source.clone() }
        };
        let mut sources: Vec<BuildInfoSource> = self.sources.iter().map(pinned).collect();
        sources.sort();
        sources.dedup();
        BuildInfo { attributes: self.attributes.clone(), sources }
    }
}

fn source(kind: BuildInfoSourceKind, reference: String, pin: Option<String>) -> BuildInfoSource {
    BuildInfoSource { kind, reference, pin }
}

/// An image as a source. One of an OCI layout folder goes by the name of its context: its path is of this machine.
fn image_source(image: &ImageOp, build: &Build, contexts: &Contexts) -> BuildInfoSource {
    let pinned = image.reference.rsplit_once('@').map(|(_, digest)| digest.to_owned());
    let pin = pinned.unwrap_or_else(|| image.manifest.to_string());
    match &image.origin {
        LayerOrigin::Registry { .. } => {
            let reference = match Reference::parse(&image.reference) {
                Ok(Reference { digest: Some(_), tag: Some(tag), domain, path }) => {
                    Reference { digest: None, tag: Some(tag), domain, path }.to_string()
                }
                _ => image.reference.clone(),
            };
            source(BuildInfoSourceKind::DockerImage, reference, Some(pin))
        }
        // No image is in an object store: layers of shared caches alone.
        LayerOrigin::Objects { .. } => source(BuildInfoSourceKind::OciLayout, pin.clone(), Some(pin)),
        LayerOrigin::Layout { folder } => {
            let name = provenance::layout_name(build, contexts, folder).unwrap_or(&pin).to_owned();
            source(BuildInfoSourceKind::OciLayout, name, Some(pin))
        }
    }
}

/// The attributes of the request. Values of hidden arguments are masked; a folder goes by the name of its context.
fn attributes(build: &Build) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    all.insert("filename".to_owned(), provenance::dockerfile_name(build).to_owned());
    if let ContextSource::Git(url) | ContextSource::Http(url) = &build.context {
        all.insert("context".to_owned(), without_credentials(url).into_owned());
    }
    for (name, value) in &build.args {
        let is_hidden = build.hidden_args.contains(name);
        let shown = if is_hidden { MASK.to_owned() } else { without_credentials(value).into_owned() };
        all.insert(format!("build-arg:{name}"), shown);
    }
    for (name, value) in &build.labels {
        all.insert(format!("label:{name}"), value.clone());
    }
    for (name, context) in &build.contexts {
        let value = match context {
            ContextSource::Target(target) => format!("input:{target}"),
            ContextSource::Image(reference) => format!("docker-image://{reference}"),
            ContextSource::OciLayout { .. } => format!("oci-layout:{name}"),
            ContextSource::Git(url) | ContextSource::Http(url) => without_credentials(url).into_owned(),
            ContextSource::Local(_) | ContextSource::Stdin | ContextSource::Archive(_) | ContextSource::Built(_) => {
                format!("local:{name}")
            }
        };
        all.insert(format!("context:{name}"), value);
    }
    if let Some(stage) = &build.stage {
        all.insert("target".to_owned(), stage.clone());
    }
    if build.network != NetworkMode::Default {
        all.insert("force-network-mode".to_owned(), build.network.name().to_owned());
    }
    all
}
