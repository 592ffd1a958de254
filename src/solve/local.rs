//! The directories of the user's machine that builds read: one shared walk for each, whoever asks.

use std::{
    collections::HashMap,
    os::unix::ffi::OsStrExt as _,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OnceCell, Semaphore};

use super::{
    content::{self, ContentSource, FileDigests, LocalTree},
    op::read::{OwnedRead, StepReads, blocking, content_of},
};
use crate::{
    graph::Local,
    layer::view::ViewEntry,
    oci::Digest,
    report::Diagnostic,
    store::{StatCache, StatKey, Store},
};

/// The stat cache of a directory, as `content` asks it.
struct Cached(StatCache);

impl FileDigests for Cached {
    fn get(&self, path: &Path, entry: &ViewEntry) -> Option<Digest> {
        self.0.get(path.as_os_str().as_bytes(), &stat_key(entry))
    }

    fn put(&self, path: &Path, entry: &ViewEntry, digest: Digest) {
        self.0.put(path.as_os_str().as_bytes(), &stat_key(entry), &digest);
    }
}

fn stat_key(entry: &ViewEntry) -> StatKey {
    let (device, inode) = entry.dev_ino;
    StatKey { size: entry.size, mtime: entry.mtime, ctime: entry.ctime, inode, device }
}

struct KnownFolders {
    tree: Arc<LocalTree>,
    cache: Arc<Cached>,
}

/// All local directories of a run.
pub(crate) struct Locals {
    store: Store,
    known: Mutex<HashMap<Local, Arc<OnceCell<KnownFolders>>>>,
    /// Looks at a time: a thread for each target would cost more than the look.
    turns: Semaphore,
    n_turns: usize,
}

/// Walks a directory.
fn open(store: &Store, local: &Local) -> Result<KnownFolders, Diagnostic> {
    let cache = Arc::new(Cached(store.stat_cache(Path::new(&local.folder))));
    let tree = LocalTree::open(local, cache.clone()).map_err(|error| {
        Diagnostic::error("bake::solve::context", format!("{} cannot be read: {}", local.name, local.folder))
            .cause(&error)
    })?;
    Ok(KnownFolders { tree: Arc::new(tree), cache })
}

impl Locals {
    pub(crate) fn new(store: Store) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        Self { store, known: Mutex::default(), turns: Semaphore::new(cores), n_turns: cores }
    }

    /// The walked directory. Walked at the first call; its files are hashed when content is asked for.
    ///
    /// # Errors
    /// When the directory is missing, is none, or cannot be read.
    pub(crate) async fn tree(&self, local: &Local) -> Result<Arc<LocalTree>, Diagnostic> {
        let cell = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.entry(local.clone()).or_default().clone()
        };
        let known = cell
            .get_or_try_init(|| async {
                let (store, local) = (self.store.clone(), local.clone());
                let _turn = self.turns.acquire().await;
                blocking(move || open(&store, &local)).await
            })
            .await?;
        Ok(known.tree.clone())
    }

    /// Begins to walk directories and to hash what is read of them, on as many threads as there are cores: a hand-over
    /// for each directory would cost more than the look. `told` gets every answer; what cannot be read is `None`, and
    /// who asks for it by itself is told why.
    pub(crate) fn look_ahead<K: Copy + Send + 'static>(
        &self,
        wanted: Vec<(Local, Vec<(K, OwnedRead)>)>,
        told: impl Fn(K, Option<Digest>) + Send + Sync + 'static,
    ) {
        let mut todo = Vec::with_capacity(wanted.len());
        for (local, reads) in wanted {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            todo.push((known.entry(local.clone()).or_default().clone(), local, reads));
        }
        let n_threads = self.n_turns.min(todo.len());
        let (todo, told) = (Arc::new(Mutex::new(todo.into_iter())), Arc::new(told));
        for _ in 0..n_threads {
            let (store, todo, told) = (self.store.clone(), todo.clone(), told.clone());
            drop(tokio::task::spawn_blocking(move || {
                loop {
                    let next = todo.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some((cell, local, reads)) = next else { return };
                    // Whoever waits for an answer must get one.
                    let walk = std::panic::AssertUnwindSafe(|| open(&store, &local).ok());
                    let source = std::panic::catch_unwind(walk).unwrap_or(None).map(|known| {
                        let source = Self::source(&local, known.tree.clone());
                        // Someone else may have walked it meanwhile; both have seen the same.
                        drop(cell.set(known));
                        source
                    });
                    for (key, read) in reads {
                        let look = std::panic::AssertUnwindSafe(|| content_of(&read, source.as_ref()?).ok());
                        told(key, std::panic::catch_unwind(look).unwrap_or(None));
                    }
                }
            }));
        }
    }

    /// A directory as a source of copies.
    pub(crate) fn source(local: &Local, tree: Arc<LocalTree>) -> ContentSource {
        ContentSource { name: local.name.clone(), tree: content::ContentTree::Local(tree) }
    }

    /// The content of what is read of a directory.
    ///
    /// # Errors
    /// When a source that was named is not there, or a file cannot be read.
    pub(crate) async fn content(&self, local: &Local, read: &StepReads<'_>) -> Result<Digest, Diagnostic> {
        let source = Self::source(local, self.tree(local).await?);
        let read = read.into_owned();
        let _turn = self.turns.acquire().await;
        blocking(move || content_of(&read, &source)).await
    }

    /// Writes back what was learnt of the files' digests.
    ///
    /// # Errors
    /// When the state folder cannot be written.
    pub(crate) fn save(&self) -> Result<(), crate::store::StoreError> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.values().filter_map(|cell| cell.get()).try_for_each(|known| known.cache.0.save())
    }
}
