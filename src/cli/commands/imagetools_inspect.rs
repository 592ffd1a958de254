//! `docker buildx imagetools inspect`: an overview, the manifest as it is, or what a format template says about name, manifest,
//! image config, provenance and bill of materials. Nothing is read that is not shown.

use serde_json::{Map, Value, json};

use super::imagetools::{
    Made, attested, content, document, fault, fault_with_help, json_blob, parse, platform_of_config, platform_text,
};
use crate::{
    cli::template::{JsonLayout, Template},
    oci::Reference,
    registry::{Client, Document},
};

/// What a template may show.
const FIELDS: [&str; 5] = ["Name", "Manifest", "Image", "Provenance", "SBOM"];
/// How the type of a provenance predicate begins, whatever its version (<https://slsa.dev/spec/v1.0/provenance>).
const PROVENANCE: &str = "https://slsa.dev/provenance/";
/// The type of an SPDX document as a predicate (<https://github.com/in-toto/attestation>).
const SPDX: &str = "https://spdx.dev/Document";

/// The text that is shown of the image of a name.
pub(super) async fn inspect(client: &Client, name: &str, raw: bool, format: Option<&str>) -> Made<String> {
    let template = match format {
        None | Some("") => None,
        Some(text) => Some(Template::parse(text, &FIELDS).map_err(|why| {
            let message = format!("`imagetools inspect` does not know the format, {why}: {text}");
            fault_with_help(message, "as in {{json .Manifest}} or {{.Manifest.Digest}}; --raw prints the manifest")
        })?),
    };
    let reference = parse(name)?;
    let found = document(client, &reference).await?;
    if raw {
        return String::from_utf8(found.bytes).map_err(|_| fault(format!("the manifest is not text: {name}")));
    }
    let manifest = content(&found, &reference)?;
    match template {
        None => Ok(overview(&reference, &found, &manifest)),
        Some(template) => {
            let shown = shown(client, &reference, &found, &manifest, &template).await?;
            Ok(template.render(&shown, JsonLayout::Pretty) + "\n")
        }
    }
}

/// The entries of an index; none of a manifest.
fn entries(manifest: &Value) -> &[Value] {
    manifest.get("manifests").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn overview(reference: &Reference, found: &Document, manifest: &Value) -> String {
    let mut all = format!("Name:      {reference}\nMediaType: {}\nDigest:    {}\n", found.media_type, found.digest);
    if !entries(manifest).is_empty() {
        all.push_str("\nManifests:\n");
    }
    let unpinned = Reference { digest: None, ..reference.clone() };
    for entry in entries(manifest) {
        let word = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default();
        let mut lines =
            vec![format!("  Name:      {unpinned}@{}", word("digest")), format!("  MediaType: {}", word("mediaType"))];
        if let Some(platform) = entry.get("platform") {
            lines.push(format!("  Platform:  {}", platform_text(platform)));
        }
        all.push_str(&lines.join("\n"));
        all.push_str("\n\n");
    }
    all
}

/// The fields that a template shows.
async fn shown(
    client: &Client,
    reference: &Reference,
    found: &Document,
    manifest: &Value,
    template: &Template,
) -> Made<Value> {
    let mut all = Map::new();
    all.insert("Name".to_owned(), reference.to_string().into());
    all.insert("Manifest".to_owned(), described(found, manifest));
    let (wants_image, wants_provenance, wants_sbom) =
        (template.shows("Image"), template.shows("Provenance"), template.shows("SBOM"));
    if !(wants_image || wants_provenance || wants_sbom) {
        return Ok(Value::Object(all));
    }
    let images = images(client, reference, found, manifest).await?;
    if wants_image {
        all.insert("Image".to_owned(), by_platform(images.iter().map(|it| (&it.platform, it.config.clone()))));
    }
    if wants_provenance || wants_sbom {
        let (mut provenances, mut sboms) = (Vec::new(), Vec::new());
        for image in &images {
            let attestation = entries(manifest).iter().find(|entry| attested(entry) == Some(&image.digest));
            let statements = match attestation {
                Some(entry) => statements(client, reference, entry).await?,
                None => Statements::default(),
            };
            provenances.push((&image.platform, statements.provenance()));
            sboms.push((&image.platform, statements.sbom()));
        }
        all.insert("Provenance".to_owned(), by_platform(provenances.into_iter()));
        all.insert("SBOM".to_owned(), by_platform(sboms.into_iter()));
    }
    Ok(Value::Object(all))
}

/// The descriptor of a manifest; of an index with its entries and annotations.
fn described(found: &Document, manifest: &Value) -> Value {
    let mut all = json!({
        "mediaType": found.media_type,
        "digest": found.digest.to_string(),
        "size": found.bytes.len(),
    });
    if let Some(manifests) = manifest.get("manifests") {
        all["schemaVersion"] = json!(2);
        all["manifests"] = manifests.clone();
        if let Some(annotations) = manifest.get("annotations") {
            all["annotations"] = annotations.clone();
        }
    }
    all
}

/// The value of the only platform itself, those of several by their platforms.
fn by_platform<'a>(all: impl ExactSizeIterator<Item = (&'a String, Value)>) -> Value {
    if all.len() == 1 {
        return all.map(|(_, value)| value).next().unwrap_or_default();
    }
    let has_content = |value: &Value| value.as_object().is_none_or(|fields| !fields.is_empty());
    let named = all.filter(|(_, value)| has_content(value)).map(|(platform, value)| (platform.clone(), value));
    Value::Object(named.collect())
}

