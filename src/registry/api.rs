//! One request to a registry: authentication, redirects, retries, words of the registry.
//!
//! | answer | what happens |
//! |---|---|
//! | one of the accepted | given back |
//! | 401 | challenge read, once more with a token; a second 401 for a new token is final |
//! | 3xx to a GET or HEAD | followed, without credentials when it leads elsewhere |
//! | 429, with `Retry-After` or not | the whole registry waits, then again, as long as the budget lasts |
//! | no such host | final |
//! | 408, 5xx, no answer | again after 0.25, 0.5, 1, 2, 4 s, give or take |
//! | anything else | final |

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use reqwest::{
    Method, Response, StatusCode,
    header::{AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER},
};
use tokio::time::{Instant, sleep, timeout};
use url::Url;

use super::{
    auth::{self, AuthHeader, Challenge, Refused},
    client::Client,
    error::{RegistryError, RequestTarget, registry_words},
    host::Host,
    http::{TransportSecurity, cause, is_not_tls, is_plain_http, is_refused, is_unknown_host, is_unsent, read_body},
};

/// Attempts after faults other than 429.
const ATTEMPTS: u32 = 5;
const REDIRECTS: usize = 10;
/// Longest body of an error that is read for its words.
const LONGEST_ERROR: u64 = 64 << 10;
const ERROR_TIME: Duration = Duration::from_secs(5);

/// The body of a request.
#[derive(Clone)]
pub(super) enum BodyContent {
    None,
    Bytes(Bytes),
    /// `size` bytes of a file from `offset` on; `sent` is told the bytes handed to the connection.
    File {
        path: PathBuf,
        offset: u64,
        size: u64,
        sent: Arc<dyn Fn(u64) + Send + Sync>,
    },
}

impl BodyContent {
    /// A part of it.
    pub(super) fn piece(&self, from: u64, length: u64) -> Self {
        match self {
            Self::None => Self::None,
            Self::Bytes(bytes) => {
                let end = usize::try_from(from + length).map_or(bytes.len(), |end| end.min(bytes.len()));
                let start = usize::try_from(from).map_or(end, |start| start.min(end));
                Self::Bytes(bytes.slice(start..end))
            }
            Self::File { path, offset, sent, .. } => {
                Self::File { path: path.clone(), offset: offset + from, size: length, sent: sent.clone() }
            }
        }
    }

    /// Bytes of a file that is sent; nothing else is long enough for its sending to be watched.
    const fn file_size(&self) -> Option<u64> {
        match self {
            Self::None | Self::Bytes(_) => None,
            Self::File { size, .. } => Some(*size),
        }
    }
}

/// How long an answer is waited for.
#[derive(Clone, Copy)]
struct AnswerPatience {
    /// While nothing is sent, or the sending of a file stands still.
    silence: Duration,
    /// After the last byte of a file: the registry may verify all of it before it answers.
    verification: Duration,
}

const PATIENCE: AnswerPatience =
    AnswerPatience { silence: Duration::from_secs(30), verification: Duration::from_secs(300) };

/// One request to the API of a registry (OCI distribution spec), with what counts as success.
pub(super) struct ApiCall<'a> {
    pub(super) method: Method,
    /// What the request is about, for messages.
    pub(super) target: RequestTarget,
    pub(super) place: RepositoryPlace<'a>,
    pub(super) scopes: &'a str,
    pub(super) headers: Vec<(HeaderName, String)>,
    pub(super) content: BodyContent,
    /// Statuses that are no fault.
    pub(super) accept: &'a [u16],
    /// Faults are not followed by another attempt: the caller starts over from an earlier request.
    pub(super) once: bool,
}

/// The URL of a request.
pub(super) enum RepositoryPlace<'a> {
    /// `manifests/latest` of a repository.
    Repository(&'a str, String),
    /// An upload location; credentials go along only if it is the registry itself.
    Url(Url),
}

/// How long one operation, which may be several requests, goes on trying: a time budget and a count of failures.
pub(super) struct Retry {
    since: Instant,
    budget: Duration,
    failures: u32,
    /// The last error that had a cause of its own.
    told: Option<RegistryError>,
}

impl Retry {
    /// A full budget, that of the options of `client`.
    pub(super) fn new(client: &Client) -> Self {
        Self { since: Instant::now(), budget: client.shared.connections.options.retry_budget, failures: 0, told: None }
    }

