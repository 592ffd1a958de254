//! Files of servers: downloaded once, revalidated in every run, kept as a snapshot with the file or what it unpacks to.

use std::{
    os::unix::fs::PermissionsExt as _,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use super::{
    copy_into::{ArchiveUse, copy_into},
    error::fetch_fault,
};
use crate::{
    fetch::{FetchError, Fetched, HttpRecord, HttpRequest, shown_url},
    graph::HttpOp,
    oci::{Digest, digest::FieldHasher},
    report::{
        Diagnostic,
        event::{Event, StepId},
    },
    solve::{
        blocking::blocking,
        failure::{SolveFailure, store_failure, store_fault},
        reads::layer_source,
        tree::{LayerTree, SolvedTree},
        world::{FetchedSource, SolveWorld},
    },
    store::{SnapshotId, SnapshotMeta, Store, StoreError, Table},
};

/// The longest file that a server may send.
const MAX_DOWNLOAD: u64 = 64 << 30;

/// Downloads a file into a snapshot and returns its tree. `id` is the step whose progress the download is.
///
/// # Errors
/// When it cannot be downloaded, has another checksum than was asked for, or is no archive that can be unpacked.
pub(super) async fn download(world: &SolveWorld, http: &HttpOp, id: StepId) -> Result<FetchedSource, SolveFailure> {
    let key = request_key(&http.url);
    let here = |record: &HttpRecord| world.store.blob_size(&record.digest) == Some(record.size);
    let known = world.store.get::<HttpRecord>(Table::Http, &key).filter(here);
    // Content that is named by its digest and is here need not be asked for.
    let decided = known.clone().filter(|record| http.checksum == Some(record.digest));
    let record = match decided {
        Some(record) => record,
        None => request(world, http, id, &key, known).await?,
    };
    let (store, http, created) = (world.store.clone(), http.clone(), (world.now)());
    let (pin, modified) = (record.digest.to_string(), record.modified());
    let tree = blocking(move || file_tree(&store, &http, &record, created)).await?;
    Ok(FetchedSource { tree, pin, modified })
}

/// The op whose tree is what an archive in the store unpacks to; [`record_archive`] makes it known. `filename` is the name
/// that the file would have if it were no archive.
pub(crate) fn stored_archive(digest: Digest, filename: &str) -> HttpOp {
    HttpOp { url: archive_url(&digest), checksum: Some(digest), filename: filename.to_owned(), unpack: true }
}

/// Whether an op is one that [`stored_archive`] made.
pub(crate) fn is_stored_archive(http: &HttpOp) -> bool {
    http.url.starts_with(STORED)
}

/// Makes a blob of `size` bytes known as an archive that [`stored_archive`] can name.
///
/// # Errors
/// When the record cannot be written.
pub(crate) fn record_archive(store: &Store, digest: Digest, size: u64) -> Result<(), StoreError> {
    let record = HttpRecord { digest, size, etag: None, last_modified: None };
    store.put(Table::Http, &request_key(&archive_url(&digest)), &record)
}

/// An address that no server has: the record under it was written by this machine.
fn archive_url(digest: &Digest) -> String {
    format!("{STORED}{digest}")
}

/// What such an address begins with.
const STORED: &str = "stdin://";

fn request_key(url: &str) -> Digest {
    FieldHasher::new("http/2").text(url).clone().finish()
}

/// Asks the server, and keeps what it sends. `known` is what it sent before.
async fn request(
    world: &SolveWorld,
    http: &HttpOp,
    id: StepId,
    key: &Digest,
    known: Option<HttpRecord>,
) -> Result<HttpRecord, SolveFailure> {
    let request = HttpRequest { url: &http.url, checksum: http.checksum, limit: MAX_DOWNLOAD, known: known.as_ref() };
    let store = world.store.clone();
    let open = move || store.blob_writer().map_err(std::io::Error::other);
    let what: Arc<str> = "downloading".into();
    let progress = |done| (world.sink)(Event::Moved { id, what: what.clone(), done, total: 0 });
    let fetched = tokio::select! {
        fetched = world.sources.http.fetch(&request, open, &progress) => fetched,
        () = world.cancel.cancelled() => return Err(SolveFailure::Cancelled),
    };
    match (fetched.map_err(|error| fetch_fault(&error))?, known) {
        (Fetched::Unchanged, Some(record)) => match http.checksum {
            Some(wanted) if wanted != record.digest => {
                let (url, found) = (shown_url(&http.url), record.digest);
                Err(fetch_fault(&FetchError::Digest { url, wanted, found }).into())
            }
            _ => Ok(record),
        },
        (Fetched::Unchanged, None) => {
            let message = "the server says that nothing has changed since a request that was never made";
            Err(Diagnostic::error("bake::solve::fetch", message).into())
        }
        (Fetched::New(writer, record), _) => {
            let (store, key) = (world.store.clone(), *key);
            blocking(move || {
                writer.commit(Some(&record.digest)).map_err(|error| store_failure(&error))?;
                store.put(Table::Http, &key, &record).map_err(|error| store_failure(&error))?;
                Ok(record)
            })
            .await
        }
    }
}

/// A downloaded file as a tree: the file, or what it unpacks to.
fn file_tree(store: &Store, http: &HttpOp, record: &HttpRecord, created: String) -> Result<SolvedTree, Diagnostic> {
    let modified = record.modified().unwrap_or(0);
    let id = tree_key(http, &record.digest, modified);
    let snapshot = SnapshotId(id);
    let known = store.has_snapshot(&snapshot);
    if !known {
        let failed = |error: &std::io::Error| {
            Diagnostic::error("bake::solve::fetch", format!("a downloaded file cannot be kept: {}", http.filename))
                .cause(error)
        };
        let active = store.prepare().map_err(|error| store_fault(&error))?;
        let plain = store.prepare().map_err(|error| store_fault(&error))?;
        let folder = if http.unpack { plain.fs() } else { active.fs() };
        let path = folder.join(&http.filename);
        std::fs::copy(store.blob_path(&record.digest), &path).map_err(|error| failed(&error))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(|error| failed(&error))?;
        let time = UNIX_EPOCH + Duration::from_secs(u64::try_from(modified).unwrap_or(0));
        let file = std::fs::File::options().append(true).open(&path).map_err(|error| failed(&error))?;
        file.set_modified(time).map_err(|error| failed(&error))?;
        if http.unpack {
            let source = layer_source("the download", &[plain.fs()])?;
            copy_into(&active.fs(), &source, &format!("/{}", http.filename), "/", ArchiveUse::Unpack)?;
        }
        active.commit(&snapshot, SnapshotMeta { created: created.clone() }).map_err(|error| store_fault(&error))?;
    }
    let tree = LayerTree::scratch().with_layer(id, created);
    Ok(if known { SolvedTree::Cached(tree) } else { SolvedTree::Made(tree) })
}

/// The identity of the tree of a downloaded file: its content, name and time, wherever it came from.
fn tree_key(http: &HttpOp, content: &Digest, modified: i64) -> Digest {
    let HttpOp { url: _, checksum: _, filename, unpack } = http;
    let mut key = FieldHasher::new("tree/http/1");
    key.digest(content).text(filename).text(&modified.to_string()).number(u64::from(*unpack));
    key.finish()
}
