//! Pushes an image: registries at the same time, repositories of one registry one after the other.

use std::{collections::BTreeMap, sync::Arc};

use super::job::{ImageJob, upload};
use crate::{
    export::{
        assemble::AssembledImage,
        context::{ExportReceipt, with_causes},
    },
    registry::Push,
    report::{Diagnostic, event::Event},
};

impl ImageJob<'_> {
    pub(super) async fn push(
        &self,
        image: &AssembledImage,
        by_digest: bool,
        insecure: bool,
    ) -> Result<ExportReceipt, Diagnostic> {
        let mut repositories: Vec<(&str, &str, Vec<String>)> = Vec::new();
        for name in &self.plan.names {
            let tag = name.tag_or_latest().filter(|_| !by_digest).map(str::to_owned);
            let known = repositories.iter_mut().find(|it| it.0 == name.domain && it.1 == name.path);
            match known {
                Some(known) => known.2.extend(tag),
                None => repositories.push((&name.domain, &name.path, tag.into_iter().collect())),
            }
        }
        let total: u64 = image.blobs.iter().filter(|it| !it.nondist).map(|it| it.size).sum();
        // Registries at the same time; repositories of one after the other, so that the second mounts from the first.
        let mut registries: BTreeMap<&str, Vec<(&str, Vec<String>)>> = BTreeMap::new();
        for (domain, path, tags) in repositories {
            registries.entry(domain).or_default().push((path, tags));
        }
        let pushes = registries.into_iter().map(|(domain, repositories)| async move {
            for (path, tags) in repositories {
                self.push_one(image, (domain, path), &tags, insecure, total).await?;
            }
            Ok::<(), Diagnostic>(())
        });
        futures_util::future::try_join_all(pushes).await?;
        Ok(self.receipt(image))
    }

    async fn push_one(
        &self,
        image: &AssembledImage,
        (domain, path): (&str, &str),
        tags: &[String],
        insecure: bool,
        total: u64,
    ) -> Result<(), Diagnostic> {
        let what: Arc<str> = format!("push {domain}/{path}").into();
        let progress = |done: u64| {
            (self.context.sink)(Event::Moved { id: self.context.step, what: what.clone(), done, total });
        };
        let blobs = image.blobs.iter().filter(|it| !it.nondist).map(|it| upload(self.context, it)).collect();
        let push =
            Push { domain, path, tags, blobs, documents: image.documents.clone(), insecure, progress: &progress };
        self.context.client.push(push).await.map_err(|error| {
            let text = format!("cannot push `{domain}/{path}`: {}", with_causes(&error));
            self.fault("bake::export::push", text)
        })?;
        let at = if tags.is_empty() { format!("@{}", image.root.digest) } else { format!(":{}", tags.join(",")) };
        self.wrote(&format!("{domain}/{path}{at}"), total, false);
        Ok(())
    }
}