    /// Starts the budget anew, because real progress was made.
    pub(super) fn progressed(&mut self) {
        self.since = Instant::now();
        self.failures = 0;
    }

    /// The wait before the next attempt; `None` gives up. `asked` is what the server asked for.
    fn next(&mut self, asked: Option<Duration>) -> Option<Duration> {
        let wait = match asked {
            Some(asked) => asked.max(Duration::from_millis(100)),
            None => {
                self.failures += 1;
                if self.failures >= ATTEMPTS {
                    return None;
                }
                let base = Duration::from_millis(250) * 2_u32.pow(self.failures - 1);
                base.mul_f32(0.8 + 0.4 * random())
            }
        };
        (self.since.elapsed() + wait <= self.budget).then_some(wait)
    }

    /// Waits before another attempt, each time longer.
    ///
    /// # Errors
    /// Returns `error` when it is time to give up.
    pub(super) async fn again(&mut self, error: RegistryError) -> Result<(), RegistryError> {
        match self.next(None) {
            Some(wait) => sleep(wait).await,
            None => return Err(error),
        }
        self.told = Some(error);
        Ok(())
    }

    /// As [`again`](Self::again), for a request whose connection ended before it was sent, which does not say why: an earlier
    /// attempt may have said it.
    async fn again_unsent(&mut self, error: RegistryError) -> Result<(), RegistryError> {
        match self.next(None) {
            Some(wait) => sleep(wait).await,
            None => return Err(self.told.take().unwrap_or(error)),
        }
        Ok(())
    }
}

/// Adds the headers of a call to a request, and those credentials that are shown to the registry.
fn headers(
    mut request: reqwest::RequestBuilder,
    host: &Host,
    call: &ApiCall<'_>,
    shown: Option<&AuthHeader>,
) -> Result<reqwest::RequestBuilder, ApiFailure> {
    for (name, value) in &call.headers {
        request = request.header(name, value);
    }
    let Some(shown) = shown else { return Ok(request) };
    let mut value = HeaderValue::from_str(shown.header_value()).map_err(|_| {
        ApiFailure::Final(call.no_token(host.name.clone(), "the credentials cannot be sent".to_owned()))
    })?;
    value.set_sensitive(true);
    Ok(request.header(AUTHORIZATION, value))
}

/// A number from 0 to 1.
fn random() -> f32 {
    getrandom::u32().map_or(0.5, |it| (it >> 8) as f32 / (1_u32 << 24) as f32)
}

impl Client {
    /// Sends a request until it is answered with an accepted status, or it is time to give up.
    ///
    /// Logs in, follows redirects, waits as `Retry-After` says, and falls back to plain HTTP where that is allowed.
    pub(super) async fn send(
        &self,
        host: &Host,
        call: &ApiCall<'_>,
        retry: &mut Retry,
    ) -> Result<Response, RegistryError> {
        let mut refused = 0;
        let mut scopes = call.scopes.to_owned();
        loop {
            wait_for(host).await;
            let shown = match host.auth.header(&self.shared.connections, &host.name, host.security(), &scopes).await {
                Ok(shown) => shown,
                Err(Refused::Credentials(error)) => return Err(error),
                Err(Refused::Final { realm, why }) => return Err(call.no_token(realm, why)),
                Err(Refused::Transient { realm, why }) => {
                    retry.again(call.no_token(realm, why)).await?;
                    continue;
                }
            };
            let response = match self.attempt(host, call, shown.as_ref()).await {
                Ok(response) => response,
                Err(ApiFailure::Lax) => continue,
                Err(ApiFailure::Final(error)) => return Err(error),
                Err(ApiFailure::Transient(error) | ApiFailure::Unsent(error)) if call.once => return Err(error),
                Err(ApiFailure::Unsent(error)) => {
                    retry.again_unsent(error).await?;
                    continue;
                }
                Err(ApiFailure::Transient(error)) => {
                    retry.again(error).await?;
                    continue;
                }
            };
            let status = response.status();
            if call.accept.contains(&status.as_u16()) {
                return Ok(response);
            }
            if status == StatusCode::UNAUTHORIZED && !host.holds(response.url()) {
                // Only the registry itself may ask for the credentials that are kept for it (RFC 9110, section 11.5).
                let elsewhere = response.url().host_str().unwrap_or_default().to_owned();
                let why = format!("the registry led there, and credentials for `{}` are not sent elsewhere", host.name);
                return Err(call.no_token(elsewhere, why));
            }
            if status == StatusCode::UNAUTHORIZED {
                let challenge = auth::challenge(response.headers());
                let limit = match &challenge {
                    // A token may be spent by others as soon as it was fetched.
                    Some(Challenge::Bearer { error: Some(error), .. }) if error == "invalid_token" => 4,
                    _ if shown.is_none() || refused == 0 => 2,
                    _ => 0,
                };
                refused += 1;
                if let Some(challenge) = challenge.filter(|_| refused <= limit) {
                    let asked = if let Challenge::Bearer { scope, .. } = &challenge { scope.clone() } else { None };
                    host.auth.challenged(challenge, &scopes, shown.as_ref()).await;
                    scopes = auth::merge_scopes(scopes.split(' ').chain(asked.iter().flat_map(|it| it.split(' '))));
                    continue;
                }
                return Err(call.status_error(response).await);
            }
            self.wait_after(host, call, response, retry).await?;
        }
    }

