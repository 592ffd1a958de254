//! Shared caches in a registry: records of this build are joined with those under the reference, whoever wrote them.
//!
//! ```text
//! layers ─► sent │ what is there ─► joined ─► config sent ─► still the same there? ─► tag set │ a while ─► ours still there?
//!                │ ▲ in this machine one at a time             │ no: again                    │   no: again
//! ```
//!
//! A registry cannot replace a tag only if it is unchanged. So a writer looks whether its records are still there after
//! others, who had begun before, must have written; if they are not, it joins them again.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    cache::{CacheWrite, content_of, lock, random, told},
    job::upload,
};
use crate::{
    export::{
        assemble::{self, CacheContent, CacheDocuments},
        context::ExportContext,
    },
    oci::{Digest, Reference},
    registry::{BlobSource, Document, NameTarget, Push, RegistryError, Upload},
};

/// How often records are joined with what others have written meanwhile.
const ATTEMPTS: u32 = 20;
/// How long after its own write a writer looks at least: another who has read before must have written by then.
const SETTLED: Duration = Duration::from_millis(250);

/// Writes the records of a build, and those that are there, under a reference.
///
/// # Errors
/// The text names the registry and what it answered; also when others replace what is written again and again.
pub(super) async fn write(
    context: &ExportContext,
    reference: &Reference,
    insecure: bool,
    write: &CacheWrite<'_>,
) -> Result<(), String> {
    let tag = reference.tag_or_latest().unwrap_or("latest");
    let target = NameTarget { domain: &reference.domain, path: &reference.path, tag: Some(tag), insecure };
    let blobs = write.blobs.iter().map(|blob| upload(context, blob)).collect();
    push(context, &target, blobs).await?;
    let mut gone = BTreeSet::new();
    for attempt in 1..=ATTEMPTS {
        let begun = Instant::now();
        let kept = match join(context, &target, write, &mut gone).await? {
            Joined::Unchanged => return Ok(()),
            Joined::Again => {
                sleep(Duration::from_millis(20 * u64::from(attempt)).mul_f32(0.5 + random())).await;
                continue;
            }
            Joined::Written(kept) => kept,
        };
        // Who has read before this write takes about as long to write as this one took.
        sleep(SETTLED.max(begun.elapsed() * 2).mul_f32(1.0 + random())).await;
        let (_, now_there) = read(context, &target, write.now).await?;
        if now_there.covers(&kept) {
            return Ok(());
        }
        tracing::debug!(attempt, "another writer has replaced the cache: it is joined again");
    }
    Err(format!("`{reference}` was replaced {ATTEMPTS} times while it was written"))
}

/// What came of one attempt.
enum Joined {
    /// Everything is there already.
    Unchanged,
    /// Something changed meanwhile: the next attempt may succeed.
    Again,
    /// The records of this build as they were written.
    Written(CacheContent),
}

/// Joins the records with those that are there and sets the tag, while no other process of this machine does the same.
async fn join(
    context: &ExportContext,
    target: &NameTarget<'_>,
    write: &CacheWrite<'_>,
    gone: &mut BTreeSet<Digest>,
) -> Result<Joined, String> {
    let _lock = lock(context, &[target.domain, target.path, target.tag.unwrap_or_default()]).await?;
    let (root, there) = read(context, target, write.now).await?;
    let there = there.present(|layer| !gone.contains(&layer.blob));
    let made = write.made.clone().with_times_of(&there);
    let joined = there.joined(made.clone()).trimmed(write.now);
    let CacheDocuments { root: document, config } = CacheDocuments::of(&joined, write.document);
    let was = root.map(|root| root.digest);
    if was == Some(document.digest) {
        return Ok(Joined::Unchanged);
    }
    let size = config.bytes.len() as u64;
    let source = BlobSource::Bytes(config.bytes.into());
    push(context, target, vec![Upload { digest: config.digest, size, source, found_in: Vec::new() }]).await?;
    let now = context.client.meaning(target).await.map_err(|e| told(&e))?;
    // A registry that does not say what a tag has is taken at its word of before.
    if now.is_some() && now != was {
        return Ok(Joined::Again);
    }
    match context.client.set_name(target, &document).await {
        Ok(()) => Ok(Joined::Written(joined.restricted_to(&made))),
        Err(error) if error.is_refusal() => {
            // A layer of another build may have been taken away: its records go as well.
            let found = missing(context, target, &joined).await.map_err(|e| told(&e))?;
            let n_before = gone.len();
            gone.extend(found);
            if gone.len() > n_before { Ok(Joined::Again) } else { Err(told(&error)) }
        }
        Err(error) => Err(told(&error)),
    }
}

/// The layers of a content that the repository lacks.
async fn missing(
    context: &ExportContext,
    target: &NameTarget<'_>,
    content: &CacheContent,
) -> Result<Vec<Digest>, RegistryError> {
    let mut missing = Vec::new();
    for layer in content.layers() {
        if !context.client.has_blob(target, &layer.blob).await? {
            missing.push(layer.blob);
        }
    }
    Ok(missing)
}

/// What is under the tag now. What is no cache has no records and is replaced; what cannot be asked for is a fault.
async fn read(
    context: &ExportContext,
    target: &NameTarget<'_>,
    now: i64,
) -> Result<(Option<Document>, CacheContent), String> {
    let Some(root) = context.client.written_document(target).await.map_err(|e| told(&e))? else {
        return Ok((None, CacheContent::default()));
    };
    let config = match assemble::parts(&root) {
        Ok((config, _)) if assemble::is_cache_config(&config) => {
            context.client.written_blob(target, &config).await.map_err(|e| told(&e))?
        }
        _ => None,
    };
    let content = content_of(&root, config.as_deref(), now);
    Ok((Some(root), content))
}

async fn push(context: &ExportContext, target: &NameTarget<'_>, blobs: Vec<Upload>) -> Result<(), String> {
    let NameTarget { domain, path, tag: _, insecure } = *target;
    let push = Push { domain, path, tags: &[], blobs, documents: Vec::new(), insecure, progress: &|_| () };
    context.client.push(push).await.map_err(|e| told(&e))
}
