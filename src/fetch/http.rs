//! Files of web servers: conditional requests, checksums, limits.
//!
//! A file that is known and unchanged is not sent again: `ETag` and `Last-Modified` of the earlier answer are shown. The
//! file is what counts, not the coding it is sent in (`content_coding`), unless a checksum says otherwise.
//! Whether a request is needed at all (it is not when a checksum is given and the content is here) is the caller's.

use std::{
    io,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use hickory_resolver::net::NetError;
use reqwest::{
    Response, StatusCode,
    header::{
        ACCEPT_ENCODING, ETAG, HeaderMap, HeaderName, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, LOCATION,
        RETRY_AFTER,
    },
    redirect,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::{sync::mpsc, time::Instant};
use url::Url;

use super::{
    content_coding::{CodedWriter, ContentCoding},
    error::FetchError,
    shown::{clean, shown_url},
};
use crate::oci::Digest;

const ATTEMPTS: u32 = 4;
const REDIRECTS: usize = 10;
/// No byte for this long: the connection is given up.
const SILENCE: Duration = Duration::from_secs(30);
const LONGEST_WAIT: Duration = Duration::from_secs(20);
/// At least so many bytes within so much time.
const SLOWEST: (u64, Duration) = (8 << 10, Duration::from_secs(30));

/// The validators and facts of an earlier answer, to be kept under the URL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HttpRecord {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) etag: Option<String>,
    pub(crate) last_modified: Option<String>,
}

impl HttpRecord {
    /// The `Last-Modified` of the answer, in seconds since 1970.
    pub(crate) fn modified(&self) -> Option<i64> {
        let text = self.last_modified.as_ref()?;
        Some(jiff::fmt::rfc2822::parse(text).ok()?.timestamp().as_second())
    }
}

/// One file to download, with what an earlier answer said of it.
#[derive(Clone, Debug)]
pub(crate) struct HttpRequest<'a> {
    pub(crate) url: &'a str,
    pub(crate) checksum: Option<Digest>,
    /// Longest content that is accepted.
    pub(crate) limit: u64,
    /// What is known of an earlier answer whose content is still here. Not shown to the server when it has another
    /// digest than `checksum`: no answer could make it the content that is wanted.
    pub(crate) known: Option<&'a HttpRecord>,
}

/// The outcome of a download: a new file, or none because it is unchanged.
#[derive(Debug)]
pub(crate) enum Fetched<W> {
    /// The content is that of the known record.
    Unchanged,
    /// The writer holds all of the new content.
    New(W, HttpRecord),
}

/// A client that downloads files. Cheap to make; nothing is opened before the first request.
#[derive(Clone, Default)]
pub(crate) struct HttpClient {
    client: Arc<OnceLock<Result<reqwest::Client, String>>>,
}

