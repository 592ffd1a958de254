//! `bake merge`: what runners have pushed for one platform each becomes one index under the tags of the target. Nothing is
//! built; the parts are named by the metadata files of the runners.

use std::{collections::BTreeSet, fs, path::Path, sync::Arc};

use serde_json::{Map, Value, json};

use super::{
    build,
    imagetools::{Made, attested, content, document, platform_text, shown_warnings},
    imagetools_create::{ImageSource, MadeImage, combine, push_parts, push_tags},
    metadata::write_json,
};
use crate::{
    cli::{
        definition::{self, Planned, Purpose},
        exit::{FAILED, OK},
        matrix_args::MergeArgs,
        registries,
        settings::Settings,
    },
    eval::target::typed::Target,
    oci::{Digest, Platform, Reference},
    plan::TargetNodes,
    registry::{Client, Document},
    report::Diagnostic,
    spec::annotation::{Annotation, AnnotationLevel},
    ui::output,
};

/// The images of one target that runners have pushed, and the names of the index of them.
struct MergedTarget {
    name: String,
    parts: Vec<Reference>,
    tags: Vec<Reference>,
    platforms: Vec<Platform>,
    annotations: Vec<Annotation>,
}

/// A metadata file: its name, and what it says of each target.
type MetadataFile = (String, Map<String, Value>);

/// An index whose parts and bytes are in the registries, and whose tags are not moved yet.
struct ReadyIndex {
    target: MergedTarget,
    made: MadeImage,
}

/// Merges what the metadata files name.
pub(crate) fn run(settings: &Settings, args: &MergeArgs) -> u8 {
    let planned = match definition::planned(settings, Purpose::Show) {
        Ok(planned) => planned,
        Err(code) => return code,
    };
    let sources = planned.sources.clone();
    let told = |faults: &[Diagnostic]| {
        output::diagnostics(faults, &sources, settings.color);
        FAILED
    };
    let targets = match read_all(&args.metadata).and_then(|metadata| targets(&planned, &metadata)) {
        Ok(targets) => targets,
        Err(faults) => return told(&faults),
    };
    let work = async {
        let show = shown_warnings(settings);
        let merged = async {
            let client = registries::client(settings, &show)?;
            merge(&client, targets, args.metadata_file.as_deref()).await
        };
        match merged.await {
            Ok(()) => OK,
            Err(fault) => told(&[*fault]),
        }
    };
    build::on_runtime(settings, work)
}

fn fault(message: impl Into<String>) -> Diagnostic {
    Diagnostic::error("bake::cli::merge", message)
}

/// The metadata files, with their names.
fn read_all(paths: &[String]) -> Result<Vec<MetadataFile>, Vec<Diagnostic>> {
    let mut found = Vec::new();
    let mut faults = Vec::new();
    for path in paths {
        let wrong =
            |why: &str| fault(format!("{why}: {path}")).help("name a file that `bake --metadata-file` has written");
        match fs::read(path) {
            Err(error) => faults.push(wrong("the metadata file cannot be read").cause(&error)),
            Ok(text) => match serde_json::from_slice(&text) {
                Ok(Value::Object(all)) => found.push((path.clone(), all)),
                _ => faults.push(wrong("this is no metadata file")),
            },
        }
    }
    if faults.is_empty() { Ok(found) } else { Err(faults) }
}

/// The targets that are pushed somewhere, with their parts; every fault of all of them.
fn targets(planned: &Planned, metadata: &[(String, Map<String, Value>)]) -> Result<Vec<MergedTarget>, Vec<Diagnostic>> {
    let (mut found, mut faults) = (Vec::new(), Vec::new());
    for (name, nodes) in planned.plan.targets.iter().filter(|(_, nodes)| !nodes.is_linked) {
        let Some(target) = planned.evaluated.targets.get(name) else { continue };
        match merged_target(planned, &name.0, target, nodes, metadata) {
            Ok(merged) => found.push(merged),
            Err(fault) => faults.push(fault.of([name.0.clone()])),
        }
    }
    if faults.is_empty() { Ok(found) } else { Err(faults) }
}

