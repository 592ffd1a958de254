//! The facts that provenance states about a build.
//!
//! Facts come from the plan and the graph; no secret's value is ever among them, and no path of this machine: a folder goes by
//! the name of its context.

use std::{collections::BTreeSet, path::Path};

use serde_json::{Value, json};

use super::{
    context::{Contexts, WantedContext},
    remote,
};
use crate::{
    dockerfile::options::{Lowered, NamedContext},
    export::Provenance,
    graph::{GitOp, Graph, HttpOp, ImageOp, Op, VertexIx},
    oci::{Digest, LayerOrigin, Platform, Reference, purl},
    plan::{Build, build::OptionalFiles},
    report::{Hidden, hidden::MASK, url::without_credentials},
    solve::op::source,
    spec::{NetworkMode, context::ContextSource, dockerfile::DockerfileInput},
};

/// The facts about a build that has not run: what its sources of unknown content are is asked when it has.
pub(crate) struct PendingProvenance {
    facts: Provenance,
    /// Git repositories and downloads: the digest of the vertex, and the URI.
    fetched: Vec<(Digest, String)>,
}

impl PendingProvenance {
    /// Collects what is known before the build runs. `started` is RFC 3339.
    pub(crate) fn of(build: &Build, lowered: &Lowered, graph: &Graph, contexts: &Contexts, started: &str) -> Self {
        let mut facts = Provenance { started: started.to_owned(), ..Provenance::default() };
        facts.config_uri = match remote::main_context(build) {
            Ok(Some(NamedContext::Git(git))) => Some(git_uri(&git)),
            Ok(Some(NamedContext::Http(http))) if !source::is_stored_archive(&http) => Some(http_uri(&http)),
            _ => None,
        };
        let (path, OptionalFiles { lower_case, .. }) = (build.dockerfile_path(), build.optional_files());
        facts.config_path = dockerfile_name(build).to_owned();
        let wanted = match &build.dockerfile {
            DockerfileInput::Inline(text) => {
                let target = build.wanted_by.first().map(ToString::to_string).unwrap_or_default();
                Some(WantedContext::Inline { target, text: text.clone(), at: build.inline_place() })
            }
            DockerfileInput::InContext(_) | DockerfileInput::Local(_) => {
                path.map(|path| WantedContext::File { path, lower_case })
            }
            DockerfileInput::Http(_) => None,
        };
        let text = wanted.and_then(|wanted| contexts.text(&wanted)).map(|text| text.as_bytes().to_vec());
        facts.source = text.map(|text| (facts.config_path.clone(), bytes_without_credentials(text)));
        facts.args = request(build);
        facts.secrets = build.secrets.iter().map(|it| (it.id.clone(), false)).collect();
        facts.ssh = build.ssh.iter().map(|it| (it.id.clone(), false)).collect();
        let local = |it: &ContextSource| matches!(it, ContextSource::Local(_));
        if local(&build.context) {
            facts.locals.extend(["context".to_owned(), "dockerfile".to_owned()]);
        }
        facts.locals.extend(build.contexts.iter().filter(|(_, it)| local(it)).map(|(name, _)| name.clone()));
        let mut pending = Self { facts, fetched: Vec::new() };
        pending.add_graph(build, contexts, graph, lowered.result);
        hide_args(&mut pending.facts.graph, build);
        pending
    }

    /// Adds the images of the scanners that made the SBOMs.
    pub(crate) fn with_scanners(mut self, images: impl Iterator<Item = VertexIx>, graph: &Graph) -> Self {
        for image in images {
            let vertex = graph.get(image);
            let Op::Image(image) = &vertex.op else { continue };
            if let Ok(reference) = Reference::parse(&image.reference) {
                let uri = purl::of_image(&reference, &vertex.platform);
                self.facts.materials.push((uri, ("sha256".to_owned(), image.manifest.hex())));
            }
        }
        self
    }

    /// The facts after the build. `pin` returns the commit or digest of a fetched source by its vertex; `finished` is RFC 3339.
    pub(crate) fn finish(&self, finished: String, pin: impl Fn(&Digest) -> Option<String>) -> Provenance {
        let mut facts = Provenance { finished, ..self.facts.clone() };
        for (vertex, uri) in &self.fetched {
            let Some(digest) = pin(vertex).as_deref().and_then(digest_of_pin) else {
                facts.complete = false;
                continue;
            };
            if facts.config_uri.as_ref() == Some(uri) {
                facts.config_digest = Some(digest.clone());
            }
            facts.materials.push((uri.clone(), digest));
        }
        facts.materials.sort();
        facts.materials.dedup();
        facts.hermetic &= facts.complete;
        facts
    }
}

