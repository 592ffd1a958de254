//! The in-toto statements about a result: the documents of its SBOM as a scanner wrote them, and SLSA provenance v1 and v0.2
//! (<https://slsa.dev/spec/v1.0/provenance>). The fields of provenance have the layout of BuildKit's (<https://docs.docker.com/build/metadata/attestations/slsa-definitions/>), so that what
//! reads its statements reads these; the types say who made them.
//!
//! Pure: facts in, JSON out. Whether statements are stored beside an image is decided in `image`.

use std::sync::LazyLock;

use serde_json::{Map, Value, json, value::RawValue};

use crate::{
    export::built::{Provenance, Sbom},
    oci::{Digest, Platform, Reference, digest::FieldHasher, purl},
    spec::attest::{ProvenanceMode, ProvenanceOptions, SlsaVersion},
};

const STATEMENT: &str = "https://in-toto.io/Statement/v1";
const SLSA_V1: &str = "https://slsa.dev/provenance/v1";
const SLSA_V02: &str = "https://slsa.dev/provenance/v0.2";
/// How the fields of the predicate are to be read: the layout is BuildKit's, the steps of `buildConfig` are ours.
const BUILD_TYPE: &str = "urn:bake:build:v1:buildkit-layout";
/// Who built it, when the user does not say: this program, in its own process.
const BUILDER: &str = "urn:bake:builder:embedded";
/// What reads the Dockerfile and the arguments of the request.
const FRONTEND: &str = "bake.dockerfile.v0";

/// A statement, ready to be stored.
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    pub(crate) predicate_type: String,
    pub(crate) filename: String,
    pub(crate) value: Value,
}

/// What a statement is about: a name and the digest of its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StatementSubject {
    pub(crate) name: String,
    pub(crate) digest: Digest,
}

/// What is stated about one platform's result, if anything is.
pub(crate) struct WantedStatements<'a> {
    pub(crate) provenance: Option<(&'a ProvenanceOptions, &'a Provenance)>,
    pub(crate) sbom: Option<&'a Sbom>,
}

impl<'a> WantedStatements<'a> {
    /// What an export with these options states about a build.
    pub(crate) fn of(
        provenance: Option<&'a ProvenanceOptions>,
        facts: Option<&'a Provenance>,
        sbom: Option<&'a Sbom>,
    ) -> Self {
        static NOTHING: LazyLock<Provenance> = LazyLock::new(Provenance::default);
        Self { provenance: provenance.map(|options| (options, facts.unwrap_or(&NOTHING))), sbom }
    }

    /// Whether nothing is stated.
    pub(crate) const fn is_empty(&self) -> bool {
        self.provenance.is_none() && self.sbom.is_none()
    }

    /// The statements: the documents of the SBOM, then the provenance.
    pub(crate) fn about(&self, subjects: &[StatementSubject]) -> Vec<Statement> {
        let subjects: Vec<Value> = subjects
            .iter()
            .map(|subject| json!({"name": subject.name, "digest": {"sha256": subject.digest.hex()}}))
            .collect();
        let statement = |predicate_type: &str, filename: &str, predicate: Value| Statement {
            predicate_type: predicate_type.to_owned(),
            filename: filename.to_owned(),
            value: json!({"_type": STATEMENT, "predicateType": predicate_type, "subject": subjects, "predicate": predicate}),
        };
        let documents = self.sbom.iter().flat_map(|sbom| &sbom.documents);
        let mut statements: Vec<Statement> =
            documents.map(|it| statement(&it.predicate_type, &it.filename, predicate(&it.predicate))).collect();
        if let Some((plan, facts)) = self.provenance {
            let (predicate_type, predicate) = match plan.version {
                SlsaVersion::V1 => (SLSA_V1, v1(plan, facts)),
                SlsaVersion::V02 => (SLSA_V02, v02(plan, facts)),
            };
            statements.push(statement(predicate_type, &plan.filename, predicate));
        }
        statements
    }
}

/// The predicate of a document that was checked to be JSON.
fn predicate(text: &RawValue) -> Value {
    serde_json::from_str(text.get()).unwrap_or_default()
}

/// The v0.2 predicate for the metadata file, in the mode that `BUILDX_METADATA_PROVENANCE` says, with the builder that the
/// user named.
pub(crate) fn metadata_predicate(facts: &Provenance, mode: ProvenanceMode, builder_id: &str) -> Value {
    let plan = ProvenanceOptions {
        mode,
        version: SlsaVersion::V02,
        builder_id: builder_id.to_owned(),
        filename: String::new(),
        reproducible: false,
        inline_only: false,
    };
    v02(&plan, facts)
}

