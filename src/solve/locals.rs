//! The directories of the user's machine that builds read: each is walked once in a run, for all builds that read it.
//!
//! What is in them and how it is hashed is `content`.

use std::{
    collections::HashMap,
    os::unix::ffi::OsStrExt as _,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OnceCell, Semaphore};

use super::{
    blocking::blocking,
    content::{
        error::ContentError,
        files::FileList,
        local::{FileDigests, LocalTree},
        source::{ContentSource, ContentTree},
    },
    reads::{OwnedRead, StepReads},
};
use crate::{
    graph::Local,
    layer::view::ViewEntry,
    oci::Digest,
    report::Diagnostic,
    store::{StatCache, StatKey, Store},
};

/// The stat cache of a directory, in the form in which `content` asks for digests.
struct CachedDigests(StatCache);

impl FileDigests for CachedDigests {
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

/// A directory that was opened in this run.
struct KnownFolder {
    tree: Arc<LocalTree>,
    cache: Arc<CachedDigests>,
}

/// All local directories that a run reads, each opened once.
pub(crate) struct Locals {
    store: Store,
    known: Mutex<HashMap<Local, Arc<OnceCell<KnownFolder>>>>,
    /// How many directories are walked at a time: a thread for each target would cost more than its walk.
    turns: Semaphore,
    n_turns: usize,
}

/// Opens a directory with its stat cache; it is walked when its content is asked for.
fn open(store: &Store, local: &Local) -> Result<KnownFolder, Diagnostic> {
    let cache = Arc::new(CachedDigests(store.stat_cache(Path::new(&local.folder))));
    let tree = LocalTree::open(local, cache.clone()).map_err(|error| {
        Diagnostic::error("bake::solve::context", format!("{} cannot be read: {}", local.name, local.folder))
            .cause(&error)
    })?;
    Ok(KnownFolder { tree: Arc::new(tree), cache })
}

impl Locals {
    /// No directory is open yet; stat caches are those of `store`.
    pub(crate) fn new(store: Store) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        Self { store, known: Mutex::default(), turns: Semaphore::new(cores), n_turns: cores }
    }

    /// Opens a local directory as a tree, at the first call; its files are hashed when content is asked for.
    ///
    /// # Errors
    /// When the directory is missing, is not a directory, or cannot be read.
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

    /// Begins to walk directories and to hash what is read of them, on as many threads as there are cores: a task for
    /// each directory would cost more than its walk.
    ///
    /// Calls `answer` once for each read, with `None` for what cannot be read; [`content`](Self::content) then says
    /// why.
    pub(crate) fn look_ahead<K: Copy + Send + 'static>(
        &self,
        wanted: Vec<(Local, Vec<(K, OwnedRead)>)>,
        answer: impl Fn(K, Option<Digest>) + Send + Sync + 'static,
    ) {
        let mut todo = Vec::with_capacity(wanted.len());
        for (local, reads) in wanted {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            todo.push((known.entry(local.clone()).or_default().clone(), local, reads));
        }
        let n_threads = self.n_turns.min(todo.len());
        let (todo, answer) = (Arc::new(Mutex::new(todo.into_iter())), Arc::new(answer));
        for _ in 0..n_threads {
            let (store, todo, answer) = (self.store.clone(), todo.clone(), answer.clone());
            drop(tokio::task::spawn_blocking(move || {
                loop {
                    let next = todo.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some((cell, local, reads)) = next else { return };
                    // Every read must get its answer, whatever panics.
                    let open_folder = std::panic::AssertUnwindSafe(|| open(&store, &local).ok());
                    let source = std::panic::catch_unwind(open_folder).unwrap_or(None).map(|known| {
                        let source = Self::source(&local, known.tree.clone());
                        // Another thread may have opened it meanwhile: either tree serves.
                        drop(cell.set(known));
                        source
                    });
                    for (key, read) in reads {
                        let hash = std::panic::AssertUnwindSafe(|| read.content(source.as_ref()?).ok());
                        answer(key, std::panic::catch_unwind(hash).unwrap_or(None));
                    }
                }
            }));
        }
    }

    /// A local directory as a source of copies.
    pub(crate) fn source(local: &Local, tree: Arc<LocalTree>) -> ContentSource {
        ContentSource { name: local.name.clone(), tree: ContentTree::Local(tree) }
    }

    /// The content hash of what is read of a local directory.
    ///
    /// # Errors
    /// When a source that was named is not there, or a file cannot be read.
    pub(crate) async fn content(&self, local: &Local, read: &StepReads<'_>) -> Result<Digest, Diagnostic> {
        let source = Self::source(local, self.tree(local).await?);
        let read = read.into_owned();
        let _turn = self.turns.acquire().await;
        blocking(move || read.content(&source).map_err(ContentError::into_diagnostic)).await
    }

    /// The names that are read of a local directory. What was hashed before is not hashed again.
    ///
    /// # Errors
    /// As [`content`](Self::content).
    pub(crate) async fn files(&self, local: &Local, read: &StepReads<'_>) -> Result<FileList, Diagnostic> {
        let source = Self::source(local, self.tree(local).await?);
        let read = read.into_owned();
        let _turn = self.turns.acquire().await;
        let listed = blocking(move || read.content_listed(&source).map_err(ContentError::into_diagnostic)).await;
        listed.map(|(_, files)| files)
    }

    /// Writes the digests of files that were hashed in this run to the stat caches.
    ///
    /// # Errors
    /// When the state directory cannot be written.
    pub(crate) fn save(&self) -> Result<(), crate::store::StoreError> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.values().filter_map(|cell| cell.get()).try_for_each(|known| known.cache.0.save())
    }
}