/// The algorithm and the digits of a pin: the id of a commit, or `sha256:…`.
fn digest_of_pin(pin: &str) -> Option<(String, String)> {
    let (algorithm, hex) = match (pin.split_once(':'), pin.len()) {
        (Some(both), _) => both,
        (None, 40) => ("sha1", pin),
        (None, 64) => ("sha256", pin),
        (None, _) => return None,
    };
    Some((algorithm.to_owned(), hex.to_owned()))
}

/// The Dockerfile as others may know it: its path in the context, else its name alone.
pub(super) fn dockerfile_name(build: &Build) -> &str {
    match &build.dockerfile {
        DockerfileInput::Inline(_) => "Dockerfile",
        DockerfileInput::InContext(path) if !path.starts_with('/') && !path.starts_with("..") => path,
        DockerfileInput::InContext(path) | DockerfileInput::Local(path) => {
            path.rsplit('/').next().unwrap_or("Dockerfile")
        }
        DockerfileInput::Http(url) => {
            let path = url.split(['?', '#']).next().unwrap_or_default();
            path.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("Dockerfile")
        }
    }
}

/// The name of the build's context that stands for an OCI layout folder. One that a linked target reads has no name here.
pub(super) fn layout_name<'a>(build: &'a Build, contexts: &Contexts, folder: &Path) -> Option<&'a str> {
    let is_this = |context: &ContextSource| match context {
        ContextSource::OciLayout { path, .. } => contexts.path(path).path() == folder,
        _ => false,
    };
    build.contexts.iter().find(|(_, context)| is_this(context)).map(|(name, _)| name.as_str())
}

/// The Dockerfile without the credentials of its URLs; other bytes than UTF-8 are left as they are.
fn bytes_without_credentials(text: Vec<u8>) -> Vec<u8> {
    match String::from_utf8(text) {
        Ok(text) => without_credentials(&text).into_owned().into_bytes(),
        Err(error) => error.into_bytes(),
    }
}

/// Masks the values of hidden build arguments wherever they occur in the steps.
fn hide_args(steps: &mut [Value], build: &Build) {
    if build.hidden_args.is_empty() {
        return;
    }
    let mut hidden = Hidden::default();
    build.hidden_args.iter().filter_map(|name| build.args.get(name)).for_each(|it| hidden.insert(&it.as_str().into()));
    steps.iter_mut().for_each(|it| mask(it, &hidden));
}

fn mask(value: &mut Value, hidden: &Hidden) {
    match value {
        Value::String(text) => *text = hidden.mask(text).into_owned(),
        Value::Array(items) => items.iter_mut().for_each(|it| mask(it, hidden)),
        Value::Object(entries) => entries.values_mut().for_each(|it| mask(it, hidden)),
        Value::Null | Value::Bool(_) | Value::Number(_) => (),
    }
}

/// The options of the build under the names that BuildKit's Dockerfile frontend gives them.
fn request(build: &Build) -> Vec<(String, String)> {
    let mut args: Vec<(String, String)> = Vec::new();
    let shown =
        |name: &String, value: &String| if build.hidden_args.contains(name) { MASK.to_owned() } else { value.clone() };
    args.extend(build.args.iter().map(|(name, value)| (format!("build-arg:{name}"), shown(name, value))));
    args.extend(build.labels.iter().map(|(name, value)| (format!("label:{name}"), value.clone())));
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
        args.push((format!("context:{name}"), value));
    }
    if let Some(stage) = &build.stage {
        args.push(("target".to_owned(), stage.clone()));
    }
    if build.no_cache {
        args.push(("no-cache".to_owned(), String::new()));
    }
    if build.network != NetworkMode::Default {
        args.push(("force-network-mode".to_owned(), build.network.name().to_owned()));
    }
    args
}

/// The vertices that a result is made of, itself included, inputs before their users.
pub(super) fn needed(graph: &Graph, result: VertexIx) -> Vec<VertexIx> {
    let mut wanted = BTreeSet::from([result]);
    let mut open = vec![result];
    while let Some(ix) = open.pop() {
        open.extend(graph.get(ix).inputs.iter().copied().filter(|input| wanted.insert(*input)));
    }
    // Inputs have lower indices than their users.
    wanted.into_iter().collect()
}

