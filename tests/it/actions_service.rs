//! The cache service of GitHub Actions, version 2, and the store of Azure in which it keeps its blobs: a double in memory that
//! refuses what the real ones refuse.

use std::{
    collections::BTreeMap,
    io::{BufReader, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::small_registry::Request;

/// How the service misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServiceFault {
    /// Each request is refused once, with the wish to wait for a second.
    TooMany,
    /// Bytes that are read are others.
    WrongBytes,
    Down,
}

/// An entry, by its key; readable when it is finished.
struct Entry {
    bytes: Vec<u8>,
    /// Blocks that are in no list yet.
    blocks: BTreeMap<String, Vec<u8>>,
    version: String,
    /// The order in which entries were finished; `None` while it is written.
    finished: Option<usize>,
}

#[derive(Default)]
struct Content {
    entries: BTreeMap<String, Entry>,
    n_finished: usize,
    /// The method of the service, or the verb of the store, and the key.
    log: Vec<String>,
    /// What no real service would have accepted.
    faults: Vec<String>,
    fault: Option<ServiceFault>,
    refused: std::collections::BTreeSet<String>,
}

/// The service on a free port; its threads end with the process.
pub(crate) struct ActionsService {
    url: String,
    content: Arc<Mutex<Content>>,
}

/// A token of a job that may read these scopes, and write the last of them.
fn token(scopes: &[&str]) -> String {
    let last = scopes.len() - 1;
    let scope = |(n, scope): (usize, &&str)| json!({"Scope": scope, "Permission": if n == last { 3 } else { 1 }});
    let access: Vec<Value> = scopes.iter().enumerate().map(scope).collect();
    let claims = json!({"ac": Value::from(access).to_string(), "exp": 4_000_000_000_u64});
    format!("eyJhbGciOiJub25lIn0.{}.signature", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

impl ActionsService {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let content = Arc::new(Mutex::new(Content::default()));
        let service = Self { url, content };
        let (shared, url) = (Arc::clone(&service.content), service.url.clone());
        drop(std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (content, url) = (Arc::clone(&shared), url.clone());
                drop(std::thread::spawn(move || serve(stream, &content, &url)));
            }
        }));
        service
    }

    /// The environment of a job that may read these scopes, and write the last of them.
    pub(crate) fn env(&self, scopes: &[&str]) -> [(&'static str, String); 3] {
        let url = format!("{}/", self.url);
        [
            ("ACTIONS_RESULTS_URL", url),
            ("ACTIONS_RUNTIME_TOKEN", token(scopes)),
            ("ACTIONS_CACHE_SERVICE_V2", "true".into()),
        ]
    }

    /// The requests since the last call.
    pub(crate) fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.content.lock().expect("no thread panics").log)
    }

    pub(crate) fn misbehave(&self, fault: ServiceFault) {
        self.content.lock().expect("no thread panics").fault = Some(fault);
    }

    /// Reserves a key for someone who never writes it.
    pub(crate) fn reserve(&self, key: &str) {
        let entry = Entry { bytes: Vec::new(), blocks: BTreeMap::new(), version: String::new(), finished: None };
        self.content.lock().expect("no thread panics").entries.insert(key.to_owned(), entry);
    }

    /// The keys of all entries.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.content.lock().expect("no thread panics").entries.keys().cloned().collect()
    }

    /// Fails if a request was sent that the real service would have refused.
    #[track_caller]
    pub(crate) fn check(&self) {
        let faults = self.content.lock().expect("no thread panics").faults.clone();
        assert!(faults.is_empty(), "{faults:#?}");
    }
}

fn serve(stream: TcpStream, content: &Mutex<Content>, url: &str) {
    let Ok(mut writer) = stream.try_clone() else { return };
    let mut reader = BufReader::new(stream);
    while let Some(request) = Request::read(&mut reader) {
        let (status, body) = {
            let mut content = content.lock().expect("no thread panics");
            answer(&request, &mut content, url)
        };
        let wait = if status == 429 { "Retry-After: 1\r\n" } else { "" };
        let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n{wait}\r\n", body.len());
        if writer.write_all(head.as_bytes()).and_then(|()| writer.write_all(&body)).is_err() {
            return;
        }
    }
}

type Answer = (u16, Vec<u8>);

fn answer(request: &Request, content: &mut Content, url: &str) -> Answer {
    let about = format!("{} {}?{} {}", request.method, request.path, request.query, request.body.len());
    match content.fault {
        Some(ServiceFault::Down) => return (503, Vec::new()),
        Some(ServiceFault::TooMany) if content.refused.insert(about) => return (429, Vec::new()),
        _ => (),
    }
    if let Some(method) = request.path.strip_prefix("/twirp/github.actions.results.api.v1.CacheService/") {
        return of_service(method, request, content, url);
    }
    let Some(key) = request.path.strip_prefix("/blobs/") else { return (404, Vec::new()) };
    of_store(&key.replace("%23", "#"), request, content)
}

