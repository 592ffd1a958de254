//! What has arrived of another engine's results, made ready as an output: it becomes visible with the release.

use std::{collections::BTreeSet, fs::File, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::image::{self, metadata};
use crate::{
    export::{
        assemble::AssembledImage,
        context::{ExportContext, ExportReceipt},
        prepare::PreparedExport,
        repository::ImageRepository,
        write::{
            StagedExport, pushed_record, received_is_pushed, stage_received_folder, stage_received_image,
            stage_received_tar,
        },
    },
    oci::Platform,
    registry::Document,
    report::Diagnostic,
};

/// The tree of one or several platforms, as another engine sent it into a folder of ours.
#[derive(Clone, Debug)]
pub(crate) struct RemoteTree {
    pub(crate) folder: PathBuf,
    /// Of the only platform, or the first.
    pub(crate) platform: Platform,
    /// Paths that were left out or made harmless when they arrived.
    pub(crate) dropped: BTreeSet<PathBuf>,
}

/// An image whose blobs are in the store: as archive, as layout, or for a container engine.
///
/// # Errors
/// The destination cannot be written.
pub(crate) async fn stage_remote_image(
    prepared: &PreparedExport,
    image: AssembledImage,
    context: &ExportContext,
) -> Result<StagedExport, Diagnostic> {
    let root = image.documents.last().map(image::identity).unwrap_or(image.root.digest);
    stage_received_image(prepared, image, &root, context).await
}

/// Trees that arrived in folders, for a folder.
///
/// # Errors
/// The destination cannot be written.
pub(crate) async fn stage_remote_folder(
    prepared: &PreparedExport,
    trees: Vec<RemoteTree>,
    context: &ExportContext,
) -> Result<StagedExport, Diagnostic> {
    let dropped: BTreeSet<PathBuf> = trees.iter().flat_map(|tree| tree.dropped.iter().cloned()).collect();
    let trees = trees.into_iter().map(|tree| (tree.folder, tree.platform.to_string())).collect();
    stage_received_folder(prepared, trees, &dropped, context).await
}

/// Archives that arrived as files, as one archive.
///
/// # Errors
/// The destination cannot be written, or a file is no archive.
pub(crate) async fn stage_remote_tar(
    prepared: &PreparedExport,
    files: Vec<File>,
    context: &ExportContext,
) -> Result<StagedExport, Diagnostic> {
    stage_received_tar(prepared, files, context).await
}

/// An image whose parts lie in their repositories without a tag; the index over several is not there yet. Names that stand for the same
/// image already, but for what was attested of its build, stay.
///
/// # Errors
/// A root cannot be read.
pub(crate) async fn stage_pushed(
    prepared: &PreparedExport,
    repositories: &[ImageRepository],
    insecure: bool,
    roots: &[image::RemoteRoot],
    context: &ExportContext,
) -> Result<StagedExport, Diagnostic> {
    let joined = image::join(roots).map_err(|why| prepared.fault("bake::export::remote", why))?;
    let (root, is_joined) = (&joined, roots.len() > 1);
    let identity = image::identity(root);
    if let Some(done) = received_is_pushed(prepared, &identity, context).await {
        return Ok(StagedExport::nothing(done));
    }
    let document = String::from_utf8(root.bytes.clone())
        .map_err(|_| prepared.fault("bake::export::push", "the registry has an image whose document is no text"))?;
    // What is known by its digest alone was pushed by it, unless the root is new.
    let is_open = |it: &&ImageRepository| is_joined || !it.tags.is_empty();
    let open = repositories.iter().filter(is_open);
    let items = open.flat_map(|repository| repository.names_to_set(root, &document, insecure)).collect();
    let wrote = repositories.iter().map(|repository| (repository.shown(&root.digest), size(root))).collect();
    let names: Vec<String> = prepared.names().iter().map(ToString::to_string).collect();
    let receipt = ExportReceipt {
        metadata: metadata(root, image::root_descriptor(root, roots), &names.join(",")),
        bytes: size(root),
        ..Default::default()
    };
    let record = pushed_record(prepared, &identity, root, &receipt);
    let mut staged = StagedExport::nothing(receipt);
    staged.parts.items = items;
    staged.wrote = wrote;
    staged.record = Some(record);
    Ok(staged)
}

/// An image that stays with the other engine.
pub(crate) fn stage_kept(answer: impl IntoIterator<Item = (String, String)>, what: Vec<(String, u64)>) -> StagedExport {
    let metadata = answer.into_iter().map(|(key, value)| {
        // Descriptors come as JSON in base64.
        let decoded = STANDARD.decode(&value).ok();
        let json = decoded.as_deref().unwrap_or(value.as_bytes());
        let json = serde_json::from_slice(json).ok().filter(|it: &serde_json::Value| it.is_object());
        (key, json.unwrap_or_else(|| value.into()))
    });
    let mut staged = StagedExport::nothing(ExportReceipt { metadata: metadata.collect(), ..Default::default() });
    staged.wrote = what;
    staged
}

fn size(root: &Document) -> u64 {
    root.bytes.len() as u64
}

/// The image that roots in the store make together, or the fault of the export.
impl PreparedExport {
    /// The image that these roots make; their documents and blobs are in the store.
    ///
    /// # Errors
    /// Something of it did not arrive.
    pub(crate) fn remote_image(
        &self,
        roots: &[image::RemoteRoot],
        context: &ExportContext,
    ) -> Result<AssembledImage, Diagnostic> {
        image::of_store(roots, &context.store)
            .map_err(|error| self.fault("bake::export::remote", format_args!("the image is not whole: {error}")))
    }
}