fn merged_target(
    planned: &Planned,
    name: &str,
    target: &Target,
    nodes: &TargetNodes,
    metadata: &[MetadataFile],
) -> Result<MergedTarget, Diagnostic> {
    let tags: Vec<Reference> = nodes.tags.iter().map(|tag| tag.reference.clone()).collect();
    if tags.is_empty() {
        let help = "give it `tags`, or leave the target out";
        return Err(fault(format!("the target has no name to put an index under: {name}")).help(help));
    }
    let mut parts: Vec<Reference> = Vec::new();
    for (path, all) in metadata {
        // Of a runner that has built something else.
        let Some(answers) = all.get(name) else { continue };
        let digest = answers.get("containerimage.digest").and_then(Value::as_str);
        let digest: Option<Digest> = digest.and_then(|text| text.parse().ok());
        let Some(digest) = digest else {
            let help = "push the image on the runner: `output = [\"type=image,push-by-digest=true,push=true\"]`";
            return Err(fault(format!("no image of the target was pushed, by {path}: {name}")).help(help));
        };
        let pushed = answers.get("image.name").and_then(Value::as_str).and_then(|names| names.split(',').next());
        let pushed = pushed.and_then(|text| Reference::parse(text).ok());
        let repository = pushed.unwrap_or_else(|| tags[0].clone());
        let part = Reference { digest: Some(digest), tag: None, ..repository };
        if !parts.contains(&part) {
            parts.push(part);
        }
    }
    if parts.is_empty() {
        return Err(fault(format!("no metadata file has the target: {name}"))
            .help("name those of all runners that built it, or leave the target out"));
    }
    let platforms = nodes.builds.iter().map(|node| planned.plan.build(*node).platform.clone()).collect();
    Ok(MergedTarget { name: name.to_owned(), parts, tags, platforms, annotations: target.annotations.clone() })
}

/// Makes all indexes ready, and moves the tags when all are.
async fn merge(client: &Client, targets: Vec<MergedTarget>, metadata_file: Option<&str>) -> Made<()> {
    let mut ready = Vec::new();
    for target in targets {
        let made = made(client, &target).await?;
        push_parts(client, &made, &target.tags).await?;
        ready.push(ReadyIndex { target, made });
    }
    let mut metadata = Map::new();
    for ReadyIndex { target, made } in &ready {
        push_tags(client, made, &target.tags).await?;
        let Document { digest, media_type, bytes } = &made.root;
        let names: Vec<String> = target.tags.iter().map(ToString::to_string).collect();
        let answers = json!({
            "containerimage.descriptor":
                {"mediaType": media_type, "digest": digest.to_string(), "size": bytes.len()},
            "containerimage.digest": digest.to_string(),
            "image.name": names.join(","),
        });
        metadata.insert(target.name.clone(), answers);
    }
    match metadata_file {
        Some(path) => write_json(Path::new(path), &Value::Object(metadata)),
        None => Ok(()),
    }
}

/// The index of a target. Every platform of the target has to be there.
async fn made(client: &Client, target: &MergedTarget) -> Made<MadeImage> {
    let mut sources = Vec::new();
    for reference in &target.parts {
        let document = document(client, reference).await?;
        let content = content(&document, reference)?;
        sources.push(ImageSource { reference: reference.clone(), document, content });
    }
    // Those of manifests and layers are in the parts.
    let of_index = |it: &&Annotation| matches!(it.level, AnnotationLevel::Index | AnnotationLevel::ManifestDescriptor);
    let annotations: Vec<Annotation> = target.annotations.iter().filter(of_index).cloned().collect();
    let made = combine(client, &sources, &annotations, &[], true).await?;
    let merged: Value = serde_json::from_slice(&made.root.bytes).unwrap_or_default();
    let entries = merged["manifests"].as_array().into_iter().flatten();
    let platforms = entries
        .filter(|entry| attested(entry).is_none())
        .filter_map(|entry| Platform::parse(&platform_text(entry.get("platform")?)).ok());
    let mut there: BTreeSet<String> = BTreeSet::new();
    for platform in platforms {
        let wrong = match target.platforms.contains(&platform) {
            false => "the target has no such platform, and a runner has pushed it",
            true if there.insert(platform.to_string()) => continue,
            true => "two different images of one platform were pushed",
        };
        let help = "name the metadata files of one run of each runner, and no others";
        let fault = fault(format!("{wrong}: {platform}")).help(help);
        return Err(Box::new(fault.of([Arc::<str>::from(target.name.as_str())])));
    }
    let missing: Vec<String> =
        target.platforms.iter().map(ToString::to_string).filter(|platform| !there.contains(platform)).collect();
    if !missing.is_empty() {
        let message = format!("no runner has pushed these platforms of the target: {}", missing.join(", "));
        let help = "name the metadata files of all runners; what was pushed so far has no tag and stays as it is";
        return Err(Box::new(fault(message).help(help).of([Arc::<str>::from(target.name.as_str())])));
    }
    Ok(made)
}
