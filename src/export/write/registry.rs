//! Pushes an image: registries at the same time, repositories of one registry one after the other.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    job::{ImageJob, upload},
    stage::{ReleaseRecord, StagedExport, StagedParts},
};
use crate::{
    export::{
        assemble::AssembledImage,
        context::{ExportReceipt, with_causes},
        remember::{self, StoredReceipt},
        repository::ImageRepository,
    },
    oci::Digest,
    registry::{Document, NameTarget, Push},
    report::{Diagnostic, event::Event},
};

impl ImageJob<'_> {
    /// Pushes an image under all its names, and returns its receipt.
    ///
    /// Registries are pushed to at the same time, repositories of one registry in order, so that the second can mount
    /// the blobs of the first. With `by_digest` no tag is set; `insecure` allows plain HTTP and any certificate.
    ///
    /// # Errors
    /// The fault of the first push that failed; tags that others have set stay.
    pub(super) async fn push(
        &self,
        image: &AssembledImage,
        by_digest: bool,
        insecure: bool,
        key: Option<Digest>,
    ) -> Result<ExportReceipt, Diagnostic> {
        let repositories = ImageRepository::of_names(&self.plan.names, by_digest);
        self.push_all(&repositories, image, &image.documents, |repository| &repository.tags, insecure).await?;
        for repository in &repositories {
            self.wrote(&repository.shown(&image.root.digest), pushed_bytes(image), false);
        }
        let done = self.receipt(image);
        if let Some(key) = key {
            remember::keep_pushed(&self.context.store, &key, pushed(image, &done));
        }
        Ok(done)
    }

    /// Whether all names still stand for what an earlier push of the same image left: one question for each of them, and one
    /// event for each repository. A registry that gives no answer is pushed to, and then says why.
    pub(super) async fn is_pushed_already(&self, found: &StoredReceipt, by_digest: bool, insecure: bool) -> bool {
        let [(root, _)] = found.blobs.as_slice() else { return false };
        let repositories = ImageRepository::of_names(&self.plan.names, by_digest);
        let digest = root.to_string();
        let names = repositories.iter().flat_map(|repository| {
            let ImageRepository { domain, path, tags } = repository;
            let tags = if tags.is_empty() { std::slice::from_ref(&digest) } else { tags.as_slice() };
            tags.iter().map(|tag| NameTarget { domain, path, tag: Some(tag), insecure })
        });
        let asked = names.map(|name| async move { self.context.client.meaning(&name).await.ok().flatten() });
        let is_there = futures_util::future::join_all(asked).await.iter().all(|it| *it == Some(*root));
        if is_there {
            repositories.iter().for_each(|repository| self.wrote(&repository.shown(root), found.bytes, true));
        }
        is_there
    }

    /// Sends all that the repositories lack, under no name: what is left for the release is to set the tags, or to push
    /// the root if it has no tag.
    pub(super) async fn stage_push(
        &self,
        image: &AssembledImage,
        by_digest: bool,
        insecure: bool,
        key: Option<Digest>,
    ) -> Result<StagedExport, Diagnostic> {
        let repositories = ImageRepository::of_names(&self.plan.names, by_digest);
        let root = image.documents.last().expect("an image has a root document");
        // A root that gets a tag is pushed by its digest now: then the registry has accepted all of it.
        let n_now = image.documents.len() - usize::from(by_digest);
        self.push_all(&repositories, image, &image.documents[..n_now], |_| &[], insecure).await?;
        let document = String::from_utf8(root.bytes.clone()).expect("documents are JSON");
        let items =
            repositories.iter().flat_map(|repository| repository.names_to_set(root, &document, insecure)).collect();
        let wrote = repositories.iter().map(|repository| (repository.shown(&image.root.digest), pushed_bytes(image)));
        let receipt = self.receipt(image);
        Ok(StagedExport {
            wrote: wrote.collect(),
            parts: StagedParts { items, ..StagedParts::default() },
            record: key.map(|key| ReleaseRecord { key, receipt: pushed(image, &receipt), place: None }),
            receipt,
        })
    }

    /// Pushes to registries at the same time; to repositories of one registry one after the other, so that the second
    /// mounts from the first.
    async fn push_all<'a>(
        &self,
        repositories: &'a [ImageRepository],
        image: &AssembledImage,
        documents: &[Document],
        tags: impl Fn(&'a ImageRepository) -> &'a [String],
        insecure: bool,
    ) -> Result<(), Diagnostic> {
        let mut registries: BTreeMap<&str, Vec<(&str, &[String])>> = BTreeMap::new();
        for repository in repositories {
            registries.entry(&repository.domain).or_default().push((&repository.path, tags(repository)));
        }
        let pushes = registries.into_iter().map(|(domain, repositories)| async move {
            for (path, tags) in repositories {
                self.push_one(image, documents, (domain, path), tags, insecure).await?;
            }
            Ok::<(), Diagnostic>(())
        });
        futures_util::future::try_join_all(pushes).await.map(drop)
    }

    async fn push_one(
        &self,
        image: &AssembledImage,
        documents: &[Document],
        (domain, path): (&str, &str),
        tags: &[String],
        insecure: bool,
    ) -> Result<(), Diagnostic> {
        let (what, total): (Arc<str>, _) = (format!("push {domain}/{path}").into(), pushed_bytes(image));
        let progress = |done: u64| {
            (self.context.sink)(Event::Moved { id: self.context.step, what: what.clone(), done, total });
        };
        let blobs = image.blobs.iter().filter(|it| !it.nondist).map(|it| upload(self.context, it)).collect();
        let push = Push { domain, path, tags, blobs, documents: documents.to_vec(), insecure, progress: &progress };
        self.context.client.push(push).await.map_err(|error| {
            let text = format!("cannot push `{domain}/{path}`: {}", with_causes(&error));
            self.fault("bake::export::push", text)
        })
    }
}

/// What is remembered of a push.
fn pushed(image: &AssembledImage, done: &ExportReceipt) -> StoredReceipt {
    StoredReceipt {
        stamp: None,
        fingerprint: None,
        blobs: vec![(image.root.digest, image.root.size)],
        bytes: pushed_bytes(image),
        metadata: done.metadata.clone(),
        dropped: None,
    }
}

/// The size of all blobs that are pushed.
pub(super) fn pushed_bytes(image: &AssembledImage) -> u64 {
    image.blobs.iter().filter(|blob| !blob.nondist).map(|blob| blob.size).sum()
}
