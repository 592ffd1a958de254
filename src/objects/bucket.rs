//! S3, Azure Blob Storage and Google Cloud Storage, by the crate `object_store`.
//!
//! It was chosen for its size: it brings six crates that were not here before (`opendal` brings about eighty), takes our own
//! HTTP client as its connector, and knows conditional writes of all three. See `transport` for its features.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use object_store::{
    Error, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload,
    UpdateVersion, path::Path,
};
use tokio::{sync::OnceCell, time::timeout};

use super::{
    clouds::{self, Upkeep},
    error::{ObjectError, shown, words},
    holder::{BlobChunks, BlobContent, DocumentVersion, Expected, NamedDocument, ObjectHolder, Replaced, next_chunk},
    settings::ObjectAccess,
    transport::SILENCE,
};
use crate::oci::ObjectPlace;

/// A blob that is not longer is sent by one request, a longer one in parts of at least this size (S3 wants 5 MiB).
const PART: u64 = 8 << 20;
/// S3 takes 10 000 parts, Azure 50 000.
const MOST_PARTS: u64 = 9_000;
/// Parts of one blob that are sent at a time. Each is in memory while it is sent.
const PARALLEL_PARTS: usize = 2;
/// A cache of very many steps has a document of megabytes; beyond that it is no cache.
const LONGEST_DOCUMENT: u64 = 256 << 20;
/// A bucket or container.
pub(super) struct Bucket {
    place: ObjectPlace,
    store: Arc<dyn ObjectStore>,
    upkeep: Upkeep,
    is_container_there: OnceCell<()>,
    /// A blob whose last change is older is made younger when it is found, for rules of the bucket that remove what is old.
    refresh_after: Option<Duration>,
    checks_versions: OnceCell<bool>,
}

impl Bucket {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// When settings or credentials are unusable as they are.
    pub(super) fn open(
        place: &ObjectPlace,
        access: &ObjectAccess,
        env: &BTreeMap<String, String>,
    ) -> Result<Self, ObjectError> {
        let unusable = |why: String| ObjectError::Unusable { place: place.clone(), why };
        let (store, upkeep) = clouds::open(place, access, env).map_err(unusable)?;
        // Amazon checks versions since 2024, the other two always have.
        let is_known = !matches!(place, ObjectPlace::S3 { endpoint: Some(_), .. });
        Ok(Self {
            place: place.clone(),
            store,
            upkeep,
            is_container_there: OnceCell::new(),
            refresh_after: access.refresh_after,
            checks_versions: OnceCell::new_with(is_known.then_some(true)),
        })
    }

    /// Makes the container of Azure if it is not there yet, as BuildKit does. That it cannot be made shows in what follows.
    async fn make_container(&self) {
        let made = async || {
            if let Upkeep::Azure(container) = &self.upkeep
                && let Err(why) = container.make().await
            {
                tracing::debug!(why, "the container of a shared cache was not made");
            }
        };
        self.is_container_there.get_or_init(made).await;
    }

    fn path(&self, action: &'static str, key: &str) -> Result<Path, ObjectError> {
        let fault = |why: String| ObjectError::Request { place: self.place.clone(), action, key: key.to_owned(), why };
        let path = Path::parse(key).map_err(|error| fault(shown(&error.to_string())))?;
        if path.as_ref() != key {
            return Err(fault("the name of an object cannot begin or end with a slash".to_owned()));
        }
        Ok(path)
    }

    fn fault(&self, action: &'static str, key: &str, error: &Error) -> ObjectError {
        self.fault_text(action, key, words(error))
    }

    fn fault_text(&self, action: &'static str, key: &str, why: String) -> ObjectError {
        ObjectError::Request { place: self.place.clone(), action, key: key.to_owned(), why }
    }

    /// Makes a blob younger that is old. That it cannot be is no fault: it is there now.
    async fn refresh(&self, path: &Path, meta: &ObjectMeta) {
        /// S3 copies no more by one request.
        const LONGEST_COPY: u64 = 5 << 30;
        let age = u64::try_from(jiff::Timestamp::now().as_second() - meta.last_modified.timestamp()).unwrap_or(0);
        if self.refresh_after.is_none_or(|after| age < after.as_secs()) || meta.size > LONGEST_COPY {
            return;
        }
        let refreshed = match &self.upkeep {
            Upkeep::S3(copy) => copy.onto_itself(path).await,
            Upkeep::Google => self.store.copy(path, path).await.map_err(|error| words(&error)),
            Upkeep::Azure(_) => Ok(()),
        };
        if let Err(why) = refreshed {
            tracing::debug!(%path, why, "a blob of a shared cache could not be refreshed");
        }
    }

