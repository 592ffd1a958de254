//! The cache service of GitHub Actions, version 2: entries under keys that are written once, in blobs of Azure at signed URLs.
//!
//! ```text
//! write: CreateCacheEntry ─► signed URL ─► PUT of the blob, in blocks if it is long ─► FinalizeCacheEntryUpload
//! read:  GetCacheEntryDownloadURL: a key, or the newest that begins with one ─► signed URL ─► GET
//! ```
//!
//! Requests are Twirp with JSON (<https://twitchtv.github.io/twirp/docs/spec_v7.html>) to
//! `github.actions.results.api.v1.CacheService`; keys are those of BuildKit, so that both see each other's entries. A
//! document is a row of entries `NAME#1`, `NAME#2`, …: who writes the next number first has replaced it.
//! The token goes to the service alone, never to the place of the blobs.

use std::{collections::BTreeMap, error::Error as _, fmt, time::Duration};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::StreamExt as _;
use reqwest::{
    Response, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};
use url::Url;

use super::{
    error::{ObjectError, shown},
    holder::{BlobChunks, BlobContent, DocumentVersion, Expected, NamedDocument, ObjectHolder, Replaced, next_chunk},
    settings::{ObjectAccess, ObjectCredentials, SecretText},
    transport::{SILENCE, client, patience},
};
use crate::oci::{Digest, ObjectPlace};

/// What BuildKit makes its entries with: the service wants a version beside each key, equal to read and to write.
const ENTRY_VERSION: &str = "|go-actionscache-1.0";
/// A blob that is not longer is sent by one request, a longer one in blocks of this size (Azure takes 50 000).
const BLOCK: usize = 16 << 20;
/// Requests that are sent for one answer, beside those that the service asks to wait for.
const ATTEMPTS: u32 = 4;
/// How long the service may ask to wait, if the cache does not say.
const PATIENCE: Duration = Duration::from_secs(10 * 60);
/// After so long the next number of a document is taken although someone has begun to write this one.
const GIVEN_UP: Duration = Duration::from_secs(15);
/// Answers of the service itself are short.
const LONGEST_ANSWER: usize = 1 << 20;
const LONGEST_DOCUMENT: usize = 256 << 20;

/// The cache service, as one job may use it.
pub(super) struct ActionsCache {
    place: ObjectPlace,
    url: String,
    token: SecretText,
    client: reqwest::Client,
    patience: Duration,
}

/// What a request is about, for messages.
#[derive(Clone, Copy)]
struct About<'a> {
    action: &'static str,
    key: &'a str,
}

/// An entry that was found.
struct FoundEntry {
    key: String,
    url: Url,
}

/// The outcome of reserving a key.
enum Reserved {
    Upload(Url),
    /// Someone has written it, or is about to.
    Exists,
}

/// Why a request had no answer that can be used.
enum Refusal {
    Exists,
    Absent,
    Other(String),
}

impl ActionsCache {
    /// # Errors
    /// When the HTTP client cannot be made, or there is no token.
    pub(super) fn open(url: &str, access: &ObjectAccess, env: &BTreeMap<String, String>) -> Result<Self, ObjectError> {
        let place = ObjectPlace::Actions { url: url.to_owned() };
        let client = client().map_err(|why| ObjectError::Unusable { place: place.clone(), why })?;
        let token = match &access.credentials {
            ObjectCredentials::ActionsToken(token) => Some(token.clone()),
            _ => env.get("ACTIONS_RUNTIME_TOKEN").cloned().map(SecretText::new),
        };
        let Some(token) = token else {
            let why = "ACTIONS_RUNTIME_TOKEN is not set".to_owned();
            return Err(ObjectError::Unusable { place, why });
        };
        let patience = access.patience.unwrap_or(PATIENCE);
        Ok(Self { place, url: url.to_owned(), token, client, patience })
    }

    fn fault(&self, about: About<'_>, why: String) -> ObjectError {
        ObjectError::Request { place: self.place.clone(), action: about.action, key: about.key.to_owned(), why }
    }

