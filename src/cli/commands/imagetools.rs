//! `docker buildx imagetools`: what a registry has under a name, and images made of manifests that are in registries. This
//! file reads manifests for both commands; what is shown and made of them is in `imagetools_inspect` and `imagetools_create`.

use std::sync::Arc;

use serde_json::Value;

use super::{build, imagetools_create::create, imagetools_inspect::inspect};
use crate::{
    cli::{
        exit::{FAILED, OK, write},
        plugin_args::ImagetoolsCommand,
        registries,
        settings::Settings,
    },
    oci::{Descriptor, Reference},
    registry::{Client, Document, NoDocuments, RegistryError},
    report::{
        Diagnostic, SourceMap,
        event::{Event, Sink},
    },
    ui::output,
};

/// Longest config or statement that is read, in bytes.
const LONGEST_JSON: u64 = 32 << 20;

/// Runs one command.
pub(crate) fn run(settings: &Settings, command: &ImagetoolsCommand) -> u8 {
    let work = async {
        let show = shown_warnings(settings);
        let done = match (registries::client(settings, &show), command) {
            (Err(fault), _) => Err(fault),
            (Ok(client), ImagetoolsCommand::Inspect { image, raw, format }) => {
                inspect(&client, image, *raw, format.as_deref()).await
            }
            (Ok(client), ImagetoolsCommand::Create(args)) => create(&client, args).await,
        };
        match done {
            Ok(text) if text.is_empty() => OK,
            Ok(text) => write(&text),
            Err(fault) => {
                output::diagnostics(&[*fault], &SourceMap::default(), settings.color);
                FAILED
            }
        }
    };
    build::on_runtime(settings, work)
}

/// Shows warnings as they come, where there is no progress.
pub(super) fn shown_warnings(settings: &Settings) -> Sink {
    let color = settings.color;
    Arc::new(move |event| {
        if let Event::Warning(warning) = event {
            output::diagnostics(&[(*warning).clone()], &SourceMap::default(), color);
        }
    })
}

/// A result, or the fault that is shown.
pub(super) type Made<T> = Result<T, Box<Diagnostic>>;

/// A fault of these commands.
pub(super) fn fault(message: impl Into<String>) -> Box<Diagnostic> {
    Box::new(Diagnostic::error("bake::cli::imagetools", message))
}

/// A fault of these commands with what to do instead.
pub(super) fn fault_with_help(message: impl Into<String>, help: impl Into<String>) -> Box<Diagnostic> {
    Box::new(Diagnostic::error("bake::cli::imagetools", message).help(help))
}

/// The fault of an image that a registry does not give.
pub(super) fn unread(reference: &Reference, error: &RegistryError) -> Box<Diagnostic> {
    let message = format!("the image cannot be read: {}", reference.familiar());
    Box::new(Diagnostic::error("bake::cli::imagetools", message).cause(error))
}

/// A name of an image as the user wrote it.
pub(super) fn parse(name: &str) -> Made<Reference> {
    Reference::parse(name).map_err(|error| fault(error.to_string()))
}

/// The manifest or index that a reference names now.
pub(super) async fn document(client: &Client, reference: &Reference) -> Made<Document> {
    let digest = match reference.digest {
        Some(digest) => digest,
        None => client.resolve(reference).await.map_err(|error| unread(reference, &error))?,
    };
    client.document(reference, &digest, &NoDocuments).await.map_err(|error| unread(reference, &error))
}

/// The JSON of a manifest or index.
pub(super) fn content(document: &Document, reference: &Reference) -> Made<Value> {
    serde_json::from_slice(&document.bytes)
        .map_err(|_| fault(format!("the manifest is not JSON: {}", reference.familiar())))
}

/// A blob that is JSON, such as an image config, by its descriptor in a manifest.
pub(super) async fn json_blob(client: &Client, reference: &Reference, descriptor: &Value) -> Made<Value> {
    let unusable = |why: &str| fault(format!("{why}, of the image: {}", reference.familiar()));
    let descriptor: Descriptor =
        serde_json::from_value(descriptor.clone()).map_err(|_| unusable("a descriptor cannot be read"))?;
    if descriptor.size() > LONGEST_JSON {
        return Err(unusable("a config or statement is too long"));
    }
    let read = client.blob(reference, &descriptor, || Ok(Vec::new()), &|_| ()).await;
    let bytes = read.map_err(|error| unread(reference, &error))?;
    serde_json::from_slice(&bytes).map_err(|_| unusable("a config or statement is not JSON"))
}

/// The platform that an image config says, as an index has it: only what is there.
pub(super) fn platform_of_config(config: &Value) -> Value {
    let keys = ["architecture", "os", "os.version", "os.features", "variant"];
    keys.into_iter().filter_map(|key| Some((key.to_owned(), config.get(key)?.clone()))).collect()
}

/// A platform of an index as users write it: `linux/arm/v7`.
pub(super) fn platform_text(platform: &Value) -> String {
    let part = |key: &str| platform.get(key).and_then(Value::as_str).unwrap_or_default();
    let mut text = format!("{}/{}", part("os"), part("architecture"));
    if !part("variant").is_empty() {
        text = format!("{text}/{}", part("variant"));
    }
    text
}

/// The digest of the image that an entry of an index says something about: it is an attestation and no image.
pub(super) fn attested(entry: &Value) -> Option<&str> {
    let annotations = entry.get("annotations")?;
    let kind = annotations.get("vnd.docker.reference.type")?;
    if kind == "attestation-manifest" { annotations.get("vnd.docker.reference.digest")?.as_str() } else { None }
}