    /// Sends a blob in parts; what was sent of one that broke off is given up.
    async fn write_parts(
        &self,
        upload: &mut Box<dyn MultipartUpload>,
        key: &str,
        size: u64,
        mut content: BlobContent,
    ) -> Result<(), ObjectError> {
        let part = usize::try_from(size.div_ceil(MOST_PARTS).max(PART)).unwrap_or(usize::MAX);
        let mut sending = futures_util::stream::FuturesUnordered::new();
        loop {
            let chunk;
            (content, chunk) = next_chunk(content, part).await.map_err(|error| self.unreadable(key, &error))?;
            let is_last = chunk.len() < part;
            if !chunk.is_empty() {
                sending.push(upload.put_part(PutPayload::from_bytes(chunk)));
            }
            while sending.len() >= PARALLEL_PARTS || is_last && !sending.is_empty() {
                let sent = sending.next().await.expect("it is not empty");
                sent.map_err(|error| self.fault("write", key, &error))?;
            }
            if is_last {
                return upload.complete().await.map(drop).map_err(|error| self.fault("write", key, &error));
            }
        }
    }

    fn unreadable(&self, key: &str, error: &std::io::Error) -> ObjectError {
        let (place, why) = (self.place.clone(), error.to_string());
        ObjectError::Machine { place, action: "write", key: key.to_owned(), why }
    }
}

#[async_trait]
impl ObjectHolder for Bucket {
    async fn document(&self, name: &str) -> Result<Option<NamedDocument>, ObjectError> {
        let found = match self.store.get(&self.path("read", name)?).await {
            Ok(found) => found,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(self.fault("read", name, &error)),
        };
        if found.meta.size > LONGEST_DOCUMENT {
            return Err(self.fault_text("read", name, "it is too long for a cache".to_owned()));
        }
        let version = DocumentVersion { tag: found.meta.e_tag.clone(), generation: found.meta.version.clone() };
        let bytes = found.bytes().await.map_err(|error| self.fault("read", name, &error))?;
        Ok(Some(NamedDocument { bytes, version }))
    }

    async fn replace(&self, name: &str, bytes: Bytes, expected: Expected<'_>) -> Result<Replaced, ObjectError> {
        let mode = match expected {
            Expected::Anything => PutMode::Overwrite,
            Expected::Nothing => PutMode::Create,
            Expected::Version(DocumentVersion { tag, generation }) => {
                PutMode::Update(UpdateVersion { e_tag: tag.clone(), version: generation.clone() })
            }
        };
        self.make_container().await;
        let put = self.store.put_opts(&self.path("write", name)?, bytes.into(), PutOptions::from(mode)).await;
        match put {
            Ok(_) => Ok(Replaced::Done),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::NotModified { .. }) => {
                Ok(Replaced::Changed)
            }
            Err(error) => Err(self.fault("write", name, &error)),
        }
    }

    async fn checks_versions(&self, empty: &str) -> Result<bool, ObjectError> {
        let tried = async || {
            for _ in 0..2 {
                match self.replace(empty, Bytes::new(), Expected::Nothing).await {
                    Ok(Replaced::Changed) => return true,
                    Ok(Replaced::Done) => (),
                    // Some servers do not know the header, and say so in many ways. Other faults come again.
                    Err(_) => break,
                }
            }
            false
        };
        Ok(*self.checks_versions.get_or_init(tried).await)
    }

    async fn has(&self, key: &str, size: u64) -> Result<bool, ObjectError> {
        let path = self.path("look for", key)?;
        match self.store.head(&path).await {
            Ok(meta) if meta.size == size => {
                self.refresh(&path, &meta).await;
                Ok(true)
            }
            Ok(_) | Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(self.fault("look for", key, &error)),
        }
    }

    async fn read(&self, key: &str) -> Result<BlobChunks, ObjectError> {
        let found = self.store.get(&self.path("read", key)?).await;
        let chunks = found.map_err(|error| self.fault("read", key, &error))?.into_stream();
        Ok(futures_util::stream::unfold(chunks, |mut chunks| async move {
            let next = match timeout(SILENCE, chunks.next()).await {
                Ok(next) => next?.map_err(|error| words(&error)),
                Err(_) => Err(format!("no more of it came within {} s", SILENCE.as_secs())),
            };
            Some((next, chunks))
        })
        .boxed())
    }

    async fn write(&self, key: &str, size: u64, content: BlobContent) -> Result<(), ObjectError> {
        let path = self.path("write", key)?;
        self.make_container().await;
        if size <= PART {
            let most = usize::try_from(PART).unwrap_or(usize::MAX) + 1;
            let read = next_chunk(content, most).await;
            let (_, bytes) = read.map_err(|error| self.unreadable(key, &error))?;
            let put = self.store.put(&path, bytes.into()).await;
            return put.map(drop).map_err(|error| self.fault("write", key, &error));
        }
        let begun = self.store.put_multipart(&path).await;
        let mut upload = begun.map_err(|error| self.fault("write", key, &error))?;
        let written = self.write_parts(&mut upload, key, size, content).await;
        if written.is_err() {
            // What is left of it goes by the rules of the bucket if this does not reach it.
            drop(upload.abort().await);
        }
        written
    }
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket").field("place", &self.place).finish_non_exhaustive()
    }
}