    /// Calls a method of the service.
    async fn call<T: DeserializeOwned>(&self, method: &str, body: &Value) -> Result<T, Refusal> {
        let url = format!("{}/twirp/github.actions.results.api.v1.CacheService/{method}", self.url);
        let make = || {
            let request = self.client.post(&url).bearer_auth(self.token.text());
            request.header(CONTENT_TYPE, "application/json").body(body.to_string())
        };
        let response = self.send(make, 0).await.map_err(Refusal::Other)?;
        let status = response.status();
        let bytes = body_of(response, LONGEST_ANSWER).await.map_err(Refusal::Other)?;
        if status.is_success() {
            let unreadable = |error: serde_json::Error| Refusal::Other(format!("the answer cannot be read ({error})"));
            return serde_json::from_slice(&bytes).map_err(unreadable);
        }
        /// What Twirp says of an error; version 1 of the service said `message`.
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Told {
            code: String,
            #[serde(alias = "message")]
            msg: String,
        }
        let told: Told = serde_json::from_slice(&bytes).unwrap_or_default();
        Err(match told.code.as_str() {
            "already_exists" => Refusal::Exists,
            "not_found" => Refusal::Absent,
            _ if status == StatusCode::CONFLICT => Refusal::Exists,
            code => Refusal::Other(shown(&format!("it was answered with {status}: {code} {}", told.msg))),
        })
    }

    /// Sends a request until it has an answer that another attempt would not change. `n_bytes` is the length of its body.
    async fn send(&self, make: impl Fn() -> reqwest::RequestBuilder, n_bytes: u64) -> Result<Response, String> {
        let begun = Instant::now();
        let mut failures = 0;
        loop {
            let most = patience(n_bytes);
            let sent = timeout(most, make().send()).await;
            let (why, asked) = match sent {
                Err(_) => (format!("there was no answer within {} s", most.as_secs()), None),
                Ok(Err(error)) => (cause(&error), None),
                Ok(Ok(response)) => {
                    let status = response.status();
                    tracing::debug!(status = status.as_u16(), "the cache service answered");
                    let again = status.is_server_error()
                        || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
                    if !again {
                        return Ok(response);
                    }
                    let header = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
                    let seconds = header.and_then(|value| value.trim().parse().ok()).map(Duration::from_secs);
                    let is_limit = status == StatusCode::TOO_MANY_REQUESTS;
                    let asked = seconds.or_else(|| is_limit.then_some(Duration::from_secs(2)));
                    (format!("it was answered with {status}"), asked)
                }
            };
            failures += u32::from(asked.is_none());
            let wait = asked.unwrap_or(Duration::from_millis(125) * 2_u32.pow(failures));
            if failures >= ATTEMPTS || begun.elapsed() + wait > self.patience {
                return Err(why);
            }
            sleep(wait).await;
        }
    }

    /// Finds the entry of a key, or else the newest whose key begins with it.
    async fn find(&self, about: About<'_>, key: &str) -> Result<Option<FoundEntry>, ObjectError> {
        #[derive(Deserialize)]
        struct Found {
            #[serde(default)]
            ok: bool,
            #[serde(default)]
            signed_download_url: String,
            #[serde(default)]
            matched_key: String,
        }
        let request = json!({"key": key, "restore_keys": [key], "version": version()});
        match self.call::<Found>("GetCacheEntryDownloadURL", &request).await {
            Ok(Found { ok: true, signed_download_url, matched_key }) => {
                let url = Url::parse(&signed_download_url);
                let url = url.map_err(|_| self.fault(about, "the answer has no URL".to_owned()))?;
                Ok(Some(FoundEntry { key: matched_key, url }))
            }
            Ok(Found { ok: false, .. }) | Err(Refusal::Absent) => Ok(None),
            Err(Refusal::Exists) => Err(self.fault(about, "it was answered with a conflict".to_owned())),
            Err(Refusal::Other(why)) => Err(self.fault(about, why)),
        }
    }

    /// The newest entry of a document, and its number.
    async fn newest(&self, about: About<'_>) -> Result<Option<(FoundEntry, u64)>, ObjectError> {
        let prefix = format!("{}#", about.key);
        let found = self.find(about, &prefix).await?;
        Ok(found.and_then(|entry| {
            let number = entry.key.strip_prefix(&prefix)?.parse().ok()?;
            Some((entry, number))
        }))
    }

