//! `docker buildx imagetools create`: an image made of manifests that are in registries. What the repository of a name lacks is
//! copied there first; the tags come last.

use std::{collections::HashSet, path::Path};

use serde_json::{Map, Value, json};

use super::{
    imagetools::{
        Made, attested, content, document, fault, fault_with_help, json_blob, parse, platform_of_config, platform_text,
        unread,
    },
    metadata::write_json,
};
use crate::{
    cli::plugin_args::ImageCreateArgs,
    oci::{Digest, Platform, Reference, media},
    registry::{Client, Document, Push, RegistryError},
    report::Diagnostic,
    spec::annotation::{self, Annotation, AnnotationLevel},
    ui::output,
};

/// What an image is made of: a manifest or an index, in its repository.
pub(super) struct ImageSource {
    pub(super) reference: Reference,
    pub(super) document: Document,
    pub(super) content: Value,
}

/// An image that was put together.
pub(super) struct MadeImage {
    pub(super) root: Document,
    /// What the repositories must have besides: where it is, and its digest.
    parts: Vec<(Reference, Digest)>,
}

/// Makes the image and puts it under its names. The text is for standard output.
pub(super) async fn create(client: &Client, args: &ImageCreateArgs) -> Made<String> {
    let targets = args.tags.iter().map(|tag| parse(tag)).collect::<Made<Vec<Reference>>>()?;
    if targets.is_empty() && !args.dry_run {
        return Err(fault_with_help("`imagetools create` wants a name for what it makes", "add -t NAME"));
    }
    let annotations = annotations(&args.annotations)?;
    let platforms = args.platforms.iter().map(|text| Platform::parse(text)).collect::<Result<Vec<_>, _>>();
    let platforms = platforms.map_err(|error| fault(error.to_string()))?;
    let sources = sources(client, args, &targets).await?;
    let made = combine(client, &sources, &annotations, &platforms, args.prefer_index).await?;
    if args.dry_run {
        let text = String::from_utf8(made.root.bytes).map_err(|_| fault("the manifest is not text"))?;
        return Ok(text + "\n");
    }
    push_parts(client, &made, &targets).await?;
    push_tags(client, &made, &targets).await?;
    if let Some(path) = &args.metadata_file {
        let Document { digest, media_type, bytes } = &made.root;
        let names: Vec<String> = targets.iter().map(ToString::to_string).collect();
        let descriptor = json!({"mediaType": media_type, "digest": digest.to_string(), "size": bytes.len()});
        let metadata = json!({
            "containerimage.descriptor": descriptor,
            "containerimage.digest": digest.to_string(),
            "image.name": names.join(","),
        });
        write_json(Path::new(path), &metadata)?;
    }
    Ok(String::new())
}

/// The annotations of the new index and of its entries. Without a type they are those of the index.
fn annotations(texts: &[String]) -> Made<Vec<Annotation>> {
    let mut all = Vec::new();
    for text in texts {
        let has_type = text.split('=').next().is_some_and(|key| key.contains(':'));
        let parsed = annotation::parse(&if has_type { text.clone() } else { format!("index:{text}") });
        let parsed = parsed.map_err(|wrong| match wrong.help {
            Some(help) => fault_with_help(wrong.message, help),
            None => fault(wrong.message),
        })?;
        let is_known =
            |it: &Annotation| matches!(it.level, AnnotationLevel::Index | AnnotationLevel::ManifestDescriptor);
        if !parsed.iter().all(is_known) {
            let message = format!("`imagetools create` annotates an index and its entries, nothing else: {text}");
            return Err(fault_with_help(message, "write index:KEY=VALUE or manifest-descriptor:KEY=VALUE"));
        }
        all.extend(parsed);
    }
    Ok(all)
}