/// One image of those that a name stands for.
struct InspectedImage {
    platform: String,
    digest: String,
    config: Value,
}

/// The images of an index, or the only one.
async fn images(
    client: &Client,
    reference: &Reference,
    found: &Document,
    manifest: &Value,
) -> Made<Vec<InspectedImage>> {
    if manifest.get("manifests").is_none() {
        let config = json_blob(client, reference, &manifest["config"]).await?;
        let platform = platform_text(&platform_of_config(&config));
        return Ok(vec![InspectedImage { platform, digest: found.digest.to_string(), config }]);
    }
    let mut images = Vec::new();
    for entry in entries(manifest).iter().filter(|entry| attested(entry).is_none()) {
        let part = of_entry(client, reference, entry).await?;
        let config = json_blob(client, reference, &part["config"]).await?;
        let platform = entry.get("platform").cloned().unwrap_or_else(|| platform_of_config(&config));
        let digest = entry.get("digest").and_then(Value::as_str).unwrap_or_default().to_owned();
        images.push(InspectedImage { platform: platform_text(&platform), digest, config });
    }
    Ok(images)
}

/// The manifest that an entry of an index names.
async fn of_entry(client: &Client, reference: &Reference, entry: &Value) -> Made<Value> {
    let digest = entry.get("digest").and_then(Value::as_str).and_then(|text| text.parse().ok());
    let digest =
        digest.ok_or_else(|| fault(format!("an entry of the index has no digest: {}", reference.familiar())))?;
    let pinned = Reference { digest: Some(digest), ..reference.clone() };
    content(&document(client, &pinned).await?, &pinned)
}

/// The statements about one image: types of predicates, and the predicates.
#[derive(Default)]
struct Statements(Vec<(String, Value)>);

/// Reads the statements of an attestation manifest
/// (<https://github.com/moby/buildkit/blob/master/docs/attestations/attestation-storage.md>).
async fn statements(client: &Client, reference: &Reference, entry: &Value) -> Made<Statements> {
    let manifest = of_entry(client, reference, entry).await?;
    let mut all = Vec::new();
    for layer in manifest.get("layers").and_then(Value::as_array).into_iter().flatten() {
        let kind = layer.pointer("/annotations/in-toto.io~1predicate-type").and_then(Value::as_str);
        let Some(kind) = kind.filter(|kind| kind.starts_with(PROVENANCE) || *kind == SPDX) else { continue };
        let statement = json_blob(client, reference, layer).await?;
        all.push((kind.to_owned(), statement.get("predicate").cloned().unwrap_or_default()));
    }
    Ok(Statements(all))
}

impl Statements {
    fn provenance(&self) -> Value {
        let found = self.0.iter().find(|(kind, _)| kind.starts_with(PROVENANCE));
        found.map_or_else(|| json!({}), |(_, predicate)| json!({"SLSA": predicate}))
    }

    fn sbom(&self) -> Value {
        let mut documents = self.0.iter().filter(|(kind, _)| kind == SPDX).map(|(_, predicate)| predicate.clone());
        let Some(first) = documents.next() else { return json!({}) };
        let more: Vec<Value> = documents.collect();
        if more.is_empty() { json!({"SPDX": first}) } else { json!({"SPDX": first, "AdditionalSPDXs": more}) }
    }
}