    async fn reserve(&self, about: About<'_>, key: &str) -> Result<Reserved, ObjectError> {
        #[derive(Deserialize)]
        struct Created {
            #[serde(default)]
            ok: bool,
            #[serde(default)]
            signed_upload_url: String,
        }
        match self.call::<Created>("CreateCacheEntry", &json!({"key": key, "version": version()})).await {
            Ok(Created { ok: true, signed_upload_url }) => {
                let url = Url::parse(&signed_upload_url);
                url.map(Reserved::Upload).map_err(|_| self.fault(about, "the answer has no URL".to_owned()))
            }
            Ok(Created { ok: false, .. }) => Err(self.fault(about, "the service makes no entry".to_owned())),
            Err(Refusal::Exists) => Ok(Reserved::Exists),
            Err(Refusal::Absent) => Err(self.fault(about, "the service knows no such request".to_owned())),
            Err(Refusal::Other(why)) => Err(self.fault(about, why)),
        }
    }

    /// Makes an entry readable.
    async fn finish(&self, about: About<'_>, key: &str, size: u64) -> Result<(), ObjectError> {
        #[derive(Deserialize)]
        struct Finished {
            #[serde(default)]
            ok: bool,
        }
        let request = json!({"key": key, "size_bytes": size, "version": version()});
        match self.call::<Finished>("FinalizeCacheEntryUpload", &request).await {
            Ok(Finished { ok: true }) => Ok(()),
            Ok(Finished { ok: false }) => Err(self.fault(about, "the service does not keep the entry".to_owned())),
            Err(Refusal::Exists | Refusal::Absent) => Err(self.fault(about, "the entry is gone".to_owned())),
            Err(Refusal::Other(why)) => Err(self.fault(about, why)),
        }
    }

    /// Writes a blob of Azure at a signed URL (Blob service REST API: Put Blob; Put Block, Put Block List).
    async fn upload(&self, about: About<'_>, url: &Url, size: u64, content: BlobContent) -> Result<(), ObjectError> {
        let machine = |error: std::io::Error| {
            let (place, why) = (self.place.clone(), error.to_string());
            ObjectError::Machine { place, action: about.action, key: about.key.to_owned(), why }
        };
        // One byte more than a block, so that the end of the content, where it is verified, is always reached.
        let (mut content, mut chunk) = next_chunk(content, BLOCK + 1).await.map_err(machine)?;
        if size <= BLOCK as u64 {
            return self.put(about, url, &[("x-ms-blob-type", "BlockBlob")], chunk).await;
        }
        let with = |pairs: &[(&str, &str)]| {
            let mut url = url.clone();
            url.query_pairs_mut().extend_pairs(pairs);
            url
        };
        let mut list = r#"<?xml version="1.0" encoding="utf-8"?><BlockList>"#.to_owned();
        for number in 0_u32.. {
            let id = STANDARD.encode(format!("{number:08}"));
            let is_last = chunk.len() <= BLOCK;
            if !chunk.is_empty() {
                self.put(about, &with(&[("comp", "block"), ("blockid", &id)]), &[], chunk).await?;
                list.extend(["<Latest>", &id, "</Latest>"]);
            }
            if is_last {
                break;
            }
            (content, chunk) = next_chunk(content, BLOCK + 1).await.map_err(machine)?;
        }
        list.push_str("</BlockList>");
        self.put(about, &with(&[("comp", "blocklist")]), &[("content-type", "text/xml")], list.into()).await
    }

    async fn put(
        &self,
        about: About<'_>,
        url: &Url,
        headers: &[(&'static str, &'static str)],
        bytes: Bytes,
    ) -> Result<(), ObjectError> {
        let make = || {
            let request = self.client.put(url.clone()).body(bytes.clone());
            headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
        };
        let answer = self.send(make, bytes.len() as u64).await.map_err(|why| self.fault(about, why))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let body = body_of(answer, LONGEST_ANSWER).await.unwrap_or_default();
        let told = shown(&String::from_utf8_lossy(&body));
        Err(self.fault(about, format!("the place of its bytes answered with {status}: {told}")))
    }

    async fn get(&self, about: About<'_>, url: &Url) -> Result<Response, ObjectError> {
        let answer = self.send(|| self.client.get(url.clone()), 0).await.map_err(|why| self.fault(about, why))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        Err(self.fault(about, format!("the place of its bytes answered with {status}")))
    }
}

