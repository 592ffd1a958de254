//! A registry in memory that counts its requests and refuses them from a given one on.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

use sha2::{Digest as _, Sha256};

/// What is wrong with an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    Status(u16),
    /// No answer comes while the connection lasts.
    Hang,
    /// Other bytes, as many as there should be.
    WrongBytes,
}

/// Which answers are wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultyPart {
    All,
    /// Blobs that are no documents.
    Layers,
}

/// What the registry holds and does.
#[derive(Default)]
struct Content {
    blobs: BTreeMap<String, Vec<u8>>,
    /// By repository and tag or digest.
    manifests: BTreeMap<(String, String), (String, Vec<u8>)>,
    uploads: BTreeMap<String, Vec<u8>>,
    n_uploads: usize,
    /// Method and path of every request.
    log: Vec<String>,
    /// How many requests are answered before all others are refused.
    most: Option<usize>,
    /// Manifests must name blobs that are there.
    is_strict: bool,
    fault: Option<(Fault, FaultyPart)>,
}

/// A registry on a free port; its threads end with the process.
pub(crate) struct SmallRegistry {
    pub(crate) address: String,
    content: Arc<Mutex<Content>>,
}

impl SmallRegistry {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let content = Arc::new(Mutex::new(Content::default()));
        let shared = Arc::clone(&content);
        drop(std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let content = Arc::clone(&shared);
                drop(std::thread::spawn(move || serve(stream, &content)));
            }
        }));
        Self { address, content }
    }

    /// Refuses every request after `n` more; `None` answers all.
    pub(crate) fn refuse_after(&self, n: Option<usize>) {
        let mut content = self.content.lock().expect("no thread panics");
        content.log.clear();
        content.most = n;
    }

    /// The requests since [`Self::refuse_after`] was called, those that were refused included.
    pub(crate) fn log(&self) -> Vec<String> {
        self.content.lock().expect("no thread panics").log.clone()
    }

    /// Answers wrongly from now on.
    pub(crate) fn break_down(&self, fault: Fault, part: FaultyPart) {
        self.content.lock().expect("no thread panics").fault = Some((fault, part));
    }

    /// Forgets every blob that is no JSON, and refuses manifests that name one from now on.
    pub(crate) fn lose_layers(&self) {
        let mut content = self.content.lock().expect("no thread panics");
        content.blobs.retain(|_, bytes| bytes.first() == Some(&b'{'));
        content.is_strict = true;
    }

    /// The digest that a tag has.
    pub(crate) fn tag(&self, repository: &str, tag: &str) -> Option<String> {
        let content = self.content.lock().expect("no thread panics");
        content.manifests.get(&(repository.to_owned(), tag.to_owned())).map(|(_, bytes)| digest(bytes))
    }
}

/// The digest of bytes, as registries write it.
pub(crate) fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// One request of a connection.
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn read(reader: &mut BufReader<TcpStream>) -> Option<Self> {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
        let mut words = line.split_whitespace();
        let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.insert(name.to_lowercase(), value.trim().to_owned());
        }
        let mut body = Vec::new();
        if headers.get("transfer-encoding").is_some_and(|value| value == "chunked") {
            loop {
                let mut size = String::new();
                reader.read_line(&mut size).ok()?;
                let size = u64::from_str_radix(size.trim(), 16).ok()?;
                reader.by_ref().take(size).read_to_end(&mut body).ok()?;
                let mut end = String::new();
                reader.read_line(&mut end).ok()?;
                if size == 0 {
                    break;
                }
            }
        } else if let Some(length) = headers.get("content-length") {
            reader.by_ref().take(length.parse().ok()?).read_to_end(&mut body).ok()?;
        }
        Some(Self { method, path: path.to_owned(), query: query.to_owned(), headers, body })
    }

    pub(crate) fn query(&self, name: &str) -> Option<String> {
        let found = self.query.split('&').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
        found.map(|value| value.replace("%3A", ":").replace("%2F", "/").replace("%3D", "="))
    }
}

