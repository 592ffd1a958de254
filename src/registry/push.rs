//! Writing to a registry: blobs (found there, mounted, or sent), then manifests bottom up, the tags last.

use std::{
    collections::HashSet,
    future::Future,
    path::PathBuf,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, TryStreamExt, stream};
use reqwest::{
    Method,
    header::{ACCEPT, CONTENT_TYPE},
};
use url::Url;

use super::{
    api::{ApiCall, BodyContent, RepositoryPlace, Retry, location, method_name},
    auth::merge_scopes,
    client::Client,
    error::{RegistryError, RequestTarget},
    host::Host,
    image::Document,
    options::TransferProgress,
};
use crate::oci::Digest;

/// Makes the file of a blob that is not here yet; the text of an error is shown to the user.
pub(crate) type Fetch = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<PathBuf, String>> + Send>> + Send + Sync>;

/// Where the bytes of a blob come from.
#[derive(Clone)]
pub(crate) enum BlobSource {
    Bytes(bytes::Bytes),
    File(PathBuf),
    /// Asked only if the registry has not got the blob.
    Fetch(Fetch),
}

/// One blob that the repository must have.
#[derive(Clone)]
pub(crate) struct Upload {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) source: BlobSource,
    /// Repositories (registry host, path) known to hold it: asked for a mount when on the same registry.
    pub(crate) found_in: Vec<(String, String)>,
}

/// All that one repository gets.
pub(crate) struct Push<'a> {
    /// Registry host and path.
    pub(crate) domain: &'a str,
    pub(crate) path: &'a str,
    /// Given to the root; none: by digest only.
    pub(crate) tags: &'a [String],
    /// Repeated digests are sent once.
    pub(crate) blobs: Vec<Upload>,
    /// Manifests and indexes, each after those it names; the last is the root.
    pub(crate) documents: Vec<Document>,
    /// `registry.insecure=true` of the output.
    pub(crate) insecure: bool,
    /// Told the bytes of all blobs together.
    pub(crate) progress: TransferProgress<'a>,
}

/// The repository that is pushed to.
struct Repository<'a> {
    client: &'a Client,
    host: &'a Host,
    domain: &'a str,
    path: &'a str,
    /// `repository:R:pull,push`.
    scopes: String,
    sent: Arc<AtomicU64>,
}

impl Client {
    /// Sends what the repository lacks. A tag appears only after everything it needs.
    ///
    /// # Errors
    /// Names method, registry, repository and the registry's own words.
    pub(crate) async fn push(&self, push: Push<'_>) -> Result<(), RegistryError> {
        let host = self.origin(push.domain, push.insecure);
        let repository = Repository {
            client: self,
            host: &host,
            domain: push.domain,
            path: push.path,
            scopes: merge_scopes([format!("repository:{}:pull,push", push.path).as_str()]),
            sent: Arc::default(),
        };
        let mut seen = HashSet::new();
        let blobs: Vec<Upload> = push.blobs.into_iter().filter(|it| seen.insert(it.digest)).collect();
        let parallel = self.shared.connections.options.parallel.max(1);
        let uploads = stream::iter(blobs.iter().map(|blob| repository.blob(blob)));
        let uploads = uploads.buffer_unordered(parallel).try_collect::<()>();
        with_progress(uploads, &repository.sent, push.progress).await?;
        let Some((root, parts)) = push.documents.split_last() else { return Ok(()) };
        for document in parts {
            repository.manifest(document, &document.digest.to_string()).await?;
        }
        if push.tags.is_empty() {
            repository.manifest(root, &root.digest.to_string()).await?;
        }
        for tag in push.tags {
            repository.manifest(root, tag).await?;
        }
        Ok(())
    }
}

/// Runs `work` and reports what `sent` holds meanwhile.
async fn with_progress<T>(work: impl Future<Output = T>, sent: &AtomicU64, progress: TransferProgress<'_>) -> T {
    let mut work = std::pin::pin!(work);
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    let mut last = 0;
    loop {
        let done = tokio::select! {
            done = &mut work => Some(done),
            _ = tick.tick() => None,
        };
        let now = sent.load(Ordering::Relaxed);
        if now != last {
            progress(now);
            last = now;
        }
        if let Some(done) = done {
            return done;
        }
    }
}

