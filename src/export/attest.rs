//! Attestations: which are wanted, and the in-toto statements about a result (spec/exporters.md §9).
//!
//! Pure but for nothing: facts in, bytes out. How statements are stored beside an image is `assemble`'s.

use serde_json::{Map, Value, json};

use super::{Attestations, Provenance};
use crate::oci::{Digest, Platform, Reference, digest::FieldHasher};

const STATEMENT: &str = "https://in-toto.io/Statement/v1";
const SLSA_V1: &str = "https://slsa.dev/provenance/v1";
const SLSA_V02: &str = "https://slsa.dev/provenance/v0.2";
const BUILD_TYPE_V1: &str = "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md";
const BUILD_TYPE_V02: &str = "https://mobyproject.org/buildkit@v1";

/// The statements wanted about each platform of a result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Statements {
    pub(super) provenance: Option<ProvenancePlan>,
}

impl Statements {
    pub(super) const fn is_empty(&self) -> bool {
        self.provenance.is_none()
    }
}

/// How provenance is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ProvenancePlan {
    pub(super) max: bool,
    pub(super) v1: bool,
    pub(super) builder_id: String,
    pub(super) filename: String,
    pub(super) reproducible: bool,
}

/// A statement, ready to be stored.
#[derive(Clone, Debug)]
pub(super) struct Statement {
    pub(super) predicate_type: &'static str,
    pub(super) filename: String,
    pub(super) value: Value,
}

/// What a statement is about: a name and the digest of its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct About {
    pub(super) name: String,
    pub(super) digest: Digest,
}

/// Whether attestations were asked for, rather than coming by default.
pub(super) fn explicit(attest: &Attestations) -> bool {
    let provenance = attest.provenance.as_ref().is_some_and(|it| !it.by_default && !is_off(&it.options));
    provenance || attest.sbom.as_ref().is_some_and(|it| !is_off(it))
}

/// What is to be written; `inline` when the exporter keeps what is marked as inline only.
///
/// # Errors
/// The text names the option and its value.
pub(super) fn statements(attest: &Attestations, inline: bool) -> Result<Statements, String> {
    if attest.sbom.as_ref().is_some_and(|it| !is_off(it)) {
        let why = "an sbom needs a scanner, which this engine does not run yet; drop it from `attest`";
        return Err(why.to_owned());
    }
    let Some(wanted) = attest.provenance.as_ref().filter(|it| !is_off(&it.options)) else {
        return Ok(Statements::default());
    };
    let mut plan = ProvenancePlan {
        max: !wanted.by_default,
        v1: true,
        builder_id: String::new(),
        filename: "provenance.json".to_owned(),
        reproducible: false,
    };
    let mut inline_only = wanted.by_default;
    for (key, value) in &wanted.options {
        let flag = || match value.as_str() {
            "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            other => Err(format!("provenance: `{key}` is neither true nor false: {other}")),
        };
        match (key.as_str(), value.as_str()) {
            ("mode", "min") => plan.max = false,
            ("mode", "max" | "") => plan.max = true,
            ("mode", other) => return Err(format!("provenance: `mode` is neither min nor max: {other}")),
            ("version", "v1" | "") => plan.v1 = true,
            ("version", "v0.2") => plan.v1 = false,
            ("version", other) => return Err(format!("provenance: `version` is neither v1 nor v0.2: {other}")),
            ("builder-id", id) => id.clone_into(&mut plan.builder_id),
            ("filename", name) if !name.is_empty() => {
                if name.contains('/') || matches!(name, "." | "..") {
                    return Err(format!("provenance: `filename` is a path: {name}"));
                }
                name.clone_into(&mut plan.filename);
            }
            ("reproducible", _) => plan.reproducible = flag()?,
            ("inline-only", _) => inline_only = flag()?,
            _ => {}
        }
    }
    Ok(Statements { provenance: Some(plan).filter(|_| inline || !inline_only) })
}

fn is_off(options: &[(String, String)]) -> bool {
    options.iter().any(|(key, value)| key == "disabled" && !matches!(value.as_str(), "0" | "f" | "F" | "false"))
}

impl Statements {
    /// The statements about one platform's result.
    pub(super) fn about(&self, provenance: &Provenance, subjects: &[About]) -> Vec<Statement> {
        let Some(plan) = &self.provenance else { return Vec::new() };
        let (predicate_type, predicate) =
            if plan.v1 { (SLSA_V1, v1(plan, provenance)) } else { (SLSA_V02, v02(plan, provenance)) };
        let subject: Vec<Value> =
            subjects.iter().map(|it| json!({"name": it.name, "digest": {"sha256": it.digest.hex()}})).collect();
        let value =
            json!({"_type": STATEMENT, "predicateType": predicate_type, "subject": subject, "predicate": predicate});
        vec![Statement { predicate_type, filename: plan.filename.clone(), value }]
    }
}

