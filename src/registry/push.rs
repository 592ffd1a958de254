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
    header::{ACCEPT, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, RANGE},
};
use serde_json::{Value, json};
use url::Url;

use super::{
    api::{ApiCall, BodyContent, RepositoryPlace, Retry, location, method_name},
    auth::merge_scopes,
    client::Client,
    error::{RegistryError, RequestTarget},
    host::Host,
    http::{BodyError, read_body},
    image::{Document, LONGEST_DOCUMENT},
    options::TransferProgress,
    pull::ALL_TYPES,
};
use crate::oci::{Digest, media};

/// Size of a piece in bytes; smaller blobs are always sent whole.
const PIECE: u64 = 16 << 20;

/// The list of referrers must arrive within this time.
const REFERRERS_TIME: Duration = Duration::from_secs(30);

/// A function that fetches a blob that is not on this machine yet and returns its file; the text of an error is for the
/// user.
pub(crate) type Fetch = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<PathBuf, String>> + Send>> + Send + Sync>;

/// Where the bytes of a blob to be pushed come from.
#[derive(Clone)]
pub(crate) enum BlobSource {
    Bytes(bytes::Bytes),
    File(PathBuf),
    /// Called only if the registry lacks the blob.
    Fetch(Fetch),
}

/// One blob that a repository must have after a push.
#[derive(Clone)]
pub(crate) struct Upload {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) source: BlobSource,
    /// Repositories (registry host, path) known to hold it: asked for a mount when on the same registry.
    pub(crate) found_in: Vec<(String, String)>,
}

/// Everything that is pushed to one repository.
pub(crate) struct Push<'a> {
    /// Registry host and path.
    pub(crate) domain: &'a str,
    pub(crate) path: &'a str,
    /// Tags of the root document; without any it is pushed by digest only.
    pub(crate) tags: &'a [String],
    /// Repeated digests are sent once.
    pub(crate) blobs: Vec<Upload>,
    /// Manifests and indexes, each after those it names; the last is the root.
    pub(crate) documents: Vec<Document>,
    /// `registry.insecure=true` of the output.
    pub(crate) insecure: bool,
    /// Called with the bytes that were sent of all blobs together.
    pub(crate) progress: TransferProgress<'a>,
}

/// A name in a repository: a tag, or the digest of what is named.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NameTarget<'a> {
    /// Registry host and path.
    pub(crate) domain: &'a str,
    pub(crate) path: &'a str,
    pub(crate) tag: Option<&'a str>,
    /// `registry.insecure=true` of the output.
    pub(crate) insecure: bool,
}

/// The repository that is pushed to.
pub(super) struct Repository<'a> {
    client: &'a Client,
    host: &'a Host,
    domain: &'a str,
    path: &'a str,
    /// `repository:R:pull,push`.
    scopes: String,
    sent: Arc<AtomicU64>,
}

