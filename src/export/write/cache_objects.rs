//! Shared caches in object stores: records of this build are joined with those of each document, whoever wrote them.
//!
//! ```text
//! layers ─► sent │ what is there ─► joined ─► written if the document is still what it was │ no: again
//! ```
//!
//! Nobody loses a record then. Of servers that cannot check what a document is when it is replaced that is told once; a
//! writer looks a moment later whether its records are still there, and joins them again if they are not.

use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::time::{Instant, sleep};

use super::cache::{CacheWrite, lock, random, told};
use crate::{
    export::{
        assemble::{self, BlobContent, CacheContent, ImageBlob},
        cache::CacheEmptying,
        context::ExportContext,
        pack::fetch_base,
    },
    objects::{Expected, ObjectCache, ObjectHolder, Replaced},
    oci::Digest,
    report::{Diagnostic, event::Event},
};

/// How often records are joined with what others have written meanwhile.
const ATTEMPTS: u32 = 40;
/// How long after its own write a writer looks at least, where the server checks nothing.
const SETTLED: Duration = Duration::from_millis(250);

/// Writes the records of a build, and those that are there, under each name of a cache. With `emptying`, the first write
/// of the run drops what is there.
///
/// # Errors
/// The text names the place and what it answered; also when others replace what is written again and again.
pub(super) async fn write(
    context: &ExportContext,
    cache: &ObjectCache,
    emptying: Option<&CacheEmptying>,
    write: &CacheWrite<'_>,
) -> Result<(), String> {
    let holder = context.objects.open(&cache.place, &cache.access).map_err(|e| told(&e))?;
    let sent = write.blobs.iter().map(|blob| send(context, cache, holder.as_ref(), blob));
    stream::iter(sent).buffer_unordered(cache.parallel).try_collect::<()>().await?;
    for name in &cache.written {
        let target = WriteTarget { cache, holder: holder.as_ref(), name };
        target.join_again_and_again(context, emptying, write).await?;
    }
    Ok(())
}

/// Sends a layer unless it is there.
async fn send(
    context: &ExportContext,
    cache: &ObjectCache,
    holder: &dyn ObjectHolder,
    blob: &ImageBlob,
) -> Result<(), String> {
    let key = format!("{}{}", cache.blobs, blob.digest);
    if holder.has(&key, blob.size).await.map_err(|e| told(&e))? {
        return Ok(());
    }
    if let BlobContent::Base(base) = &blob.from {
        fetch_base(context, base).await.map_err(|e| e.to_string())?;
    }
    let (store, digest) = (context.store.clone(), blob.digest);
    let content = tokio::task::spawn_blocking(move || store.read_blob(&digest)).await.map_err(|e| e.to_string())?;
    let content = Box::new(content.map_err(|e| told(&e))?);
    holder.write(&key, blob.size, content).await.map_err(|e| told(&e))
}

/// A document that is written.
struct WriteTarget<'a> {
    cache: &'a ObjectCache,
    holder: &'a dyn ObjectHolder,
    name: &'a str,
}

/// The outcome of one attempt.
enum Joined {
    /// Everything is there, and stays.
    Done,
    /// The document is not what it was: the next attempt may succeed.
    Changed,
    /// The records of this build as they were written, which others may have replaced.
    Unchecked(CacheContent),
}

impl WriteTarget<'_> {
    async fn join_again_and_again(
        &self,
        context: &ExportContext,
        emptying: Option<&CacheEmptying>,
        write: &CacheWrite<'_>,
    ) -> Result<(), String> {
        let empties = emptying.is_some_and(CacheEmptying::take);
        for attempt in 1..=ATTEMPTS {
            let begun = Instant::now();
            match self.join(context, empties, write).await? {
                Joined::Done => return Ok(()),
                Joined::Changed => {
                    sleep(Duration::from_millis(20 * u64::from(attempt.min(25))).mul_f32(0.5 + random())).await;
                }
                Joined::Unchecked(kept) => {
                    // Who has read before this write takes about as long to write as this one took.
                    sleep(SETTLED.max(begun.elapsed() * 2).mul_f32(1.0 + random())).await;
                    let now_there = self.holder.document(self.name).await.map_err(|e| told(&e))?;
                    if now_there.is_some_and(|document| content_of(&document.bytes, write.now).covers(&kept)) {
                        return Ok(());
                    }
                }
            }
            tracing::debug!(attempt, name = self.name, "another writer has changed the cache: it is joined again");
        }
        Err(format!("`{}` of `{}` was changed {ATTEMPTS} times while it was written", self.name, self.cache.place))
    }

    /// Joins the records with those that are there, while no other process of this machine does the same.
    async fn join(&self, context: &ExportContext, empties: bool, write: &CacheWrite<'_>) -> Result<Joined, String> {
        let _lock = lock(context, &[&self.cache.place.to_string(), self.name]).await?;
        let found = self.holder.document(self.name).await.map_err(|e| told(&e))?;
        let there = match &found {
            Some(document) if !empties => content_of(&document.bytes, write.now),
            _ => CacheContent::default(),
        };
        let made = write.made.clone().with_times_of(&there);
        let joined = there.joined(made.clone()).trimmed(write.now);
        let bytes = assemble::object_document(&joined);
        if found.as_ref().is_some_and(|document| document.bytes == bytes) {
            return Ok(Joined::Done);
        }
        let empty = format!("{}{}", self.cache.blobs, Digest::of(b""));
        let checks = self.holder.checks_versions(&empty).await.map_err(|e| told(&e))?;
        let expected = match &found {
            _ if !checks => Expected::Anything,
            Some(document) => Expected::Version(&document.version),
            None => Expected::Nothing,
        };
        let replaced = self.holder.replace(self.name, bytes.into(), expected).await.map_err(|e| told(&e))?;
        Ok(match replaced {
            Replaced::Changed => Joined::Changed,
            Replaced::Done if checks => Joined::Done,
            Replaced::Done => {
                self.tell_unchecked(context);
                Joined::Unchecked(joined.restricted_to(&made))
            }
        })
    }

    /// Warns that records may be lost. Equal warnings are told once.
    fn tell_unchecked(&self, context: &ExportContext) {
        let text = format!(
            "`{}` has no conditional writes: builds that write a cache there at the same moment may lose records",
            self.cache.place
        );
        (context.sink)(Event::Warning(Diagnostic::warning("bake::export::unchecked_cache", text).into()));
    }
}

/// The records of a document. What is no cache has none and is replaced.
fn content_of(bytes: &[u8], now: i64) -> CacheContent {
    match assemble::object_records(bytes) {
        Ok(records) => assemble::content(records, now),
        Err(why) => {
            tracing::debug!(why, "what is there is no cache: it is replaced");
            CacheContent::default()
        }
    }
}