/// Reads what the image is made of; with `--append` what the first name stands for comes first, if there is such a name.
async fn sources(client: &Client, args: &ImageCreateArgs, targets: &[Reference]) -> Made<Vec<ImageSource>> {
    let mut named = Vec::new();
    if let Some(target) = targets.first().filter(|_| args.append) {
        match client.resolve(target).await {
            Ok(digest) => named.push(Reference { digest: Some(digest), ..target.clone() }),
            Err(RegistryError::Status { status: 404, .. }) => (),
            Err(error) => return Err(unread(target, &error)),
        }
    }
    for text in &args.sources {
        named.push(match (text.parse::<Digest>(), targets.first()) {
            (Ok(digest), Some(target)) => Reference { digest: Some(digest), tag: None, ..target.clone() },
            _ => parse(text)?,
        });
    }
    if named.is_empty() {
        return Err(fault_with_help("`imagetools create` wants what to make it of", "name manifests or indexes"));
    }
    let mut sources = Vec::new();
    for reference in named {
        let document = document(client, &reference).await?;
        let content = content(&document, &reference)?;
        sources.push(ImageSource { reference, document, content });
    }
    Ok(sources)
}

/// One index of all manifests, those of indexes taken over as they are, each digest once; or the only source as it is, if
/// nothing about it changes.
pub(super) async fn combine(
    client: &Client,
    sources: &[ImageSource],
    annotations: &[Annotation],
    platforms: &[Platform],
    prefer_index: bool,
) -> Made<MadeImage> {
    if let [only] = sources
        && annotations.is_empty()
        && platforms.is_empty()
        && (media::is_index(&only.document.media_type) || !prefer_index)
    {
        let parts = vec![(only.reference.clone(), only.document.digest)];
        return Ok(MadeImage { root: only.document.clone(), parts });
    }
    let (mut entries, mut seen) = (Vec::new(), HashSet::new());
    for source in sources {
        let found = match source.content.get("manifests").and_then(Value::as_array) {
            Some(all) => all.clone(),
            None => vec![entry_of_manifest(client, source).await?],
        };
        for entry in found {
            let digest = entry.get("digest").and_then(Value::as_str).and_then(|text| text.parse::<Digest>().ok());
            let missing = || fault(format!("an entry has no sha256 digest: {}", source.reference.familiar()));
            let digest = digest.ok_or_else(missing)?;
            if seen.insert(digest) {
                entries.push((source.reference.clone(), digest, entry));
            }
        }
    }
    if !platforms.is_empty() {
        only_platforms(&mut entries, platforms)?;
    }
    for (_, _, entry) in &mut entries {
        annotate_entry(entry, annotations);
    }
    let parts = entries.iter().map(|(reference, digest, _)| (reference.clone(), *digest)).collect();
    let entries: Vec<Value> = entries.into_iter().map(|(.., entry)| entry).collect();
    Ok(MadeImage { root: index(sources, entries, annotations), parts })
}

/// The entry that an index has for a manifest, with the platform that its config says.
async fn entry_of_manifest(client: &Client, source: &ImageSource) -> Made<Value> {
    let ImageSource { reference, document, content } = source;
    let config = json_blob(client, reference, &content["config"]).await?;
    Ok(json!({
        "mediaType": document.media_type,
        "digest": document.digest.to_string(),
        "size": document.bytes.len(),
        "platform": platform_of_config(&config),
    }))
}

/// Keeps the images of these platforms, and what is attested about them.
fn only_platforms(entries: &mut Vec<(Reference, Digest, Value)>, platforms: &[Platform]) -> Made<()> {
    let is_wanted = |entry: &Value| {
        let text = entry.get("platform").map(platform_text);
        attested(entry).is_none()
            && text.and_then(|text| Platform::parse(&text).ok()).is_some_and(|platform| platforms.contains(&platform))
    };
    let kept: HashSet<String> =
        entries.iter().filter(|(.., entry)| is_wanted(entry)).map(|(_, digest, _)| digest.to_string()).collect();
    if kept.is_empty() {
        let wanted: Vec<String> = platforms.iter().map(ToString::to_string).collect();
        return Err(fault(format!("no source has an image of the platform: {}", wanted.join(", "))));
    }
    entries.retain(|(_, digest, entry)| {
        kept.contains(&digest.to_string()) || attested(entry).is_some_and(|image| kept.contains(image))
    });
    Ok(())
}