impl Client {
    /// Pushes what a repository lacks. A tag is set only after everything it needs is there.
    ///
    /// # Errors
    /// The error has method, registry, repository and the registry's own words.
    pub(crate) async fn push(&self, push: Push<'_>) -> Result<(), RegistryError> {
        let host = self.writer(push.domain, push.insecure);
        let repository = Repository::new(self, &host, push.domain, push.path);
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

    /// Gives a document, all parts of which are in the repository, its name there. That it has it already is no fault.
    ///
    /// # Errors
    /// As [`Client::push`].
    pub(crate) async fn set_name(&self, target: &NameTarget<'_>, document: &Document) -> Result<(), RegistryError> {
        let host = self.writer(target.domain, target.insecure);
        let repository = Repository::new(self, &host, target.domain, target.path);
        match target.tag {
            Some(tag) => repository.manifest(document, tag).await,
            None => repository.manifest(document, &document.digest.to_string()).await,
        }
    }

    /// The digest that a tag has now, or whether a digest is there, with the right to change it: one HEAD. `None` if there is
    /// no such tag, or if the registry does not say.
    ///
    /// # Errors
    /// As [`Client::push`].
    pub(crate) async fn meaning(&self, target: &NameTarget<'_>) -> Result<Option<Digest>, RegistryError> {
        let Some(tag) = target.tag else { return Ok(None) };
        let host = self.writer(target.domain, target.insecure);
        let repository = Repository::new(self, &host, target.domain, target.path);
        let mut call = repository.call(Method::HEAD, format!("manifests/{tag}"), tag);
        call.accept = &[200, 400, 404, 405];
        call.headers.push((ACCEPT, ALL_TYPES.to_owned()));
        let response = self.send(&host, &call, &mut Retry::new(self)).await?;
        let digest = response.headers().get("docker-content-digest").and_then(|value| value.to_str().ok());
        Ok(digest.filter(|_| response.status() == 200).and_then(|digest| digest.parse().ok()))
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

impl<'a> Repository<'a> {
    pub(super) fn new(client: &'a Client, host: &'a Host, domain: &'a str, path: &'a str) -> Self {
        let scopes = merge_scopes([format!("repository:{path}:pull,push").as_str()]);
        Self { client, host, domain, path, scopes, sent: Arc::default() }
    }
}

impl Repository<'_> {
    /// Brings a blob into the repository: it is there, is mounted from another one, or is sent. An upload that broke off
    /// begins again with the question whether the blob is there. One of a large blob goes on
    /// in pieces then, so that it does not break off at the same place for ever.
    async fn blob(&self, blob: &Upload) -> Result<(), RegistryError> {
        let _slot = self.host.uploads.acquire().await.expect("the semaphore is never closed");
        let mut retry = Retry::new(self.client);
        let mut manner = UploadManner::Whole;
        loop {
            if self.has(&blob.digest, &mut retry).await? {
                break;
            }
            match (self.mount_or_send(blob, manner, &mut retry).await, manner) {
                (Ok(()), _) => break,
                (Err(error), _) if error.is_transient() => {
                    if manner == UploadManner::Whole && blob.size > PIECE {
                        manner = UploadManner::Pieces;
                    }
                    retry.again(error).await?;
                }
                // Registries need not take pieces.
                (Err(RegistryError::Status { .. }), UploadManner::Pieces) => manner = UploadManner::WholeAgain,
                (Err(error), _) => return Err(error),
            }
        }
        self.client.note_held(self.domain, self.path, blob.digest);
        Ok(())
    }

    pub(super) async fn has(&self, digest: &Digest, retry: &mut Retry) -> Result<bool, RegistryError> {
        let rest = format!("blobs/{digest}");
        let mut call = self.call(Method::HEAD, rest, &digest.to_string());
        call.accept = &[200, 404];
        Ok(self.client.send(self.host, &call, retry).await?.status() == 200)
    }

    async fn mount_or_send(&self, blob: &Upload, manner: UploadManner, retry: &mut Retry) -> Result<(), RegistryError> {
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
        let sent = match manner {
            UploadManner::Whole | UploadManner::WholeAgain => self.finish(blob, place, content, retry).await,
            UploadManner::Pieces => match self.send_pieces(blob, place, &content, &own, retry).await {
                Ok(place) => self.finish(blob, place, BodyContent::None, retry).await,
                Err(error) => Err(error),
            },
        };
        if sent.is_err() {
            // Bytes of an upload that failed are not counted.
            self.sent.fetch_sub(own.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        sent
    }

    /// Ends an upload with its last bytes, or with none.
    async fn finish(
        &self,
        blob: &Upload,
        mut place: Url,
        content: BodyContent,
        retry: &mut Retry,
    ) -> Result<(), RegistryError> {
        place.query_pairs_mut().append_pair("digest", &blob.digest.to_string());
        let mut call = self.upload_call(Method::PUT, place, blob);
        call.headers.push((CONTENT_TYPE, "application/octet-stream".to_owned()));
        call.content = content;
        call.accept = &[200, 201, 202, 204];
        self.client.send(self.host, &call, retry).await.map(drop)
    }

    /// Sends a blob piece by piece; the place where the upload is ended. After a fault the registry is asked how much it
    /// has (OCI distribution spec, "Pushing a blob in chunks").
    async fn send_pieces(
        &self,
        blob: &Upload,
        mut place: Url,
        content: &BodyContent,
        own: &AtomicU64,
        retry: &mut Retry,
    ) -> Result<Url, RegistryError> {
        let mut offset = 0;
        while offset < blob.size {
            let size = PIECE.min(blob.size - offset);
            let mut call = self.upload_call(Method::PATCH, place.clone(), blob);
            call.headers.push((CONTENT_TYPE, "application/octet-stream".to_owned()));
            call.headers.push((CONTENT_RANGE, format!("{offset}-{}", offset + size - 1)));
            call.content = content.piece(offset, size);
            call.accept = &[202];
            let response = match self.client.send(self.host, &call, retry).await {
                Ok(response) => response,
                Err(error) if error.is_transient() => {
                    retry.again(error).await?;
                    let mut call = self.upload_call(Method::GET, place.clone(), blob);
                    call.accept = &[204];
                    call.once = false;
                    self.client.send(self.host, &call, retry).await?
                }
                Err(error) => return Err(error),
            };
            let was_taken = response.status() == 202;
            let has = received(response.headers()).unwrap_or(if was_taken { offset + size } else { offset });
            if was_taken && has <= offset {
                return Err(RegistryError::Transport {
                    method: method_name(&Method::PATCH),
                    target: self.target(&blob.digest.to_string()),
                    cause: "the registry keeps nothing of what is sent".to_owned(),
                });
            }
            if was_taken {
                retry.progressed();
            }
            offset = has;
            if let Ok(Some(next)) = location(response.url(), response.headers()) {
                place = next;
            }
            // Bytes that have to be sent again were counted already.
            let counted = own.load(Ordering::Relaxed);
            own.fetch_sub(counted.saturating_sub(offset), Ordering::Relaxed);
            self.sent.fetch_sub(counted.saturating_sub(offset), Ordering::Relaxed);
        }
        Ok(place)
    }

    /// A request about an upload. A fault is followed by another question first, not by the same request.
    fn upload_call(&self, method: Method, place: Url, blob: &Upload) -> ApiCall<'_> {
        let place = RepositoryPlace::Url(place);
        ApiCall { place, once: true, ..self.call(method, String::new(), &blob.digest.to_string()) }
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
            // There is no right to read that repository: the blob is sent instead.
            Err(RegistryError::Status { status: 401, .. } | RegistryError::Auth { .. }) => {
                return Ok(MountOutcome::No(None));
            }
            Err(error) => return Err(error),
        };
        Ok(match response.status().as_u16() {
            201 => MountOutcome::Yes,
            // An upload address that cannot be used is not an error: another upload is begun.
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
        Ok(BodyContent::File { path, offset: 0, size: blob.size, sent })
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
        let response = self.client.send(self.host, &call, &mut retry).await?;
        if let Some(referrer) = Referrer::of(document)
            && !response.headers().contains_key("oci-subject")
        {
            self.add_referrer(&referrer, &mut retry).await?;
        }
        Ok(())
    }

    /// Lists a manifest under the tag of its subject, for a registry without the referrers API (OCI distribution spec,
    /// "Unavailable Referrers API").
    async fn add_referrer(&self, referrer: &Referrer, retry: &mut Retry) -> Result<(), RegistryError> {
        let tag = referrer.subject.replace(':', "-");
        let rest = format!("manifests/{tag}");
        let mut call = self.call(Method::GET, rest.clone(), &tag);
        call.accept = &[200, 404];
        call.headers.push((ACCEPT, media::OCI_INDEX.to_owned()));
        let response = self.client.send(self.host, &call, retry).await?;
        let fault = |why: String| RegistryError::Document { target: self.target(&tag), why };
        let mut listed: Vec<Value> = Vec::new();
        if response.status() == 200 {
            let body = read_body(response, LONGEST_DOCUMENT, REFERRERS_TIME).await;
            let body = body.map_err(|error| match error {
                BodyError::Broken(why) => fault(why),
                BodyError::TooLong => fault("the list of referrers is too long".to_owned()),
            })?;
            let index: Value = serde_json::from_slice(&body).map_err(|error| fault(error.to_string()))?;
            listed.extend(index.get("manifests").and_then(Value::as_array).into_iter().flatten().cloned());
        }
        if listed.iter().any(|entry| entry.get("digest") == referrer.descriptor.get("digest")) {
            return Ok(());
        }
        listed.push(referrer.descriptor.clone());
        let index = json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": listed});
        let mut call = self.call(Method::PUT, rest, &tag);
        call.headers.push((CONTENT_TYPE, media::OCI_INDEX.to_owned()));
        call.content = BodyContent::Bytes(index.to_string().into_bytes().into());
        call.accept = &[200, 201, 202, 204];
        self.client.send(self.host, &call, retry).await.map(drop)
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

/// A manifest that says what it is about (OCI image spec, "Image Manifest", `subject`).
struct Referrer {
    /// Digest of what it is about.
    subject: String,
    /// As the list of referrers has it.
    descriptor: Value,
}

impl Referrer {
    /// `None` for a document without a subject.
    fn of(document: &Document) -> Option<Self> {
        let manifest: Value = serde_json::from_slice(&document.bytes).ok()?;
        let subject = manifest.pointer("/subject/digest")?.as_str()?.to_owned();
        let kind = manifest.get("artifactType").or_else(|| manifest.pointer("/config/mediaType"));
        let (media_type, digest) = (&document.media_type, document.digest.to_string());
        let mut descriptor = json!({"mediaType": media_type, "digest": digest, "size": document.bytes.len()});
        for (name, value) in [("artifactType", kind), ("annotations", manifest.get("annotations"))] {
            if let Some(value) = value {
                descriptor[name] = value.clone();
            }
        }
        Some(Self { subject, descriptor })
    }
}

/// How a blob is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UploadManner {
    /// In one request, as every registry takes it.
    Whole,
    /// Piece by piece, after it broke off.
    Pieces,
    /// In one request, as the registry takes no pieces.
    WholeAgain,
}

/// How many bytes of an upload the registry has: `Range: 0-LAST`.
fn received(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(RANGE)?.to_str().ok()?;
    let last: u64 = text.trim_start_matches("bytes=").strip_prefix("0-")?.parse().ok()?;
    // `0-0` is how registries write that they have nothing; one byte is sent again.
    Some(if last == 0 { 0 } else { last + 1 })
}

/// Outcome of a request to mount a blob.
enum MountOutcome {
    Yes,
    /// An upload may have been begun instead.
    No(Option<Url>),
}
