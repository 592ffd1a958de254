//! The object stores of a run: each is opened once for each access, when it is first asked for.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::StreamExt as _;
use tokio::sync::mpsc;

use super::{
    actions::ActionsCache,
    bucket::Bucket,
    error::ObjectError,
    holder::ObjectHolder,
    settings::{ObjectAccess, ObjectCache},
};
use crate::oci::{Digest, ObjectPlace};

/// How often the bytes of a blob are asked for when they break off.
const ATTEMPTS: u32 = 3;
/// Chunks of a blob that wait for the disk.
const QUEUE: usize = 8;

/// The object stores of a run. Cheap to clone; nothing is read or connected before the first request.
#[derive(Clone, Default)]
pub(crate) struct ObjectStores {
    env: Arc<BTreeMap<String, String>>,
    opened: Arc<Mutex<OpenedPlaces>>,
    /// With what places are read; the environment for those that are not there.
    readers: Arc<Mutex<HashMap<ObjectPlace, ObjectAccess>>>,
}

type OpenedPlaces = HashMap<(ObjectPlace, ObjectAccess), Arc<dyn ObjectHolder>>;

impl ObjectStores {
    /// Stores for which the environment of the user gives credentials.
    pub(crate) fn new(env: Arc<BTreeMap<String, String>>) -> Self {
        Self { env, ..Self::default() }
    }

    /// Opens the place of a cache.
    ///
    /// # Errors
    /// When settings or credentials are unusable as they are. Nothing is asked of the server.
    pub(crate) fn open(
        &self,
        place: &ObjectPlace,
        access: &ObjectAccess,
    ) -> Result<Arc<dyn ObjectHolder>, ObjectError> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (place.clone(), access.clone());
        if let Some(holder) = opened.get(&key) {
            return Ok(holder.clone());
        }
        let holder: Arc<dyn ObjectHolder> = match place {
            ObjectPlace::Actions { url } => Arc::new(ActionsCache::open(url, access, &self.env)?),
            _ => Arc::new(Bucket::open(place, access, &self.env)?),
        };
        opened.insert(key, holder.clone());
        Ok(holder)
    }

    /// Notes with what the blobs of a cache are read from now on.
    pub(crate) fn reads(&self, cache: &ObjectCache) {
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        readers.insert(cache.place.clone(), cache.access.clone());
    }

    /// Reads a blob of `size` bytes into the writer that `open` makes (again for each attempt).
    ///
    /// The writer is returned when it has as many bytes; whether they are those of the digest is for the caller to find out.
    ///
    /// # Errors
    /// When there is no such blob, it is longer, or it cannot be read or written.
    pub(crate) async fn blob<W: io::Write + Send + 'static>(
        &self,
        place: &ObjectPlace,
        blobs: &str,
        (digest, size): (&Digest, u64),
        mut open: impl FnMut() -> io::Result<W> + Send,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<W, ObjectError> {
        let access = self.readers.lock().unwrap_or_else(PoisonError::into_inner).get(place).cloned();
        let holder = self.open(place, &access.unwrap_or_default())?;
        let key = format!("{blobs}{digest}");
        let machine = |error: io::Error| {
            let (place, why) = (place.clone(), error.to_string());
            ObjectError::Machine { place, action: "read", key: key.clone(), why }
        };
        let mut attempt = 0;
        loop {
            attempt += 1;
            let mut chunks = holder.read(&key).await?;
            let mut writer = open().map_err(machine)?;
            let (sender, mut receiver) = mpsc::channel::<bytes::Bytes>(QUEUE);
            let writing = tokio::task::spawn_blocking(move || {
                while let Some(chunk) = receiver.blocking_recv() {
                    writer.write_all(&chunk)?;
                }
                Ok(writer)
            });
            let mut done = 0_u64;
            let mut fault = None;
            while let Some(chunk) = chunks.next().await {
                let chunk = match chunk {
                    Ok(chunk) => chunk,
                    Err(why) => {
                        fault = Some(why);
                        break;
                    }
                };
                done += chunk.len() as u64;
                // The receiver is gone only when writing failed, which is told below.
                if done > size || sender.send(chunk).await.is_err() {
                    break;
                }
                progress(done);
            }
            drop(sender);
            let writer: io::Result<W> = writing.await.map_err(io::Error::other).and_then(|written| written);
            let writer = writer.map_err(machine)?;
            let why = match fault {
                None if done == size => return Ok(writer),
                None => {
                    format!("it has {} bytes, not {size}", if done > size { "more".into() } else { done.to_string() })
                }
                Some(why) => why,
            };
            if attempt >= ATTEMPTS || done > size {
                return Err(ObjectError::Request { place: place.clone(), action: "read", key, why });
            }
        }
    }
}