#[async_trait]
impl ObjectHolder for ActionsCache {
    async fn document(&self, name: &str) -> Result<Option<NamedDocument>, ObjectError> {
        let about = About { action: "read", key: name };
        let Some((entry, number)) = self.newest(about).await? else { return Ok(None) };
        let answer = self.get(about, &entry.url).await?;
        let bytes = body_of(answer, LONGEST_DOCUMENT).await.map_err(|why| self.fault(about, why))?;
        let version = DocumentVersion { tag: None, generation: Some(number.to_string()) };
        Ok(Some(NamedDocument { bytes, version }))
    }

    async fn replace(&self, name: &str, bytes: Bytes, expected: Expected<'_>) -> Result<Replaced, ObjectError> {
        let about = About { action: "write", key: name };
        let before: u64 = match expected {
            Expected::Version(version) => version.generation.as_deref().and_then(|it| it.parse().ok()).unwrap_or(0),
            Expected::Nothing | Expected::Anything => 0,
        };
        let mut number = before + 1;
        let mut begun = Instant::now();
        loop {
            let key = format!("{name}#{number}");
            match self.reserve(about, &key).await? {
                Reserved::Upload(url) => {
                    let size = bytes.len() as u64;
                    self.upload(about, &url, size, Box::new(std::io::Cursor::new(bytes))).await?;
                    self.finish(about, &key, size).await?;
                    return Ok(Replaced::Done);
                }
                Reserved::Exists => {
                    let now = self.newest(about).await?.map_or(0, |(_, number)| number);
                    if now != before {
                        return Ok(Replaced::Changed);
                    }
                    if begun.elapsed() > GIVEN_UP {
                        // Whoever has reserved this number seems to have died.
                        number += 1;
                        begun = Instant::now();
                    }
                    sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    async fn checks_versions(&self, _empty: &str) -> Result<bool, ObjectError> {
        Ok(true)
    }

    async fn has(&self, key: &str, _size: u64) -> Result<bool, ObjectError> {
        let found = self.find(About { action: "look for", key }, key).await?;
        Ok(found.is_some_and(|entry| entry.key == key))
    }

    async fn read(&self, key: &str) -> Result<BlobChunks, ObjectError> {
        let about = About { action: "read", key };
        let found = self.find(about, key).await?.filter(|entry| entry.key == key);
        let entry = found.ok_or_else(|| self.fault(about, "it is not there".to_owned()))?;
        let answer = self.get(about, &entry.url).await?;
        Ok(futures_util::stream::unfold(answer, |mut answer| async move {
            let next = chunk_of(&mut answer).await.transpose()?;
            Some((next, answer))
        })
        .boxed())
    }

    async fn write(&self, key: &str, size: u64, content: BlobContent) -> Result<(), ObjectError> {
        let about = About { action: "write", key };
        match self.reserve(about, key).await? {
            Reserved::Exists => Ok(()),
            Reserved::Upload(url) => {
                self.upload(about, &url, size, content).await?;
                self.finish(about, key, size).await
            }
        }
    }
}

impl fmt::Debug for ActionsCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActionsCache").field("url", &self.url).finish_non_exhaustive()
    }
}

fn version() -> String {
    Digest::of(ENTRY_VERSION.as_bytes()).hex()
}

/// The next bytes of an answer; `None` at its end.
async fn chunk_of(answer: &mut Response) -> Result<Option<Bytes>, String> {
    match timeout(SILENCE, answer.chunk()).await {
        Ok(chunk) => chunk.map_err(|error| cause(&error)),
        Err(_) => Err(format!("no more of it came within {} s", SILENCE.as_secs())),
    }
}

async fn body_of(mut answer: Response, longest: usize) -> Result<Bytes, String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = chunk_of(&mut answer).await? {
        if bytes.len() + chunk.len() > longest {
            return Err("the answer is too long".to_owned());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes.into())
}

/// The innermost message of an error. The outermost has the URL, whose query is a secret.
fn cause(error: &reqwest::Error) -> String {
    let mut told = "the request failed".to_owned();
    let mut next = error.source();
    while let Some(inner) = next {
        told = inner.to_string();
        next = inner.source();
    }
    shown(&told)
}