/// The v0.2 predicate for the metadata file; `max` as `BUILDX_METADATA_PROVENANCE` says.
pub(super) fn metadata_predicate(provenance: &Provenance, max: bool) -> Value {
    let plan =
        ProvenancePlan { max, v1: false, builder_id: String::new(), filename: String::new(), reproducible: false };
    v02(&plan, provenance)
}

/// Names of an image as subjects: `pkg:docker/NAME@TAG?platform=linux%2Famd64`.
pub(super) fn image_subjects(names: &[Reference], platform: &Platform, manifest: Digest) -> Vec<About> {
    let platform = platform.to_string().replace('/', "%2F");
    let of = |name: &Reference| {
        let tag = name.tag_or_latest().map_or_else(String::new, |tag| format!("@{tag}"));
        About { name: format!("pkg:docker/{}{tag}?platform={platform}", name.familiar_name()), digest: manifest }
    };
    names.iter().map(of).collect()
}

fn v1(plan: &ProvenancePlan, facts: &Provenance) -> Value {
    let mut internal = Map::new();
    if plan.max {
        internal.insert("buildConfig".to_owned(), build_config(facts));
    }
    internal.insert("builderPlatform".to_owned(), Platform::host().to_string().into());
    let dependencies: Vec<Value> = facts.materials.iter().map(material).collect();
    json!({
        "buildDefinition": {
            "buildType": BUILD_TYPE_V1,
            "externalParameters": {"configSource": config_source(facts, "path"), "request": request(plan, facts)},
            "internalParameters": internal,
            "resolvedDependencies": dependencies,
        },
        "runDetails": {
            "builder": {"id": plan.builder_id},
            "metadata": {
                "invocationId": invocation(facts),
                "startedOn": facts.started,
                "finishedOn": facts.finished,
                "buildkit_completeness": {"request": plan.max, "resolvedDependencies": facts.complete},
                "buildkit_hermetic": facts.hermetic,
                "buildkit_reproducible": plan.reproducible,
                "buildkit_metadata": metadata(plan, facts),
            },
        },
    })
}

fn v02(plan: &ProvenancePlan, facts: &Provenance) -> Value {
    let materials: Vec<Value> = facts.materials.iter().map(material).collect();
    let mut predicate = json!({
        "builder": {"id": plan.builder_id},
        "buildType": BUILD_TYPE_V02,
        "materials": materials,
        "invocation": {
            "configSource": config_source(facts, "entryPoint"),
            "parameters": request(plan, facts),
            "environment": {"platform": Platform::host().to_string()},
        },
        "metadata": {
            "buildInvocationID": invocation(facts),
            "buildStartedOn": facts.started,
            "buildFinishedOn": facts.finished,
            "completeness": {"parameters": plan.max, "environment": true, "materials": facts.complete},
            "reproducible": plan.reproducible,
            "https://mobyproject.org/buildkit@v1#hermetic": facts.hermetic,
            "https://mobyproject.org/buildkit@v1#metadata": metadata(plan, facts),
        },
    });
    if plan.max {
        predicate["buildConfig"] = build_config(facts);
    }
    predicate
}

fn config_source(facts: &Provenance, path: &str) -> Value {
    let mut source = Map::new();
    if let Some(uri) = &facts.config_uri {
        source.insert("uri".to_owned(), without_credentials(uri).into());
    }
    if let Some((algorithm, hex)) = &facts.config_digest {
        source.insert("digest".to_owned(), json!({ algorithm: hex }));
    }
    source.insert(path.to_owned(), facts.config_path.clone().into());
    Value::Object(source)
}

/// What was asked of the builder. `min` leaves out values that may tell too much.
fn request(plan: &ProvenancePlan, facts: &Provenance) -> Value {
    const LEFT_OUT: &[&str] = &["cgroup-parent", "image-resolve-mode", "platform", "cache-imports"];
    let kept = |key: &str| {
        let telling = key.starts_with("build-arg:") || key.starts_with("label:");
        !LEFT_OUT.contains(&key) && !key.starts_with("attest:") && (plan.max || !telling)
    };
    let args: Map<String, Value> = facts
        .args
        .iter()
        .filter(|(key, _)| kept(key))
        .map(|(key, value)| (key.clone(), without_credentials(value).into()))
        .collect();
    let mut request = json!({"frontend": "dockerfile.v0", "args": args});
    let ids = |list: &[(String, bool)]| -> Vec<Value> {
        let one = |(id, optional): &(String, bool)| {
            if *optional { json!({"id": id, "optional": true}) } else { json!({"id": id}) }
        };
        list.iter().map(one).collect()
    };
    if plan.max {
        for (key, list) in [("secrets", &facts.secrets), ("ssh", &facts.ssh)] {
            if !list.is_empty() {
                request[key] = ids(list).into();
            }
        }
    }
    if !facts.locals.is_empty() {
        request["locals"] = facts.locals.iter().map(|name| json!({ "name": name })).collect();
    }
    request
}