impl PendingProvenance {
    /// Adds materials and steps, and whether the build is complete and hermetic.
    fn add_graph(&mut self, build: &Build, contexts: &Contexts, graph: &Graph, result: VertexIx) {
        (self.facts.complete, self.facts.hermetic) = (true, true);
        let step = |ix: VertexIx| format!("step{}", ix.index());
        for ix in needed(graph, result) {
            let vertex = graph.get(ix);
            match &vertex.op {
                Op::Image(image) => {
                    let digest = ("sha256".to_owned(), image.manifest.hex());
                    let uri = image_uri(image, &vertex.platform, build, contexts);
                    self.facts.materials.push((uri, digest));
                }
                Op::Git(git) => {
                    self.fetched.push((vertex.digest, git_uri(git)));
                }
                // An archive that was handed over has no address.
                Op::Http(http) if source::is_stored_archive(http) => self.facts.complete = false,
                Op::Http(http) => self.fetched.push((vertex.digest, http_uri(http))),
                Op::Local(_) => self.facts.complete = false,
                Op::Exec(exec) => self.facts.hermetic &= exec.network == NetworkMode::None,
                Op::Scratch | Op::File(_) | Op::Merge => {}
            }
            let inputs: Vec<Value> = vertex.inputs.iter().map(|it| json!(format!("{}:0", step(*it)))).collect();
            let op = op_without_machine(&vertex.op, |folder| layout_name(build, contexts, folder));
            self.facts.graph.push(json!({"id": step(ix), "op": op, "inputs": inputs}));
        }
    }
}

/// A repository with the branch, tag or commit that was asked for.
fn git_uri(git: &GitOp) -> String {
    let reference = git.reference.as_ref().map(|it| format!("#{it}")).unwrap_or_default();
    format!("{}{reference}", without_credentials(&git.url))
}

fn http_uri(http: &HttpOp) -> String {
    without_credentials(&http.url).into_owned()
}

/// The package URL of an image.
fn image_uri(image: &ImageOp, platform: &Platform, build: &Build, contexts: &Contexts) -> String {
    match &image.origin {
        LayerOrigin::Layout { folder } => {
            let name = layout_name(build, contexts, folder).unwrap_or("image");
            purl::of_layout(name, image.manifest, platform)
        }
        // No image is in an object store: layers of shared caches alone.
        LayerOrigin::Objects { .. } => purl::of_layout("image", image.manifest, platform),
        LayerOrigin::Registry { domain, path } => {
            let unnamed =
                || Reference { domain: domain.clone(), path: path.clone(), tag: None, digest: Some(image.manifest) };
            let reference = Reference::parse(&image.reference).unwrap_or_else(|_| unnamed());
            purl::of_image(&reference, platform)
        }
    }
}

/// An op as JSON, without what is of this machine alone: paths, passwords. `name` returns what a layout folder is called.
fn op_without_machine<'a>(op: &Op, name: impl Fn(&Path) -> Option<&'a str>) -> Value {
    let mut value = serde_json::to_value(op).unwrap_or_default();
    match op {
        Op::Git(_) | Op::Http(_) => {
            for url in ["/Git/url", "/Http/url"] {
                if let Some(url) = value.pointer_mut(url) {
                    *url = without_credentials(url.as_str().unwrap_or_default()).into();
                }
            }
        }
        Op::Local(_) => {
            if let Some(local) = value.get_mut("Local").and_then(Value::as_object_mut) {
                local.remove("folder");
                local.remove("ignore_file");
            }
        }
        Op::Image(image) => {
            if let LayerOrigin::Layout { folder } = &image.origin {
                let name = name(folder).unwrap_or("image");
                value["Image"]["reference"] = format!("oci-layout:{name}@{}", image.manifest).into();
                value["Image"]["origin"] = json!({"Layout": {}});
            }
        }
        Op::Exec(_) => {
            if let Some(exec) = value.get_mut("Exec").and_then(Value::as_object_mut) {
                // It may hold a password.
                exec.remove("proxy");
                // Paths of this machine.
                exec.remove("sources");
            }
        }
        Op::Scratch | Op::File(_) | Op::Merge => (),
    }
    value
}