impl Repository<'_> {
    /// Makes the repository have a blob. A lost upload is begun anew from the question whether it is there.
    async fn blob(&self, blob: &Upload) -> Result<(), RegistryError> {
        let _slot = self.host.transfers.acquire().await.expect("the semaphore is never closed");
        let mut retry = Retry::new(self.client);
        loop {
            if self.has(blob, &mut retry).await? {
                break;
            }
            match self.mount_or_send(blob, &mut retry).await {
                Ok(()) => break,
                Err(error) if error.is_transient() => retry.again(error).await?,
                Err(error) => return Err(error),
            }
        }
        self.client.note_held(self.domain, self.path, blob.digest);
        Ok(())
    }

    async fn has(&self, blob: &Upload, retry: &mut Retry) -> Result<bool, RegistryError> {
        let rest = format!("blobs/{}", blob.digest);
        let mut call = self.call(Method::HEAD, rest, &blob.digest.to_string());
        call.accept = &[200, 404];
        Ok(self.client.send(self.host, &call, retry).await?.status() == 200)
    }

    async fn mount_or_send(&self, blob: &Upload, retry: &mut Retry) -> Result<(), RegistryError> {
        let mut place = None;
        if let Some(from) = self.mount_source(blob) {
            place = match self.mount(blob, &from, retry).await? {
                MountOutcome::Yes => return Ok(()),
                MountOutcome::No(place) => place,
            };
        }
        let place = match place {
            Some(place) => place,
            None => self.start(blob, retry).await?,
        };
        let own = Arc::new(AtomicU64::new(0));
        let content = self.content(blob, own.clone()).await?;
        let mut url = place;
        url.query_pairs_mut().append_pair("digest", &blob.digest.to_string());
        let call = ApiCall {
            place: RepositoryPlace::Url(url),
            headers: vec![(CONTENT_TYPE, "application/octet-stream".to_owned())],
            content,
            accept: &[200, 201, 202, 204],
            once: true,
            ..self.call(Method::PUT, String::new(), &blob.digest.to_string())
        };
        let answer = self.client.send(self.host, &call, retry).await;
        if answer.is_err() {
            // What was sent in vain does not count.
            self.sent.fetch_sub(own.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        answer.map(drop)
    }

    /// A repository of this registry that should hold the blob.
    fn mount_source(&self, blob: &Upload) -> Option<String> {
        let named = blob.found_in.iter().filter(|(domain, _)| domain == self.domain).map(|(_, path)| path.clone());
        let known = self.client.holders(self.domain, blob.digest);
        named.chain(known).find(|path| path != self.path)
    }

    async fn mount(&self, blob: &Upload, from: &str, retry: &mut Retry) -> Result<MountOutcome, RegistryError> {
        let pull = format!("repository:{from}:pull");
        let scopes = merge_scopes(self.scopes.split(' ').chain([pull.as_str()]));
        let rest = format!("blobs/uploads/?mount={}&from={from}", blob.digest);
        let mut call = self.call(Method::POST, rest, &blob.digest.to_string());
        call.scopes = &scopes;
        call.accept = &[201, 202, 400, 403, 404, 405];
        let response = match self.client.send(self.host, &call, retry).await {
            Ok(response) => response,
            // No right to read there: it is sent instead.
            Err(RegistryError::Status { status: 401, .. } | RegistryError::Auth { .. }) => {
                return Ok(MountOutcome::No(None));
            }
            Err(error) => return Err(error),
        };
        Ok(match response.status().as_u16() {
            201 => MountOutcome::Yes,
            // An unusable place is no fault: an upload is begun instead.
            202 => MountOutcome::No(location(response.url(), response.headers()).ok().flatten()),
            _ => MountOutcome::No(None),
        })
    }

    /// Begins an upload; the place that the bytes go to.
    async fn start(&self, blob: &Upload, retry: &mut Retry) -> Result<Url, RegistryError> {
        let name = blob.digest.to_string();
        let mut call = self.call(Method::POST, "blobs/uploads/".to_owned(), &name);
        call.accept = &[202];
        let response = self.client.send(self.host, &call, retry).await?;
        let place = location(response.url(), response.headers());
        let missing = || "the registry named no usable place for the upload".to_owned();
        place.and_then(|place| place.ok_or_else(missing)).map_err(|cause| RegistryError::Transport {
            method: method_name(&call.method),
            target: self.target(&name),
            cause,
        })
    }

    async fn content(&self, blob: &Upload, own: Arc<AtomicU64>) -> Result<BodyContent, RegistryError> {
        let path = match &blob.source {
            BlobSource::Bytes(bytes) => return Ok(BodyContent::Bytes(bytes.clone())),
            BlobSource::File(path) => path.clone(),
            BlobSource::Fetch(fetch) => {
                fetch().await.map_err(|why| RegistryError::Source { digest: blob.digest, why })?
            }
        };
        let sent = self.sent.clone();
        let sent: Arc<dyn Fn(u64) + Send + Sync> = Arc::new(move |n| {
            sent.fetch_add(n, Ordering::Relaxed);
            own.fetch_add(n, Ordering::Relaxed);
        });
        Ok(BodyContent::File { path, size: blob.size, sent })
    }

    /// Puts a manifest under a tag or digest, unless it is there.
    async fn manifest(&self, document: &Document, name: &str) -> Result<(), RegistryError> {
        let rest = format!("manifests/{name}");
        let mut call = self.call(Method::HEAD, rest.clone(), name);
        call.accept = &[200, 400, 404, 405];
        call.headers.push((ACCEPT, document.media_type.clone()));
        let mut retry = Retry::new(self.client);
        let response = self.client.send(self.host, &call, &mut retry).await?;
        let found = response.headers().get("docker-content-digest").and_then(|it| it.to_str().ok());
        if response.status() == 200 && found == Some(&document.digest.to_string()) {
            return Ok(());
        }
        drop(response);
        let mut call = self.call(Method::PUT, rest, name);
        call.headers.push((CONTENT_TYPE, document.media_type.clone()));
        call.content = BodyContent::Bytes(document.bytes.clone().into());
        call.accept = &[200, 201, 202, 204];
        self.client.send(self.host, &call, &mut retry).await.map(drop)
    }

    fn target(&self, name: &str) -> RequestTarget {
        RequestTarget::new(self.domain, self.path, name)
    }

    fn call(&self, method: Method, rest: String, name: &str) -> ApiCall<'_> {
        ApiCall {
            method,
            target: self.target(name),
            place: RepositoryPlace::Repository(self.path, rest),
            scopes: &self.scopes,
            headers: Vec::new(),
            content: BodyContent::None,
            accept: &[200],
            once: false,
        }
    }
}

/// What became of a request to mount.
enum MountOutcome {
    Yes,
    /// An upload may have been begun instead.
    No(Option<Url>),
}