fn serve(stream: TcpStream, content: &Mutex<Content>) {
    let Ok(mut writer) = stream.try_clone() else { return };
    let mut reader = BufReader::new(stream);
    while let Some(request) = Request::read(&mut reader) {
        let mut fault = None;
        let (mut status, headers, mut body) = {
            let mut content = content.lock().expect("no thread panics");
            content.log.push(format!("{} {}", request.method, request.path));
            if content.most.is_some_and(|most| content.log.len() > most) {
                (403, Vec::new(), br#"{"errors":[{"code":"DENIED","message":"enough"}]}"#.to_vec())
            } else {
                let answer = answer(&request, &mut content);
                let is_layer = request.path.contains("/blobs/sha256") && answer.2.first().is_some_and(|it| *it != b'{');
                let is_faulty = |part: FaultyPart| part == FaultyPart::All || request.method == "GET" && is_layer;
                fault = content.fault.filter(|(_, part)| is_faulty(*part)).map(|(fault, _)| fault);
                answer
            }
        };
        match fault {
            Some(Fault::Status(wrong)) => (status, body) = (wrong, Vec::new()),
            Some(Fault::WrongBytes) => body.iter_mut().for_each(|byte| *byte ^= 1),
            // The client gives up and closes the connection.
            Some(Fault::Hang) => {
                let _closed = reader.read_to_end(&mut Vec::new());
                return;
            }
            None => (),
        }
        let mut head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n", body.len());
        for (name, value) in headers {
            head = format!("{head}{name}: {value}\r\n");
        }
        head += "\r\n";
        let body = if request.method == "HEAD" { &[][..] } else { &body[..] };
        if writer.write_all(head.as_bytes()).and_then(|()| writer.write_all(body)).is_err() {
            return;
        }
    }
}

/// Whether all blobs of a manifest are there.
fn names_only(manifest: &[u8], blobs: &BTreeMap<String, Vec<u8>>) -> bool {
    let manifest: serde_json::Value = serde_json::from_slice(manifest).unwrap_or_default();
    let named = manifest["layers"].as_array().into_iter().flatten().chain(manifest.get("config"));
    named.filter_map(|it| it["digest"].as_str()).all(|digest| blobs.contains_key(digest))
}

type Answer = (u16, Vec<(&'static str, String)>, Vec<u8>);

fn answer(request: &Request, content: &mut Content) -> Answer {
    let none = |status: u16| (status, Vec::new(), Vec::new());
    let Some(path) = request.path.strip_prefix("/v2/") else { return none(404) };
    let method = request.method.as_str();
    if path.is_empty() {
        return none(200);
    }
    if let Some((repository, name)) = path.split_once("/manifests/") {
        let key = |name: &str| (repository.to_owned(), name.to_owned());
        if method == "PUT" {
            if content.is_strict && !names_only(&request.body, &content.blobs) {
                return (400, Vec::new(), br#"{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN"}]}"#.to_vec());
            }
            let media = request.headers.get("content-type").cloned().unwrap_or_default();
            let digest = digest(&request.body);
            content.manifests.insert(key(&digest), (media.clone(), request.body.clone()));
            content.manifests.insert(key(name), (media, request.body.clone()));
            return (201, vec![("Docker-Content-Digest", digest)], Vec::new());
        }
        let Some((media, bytes)) = content.manifests.get(&key(name)) else { return none(404) };
        let headers = vec![("Docker-Content-Digest", digest(bytes)), ("Content-Type", media.clone())];
        return (200, headers, bytes.clone());
    }
    let Some((_, rest)) = path.split_once("/blobs/") else { return none(404) };
    let Some(upload) = rest.strip_prefix("uploads/") else {
        return content.blobs.get(rest).map_or_else(|| none(404), |bytes| (200, Vec::new(), bytes.clone()));
    };
    match method {
        "POST" => {
            content.n_uploads += 1;
            let id = format!("{path}{}", content.n_uploads);
            content.uploads.insert(id.clone(), Vec::new());
            (202, vec![("Location", format!("/v2/{id}"))], Vec::new())
        }
        "PATCH" | "PUT" if !upload.is_empty() => {
            let Some(bytes) = content.uploads.get_mut(path) else { return none(404) };
            bytes.extend_from_slice(&request.body);
            if method == "PATCH" {
                let range = format!("0-{}", bytes.len().saturating_sub(1));
                return (202, vec![("Location", format!("/v2/{path}")), ("Range", range)], Vec::new());
            }
            let bytes = content.uploads.remove(path).unwrap_or_default();
            match request.query("digest") {
                Some(wanted) if wanted == digest(&bytes) => {
                    content.blobs.insert(wanted, bytes);
                    none(201)
                }
                _ => none(400),
            }
        }
        _ => none(404),
    }
}
