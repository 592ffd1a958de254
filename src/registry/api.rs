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
    auth::{self, AuthSecret, Challenge, Refused},
    client::Client,
    error::{RegistryError, RequestTarget, registry_words},
    host::Host,
    http::{Trust, cause, is_not_tls, is_refused, is_unknown_host, read_body},
};

/// Attempts after faults other than 429.
const ATTEMPTS: u32 = 5;
const REDIRECTS: usize = 10;
/// Longest body of an error that is read for its words.
const LONGEST_ERROR: u64 = 64 << 10;
const ERROR_TIME: Duration = Duration::from_secs(5);

/// What is sent.
#[derive(Clone)]
pub(super) enum BodyContent {
    None,
    Bytes(Bytes),
    /// A file of this size; `sent` is told the bytes handed to the connection.
    File {
        path: PathBuf,
        size: u64,
        sent: Arc<dyn Fn(u64) + Send + Sync>,
    },
}

impl BodyContent {
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

/// A request.
pub(super) struct ApiCall<'a> {
    pub(super) method: Method,
    /// What the user is told it was.
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

/// Where a request goes.
pub(super) enum RepositoryPlace<'a> {
    /// `manifests/latest` of a repository.
    Repository(&'a str, String),
    /// An upload location; credentials go along only if it is the registry itself.
    Url(Url),
}

/// How long to go on trying. One for a whole operation, of several requests.
pub(super) struct Retry {
    since: Instant,
    budget: Duration,
    failures: u32,
}

impl Retry {
    pub(super) fn new(client: &Client) -> Self {
        Self { since: Instant::now(), budget: client.shared.connections.options.retry_budget, failures: 0 }
    }

    /// Real progress was made: patience starts anew.
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

    /// Waits before another attempt.
    ///
    /// # Errors
    /// Gives back `error` when it is time to give up.
    pub(super) async fn again(&mut self, error: RegistryError) -> Result<(), RegistryError> {
        match self.next(None) {
            Some(wait) => sleep(wait).await,
            None => return Err(error),
        }
        Ok(())
    }
}

/// A number from 0 to 1.
fn random() -> f32 {
    getrandom::u32().map_or(0.5, |it| (it >> 8) as f32 / (1_u32 << 24) as f32)
}

impl Client {
    /// Sends a request until it is answered as wanted, or it is time to give up.
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
                Err(ApiFailure::Transient(error)) if call.once => return Err(error),
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
            let asked = (status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::SERVICE_UNAVAILABLE)
                .then(|| retry_after(response.headers()))
                .flatten();
            let worth = status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
                || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
            let mut error = call.status_error(response).await;
            if !worth {
                return Err(error);
            }
            match retry.next(asked) {
                Some(wait) if asked.is_some() => {
                    hold(host, wait);
                    if call.once {
                        return Err(error);
                    }
                }
                Some(_) if call.once => return Err(error),
                Some(wait) => sleep(wait).await,
                None => {
                    if let (Some(asked), RegistryError::Status { message, .. }) = (asked, &mut error) {
                        let gap = if message.is_empty() { "" } else { "; " };
                        message.push_str(&format_args!("{gap}it asks to wait {} s", asked.as_secs()).to_string());
                    }
                    return Err(error);
                }
            }
        }
    }

    /// One request and the redirects it leads to.
    async fn attempt(
        &self,
        host: &Host,
        call: &ApiCall<'_>,
        shown: Option<&AuthSecret>,
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
                Trust::Plain
            } else if own {
                host.trust()
            } else {
                self.shared.connections.trust_of(&url, host.security())
            };
            let http = self.shared.connections.clients.get(&trust).map_err(|why| ApiFailure::Final(transport(why)))?;
            let mut request = http.request(call.method.clone(), url.clone());
            for (name, value) in &call.headers {
                request = request.header(name, value);
            }
            if let Some(shown) = shown.filter(|_| own) {
                let mut value = HeaderValue::from_str(shown.text()).map_err(|_| {
                    ApiFailure::Final(call.no_token(host.name.clone(), "the credentials cannot be sent".to_owned()))
                })?;
                value.set_sensitive(true);
                request = request.header(AUTHORIZATION, value);
            }
            let sent = Arc::new(AtomicU64::new(0));
            request = with_content(request, &call.content, &sent).await.map_err(|source| {
                let path =
                    if let BodyContent::File { path, .. } = &call.content { path.clone() } else { PathBuf::new() };
                ApiFailure::Final(RegistryError::File { action: "read", path, source })
            })?;
            let answered = watched(request.send(), &sent, call.content.file_size(), PATIENCE).await;
            let response = match answered {
                None => return Err(ApiFailure::Transient(transport("timed out".to_owned()))),
                Some(Ok(response)) => response,
                Some(Err(error)) => {
                    let lax = is_not_tls(&error) || is_refused(&error) && host.has_default_port();
                    // Another request may have made the host fall back while this one was under way.
                    if lax && url == first && (host.fall_back() || url.scheme() == "https" && host.is_plain()) {
                        return Err(ApiFailure::Lax);
                    }
                    let why = if own || url == first {
                        cause(&error)
                    } else {
                        format!("redirected to `{}`: {}", url.host_str().unwrap_or_default(), cause(&error))
                    };
                    // A name that does not exist will not exist in a second either.
                    let is_final = is_unknown_host(&error);
                    let failure = if is_final { ApiFailure::Final } else { ApiFailure::Transient };
                    return Err(failure(transport(why)));
                }
            };
            if own {
                host.note_answer();
            }
            let status = response.status();
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

enum ApiFailure {
    /// The host is now spoken to over plain HTTP.
    Lax,
    Transient(RegistryError),
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

/// The method as text.
pub(super) fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
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
    Ok(match content {
        BodyContent::None => request,
        BodyContent::Bytes(bytes) => request.header(CONTENT_LENGTH, bytes.len()).body(bytes.clone()),
        BodyContent::File { path, size, sent } => {
            let (own, told) = (own.clone(), sent.clone());
            let sent: Arc<dyn Fn(u64) + Send + Sync> = Arc::new(move |n| {
                own.fetch_add(n, Ordering::Relaxed);
                told(n);
            });
            let file = tokio::fs::File::open(path).await?;
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

/// Where an answer points to: `Location`, relative to the URL that was asked (RFC 9110, section 10.2.2).
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

/// `Retry-After`, in seconds or as a date (RFC 9110, section 10.2.3).
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