    /// Waits before a request is sent again whose status was not accepted, as long as the server asks for it.
    ///
    /// # Errors
    /// The status, when sending the request again would not help, the call is sent once only, or the time is up.
    async fn wait_after(
        &self,
        host: &Host,
        call: &ApiCall<'_>,
        response: Response,
        retry: &mut Retry,
    ) -> Result<(), RegistryError> {
        let status = response.status();
        let asked = (status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::SERVICE_UNAVAILABLE)
            .then(|| retry_after(response.headers()))
            .flatten();
        let may_pass = status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
            || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
        let mut error = call.status_error(response).await;
        if !may_pass {
            return Err(error);
        }
        match retry.next(asked) {
            Some(wait) if asked.is_some() => {
                hold(host, wait);
                if call.once { Err(error) } else { Ok(()) }
            }
            Some(_) if call.once => Err(error),
            Some(wait) => {
                sleep(wait).await;
                Ok(())
            }
            None => {
                if let (Some(asked), RegistryError::Status { message, .. }) = (asked, &mut error) {
                    let gap = if message.is_empty() { "" } else { "; " };
                    message.push_str(&format_args!("{gap}it asks to wait {} s", asked.as_secs()).to_string());
                }
                Err(error)
            }
        }
    }

    /// One request and the redirects it leads to.
    async fn attempt(
        &self,
        host: &Host,
        call: &ApiCall<'_>,
        shown: Option<&AuthHeader>,
    ) -> Result<Response, ApiFailure> {
        let transport = |why: String| RegistryError::Transport {
            method: method_name(&call.method),
            target: call.target.clone(),
            cause: why,
        };
        let mut url = match &call.place {
            RepositoryPlace::Repository(repository, rest) => {
                host.url(repository, rest).map_err(|why| ApiFailure::Final(transport(why)))?
            }
            RepositoryPlace::Url(url) => url.clone(),
        };
        let first = url.clone();
        for _ in 0..=REDIRECTS {
            let own = host.holds(&url);
            let trust = if url.scheme() == "http" {
                TransportSecurity::Plain
            } else if own {
                host.transport_security()
            } else {
                let trust = self.shared.connections.transport_security_of(&url, host.security());
                trust.map_err(|why| ApiFailure::Final(transport(why)))?
            };
            let http = self.shared.connections.clients.get(&trust).map_err(|why| ApiFailure::Final(transport(why)))?;
            let request = headers(http.request(call.method.clone(), url.clone()), host, call, shown.filter(|_| own))?;
            let sent = Arc::new(AtomicU64::new(0));
            let request = with_content(request, &call.content, &sent).await.map_err(|source| {
                let path =
                    if let BodyContent::File { path, .. } = &call.content { path.clone() } else { PathBuf::new() };
                ApiFailure::Final(RegistryError::File { action: "read", path, source })
            })?;
            let answered = watched(request.send(), &sent, call.content.file_size(), PATIENCE).await;
            let response = match answered {
                None => return Err(ApiFailure::Transient(transport("timed out".to_owned()))),
                Some(Ok(response)) => response,
                Some(Err(error)) => {
                    let Some(why) = unanswered(host, &error, &url, url == first, own).await else {
                        return Err(ApiFailure::Lax);
                    };
                    let failure = if is_unknown_host(&error) {
                        // A name that does not exist will not exist in a second either.
                        ApiFailure::Final
                    } else if is_unsent(&error) {
                        ApiFailure::Unsent
                    } else {
                        ApiFailure::Transient
                    };
                    return Err(failure(transport(why)));
                }
            };
            if own {
                host.note_answer();
            }
            let status = response.status();
            // Without the query, which has signatures where a registry leads to an object store.
            let (host, path) = (url.host_str().unwrap_or_default(), url.path());
            tracing::debug!(method = %call.method, host, path, status = status.as_u16(), "registry answered");
            if !status.is_redirection() || call.accept.contains(&status.as_u16()) || !call.is_read() {
                return Ok(response);
            }
            match location(&url, response.headers()).map_err(|why| ApiFailure::Final(transport(why)))? {
                Some(next) => url = next,
                None => return Ok(response),
            }
        }
        Err(ApiFailure::Final(transport(format!("more than {REDIRECTS} redirects"))))
    }
}

