//! The facts that provenance states about a build.
//!
//! Facts come from the plan and the graph; no secret's value is ever among them.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::context::{Contexts, WantedContext};
use crate::{
    dockerfile::options::Lowered,
    export::Provenance,
    graph::{Graph, LayerOrigin, Op, StepNetwork, VertexIx},
    oci::Reference,
    plan::{Build, build::OptionalFiles},
    report::{Hidden, hidden::MASK, url::without_credentials},
    spec::{BuildNetwork, context::ContextSource, dockerfile::DockerfileInput},
};

/// Collects the facts about a build; the time of its end is added when it has ended. `started` is RFC 3339.
pub(crate) fn facts(build: &Build, lowered: &Lowered, graph: &Graph, contexts: &Contexts, started: &str) -> Provenance {
    let mut facts = Provenance { started: started.to_owned(), ..Provenance::default() };
    match &build.context {
        ContextSource::Git(url) | ContextSource::Http(url) => {
            facts.config_uri = Some(without_credentials(url).into_owned());
        }
        _ => {}
    }
    let (path, OptionalFiles { lower_case, .. }) = (build.dockerfile_path(), build.optional_files());
    let wanted = match &build.dockerfile {
        DockerfileInput::Inline(text) => {
            facts.config_path = "Dockerfile".to_owned();
            let target = build.wanted_by.first().map(ToString::to_string).unwrap_or_default();
            Some(WantedContext::Inline { target, text: text.clone() })
        }
        DockerfileInput::InContext(name) | DockerfileInput::Local(name) => {
            facts.config_path.clone_from(name);
            path.map(|path| WantedContext::File { path, lower_case })
        }
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
    from_graph(&mut facts, graph, lowered.result);
    hide_args(&mut facts.graph, build);
    facts
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
            ContextSource::OciLayout { path, tag, digest } => {
                let tag = tag.as_ref().map(|it| format!(":{it}")).unwrap_or_default();
                let digest = digest.as_ref().map(|it| format!("@{it}")).unwrap_or_default();
                format!("oci-layout://{path}{tag}{digest}")
            }
            ContextSource::Git(url) | ContextSource::Http(url) => without_credentials(url).into_owned(),
            ContextSource::Local(_) | ContextSource::Stdin => format!("local:{name}"),
        };
        args.push((format!("context:{name}"), value));
    }
    if let Some(stage) = &build.stage {
        args.push(("target".to_owned(), stage.clone()));
    }
    if build.no_cache {
        args.push(("no-cache".to_owned(), String::new()));
    }
    if build.network != BuildNetwork::Default {
        args.push(("force-network-mode".to_owned(), build.network.name().to_owned()));
    }
    args
}

/// Adds materials and steps, and whether the build is complete and hermetic.
fn from_graph(facts: &mut Provenance, graph: &Graph, result: VertexIx) {
    (facts.complete, facts.hermetic) = (true, true);
    let mut wanted = HashSet::from([result]);
    // Inputs have lower indices than their users, so one pass from the end finds all that is needed.
    let all: Vec<_> = graph.iter().collect();
    for (ix, vertex) in all.iter().rev() {
        if wanted.contains(ix) {
            wanted.extend(vertex.inputs.iter().copied());
        }
    }
    let step = |ix: VertexIx| format!("step{}", ix.index());
    for (ix, vertex) in all.into_iter().filter(|(ix, _)| wanted.contains(ix)) {
        match &vertex.op {
            Op::Image(image) => {
                let digest = ("sha256".to_owned(), image.manifest.hex());
                let (kind, name) = match &image.origin {
                    LayerOrigin::Registry { .. } => ("docker", image.reference.clone()),
                    LayerOrigin::Layout { .. } => ("oci", image.reference.clone()),
                };
                let name = Reference::parse(&name).map_or_else(
                    |_| name.split('@').next().unwrap_or_default().to_owned(),
                    |it| {
                        let tag = it.tag.as_ref().map(|tag| format!("@{tag}")).unwrap_or_default();
                        format!("{}{tag}", it.familiar_name())
                    },
                );
                let platform = vertex.platform.to_string().replace('/', "%2F");
                facts.materials.push((format!("pkg:{kind}/{name}?platform={platform}"), digest));
            }
            Op::Git(git) => {
                let hex =
                    git.reference.clone().filter(|it| it.len() == 40 && it.bytes().all(|b| b.is_ascii_hexdigit()));
                match hex.or_else(|| git.checksum.clone().filter(|it| it.len() == 40)) {
                    Some(hex) => {
                        facts.materials.push((without_credentials(&git.url).into_owned(), ("sha1".to_owned(), hex)));
                    }
                    None => facts.complete = false,
                }
            }
            Op::Http(http) => match http.checksum {
                Some(checksum) => facts
                    .materials
                    .push((without_credentials(&http.url).into_owned(), ("sha256".to_owned(), checksum.hex()))),
                None => facts.complete = false,
            },
            Op::Local(_) => facts.complete = false,
            Op::Exec(exec) => facts.hermetic &= exec.network == StepNetwork::None,
            Op::Scratch | Op::File(_) | Op::Merge => {}
        }
        let inputs: Vec<Value> = vertex.inputs.iter().map(|it| json!(format!("{}:0", step(*it)))).collect();
        let mut op = serde_json::to_value(&vertex.op).unwrap_or_default();
        for source in ["Git", "Http"] {
            if let Some(url) = op.pointer_mut(&format!("/{source}/url")) {
                *url = without_credentials(url.as_str().unwrap_or_default()).into();
            }
        }
        if let Some(exec) = op.get_mut("Exec").and_then(Value::as_object_mut) {
            // It may hold a password.
            exec.remove("proxy");
            // Paths of this machine.
            exec.remove("sources");
        }
        facts.graph.push(json!({"id": step(ix), "op": op, "inputs": inputs}));
    }
    facts.materials.sort();
    facts.materials.dedup();
    facts.hermetic &= facts.complete;
}