impl HttpClient {
    /// Downloads a file into the writer that `open` makes (again for each attempt), unless it is unchanged.
    ///
    /// # Errors
    /// The error has the URL and the server's status, or what went wrong on the way.
    pub(crate) async fn fetch<W: io::Write + Send + 'static>(
        &self,
        request: &HttpRequest<'_>,
        mut open: impl FnMut() -> io::Result<W> + Send,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Fetched<W>, FetchError> {
        let shown = shown_url(request.url);
        let bad = |why: String| FetchError::Url { url: shown.clone(), why };
        let mut url = Url::parse(request.url).map_err(|e| bad(e.to_string()))?;
        url.set_fragment(None);
        if !matches!(url.scheme(), "http" | "https") {
            return Err(bad("the scheme is neither http nor https".to_owned()));
        }
        let client = self
            .client
            .get_or_init(make)
            .as_ref()
            .map_err(|why| FetchError::Transport { url: shown.clone(), why: why.clone() })?;
        let mut attempt = 0;
        let mut form = WantedForm::File;
        loop {
            attempt += 1;
            let keep = |source| FetchError::Keep { url: shown.clone(), source };
            match once(client, &url, &shown, request, form, || open().map_err(keep), progress).await {
                Ok(fetched) => return Ok(fetched),
                Err(HttpFailure::Final(error)) => return Err(error),
                Err(HttpFailure::IsCoded) => form = WantedForm::AsSent,
                Err(HttpFailure::Transient(error, wait)) => {
                    let wait = wait.unwrap_or(Duration::from_millis(250) * 2_u32.pow(attempt));
                    if attempt >= ATTEMPTS || wait > LONGEST_WAIT {
                        return Err(error);
                    }
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }
}

/// What is kept of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WantedForm {
    /// The file, without the coding in which it is sent.
    File,
    /// The bytes that are sent: the checksum is theirs.
    AsSent,
}

enum HttpFailure {
    Final(FetchError),
    /// The checksum is that of the coded bytes.
    IsCoded,
    /// With the wait that the server asked for.
    Transient(FetchError, Option<Duration>),
}

fn make() -> Result<reqwest::Client, String> {
    // Err means that another caller was first.
    rustls::crypto::ring::default_provider().install_default().ok();
    reqwest::Client::builder()
        .user_agent(concat!("bake/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .connect_timeout(Duration::from_secs(15))
        .read_timeout(SILENCE)
        .referer(false)
        .build()
        .map_err(|e| cause(&e))
}

async fn once<W: io::Write + Send + 'static>(
    client: &reqwest::Client,
    url: &Url,
    shown: &str,
    request: &HttpRequest<'_>,
    form: WantedForm,
    open: impl FnOnce() -> Result<W, FetchError>,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<Fetched<W>, HttpFailure> {
    let transport = |why: String| HttpFailure::Transient(FetchError::Transport { url: shown.to_owned(), why }, None);
    let known = request.known.filter(|known| request.checksum.is_none_or(|wanted| wanted == known.digest));
    // The bytes are wanted as they are stored, not as they are sent.
    let mut headers = vec![(ACCEPT_ENCODING, "identity")];
    if let Some(known) = known {
        let conditions = [(IF_NONE_MATCH, &known.etag), (IF_MODIFIED_SINCE, &known.last_modified)];
        headers.extend(conditions.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?))));
    }
    let response = follow(client, url, shown, request.checksum.is_some(), &headers).await?;
    let status = response.status();
    tracing::debug!(url = shown, status = status.as_u16(), "server answered");
    if status == StatusCode::NOT_MODIFIED && known.is_some() {
        return Ok(Fetched::Unchanged);
    }
    if !status.is_success() {
        let error = FetchError::Status { url: shown.to_owned(), status: status.as_u16() };
        let again =
            status.is_server_error() || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
        let wait = text(response.headers(), &RETRY_AFTER).and_then(|it| it.trim().parse().ok());
        return Err(if again {
            HttpFailure::Transient(error, wait.map(Duration::from_secs))
        } else {
            HttpFailure::Final(error)
        });
    }
    let too_long = || HttpFailure::Final(FetchError::TooLong { url: shown.to_owned(), limit: request.limit });
    if response.content_length().is_some_and(|length| length > request.limit) {
        return Err(too_long());
    }
    let etag = text(response.headers(), &ETAG);
    let last_modified = text(response.headers(), &LAST_MODIFIED);
    let coding = match (form, ContentCoding::of(response.headers(), url.path())) {
        (WantedForm::AsSent, _) => ContentCoding::Identity,
        (WantedForm::File, Ok(coding)) => coding,
        // It may be the coded bytes that the checksum is of.
        (WantedForm::File, Err(_)) if request.checksum.is_some() => ContentCoding::Identity,
        (WantedForm::File, Err(codings)) => return Err(HttpFailure::Final(undecodable(shown, &codings))),
    };
    let writer = open().map_err(HttpFailure::Final)?;
    let ReceivedFile { writer, digest, size, sent } = match receive(response, request, coding, writer, progress).await {
        Ok(received) => received,
        Err(Broken::TooLong) => return Err(too_long()),
        Err(Broken::Way(why)) => return Err(transport(why)),
        Err(Broken::Coding(why)) => {
            let why = format!("it is not in the content coding that the server names: {why}");
            return Err(HttpFailure::Final(FetchError::Transport { url: shown.to_owned(), why }));
        }
        Err(Broken::Writer(source)) => {
            return Err(HttpFailure::Final(FetchError::Keep { url: shown.to_owned(), source }));
        }
    };
    if let Some(wanted) = request.checksum.filter(|it| *it != digest) {
        if sent == Some(wanted) {
            return Err(HttpFailure::IsCoded);
        }
        return Err(HttpFailure::Final(FetchError::Digest { url: shown.to_owned(), wanted, found: digest }));
    }
    Ok(Fetched::New(writer, HttpRecord { digest, size, etag, last_modified }))
}

/// Asks, and follows redirects (RFC 9110, section 15.4). User and password of the URL stay with its own origin.
///
/// From https to http only when `is_verified`: the content is then held against a checksum, so that nobody on the way
/// can change it unnoticed.
async fn follow(
    client: &reqwest::Client,
    first: &Url,
    shown: &str,
    is_verified: bool,
    headers: &[(HeaderName, &str)],
) -> Result<Response, HttpFailure> {
    let transport = |why: String| FetchError::Transport { url: shown.to_owned(), why };
    let refused = |why: &str| HttpFailure::Final(transport(why.to_owned()));
    let mut url = first.clone();
    for _ in 0..=REDIRECTS {
        let mut call = client.get(url.clone());
        for (name, value) in headers {
            call = call.header(name, *value);
        }
        let response = call.send().await.map_err(|error| {
            let fault = transport(cause(&error));
            // A name that does not exist will not exist in a second either.
            if is_unknown_host(&error) { HttpFailure::Final(fault) } else { HttpFailure::Transient(fault, None) }
        })?;
        let is_redirect = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
        let location = text(response.headers(), &LOCATION);
        let Some(next) = location.filter(|_| is_redirect).and_then(|location| url.join(&location).ok()) else {
            return Ok(response);
        };
        url = redirected(first, &url, next, is_verified).map_err(refused)?;
    }
    Err(refused("too many redirects"))
}

/// The URL that is asked after a redirect, with the credentials that it may get.
fn redirected(first: &Url, from: &Url, mut next: Url, is_verified: bool) -> Result<Url, &'static str> {
    match (from.scheme(), next.scheme()) {
        (_, "https") | ("http", "http") => (),
        ("https", "http") if is_verified => (),
        ("https", "http") => return Err("redirected from https to http, which needs a checksum"),
        _ => return Err("redirected to a place that is not followed"),
    }
    let is_own = next.origin() == first.origin();
    // Web URLs can always have them, and be without them.
    next.set_username(if is_own { first.username() } else { "" }).ok();
    next.set_password(first.password().filter(|_| is_own)).ok();
    Ok(next)
}