/// Why a request to `url` got no answer; `None` if the host is now spoken to over plain HTTP. `is_first`: nothing redirected
/// here; `own`: the address is the host's.
async fn unanswered(host: &Host, error: &reqwest::Error, url: &Url, is_first: bool, own: bool) -> Option<String> {
    let name = url.host_str().unwrap_or_default();
    let lax = is_not_tls(error) || is_refused(error) && host.has_default_port();
    // Another request may have made the host fall back while this one was under way.
    if lax && is_first && (host.fall_back() || url.scheme() == "https" && host.is_plain()) {
        return None;
    }
    let speaks_http = is_plain_http(error);
    if speaks_http && is_first && host.fall_back_if_local().await {
        return None;
    }
    let cause = cause(error);
    Some(if speaks_http {
        format!("`{name}` speaks plain HTTP, not HTTPS ({cause}); `http = true` in registries.toml allows that")
    } else if own || is_first {
        cause
    } else {
        format!("redirected to `{name}`: {cause}")
    })
}

enum ApiFailure {
    /// The host is now spoken to over plain HTTP.
    Lax,
    Transient(RegistryError),
    /// The connection ended before the request was sent.
    Unsent(RegistryError),
    Final(RegistryError),
}

impl ApiCall<'_> {
    const fn is_read(&self) -> bool {
        matches!(self.method, Method::GET | Method::HEAD)
    }

    fn no_token(&self, realm: String, why: String) -> RegistryError {
        RegistryError::Auth { method: method_name(&self.method), target: self.target.clone(), realm, why }
    }

    /// The error that an answer with an unwanted status is, with the registry's words.
    async fn status_error(&self, response: Response) -> RegistryError {
        let status = response.status();
        let body = read_body(response, LONGEST_ERROR, ERROR_TIME).await.unwrap_or_default();
        let mut message = registry_words(&body);
        if message.is_empty() {
            message = status.canonical_reason().unwrap_or_default().to_lowercase();
        }
        RegistryError::Status {
            method: method_name(&self.method),
            target: self.target.clone(),
            status: status.as_u16(),
            message,
        }
    }
}

/// The HTTP method as text, for messages.
pub(super) fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        _ => "request",
    }
}

/// Waits for an answer; `None` when it takes too long. A file may be sent for as long as `sent`, its bytes so far, grows.
async fn watched<T>(
    answer: impl Future<Output = T>,
    sent: &AtomicU64,
    file_size: Option<u64>,
    patience: AnswerPatience,
) -> Option<T> {
    let mut answer = std::pin::pin!(answer);
    loop {
        let before = sent.load(Ordering::Relaxed);
        let is_sent = file_size.is_some_and(|size| before >= size);
        let limit = if is_sent { patience.verification } else { patience.silence };
        match timeout(limit, &mut answer).await {
            Ok(answer) => return Some(answer),
            Err(_) if sent.load(Ordering::Relaxed) == before => return None,
            Err(_) => (),
        }
    }
}