fn annotate_entry(entry: &mut Value, annotations: &[Annotation]) {
    if attested(entry).is_some() {
        return;
    }
    let platform = entry.get("platform").map(platform_text).and_then(|text| Platform::parse(&text).ok());
    let of_entry = annotations.iter().filter(|it| it.level == AnnotationLevel::ManifestDescriptor);
    for it in of_entry.filter(|it| it.platform.is_none() || it.platform == platform) {
        if !entry.get("annotations").is_some_and(Value::is_object) {
            entry["annotations"] = json!({});
        }
        entry["annotations"][&it.key] = it.value.clone().into();
    }
}

/// An index (OCI image spec, image index), or a manifest list if all entries are Docker's. That of the only source keeps its
/// annotations.
fn index(sources: &[ImageSource], entries: Vec<Value>, annotations: &[Annotation]) -> Document {
    let is_docker = |entry: &Value| entry.get("mediaType").and_then(Value::as_str) == Some(media::DOCKER_MANIFEST);
    let mut all = Map::new();
    if let [only] = sources
        && let Some(kept) = only.content.get("annotations").and_then(Value::as_object)
        && only.content.get("manifests").is_some()
    {
        all.clone_from(kept);
    }
    let of_index = annotations.iter().filter(|it| it.level == AnnotationLevel::Index);
    all.extend(of_index.map(|it| (it.key.clone(), it.value.clone().into())));
    // A manifest list of Docker has no annotations.
    let is_list = all.is_empty() && entries.iter().all(is_docker);
    let media_type = if is_list { media::DOCKER_INDEX } else { media::OCI_INDEX };
    let mut content = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": entries});
    if !all.is_empty() {
        content["annotations"] = Value::Object(all);
    }
    let bytes = serde_json::to_vec_pretty(&content).expect("an index is plain data");
    Document { digest: Digest::of(&bytes), media_type: media_type.to_owned(), bytes }
}

/// Copies what each repository lacks, and pushes the index by its digest. No tag is moved.
pub(super) async fn push_parts(client: &Client, made: &MadeImage, targets: &[Reference]) -> Made<()> {
    let folder = tempfile::tempdir()
        .map_err(|error| Box::new(Diagnostic::error("bake::cli::imagetools", "no folder for blobs").cause(&error)))?;
    for (target, _) in repositories(targets) {
        for (from, digest) in made.parts.iter().filter(|(from, _)| !same_repository(from, target)) {
            let copied = client.copy(from, *digest, target, folder.path()).await;
            copied.map_err(|error| unpushed(target, &error))?;
        }
        push_root(client, made, target, Vec::new()).await?;
    }
    Ok(())
}

/// Sets the tags, where [`push_parts`] has put everything.
pub(super) async fn push_tags(client: &Client, made: &MadeImage, targets: &[Reference]) -> Made<()> {
    for (repository, here) in repositories(targets) {
        let tags = here.iter().filter_map(|it| it.tag_or_latest().map(str::to_owned)).collect();
        push_root(client, made, repository, tags).await?;
        for target in here {
            output::words(&format!("pushed {target}\n"));
        }
    }
    Ok(())
}

async fn push_root(client: &Client, made: &MadeImage, to: &Reference, tags: Vec<String>) -> Made<()> {
    let push = Push {
        domain: &to.domain,
        path: &to.path,
        tags: &tags,
        blobs: Vec::new(),
        documents: vec![made.root.clone()],
        insecure: false,
        progress: &|_| (),
    };
    client.push(push).await.map(drop).map_err(|error| unpushed(to, &error))
}

fn same_repository(a: &Reference, b: &Reference) -> bool {
    (&a.domain, &a.path) == (&b.domain, &b.path)
}

/// Each repository once, by the first name in it, with all names in it.
fn repositories(targets: &[Reference]) -> Vec<(&Reference, Vec<&Reference>)> {
    let mut found: Vec<(&Reference, Vec<&Reference>)> = Vec::new();
    for target in targets {
        match found.iter_mut().find(|(repository, _)| same_repository(repository, target)) {
            Some((_, here)) => here.push(target),
            None => found.push((target, vec![target])),
        }
    }
    found
}

fn unpushed(target: &Reference, error: &RegistryError) -> Box<Diagnostic> {
    let message = format!("the image cannot be pushed: {}", target.familiar());
    Box::new(Diagnostic::error("bake::cli::imagetools", message).cause(error))
}
