//! Sources: layers of images are pulled and unpacked when something looks inside; git and http are asked once a run.

use std::{
    collections::HashMap,
    io::Read as _,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::OnceCell;

use super::read::blocking;
use crate::{
    fetch::{FetchError, Fetched, GitClient, GitCommandFn, GitSecrets, GitSource, HttpClient, HttpRecord, HttpRequest},
    graph::{self, LayerOrigin, Op, Vertex},
    layer,
    oci::{Digest, Reference, digest::FieldHasher},
    registry::{self, Layout},
    report::{
        Diagnostic,
        event::{Event, StepId},
    },
    solve::{
        failure::{SolveFailure, store_failure, store_fault},
        solver::SolveWorld,
        tree::{LayerTree, SolvedTree, TreeBase, TreeLayer},
    },
    store::{KeyLock, SnapshotId, SnapshotMeta, Store, Table},
};

/// Who is asked for what is not here.
pub(crate) struct SourceFetcher {
    pub(crate) client: Arc<registry::Client>,
    pub(crate) limits: layer::UnpackLimits,
    pub(crate) http: HttpClient,
    pub(crate) command: GitCommandFn,
    pub(crate) git_secrets: GitSecrets,
    /// What was asked for in this run, by the digest of the vertex.
    pub(crate) fetched: Mutex<HashMap<Digest, Once>>,
}

/// A tree that is made once in a run.
type Once = Arc<OnceCell<SolvedTree>>;

/// Waits until no other process works on `key`.
pub(crate) async fn lock(world: &SolveWorld, key: &Digest) -> Result<KeyLock, SolveFailure> {
    if let Some(lock) = world.store.try_lock(key).map_err(|e| store_failure(&e))? {
        return Ok(lock);
    }
    let (store, key) = (world.store.clone(), *key);
    tokio::select! {
        lock = blocking(move || store.lock(&key).map_err(|e| store_fault(&e))) => lock.map_err(SolveFailure::from),
        () = world.cancel.cancelled() => Err(SolveFailure::Cancelled),
    }
}

/// Makes the snapshots of a tree exist; their folders, lowest first. `image_of` finds the vertex whose image has a layer,
/// so that a fault can name the instruction.
///
/// # Errors
/// When a layer cannot be pulled, is not what its digests say, or cannot be unpacked; `SnapshotGone` when one that `bake`
/// made is no longer whole.
pub(crate) async fn materialise<'a>(
    world: &SolveWorld,
    tree: &LayerTree,
    image_of: &(dyn Fn(&TreeBase) -> Option<&'a Vertex> + Sync),
) -> Result<Vec<PathBuf>, SolveFailure> {
    let mut folders = Vec::with_capacity(tree.layers.len());
    for layer in &tree.layers {
        if !world.store.usable(&layer.snapshot) {
            match &layer.base {
                Some(base) => unpack(world, layer, base, &folders).await.map_err(|failure| match image_of(base) {
                    Some(vertex) => failure.at_instruction(vertex),
                    None => failure,
                })?,
                None => return Err(gone(layer)),
            }
        }
        folders.push(world.store.snapshot_fs(&layer.snapshot));
    }
    Ok(folders)
}

/// A layer that `bake` made is not in the store any more.
fn gone(layer: &TreeLayer) -> SolveFailure {
    let message = format!("a layer in the cache was damaged or pruned: {}", layer.snapshot.0);
    let diagnostic = Diagnostic::error("bake::solve::snapshot_gone", message);
    let help = "it has been taken away: run the command again, and it is made anew";
    SolveFailure::SnapshotGone(Arc::new(diagnostic.help(help)))
}

/// Pulls one layer and unpacks it above those in `lowers`.
async fn unpack(
    world: &SolveWorld,
    layer: &TreeLayer,
    base: &TreeBase,
    lowers: &[PathBuf],
) -> Result<(), SolveFailure> {
    let _lock = lock(world, &layer.snapshot.0).await?;
    if world.store.usable(&layer.snapshot) {
        return Ok(());
    }
    let blob = fetch_blob(world, base).await?;
    let (store, limits) = (world.store.clone(), world.sources.limits.clone());
    let (base, lowers, snapshot, created) = (base.clone(), lowers.to_vec(), layer.snapshot.clone(), (world.now)());
    blocking(move || {
        let fault = |e: &dyn std::error::Error| layer_fault(&base, e);
        let active = store.prepare().map_err(|e| store_fault(&e))?;
        let file = std::fs::File::open(&blob).map_err(|e| fault(&e))?;
        let diff_id = layer::unpack(file, &active.fs(), &lowers, &limits).map_err(|e| fault(&e))?;
        if diff_id != base.layer.diff_id {
            let text = format!("the content has the diff id {diff_id}, the config says {}", base.layer.diff_id);
            let mut diagnostic = layer_fault_text(&base);
            diagnostic.causes.push(text);
            return Err(diagnostic);
        }
        active.commit(&snapshot, SnapshotMeta { created }).map_err(|e| store_fault(&e))
    })
    .await
    .map_err(SolveFailure::from)
}

/// The blob of a base layer as a verified file: of the layout where it lies, or pulled into the store.
pub(crate) async fn fetch_blob(world: &SolveWorld, base: &TreeBase) -> Result<PathBuf, SolveFailure> {
    let digest: Digest = base.layer.descriptor.digest().to_string().parse().map_err(|e| layer_fault(base, &e))?;
    if world.store.blob_size(&digest).is_some() {
        return Ok(world.store.blob_path(&digest));
    }
    match &base.origin {
        LayerOrigin::Layout { folder } => {
            let (store, folder, base) = (world.store.clone(), PathBuf::from(folder), base.clone());
            blocking(move || {
                let layout = Layout::open(&folder).map_err(|e| layer_fault(&base, &e))?;
                let mut writer = store.blob_writer().map_err(|e| store_fault(&e))?;
                layout.copy_blob(&base.layer.descriptor, &mut writer).map_err(|e| layer_fault(&base, &e))?;
                writer.commit(Some(&digest)).map_err(|e| store_fault(&e))
            })
            .await?;
        }
        LayerOrigin::Registry { domain, path } => {
            let reference = Reference { domain: domain.clone(), path: path.clone(), tag: None, digest: Some(digest) };
            let store = world.store.clone();
            let open = move || store.blob_writer().map_err(std::io::Error::other);
            let pulled = tokio::select! {
                pulled = world.sources.client.blob(&reference, &base.layer.descriptor, open, &|_| ()) => pulled,
                () = world.cancel.cancelled() => return Err(SolveFailure::Cancelled),
            };
            let writer = pulled.map_err(|e| layer_fault(base, &e))?;
            blocking(move || writer.commit(Some(&digest)).map_err(|e| store_fault(&e))).await?;
        }
    }
    Ok(world.store.blob_path(&digest))
}

fn layer_fault_text(base: &TreeBase) -> Diagnostic {
    Diagnostic::error(
        "bake::solve::base_layer",
        format!("a layer of the base image cannot be used: {}", base.layer.descriptor.digest()),
    )
}

fn layer_fault(base: &TreeBase, error: &dyn std::error::Error) -> Diagnostic {
    let mut diagnostic = layer_fault_text(base);
    diagnostic.causes.push(error.to_string());
    let mut next = error.source();
    while let Some(error) = next {
        diagnostic.causes.push(error.to_string());
        next = error.source();
    }
    diagnostic
}

/// The tree of a git or http source; asked for once a run.
pub(crate) async fn fetch(world: &SolveWorld, vertex: &Vertex, id: StepId) -> Result<SolvedTree, SolveFailure> {
    let cell = {
        let mut fetched = world.sources.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        fetched.entry(vertex.digest).or_default().clone()
    };
    let found = cell
        .get_or_try_init(|| async {
            match &vertex.op {
                Op::Git(git) => checkout(world, git).await,
                Op::Http(http) => download(world, http, id).await,
                _ => Ok(SolvedTree::Cached(LayerTree::scratch())),
            }
        })
        .await;
    found.cloned().map_err(|failure| failure.at_instruction(vertex))
}

fn fetch_fault(error: &FetchError) -> Diagnostic {
    let diagnostic = Diagnostic::error("bake::solve::fetch", error.to_string());
    match std::error::Error::source(error) {
        Some(cause) => diagnostic.cause(cause),
        None => diagnostic,
    }
}

async fn checkout(world: &SolveWorld, git: &graph::GitOp) -> Result<SolvedTree, SolveFailure> {
    let runner = GitClient {
        command: world.sources.command,
        env: world.env.iter().map(|(name, value)| (name.into(), value.into())).collect(),
        cache: world.store.git_dir(),
        secrets: world.sources.git_secrets.clone(),
        is_cancelled: {
            let cancel = world.cancel.clone();
            Arc::new(move || cancel.is_cancelled())
        },
    };
    let source = GitSource {
        url: git.url.clone(),
        reference: git.reference.clone(),
        subdir: git.subdir.clone(),
        checksum: git.checksum.clone(),
        keep_git_dir: git.keep_git_dir,
        submodules: git.submodules,
        mtime_commit: git.mtime_commit,
    };
    let (store, created) = (world.store.clone(), (world.now)());
    let done = blocking(move || {
        let commit = runner.resolve(&source).map_err(|e| fetch_fault(&e))?;
        let mut key = FieldHasher::new("tree/git/1");
        key.text(&commit.id).optional(source.subdir.as_deref());
        key.number(u64::from(source.submodules)).number(u64::from(source.mtime_commit));
        key.optional(commit.name.as_deref().filter(|_| source.keep_git_dir)).number(u64::from(source.keep_git_dir));
        let id = key.finish();
        let snapshot = SnapshotId(id);
        let known = store.has_snapshot(&snapshot);
        if !known {
            let _lock = store.lock(&id).map_err(|e| store_fault(&e))?;
            let active = store.prepare().map_err(|e| store_fault(&e))?;
            runner.checkout(&source, &commit, &active.fs(), &active.work()).map_err(|e| fetch_fault(&e))?;
            active.commit(&snapshot, SnapshotMeta { created: created.clone() }).map_err(|e| store_fault(&e))?;
        }
        let tree = LayerTree::scratch().with_layer(id, created);
        Ok::<_, Diagnostic>(if known { SolvedTree::Cached(tree) } else { SolvedTree::Made(tree) })
    });
    // A git that was ended because the run is cancelled is no fault.
    done.await.map_err(|fault| if world.cancel.is_cancelled() { SolveFailure::Cancelled } else { fault.into() })
}

/// The longest file that a server may send.
const MAX_DOWNLOAD: u64 = 64 << 30;

async fn download(world: &SolveWorld, http: &graph::HttpOp, id: StepId) -> Result<SolvedTree, SolveFailure> {
    let mut key = FieldHasher::new("http/1");
    key.text(&http.url);
    let key = key.finish();
    let here = |record: &HttpRecord| world.store.blob_size(&record.digest) == Some(record.size);
    let known = world.store.get::<HttpRecord>(Table::Http, &key).filter(here);
    // Content that is named by its digest and is here need not be asked for.
    let decided = known.clone().filter(|record| http.checksum == Some(record.digest));
    let record = match decided {
        Some(record) => record,
        None => {
            let request =
                HttpRequest { url: &http.url, checksum: http.checksum, limit: MAX_DOWNLOAD, known: known.as_ref() };
            let store = world.store.clone();
            let open = move || store.blob_writer().map_err(std::io::Error::other);
            let what: Arc<str> = "downloading".into();
            let progress = |done| (world.sink)(Event::Moved { id, what: what.clone(), done, total: 0 });
            let fetched = tokio::select! {
                fetched = world.sources.http.fetch(&request, open, &progress) => fetched,
                () = world.cancel.cancelled() => return Err(SolveFailure::Cancelled),
            };
            match (fetched.map_err(|e| fetch_fault(&e))?, known) {
                (Fetched::Unchanged, Some(record)) => record,
                (Fetched::Unchanged, None) => {
                    return Err(Diagnostic::error(
                        "bake::solve::fetch",
                        "the server says that nothing has changed since a request that was never made",
                    )
                    .into());
                }
                (Fetched::New(writer, record), _) => {
                    let (store, record) = (world.store.clone(), record);
                    blocking(move || {
                        writer.commit(Some(&record.digest)).map_err(|e| store_fault(&e))?;
                        store.put(Table::Http, &key, &record).map_err(|e| store_fault(&e))?;
                        Ok::<_, Diagnostic>(record)
                    })
                    .await?
                }
            }
        }
    };
    let (store, http, created) = (world.store.clone(), http.clone(), (world.now)());
    blocking(move || file_tree(&store, &http, &record, created)).await.map_err(SolveFailure::from)
}

/// A downloaded file as a tree: the file, or what it unpacks to.
fn file_tree(
    store: &Store,
    http: &graph::HttpOp,
    record: &HttpRecord,
    created: String,
) -> Result<SolvedTree, Diagnostic> {
    let modified = record.modified().unwrap_or(0);
    let mut key = FieldHasher::new("tree/http/1");
    key.digest(&record.digest).text(&http.filename).text(&modified.to_string()).number(u64::from(http.unpack));
    let id = key.finish();
    let snapshot = SnapshotId(id);
    let known = store.has_snapshot(&snapshot);
    if !known {
        let failed = |e: &std::io::Error| {
            Diagnostic::error("bake::solve::fetch", format!("a downloaded file cannot be kept: {}", http.filename))
                .cause(e)
        };
        let active = store.prepare().map_err(|e| store_fault(&e))?;
        let plain = store.prepare().map_err(|e| store_fault(&e))?;
        let place = if http.unpack { plain.fs() } else { active.fs() };
        let path = place.join(&http.filename);
        std::fs::copy(store.blob_path(&record.digest), &path).map_err(|e| failed(&e))?;
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).map_err(|e| failed(&e))?;
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(u64::try_from(modified).unwrap_or(0));
        let file = std::fs::File::options().append(true).open(&path).map_err(|e| failed(&e))?;
        file.set_modified(time).map_err(|e| failed(&e))?;
        if http.unpack {
            let source = super::read::layers("the download", &[plain.fs()])?;
            super::exec::copy_into(&active.fs(), &source, &format!("/{}", http.filename), "/", true)?;
        }
        active.commit(&snapshot, SnapshotMeta { created: created.clone() }).map_err(|e| store_fault(&e))?;
    }
    let tree = LayerTree::scratch().with_layer(id, created);
    Ok(if known { SolvedTree::Cached(tree) } else { SolvedTree::Made(tree) })
}

/// Reads at most `limit` bytes of a file.
pub(crate) fn read_limited(path: &std::path::Path, limit: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, format!("larger than {limit} bytes")));
    }
    Ok(bytes)
}