/// Names of an image as subjects: `pkg:docker/NAME@TAG?platform=linux%2Famd64`.
pub(crate) fn image_subjects(names: &[Reference], platform: &Platform, manifest: Digest) -> Vec<StatementSubject> {
    let of = |name: &Reference| StatementSubject { name: purl::of_image(name, platform), digest: manifest };
    names.iter().map(of).collect()
}

fn builder(plan: &ProvenanceOptions) -> &str {
    if plan.builder_id.is_empty() { BUILDER } else { &plan.builder_id }
}

fn v1(plan: &ProvenanceOptions, facts: &Provenance) -> Value {
    let mut internal = Map::new();
    if plan.is_max() {
        internal.insert("buildConfig".to_owned(), build_config(facts));
    }
    internal.insert("builderPlatform".to_owned(), Platform::host().to_string().into());
    let dependencies: Vec<Value> = facts.materials.iter().map(material).collect();
    json!({
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {"configSource": config_source(facts, "path"), "request": request(plan, facts)},
            "internalParameters": internal,
            "resolvedDependencies": dependencies,
        },
        "runDetails": {
            "builder": {"id": builder(plan)},
            "metadata": {
                "invocationId": invocation(facts),
                "startedOn": facts.started,
                "finishedOn": facts.finished,
                "buildkit_completeness": {"request": plan.is_max(), "resolvedDependencies": facts.complete},
                "buildkit_hermetic": facts.hermetic,
                "buildkit_reproducible": plan.reproducible,
                "buildkit_metadata": metadata(plan, facts),
            },
        },
    })
}

fn v02(plan: &ProvenanceOptions, facts: &Provenance) -> Value {
    let materials: Vec<Value> = facts.materials.iter().map(material).collect();
    let mut predicate = json!({
        "builder": {"id": builder(plan)},
        "buildType": BUILD_TYPE,
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
            "completeness": {"parameters": plan.is_max(), "environment": true, "materials": facts.complete},
            "reproducible": plan.reproducible,
            "https://mobyproject.org/buildkit@v1#hermetic": facts.hermetic,
            "https://mobyproject.org/buildkit@v1#metadata": metadata(plan, facts),
        },
    });
    if plan.is_max() {
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
fn request(plan: &ProvenanceOptions, facts: &Provenance) -> Value {
    const LEFT_OUT: &[&str] = &["cgroup-parent", "image-resolve-mode", "platform", "cache-imports"];
    let kept = |key: &str| {
        let telling = key.starts_with("build-arg:") || key.starts_with("label:");
        !LEFT_OUT.contains(&key) && !key.starts_with("attest:") && (plan.is_max() || !telling)
    };
    let args: Map<String, Value> = facts
        .args
        .iter()
        .filter(|(key, _)| kept(key))
        .map(|(key, value)| (key.clone(), without_credentials(value).into()))
        .collect();
    let mut request = json!({"frontend": FRONTEND, "args": args});
    let ids = |list: &[(String, bool)]| -> Vec<Value> {
        let one = |(id, optional): &(String, bool)| {
            if *optional { json!({"id": id, "optional": true}) } else { json!({"id": id}) }
        };
        list.iter().map(one).collect()
    };
    if plan.is_max() {
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

fn metadata(plan: &ProvenanceOptions, facts: &Provenance) -> Value {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let mut metadata = Map::new();
    if !facts.vcs.is_empty() {
        let vcs: Map<String, Value> =
            facts.vcs.iter().map(|(key, value)| (key.clone(), without_credentials(value).into())).collect();
        metadata.insert("vcs".to_owned(), vcs.into());
    }
    if let (true, Some((name, text))) = (plan.is_max(), &facts.source) {
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

    #[test]
    fn min_tells_less_than_max_and_no_url_has_a_password() {
        let facts = Provenance {
            config_uri: Some("https://u:hunter2@h/r.git".into()),
            args: vec![("build-arg:A".into(), "v".into()), ("target".into(), "t".into())],
            secrets: vec![("tok".into(), false)],
            ..Provenance::default()
        };
        let of = |mode| {
            let options = ProvenanceOptions {
                mode,
                version: SlsaVersion::V1,
                builder_id: String::new(),
                filename: "provenance.json".to_owned(),
                reproducible: false,
                inline_only: false,
            };
            let wanted = WantedStatements { provenance: Some((&options, &facts)), sbom: None };
            wanted.about(&[])[0].value.clone()
        };
        let request = |value: &Value| value["predicate"]["buildDefinition"]["externalParameters"]["request"].clone();
        assert_eq!(request(&of(ProvenanceMode::Min))["args"], json!({"target": "t"}));
        assert_eq!(request(&of(ProvenanceMode::Max))["secrets"], json!([{"id": "tok"}]));
        assert!(!of(ProvenanceMode::Max).to_string().contains("hunter2"));
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