fn undecodable(shown: &str, codings: &str) -> FetchError {
    let why = format!("the server sends it in a content coding that cannot be undone: {codings}");
    FetchError::Transport { url: shown.to_owned(), why }
}

enum Broken {
    TooLong,
    Way(String),
    /// The bytes are not in the coding that they should be in.
    Coding(io::Error),
    Writer(io::Error),
}

/// A body that was written whole.
struct ReceivedFile<W> {
    writer: W,
    /// Of the file.
    digest: Digest,
    size: u64,
    /// The digest of the coded bytes; only where they are others and a checksum is asked for.
    sent: Option<Digest>,
}

/// A writer of the file that a body holds, which hashes it on the way.
struct FileWriter<W> {
    writer: W,
    hasher: Sha256,
    size: u64,
    limit: u64,
}

/// Why a [`FileWriter`] takes no more; it is inside the error that passes through the decoder.
#[derive(Debug, thiserror::Error)]
enum FileFault {
    #[error("the file is too long")]
    TooLong,
    #[error("the file cannot be written")]
    Writer(io::Error),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        match error.downcast() {
            Ok(FileFault::TooLong) => Self::TooLong,
            Ok(FileFault::Writer(error)) => Self::Writer(error),
            Err(error) => Self::Coding(error),
        }
    }
}

impl<W: io::Write> io::Write for FileWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.size += bytes.len() as u64;
        if self.size > self.limit {
            return Err(io::Error::other(FileFault::TooLong));
        }
        self.hasher.update(bytes);
        self.writer.write_all(bytes).map_err(|error| io::Error::other(FileFault::Writer(error)))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush().map_err(|error| io::Error::other(FileFault::Writer(error)))
    }
}