fn build_config(facts: &Provenance) -> Value {
    json!({ "llbDefinition": facts.graph })
}

fn metadata(plan: &ProvenancePlan, facts: &Provenance) -> Value {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let mut metadata = Map::new();
    if !facts.vcs.is_empty() {
        let vcs: Map<String, Value> =
            facts.vcs.iter().map(|(key, value)| (key.clone(), without_credentials(value).into())).collect();
        metadata.insert("vcs".to_owned(), vcs.into());
    }
    if let (true, Some((name, text))) = (plan.max, &facts.source) {
        let info = json!({"filename": name, "language": "Dockerfile", "data": STANDARD.encode(text)});
        metadata.insert("source".to_owned(), json!({ "infos": [info] }));
    }
    Value::Object(metadata)
}

fn material((uri, (algorithm, hex)): &(String, (String, String))) -> Value {
    json!({"uri": without_credentials(uri), "digest": {algorithm: hex}})
}

/// An id of the invocation that tells nothing about it.
fn invocation(facts: &Provenance) -> String {
    let mut hasher = FieldHasher::new("invocation/1");
    hasher.text(&facts.started).text(&facts.finished).text(&facts.config_path);
    facts.args.iter().for_each(|(key, value)| {
        hasher.text(key).text(value);
    });
    hasher.finish().hex()[..25].to_owned()
}

/// A URL without user and password; any other text as it is.
fn without_credentials(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}://{}", &rest[at + 1..]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::ProvenanceWanted;

    fn wanted(options: &[(&str, &str)], by_default: bool) -> Attestations {
        let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Attestations { provenance: Some(ProvenanceWanted { options, by_default, at: None }), sbom: None }
    }

    #[test]
    fn the_default_is_kept_inline_only() {
        let default = wanted(&[], true);
        assert!(statements(&default, false).expect("good").is_empty());
        assert!(!statements(&default, true).expect("good").provenance.expect("inline").max);
        assert!(statements(&wanted(&[], false), false).expect("good").provenance.expect("asked for").max);
        assert!(statements(&wanted(&[("disabled", "true")], false), true).expect("good").is_empty());
        assert!(!explicit(&default) && explicit(&wanted(&[], false)));
    }

    #[test]
    fn bad_options_are_named() {
        let bad = |key, value| statements(&wanted(&[(key, value)], false), true).expect_err("bad");
        assert!(bad("mode", "huge").contains("huge"));
        assert!(bad("version", "v9").contains("v9"));
        assert!(bad("filename", "../x").contains("../x"));
    }

    #[test]
    fn min_tells_less_than_max_and_no_url_has_a_password() {
        let facts = Provenance {
            config_uri: Some("https://u:hunter2@h/r.git".into()),
            args: vec![("build-arg:A".into(), "v".into()), ("target".into(), "t".into())],
            secrets: vec![("tok".into(), false)],
            ..Provenance::default()
        };
        let of = |mode| {
            let statements = statements(&wanted(&[("mode", mode)], false), false).expect("good");
            statements.about(&facts, &[])[0].value.clone()
        };
        let request = |value: &Value| value["predicate"]["buildDefinition"]["externalParameters"]["request"].clone();
        assert_eq!(request(&of("min"))["args"], json!({"target": "t"}));
        assert_eq!(request(&of("max"))["secrets"], json!([{"id": "tok"}]));
        assert!(!of("max").to_string().contains("hunter2"));
    }

    #[test]
    fn subjects_are_package_urls() {
        let names = ["short", "example.com/a:1"].map(|it| Reference::parse(it).expect("a reference"));
        let platform = Platform::parse("linux/arm/v7").expect("a platform");
        let subjects: Vec<String> =
            image_subjects(&names, &platform, Digest::of(b"")).into_iter().map(|it| it.name).collect();
        assert_eq!(
            subjects,
            [
                "pkg:docker/short@latest?platform=linux%2Farm%2Fv7",
                "pkg:docker/example.com/a@1?platform=linux%2Farm%2Fv7"
            ]
        );
    }
}