/// What the service says, as JSON of Twirp.
fn of_service(method: &str, request: &Request, content: &mut Content, url: &str) -> Answer {
    let told = |status: u16, code: &str| (status, json!({"code": code, "msg": "no"}).to_string().into_bytes());
    let header = |name: &str| request.headers.get(name).map_or("", String::as_str);
    if request.method != "POST" || !header("content-type").starts_with("application/json") {
        content.faults.push(format!("{method}: {} with {}", request.method, header("content-type")));
        return told(404, "bad_route");
    }
    if !header("authorization").starts_with("Bearer eyJhbGciOiJub25lIn0.") {
        content.faults.push(format!("{method}: without a token"));
        return told(401, "unauthenticated");
    }
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    let (key, version) = (text("key"), text("version"));
    content.log.push(format!("{method} {key}"));
    if key.is_empty() || key.len() > 512 || key.contains(',') || version.len() != 64 {
        content.faults.push(format!("{method}: {body}"));
        return told(400, "invalid_argument");
    }
    let signed = |key: &str| format!("{url}/blobs/{}?sig=SIGNATURE&se=2030", key.replace('#', "%23"));
    let answered = |value: Value| (200, value.to_string().into_bytes());
    match method {
        "CreateCacheEntry" => {
            if content.entries.contains_key(&key) {
                return told(409, "already_exists");
            }
            let entry = Entry { bytes: Vec::new(), blocks: BTreeMap::new(), version, finished: None };
            content.entries.insert(key.clone(), entry);
            answered(json!({"ok": true, "signed_upload_url": signed(&key)}))
        }
        "FinalizeCacheEntryUpload" => {
            let n_finished = content.n_finished;
            let Some(entry) = content.entries.get_mut(&key).filter(|entry| entry.version == version) else {
                return told(404, "not_found");
            };
            if body["size_bytes"].as_u64() != Some(entry.bytes.len() as u64) || entry.finished.is_some() {
                content.faults.push(format!("{method}: {body}"));
                return told(400, "invalid_argument");
            }
            entry.finished = Some(n_finished);
            content.n_finished += 1;
            answered(json!({"ok": true, "entry_id": n_finished.to_string()}))
        }
        "GetCacheEntryDownloadURL" => {
            let is_readable = |entry: &Entry| entry.finished.is_some() && entry.version == version;
            if content.entries.get(&key).is_some_and(is_readable) {
                return answered(json!({"ok": true, "matched_key": key, "signed_download_url": signed(&key)}));
            }
            let prefixes: Vec<&str> =
                body["restore_keys"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let matching = content
                .entries
                .iter()
                .filter(|(key, entry)| is_readable(entry) && prefixes.iter().any(|prefix| key.starts_with(prefix)));
            match matching.max_by_key(|(_, entry)| entry.finished) {
                Some((key, _)) => answered(json!({"ok": true, "matched_key": key, "signed_download_url": signed(key)})),
                None => answered(json!({"ok": false, "signed_download_url": "", "matched_key": ""})),
            }
        }
        _ => told(404, "bad_route"),
    }
}

/// What the store of Azure does with a blob at a signed URL.
fn of_store(key: &str, request: &Request, content: &mut Content) -> Answer {
    content.log.push(format!("{} {key}", request.method));
    let has_token = request.headers.contains_key("authorization");
    if request.query("sig").as_deref() != Some("SIGNATURE") || has_token {
        content.faults.push(format!("{} {key}: unsigned, or with the token of the job", request.method));
        return (403, Vec::new());
    }
    let is_wrong = content.fault == Some(ServiceFault::WrongBytes) && key.contains("blob");
    let Some(entry) = content.entries.get_mut(key) else { return (404, Vec::new()) };
    match (request.method.as_str(), request.query("comp").as_deref()) {
        ("GET", None) => {
            let mut bytes = entry.bytes.clone();
            bytes.iter_mut().filter(|_| is_wrong).for_each(|byte| *byte ^= 1);
            (200, bytes)
        }
        ("PUT", None) if request.headers.get("x-ms-blob-type").is_some_and(|it| it == "BlockBlob") => {
            entry.bytes.clone_from(&request.body);
            (201, Vec::new())
        }
        ("PUT", Some("block")) if !request.body.is_empty() => {
            entry.blocks.insert(request.query("blockid").unwrap_or_default(), request.body.clone());
            (201, Vec::new())
        }
        ("PUT", Some("blocklist")) => {
            let list = String::from_utf8_lossy(&request.body).into_owned();
            let ids = list.split("<Latest>").skip(1).filter_map(|part| part.split('<').next());
            entry.bytes = ids.flat_map(|id| entry.blocks.get(id).cloned().unwrap_or_default()).collect();
            (201, Vec::new())
        }
        _ => {
            content.faults.push(format!("{} {key}: {} {:?}", request.method, request.query, request.headers));
            (
                400,
                b"<?xml version=\"1.0\"?><Error><Code>InvalidHeaderValue</Code><Message>no</Message></Error>".to_vec(),
            )
        }
    }
}