/// Passes a body on to a thread that decodes, hashes and writes it.
async fn receive<W: io::Write + Send + 'static>(
    mut response: Response,
    request: &HttpRequest<'_>,
    coding: ContentCoding,
    writer: W,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<ReceivedFile<W>, Broken> {
    let limit = request.limit;
    let is_coded = coding != ContentCoding::Identity && request.checksum.is_some();
    let (pieces, mut incoming) = mpsc::channel::<Bytes>(32);
    let worker = tokio::task::spawn_blocking(move || {
        let mut sent = is_coded.then(Sha256::new);
        let file = FileWriter { writer, hasher: Sha256::new(), size: 0, limit };
        let mut file = CodedWriter::new(coding, file)?;
        while let Some(piece) = incoming.blocking_recv() {
            if let Some(sent) = &mut sent {
                sent.update(&piece);
            }
            file.write_all(&piece)?;
        }
        let FileWriter { writer, hasher, size, .. } = file.finish()?;
        let digest = |hasher: Sha256| Digest::from_raw(hasher.finalize().into());
        Ok::<_, io::Error>(ReceivedFile { writer, digest: digest(hasher), size, sent: sent.map(digest) })
    });
    let mut size = 0;
    let (mut since, mut at_since) = (Instant::now(), 0);
    loop {
        match response.chunk().await {
            Err(error) => return Err(Broken::Way(cause(&error))),
            Ok(None) => break,
            Ok(Some(piece)) => {
                size += piece.len() as u64;
                if size > limit {
                    return Err(Broken::TooLong);
                }
                if pieces.send(piece).await.is_err() {
                    break;
                }
                progress(size);
            }
        }
        if since.elapsed() > SLOWEST.1 {
            if size - at_since < SLOWEST.0 {
                return Err(Broken::Way("too slow".to_owned()));
            }
            (since, at_since) = (Instant::now(), size);
        }
    }
    drop(pieces);
    worker.await.map_err(|error| Broken::Writer(io::Error::other(error)))?.map_err(Broken::from)
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// Whether the name server says that there is no such host.
fn is_unknown_host(error: &reqwest::Error) -> bool {
    let causes = std::iter::successors(std::error::Error::source(error), |error| error.source());
    causes.filter_map(|cause| cause.downcast_ref()).any(NetError::is_no_records_found)
}

/// The words of an error, without the URL (its query may hold a secret).
fn cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "timed out".to_owned();
    }
    let mut words: Vec<String> = Vec::new();
    let mut next = std::error::Error::source(error);
    while let Some(inner) = next {
        let text = inner.to_string();
        if !words.iter().any(|it| it.contains(&text)) {
            words.push(text);
        }
        next = inner.source();
    }
    clean(&words.join(": "))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader, Write},
        net::TcpListener,
        sync::Mutex,
    };

    use super::*;

    /// A server that answers each request with what `reply` makes of its text and number.
    fn serve(reply: impl Fn(&str, usize) -> String + Send + 'static) -> (String, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}/dir/file.txt", listener.local_addr().expect("bound"));
        let log = Arc::new(Mutex::new(Vec::new()));
        let kept = log.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut reader = BufReader::new(stream.try_clone().expect("open"));
                let mut text = String::new();
                while reader.read_line(&mut text).is_ok_and(|n| n > 2) {}
                let n = {
                    let mut log = kept.lock().expect("not poisoned");
                    log.push(text.to_lowercase());
                    log.len()
                };
                (&stream).write_all(reply(&text, n).as_bytes()).ok();
            }
        });
        (url, log)
    }

    fn ok(headers: &str, body: &str) -> String {
        format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len())
    }

    fn fetch(request: &HttpRequest<'_>) -> Result<Fetched<Vec<u8>>, FetchError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(HttpClient::default().fetch(request, || Ok(Vec::new()), &|_| {}))
    }

    fn plain(url: &str) -> HttpRequest<'_> {
        HttpRequest { url, checksum: None, limit: 1 << 20, known: None }
    }

    #[test]
    fn a_known_file_is_asked_for_conditionally() {
        let (url, log) = serve(|text, _| {
            if text.to_lowercase().contains("if-none-match: \"e1\"") {
                "HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n".to_owned()
            } else {
                ok("ETag: \"e1\"\r\nLast-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\n", "hello")
            }
        });
        let Ok(Fetched::New(bytes, record)) = fetch(&plain(&url)) else { panic!("nothing is known yet") };
        assert_eq!((bytes.as_slice(), record.modified()), (b"hello".as_slice(), Some(1_445_412_480)));
        let again = fetch(&HttpRequest { known: Some(&record), ..plain(&url) });
        assert!(matches!(again, Ok(Fetched::Unchanged)));
        assert!(log.lock().expect("not poisoned")[1].contains("if-modified-since: wed, 21 oct"));
    }

    #[test]
    fn a_checksum_is_held_against_the_content_although_the_server_says_unchanged() {
        let (url, log) = serve(|text, _| {
            if text.to_lowercase().contains("if-none-match") {
                "HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n".to_owned()
            } else {
                ok("ETag: \"e1\"\r\n", "hello")
            }
        });
        let Ok(Fetched::New(_, record)) = fetch(&plain(&url)) else { panic!("nothing is known yet") };
        let wrong = HttpRequest { known: Some(&record), checksum: Some(Digest::of(b"other")), ..plain(&url) };
        let error = fetch(&wrong).expect_err("the content is not the one that is wanted");
        assert!(matches!(error, FetchError::Digest { .. }), "{error}");
        assert!(!log.lock().expect("not poisoned")[1].contains("if-none-match"));
        let right = HttpRequest { known: Some(&record), checksum: Some(record.digest), ..plain(&url) };
        assert!(matches!(fetch(&right), Ok(Fetched::Unchanged)));
        // A server that says so unasked is not believed.
        let (unasked, _) = serve(|_, _| "HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n".to_owned());
        let request = HttpRequest { checksum: Some(Digest::of(b"other")), known: Some(&record), ..plain(&unasked) };
        assert!(matches!(fetch(&request), Err(FetchError::Status { status: 304, .. })));
    }

    #[test]
    fn credentials_of_a_url_stay_with_its_origin() {
        let (other, seen) = serve(|_, _| ok("", "hello"));
        let (url, _) = serve(move |text, _| {
            let next = if text.starts_with("GET /dir") { "/again".to_owned() } else { other.clone() };
            format!("HTTP/1.1 302 x\r\nConnection: close\r\nContent-Length: 0\r\nLocation: {next}\r\n\r\n")
        });
        let (url, log) = (url.replace("://", "://user:pw@"), seen);
        assert!(matches!(fetch(&plain(&url)), Ok(Fetched::New(..))));
        assert!(!log.lock().expect("not poisoned")[0].contains("authorization"));
    }

    #[test]
    fn redirects_lead_out_of_tls_only_to_content_with_a_checksum() {
        let url = |text: &str| Url::parse(text).expect("a URL");
        let first = url("https://u:p@h/a");
        let to = |next: &str, is_verified| redirected(&first, &first, url(next), is_verified).map(|it| it.to_string());
        assert_eq!(to("https://h/b", false).as_deref(), Ok("https://u:p@h/b"));
        assert_eq!(to("https://x:y@h2/b", false).as_deref(), Ok("https://h2/b"));
        assert!(to("http://h/b", false).is_err_and(|why| why.contains("checksum")));
        assert_eq!(to("http://h/b", true).as_deref(), Ok("http://h/b"));
        assert!(to("file:///etc/passwd", true).is_err());
    }

    #[test]
    fn faults_are_named_and_transient_ones_survived() {
        let (url, _) = serve(|_, n| match n {
            1 => "HTTP/1.1 503 x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_owned(),
            2 => "HTTP/1.1 200 x\r\nConnection: close\r\nContent-Length: 10\r\n\r\nhal".to_owned(),
            _ => ok("", "hello"),
        });
        assert!(matches!(fetch(&plain(&url)), Ok(Fetched::New(..))));
        let checksum = Some(Digest::of(b"other"));
        let error = fetch(&HttpRequest { checksum, ..plain(&url) }).expect_err("other bytes").to_string();
        assert!(error.contains(&Digest::of(b"hello").to_string()), "{error}");
        let error = fetch(&HttpRequest { limit: 4, ..plain(&url) }).expect_err("too long").to_string();
        assert!(error.contains("4 bytes"), "{error}");
        let (missing, _) = serve(|_, _| "HTTP/1.1 404 x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_owned());
        let error = fetch(&plain(&missing)).expect_err("missing").to_string();
        assert!(error.contains("404") && error.contains(&missing), "{error}");
        assert!(fetch(&plain("file:///etc/passwd")).is_err());
        let (away, _) = serve(|_, _| "HTTP/1.1 302 x\r\nConnection: close\r\nLocation: file:///x\r\n\r\n".to_owned());
        assert!(fetch(&plain(&away)).is_err());
    }
}
