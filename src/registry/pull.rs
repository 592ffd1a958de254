//! Reading from a registry: what a tag means now, manifests, blobs.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use reqwest::{
    Method, Response, StatusCode,
    header::{ACCEPT, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderName, RANGE},
};
use sha2::{Digest as _, Sha256};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};

use super::{
    api::{ApiCall, BodyContent, RepositoryPlace, Retry},
    client::Client,
    error::{RegistryError, RequestTarget},
    host::Host,
    http::{BodyError, cause, clean, read_body},
    image::{
        DEEPEST_INDEX, Document, Documents, LONGEST_DOCUMENT, ParsedDocument, RegistryImage, choose, digest_of,
        read_config,
    },
    options::TransferProgress,
};
use crate::oci::{Descriptor, Digest, Platform, Reference, media};

pub(super) const ALL_TYPES: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                         application/vnd.docker.distribution.manifest.list.v2+json, \
                         application/vnd.docker.distribution.manifest.v2+json, */*;q=0.1";
/// A document must arrive within this time.
const DOCUMENT_TIME: Duration = Duration::from_secs(30);
/// A blob must bring at least so many bytes within so much time.
const SLOWEST: (u64, Duration) = (8 << 10, Duration::from_secs(15));
/// As many bytes are progress that renews patience.
const PROGRESS: u64 = 1 << 20;

impl Client {
    /// Finds the digest that a reference names now, with one HEAD request. A reference with a digest is looked up by
    /// it.
    ///
    /// # Errors
    /// The error has method, registry, repository and the registry's own words.
    pub(crate) async fn resolve(&self, reference: &Reference) -> Result<Digest, RegistryError> {
        let mut last = None;
        for host in self.readers_of(reference) {
            match self.resolve_at(&host, reference).await {
                Ok(digest) => return Ok(digest),
                Err(error) => last = Some(error),
            }
        }
        Err(last.expect("the registry itself is always a reader"))
    }

    /// Reads the manifest or index of a digest, from `kept` if it is there.
    ///
    /// # Errors
    /// As [`Client::resolve`]; and when the bytes are not those of the digest.
    pub(crate) async fn document(
        &self,
        reference: &Reference,
        digest: &Digest,
        kept: &dyn Documents,
    ) -> Result<Document, RegistryError> {
        if let Some(bytes) = kept.get(digest) {
            return Ok(Document::of_bytes(*digest, bytes));
        }
        let mut last = None;
        for host in self.readers_of(reference) {
            match self.document_at(&host, reference, &digest.to_string(), Some(digest)).await {
                Ok(document) => {
                    kept.put(&document.bytes);
                    return Ok(document);
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.expect("the registry itself is always a reader"))
    }

    /// Reads the image that a reference names, for a platform: resolves the tag, reads index, manifest and config. No
    /// layer is fetched.
    ///
    /// # Errors
    /// As [`Client::document`]; and when there is none for the platform.
    pub(crate) async fn image(
        &self,
        reference: &Reference,
        platform: &Platform,
        kept: &dyn Documents,
    ) -> Result<RegistryImage, RegistryError> {
        let digest = match reference.digest {
            Some(digest) => digest,
            None => self.resolve(reference).await?,
        };
        let root = self.document(reference, &digest, kept).await?;
        let mut manifest = root.clone();
        for _ in 0..DEEPEST_INDEX {
            let at = target(reference, &manifest.digest.to_string());
            let fault = |why| RegistryError::Document { target: at.clone(), why };
            match manifest.parse().map_err(fault)? {
                ParsedDocument::Index(entries) => {
                    let chosen = choose(&entries, platform).map_err(|none| RegistryError::Platform {
                        target: target(reference, reference.tag_or_latest().unwrap_or_default()),
                        wanted: Box::new(platform.clone()),
                        available: none.0,
                    })?;
                    let digest = digest_of(chosen).map_err(fault)?;
                    manifest = self.document(reference, &digest, kept).await?;
                }
                ParsedDocument::Manifest { config, layers } => {
                    let digest = digest_of(&config).map_err(fault)?;
                    let bytes = self.config_bytes(reference, &config, digest, kept).await?;
                    let config = read_config(&bytes, &layers).map_err(fault)?;
                    for layer in &layers {
                        self.note_held(&reference.domain, &reference.path, digest_of(layer).map_err(fault)?);
                    }
                    return Ok(RegistryImage { root, manifest, config, layers });
                }
            }
        }
        let why = format!("more than {DEEPEST_INDEX} indexes lie within each other");
        Err(RegistryError::Document { target: target(reference, &digest.to_string()), why })
    }

    /// Fetches one blob of the repository of `reference` into the writer that `open` makes, resuming and retrying.
    ///
    /// The writer is returned only when size and digest are right. `open` is called again when all must be read anew.
    ///
    /// # Errors
    /// As [`Client::document`]; a fault of the writer is [`RegistryError::Source`].
    pub(crate) async fn blob<W: io::Write + Send + 'static>(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        open: impl FnMut() -> io::Result<W> + Send,
        progress: TransferProgress<'_>,
    ) -> Result<W, RegistryError> {
        self.blob_of(&self.readers_of(reference), reference, descriptor, open, progress).await
    }

    /// As [`Client::blob`], from these hosts, asked in order.
    pub(super) async fn blob_of<W: io::Write + Send + 'static>(
        &self,
        hosts: &[Arc<Host>],
        reference: &Reference,
        descriptor: &Descriptor,
        mut open: impl FnMut() -> io::Result<W> + Send,
        progress: TransferProgress<'_>,
    ) -> Result<W, RegistryError> {
        let at = target(reference, descriptor.digest().as_ref());
        let digest = digest_of(descriptor).map_err(|why| RegistryError::Document { target: at.clone(), why })?;
        let mut last = None;
        for host in hosts {
            let _slot = host.downloads.acquire().await.expect("the semaphore is never closed");
            // Once more if the content was wrong: it may have been damaged on the way.
            for _ in 0..2 {
                let writer = open().map_err(|e| RegistryError::Source { digest, why: e.to_string() })?;
                let sink = BlobSink::start(writer);
                let wanted = WantedBlob { digest, size: descriptor.size(), target: at.clone() };
                match self.blob_at(host, reference, &wanted, sink, progress).await {
                    Ok(writer) => {
                        self.note_held(&reference.domain, &reference.path, digest);
                        return Ok(writer);
                    }
                    Err(error @ RegistryError::Source { .. }) => return Err(error),
                    Err(error) => {
                        let again = matches!(error, RegistryError::Digest { .. });
                        last = Some(error);
                        if !again {
                            break;
                        }
                    }
                }
            }
        }
        Err(last.expect("there is always a host to ask"))
    }

    async fn resolve_at(&self, host: &Host, reference: &Reference) -> Result<Digest, RegistryError> {
        let name = match &reference.digest {
            Some(digest) => digest.to_string(),
            None => reference.tag_or_latest().unwrap_or_default().to_owned(),
        };
        let scopes = pull_scope(&reference.path);
        let mut call = read_call(Method::HEAD, reference, format!("manifests/{name}"), &name, &scopes);
        call.accept = &[200, 405];
        call.headers.push((ACCEPT, ALL_TYPES.to_owned()));
        let response = self.send(host, &call, &mut Retry::new(self)).await?;
        let header = |name: &str| response.headers().get(name).and_then(|it| it.to_str().ok());
        let digest = header("docker-content-digest").and_then(|it| it.parse::<Digest>().ok());
        let media_type = media_type(response.headers());
        if let (200, Some(digest)) = (response.status().as_u16(), digest)
            && (media::is_index(&media_type) || media::is_manifest(&media_type))
        {
            return match reference.digest {
                Some(wanted) if wanted != digest => {
                    Err(RegistryError::Digest { target: call.target, wanted, found: digest })
                }
                _ => Ok(digest),
            };
        }
        let document = self.document_at(host, reference, &name, reference.digest.as_ref()).await?;
        document.parse().map_err(|why| RegistryError::Document { target: call.target.clone(), why })?;
        Ok(document.digest)
    }

    pub(super) async fn document_at(
        &self,
        host: &Host,
        reference: &Reference,
        name: &str,
        digest: Option<&Digest>,
    ) -> Result<Document, RegistryError> {
        let scopes = pull_scope(&reference.path);
        let mut call = read_call(Method::GET, reference, format!("manifests/{name}"), name, &scopes);
        call.headers.push((ACCEPT, ALL_TYPES.to_owned()));
        let (media_type, bytes) = self.bytes_at(host, &call, digest.copied()).await?;
        Ok(Document { digest: digest.copied().unwrap_or_else(|| Digest::of(&bytes)), media_type, bytes })
    }

    async fn config_bytes(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        digest: Digest,
        kept: &dyn Documents,
    ) -> Result<Vec<u8>, RegistryError> {
        if let Some(bytes) = kept.get(&digest) {
            return Ok(bytes);
        }
        let name = digest.to_string();
        let scopes = pull_scope(&reference.path);
        let call = read_call(Method::GET, reference, format!("blobs/{name}"), &name, &scopes);
        if descriptor.size() > LONGEST_DOCUMENT {
            return Err(too_long(&call.target));
        }
        let mut last = None;
        for host in self.readers_of(reference) {
            match self.bytes_at(&host, &call, Some(digest)).await {
                Ok((_, bytes)) => {
                    kept.put(&bytes);
                    return Ok(bytes);
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.expect("the registry itself is always a reader"))
    }

    /// A short body with its media type, read whole and verified.
    async fn bytes_at(
        &self,
        host: &Host,
        call: &ApiCall<'_>,
        wanted: Option<Digest>,
    ) -> Result<(String, Vec<u8>), RegistryError> {
        let mut retry = Retry::new(self);
        let mut wrong = 0;
        loop {
            let response = self.send(host, call, &mut retry).await?;
            let media_type = media_type(response.headers());
            match read_body(response, LONGEST_DOCUMENT, DOCUMENT_TIME).await {
                Ok(bytes) => match wanted {
                    Some(wanted) if Digest::of(&bytes) != wanted => {
                        let found = Digest::of(&bytes);
                        let error = RegistryError::Digest { target: call.target.clone(), wanted, found };
                        wrong += 1;
                        if wrong > 1 {
                            return Err(error);
                        }
                        retry.again(error).await?;
                    }
                    _ => return Ok((media_type, bytes)),
                },
                Err(BodyError::TooLong) => return Err(too_long(&call.target)),
                Err(BodyError::Broken(cause)) => {
                    let target = call.target.clone();
                    retry.again(RegistryError::Transport { method: "GET", target, cause }).await?;
                }
            }
        }
    }

    async fn blob_at<W: io::Write + Send + 'static>(
        &self,
        host: &Host,
        reference: &Reference,
        wanted: &WantedBlob,
        mut sink: BlobSink<W>,
        progress: TransferProgress<'_>,
    ) -> Result<W, RegistryError> {
        let scopes = pull_scope(&reference.path);
        let name = wanted.digest.to_string();
        let mut retry = Retry::new(self);
        let mut done = 0_u64;
        let mut counted = 0_u64;
        loop {
            let mut call = read_call(Method::GET, reference, format!("blobs/{name}"), &name, &scopes);
            if done > 0 {
                call.headers.push((RANGE, format!("bytes={done}-")));
                call.accept = &[200, 206];
            }
            let response = self.send(host, &call, &mut retry).await?;
            match receive(response, wanted, &mut done, &mut sink, progress).await {
                Received::All => return sink.finish(wanted).await,
                Received::TooLong(found) => {
                    let target = wanted.target.clone();
                    return Err(RegistryError::Size { target, wanted: wanted.size.to_string(), found });
                }
                Received::Full => return sink.finish(wanted).await,
                Received::Broken(cause) => {
                    if done >= counted + PROGRESS {
                        counted = done;
                        retry.progressed();
                    }
                    let target = wanted.target.clone();
                    retry.again(RegistryError::Transport { method: "GET", target, cause }).await?;
                }
            }
        }
    }
}

/// A blob as it must be.
struct WantedBlob {
    digest: Digest,
    size: u64,
    target: RequestTarget,
}

/// How a body ended.
enum Received {
    All,
    /// The text says how long it is.
    TooLong(String),
    /// The writer takes no more.
    Full,
    Broken(String),
}

/// Passes a body on from byte `done`.
async fn receive<W: io::Write + Send + 'static>(
    mut response: Response,
    wanted: &WantedBlob,
    done: &mut u64,
    sink: &mut BlobSink<W>,
    progress: TransferProgress<'_>,
) -> Received {
    let is_part = response.status() == StatusCode::PARTIAL_CONTENT;
    let start = range_start(response.headers()).filter(|_| is_part).unwrap_or(0);
    if start > *done {
        return Received::Broken("the server began at the wrong place".to_owned());
    }
    // A server that knows no ranges sends all again: what we have is passed over.
    let mut passed = start;
    if let Some(length) = response.content_length() {
        let total = start.saturating_add(length);
        if total > wanted.size || total < wanted.size && response.headers().get(CONTENT_TYPE).is_some_and(is_text) {
            return Received::TooLong(total.to_string());
        }
    }
    let (mut since, mut at_since) = (Instant::now(), passed);
    loop {
        let chunk = match timeout(SLOWEST.1, response.chunk()).await {
            Err(_) => return Received::Broken("timed out".to_owned()),
            Ok(Err(error)) => return Received::Broken(cause(&error)),
            Ok(Ok(None)) if *done == wanted.size => return Received::All,
            Ok(Ok(None)) => return Received::Broken(format!("it ended after {passed} of {} bytes", wanted.size)),
            Ok(Ok(Some(chunk))) => chunk,
        };
        let end = passed + chunk.len() as u64;
        if end > wanted.size {
            return Received::TooLong("more".to_owned());
        }
        if end > *done {
            let skip = usize::try_from(*done - passed.min(*done)).unwrap_or(usize::MAX).min(chunk.len());
            if sink.send(chunk.slice(skip..)).await.is_err() {
                return Received::Full;
            }
            *done = end;
            progress(*done);
        }
        passed = end;
        if since.elapsed() > SLOWEST.1 {
            if passed - at_since < SLOWEST.0 {
                return Received::Broken("too slow".to_owned());
            }
            (since, at_since) = (Instant::now(), passed);
        }
    }
}

fn is_text(value: &reqwest::header::HeaderValue) -> bool {
    value.to_str().is_ok_and(|it| it.starts_with("text/"))
}

/// The offset of the first byte of a partial answer: `Content-Range: bytes 5-9/10` (RFC 9110, section 14.4).
pub(super) fn range_start(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    text.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}

/// A thread that hashes and writes while the next bytes are on their way.
struct BlobSink<W> {
    pieces: Option<mpsc::Sender<Bytes>>,
    worker: tokio::task::JoinHandle<io::Result<(W, Digest, u64)>>,
}

impl<W: io::Write + Send + 'static> BlobSink<W> {
    fn start(mut writer: W) -> Self {
        let (pieces, mut incoming) = mpsc::channel::<Bytes>(32);
        let worker = tokio::task::spawn_blocking(move || {
            let (mut hasher, mut size) = (Sha256::new(), 0_u64);
            while let Some(piece) = incoming.blocking_recv() {
                hasher.update(&piece);
                size += piece.len() as u64;
                writer.write_all(&piece)?;
            }
            writer.flush()?;
            Ok((writer, Digest::from_raw(hasher.finalize().into()), size))
        });
        Self { pieces: Some(pieces), worker }
    }

    async fn send(&mut self, piece: Bytes) -> Result<(), ()> {
        match &self.pieces {
            Some(pieces) => pieces.send(piece).await.map_err(|_| ()),
            None => Err(()),
        }
    }

    async fn finish(mut self, wanted: &WantedBlob) -> Result<W, RegistryError> {
        self.pieces = None;
        let written = self.worker.await.map_err(io::Error::other).and_then(|it| it);
        let (writer, found, size) =
            written.map_err(|e| RegistryError::Source { digest: wanted.digest, why: e.to_string() })?;
        let target = wanted.target.clone();
        if size != wanted.size {
            return Err(RegistryError::Size { target, wanted: wanted.size.to_string(), found: size.to_string() });
        }
        if found != wanted.digest {
            return Err(RegistryError::Digest { target, wanted: wanted.digest, found });
        }
        Ok(writer)
    }
}

/// The [`RequestTarget`] of a request about the repository of a reference.
pub(super) fn target(reference: &Reference, name: &str) -> RequestTarget {
    RequestTarget::new(&reference.domain, &reference.path, name)
}

fn pull_scope(repository: &str) -> String {
    format!("repository:{repository}:pull")
}

fn read_call<'a>(method: Method, reference: &'a Reference, rest: String, name: &str, scopes: &'a str) -> ApiCall<'a> {
    ApiCall {
        method,
        target: target(reference, name),
        place: RepositoryPlace::Repository(&reference.path, rest),
        scopes,
        headers: Vec::<(HeaderName, String)>::new(),
        content: BodyContent::None,
        accept: &[200],
        once: false,
    }
}

fn too_long(target: &RequestTarget) -> RegistryError {
    let wanted = format!("at most {LONGEST_DOCUMENT}");
    RegistryError::Size { target: target.clone(), wanted, found: "more".to_owned() }
}

/// The media type in `Content-Type`, without parameters, cleaned.
pub(super) fn media_type(headers: &HeaderMap) -> String {
    let text = headers.get(CONTENT_TYPE).and_then(|it| it.to_str().ok()).unwrap_or_default();
    clean(text.split(';').next().unwrap_or_default())
}