async fn with_content(
    request: reqwest::RequestBuilder,
    content: &BodyContent,
    own: &Arc<AtomicU64>,
) -> std::io::Result<reqwest::RequestBuilder> {
    use tokio::io::AsyncSeekExt as _;
    Ok(match content {
        BodyContent::None => request,
        BodyContent::Bytes(bytes) => request.header(CONTENT_LENGTH, bytes.len()).body(bytes.clone()),
        BodyContent::File { path, offset, size, sent } => {
            let (own, told) = (own.clone(), sent.clone());
            let sent: Arc<dyn Fn(u64) + Send + Sync> = Arc::new(move |n| {
                own.fetch_add(n, Ordering::Relaxed);
                told(n);
            });
            let mut file = tokio::fs::File::open(path).await?;
            file.seek(std::io::SeekFrom::Start(*offset)).await?;
            request.header(CONTENT_LENGTH, *size).body(stream(file, *size, sent))
        }
    })
}

/// A file as a body of exactly `size` bytes.
fn stream(file: tokio::fs::File, size: u64, sent: Arc<dyn Fn(u64) + Send + Sync>) -> reqwest::Body {
    use tokio::io::AsyncReadExt;
    const PIECE: usize = 128 << 10;
    let pieces = futures_util::stream::try_unfold((file, size), move |(mut file, left)| {
        let sent = sent.clone();
        async move {
            if left == 0 {
                return Ok::<_, std::io::Error>(None);
            }
            let mut piece = bytes::BytesMut::with_capacity(PIECE);
            let most = PIECE.min(usize::try_from(left).unwrap_or(PIECE));
            let n = (&mut file).take(most as u64).read_buf(&mut piece).await?;
            if n == 0 {
                return Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "the blob became shorter"));
            }
            sent(n as u64);
            Ok(Some((piece.freeze(), (file, left - n as u64))))
        }
    });
    reqwest::Body::wrap_stream(pieces)
}

/// The URL in `Location` of an answer, relative to the URL that was asked (RFC 9110, section 10.2.2).
///
/// # Errors
/// When it is not http or https, or leads from TLS to plain HTTP.
pub(super) fn location(from: &Url, headers: &HeaderMap) -> Result<Option<Url>, String> {
    let Some(text) = headers.get(LOCATION).and_then(|value| value.to_str().ok()) else { return Ok(None) };
    let Ok(next) = from.join(text) else { return Ok(None) };
    match (from.scheme(), next.scheme()) {
        (_, "https") | ("http", "http") => Ok(Some(next)),
        (_, scheme) => Err(format!("redirected to a place that is not followed: {scheme}:")),
    }
}

/// The time that `Retry-After` of an answer asks to wait, given in seconds or as a date (RFC 9110, section 10.2.3).
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds.min(1 << 30)));
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    let left = date.as_second() - jiff::Timestamp::now().as_second();
    Some(Duration::from_secs(u64::try_from(left).unwrap_or(0)))
}

/// Makes all requests to a host wait.
fn hold(host: &Host, wait: Duration) {
    let mut not_before = host.not_before.lock().expect("no holder of this lock panics");
    let until = Instant::now() + wait;
    *not_before = Some(not_before.map_or(until, |it| it.max(until)));
}

async fn wait_for(host: &Host) {
    loop {
        let until = *host.not_before.lock().expect("no holder of this lock panics");
        match until {
            Some(until) if until > Instant::now() => tokio::time::sleep_until(until).await,
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_may_take_long_but_not_stand_still() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let patience = AnswerPatience { silence: Duration::from_millis(200), verification: Duration::from_millis(600) };
        let sending = |n_pieces: u64, verification: u64| {
            let sent = AtomicU64::new(0);
            let answer = async {
                for _ in 0..n_pieces {
                    sleep(Duration::from_millis(50)).await;
                    sent.fetch_add(1, Ordering::Relaxed);
                }
                sleep(Duration::from_millis(verification)).await;
            };
            runtime.block_on(watched(answer, &sent, Some(10), patience))
        };
        assert!(sending(10, 300).is_some(), "500 ms of sending, 300 ms until the answer");
        assert!(sending(5, 1000).is_none(), "it stands still half way");
        assert!(sending(10, 5000).is_none(), "it is never verified");
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().expect("a header value"));
            retry_after(&headers)
        };
        assert_eq!(of("120"), Some(Duration::from_secs(120)));
        assert_eq!(of("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert_eq!(of("soon"), None);
    }
}
