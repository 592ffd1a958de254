//! The client against a small registry on a thread, which misbehaves as each test says.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Write as _,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

use serde_json::json;

use super::*;
use crate::oci::{Descriptor, Digest, Platform, Reference, media};

pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Vec<u8>,
}

pub(super) enum Reply {
    Answer(u16, Vec<(String, String)>, Vec<u8>),
    /// Announces all, sends so many bytes, closes.
    Cut(Vec<u8>, usize),
    Close,
}

pub(super) fn answer(status: u16, body: impl Into<Vec<u8>>) -> Reply {
    Reply::Answer(status, Vec::new(), body.into())
}

type Fault = Box<dyn Fn(&Request, usize) -> Option<Reply> + Send + Sync>;

#[derive(Default)]
struct Content {
    blobs: HashMap<String, Vec<u8>>,
    /// Repository and digest.
    held: BTreeSet<(String, String)>,
    manifests: HashMap<(String, String), (String, Vec<u8>)>,
    log: Vec<String>,
    seen: HashMap<String, usize>,
    auth_seen: Vec<String>,
}

/// The registry; it ends with the process.
pub(super) struct Server {
    pub(super) host: String,
    content: Arc<Mutex<Content>>,
}

impl Server {
    pub(super) fn start(fault: impl Fn(&Request, usize) -> Option<Reply> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let host = listener.local_addr().expect("bound").to_string();
        let content = Arc::new(Mutex::new(Content::default()));
        let (shared, fault): (_, Arc<Fault>) = (content.clone(), Arc::new(Box::new(fault)));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (content, fault) = (shared.clone(), fault.clone());
                std::thread::spawn(move || serve(stream, &content, &fault));
            }
        });
        Self { host, content }
    }

    pub(super) fn put_blob(&self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let mut content = self.content.lock().expect("no test thread panics");
        content.blobs.insert(digest.to_string(), bytes.to_vec());
        content.held.insert((repository.to_owned(), digest.to_string()));
        digest
    }

    pub(super) fn put_manifest(&self, repository: &str, name: &str, media_type: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let mut content = self.content.lock().expect("no test thread panics");
        for name in [name, &digest.to_string()] {
            content.manifests.insert((repository.into(), name.into()), (media_type.into(), bytes.to_vec()));
        }
        digest
    }

    /// An image of one layer, tagged.
    pub(super) fn put_image(&self, repository: &str, tag: &str, layer: &[u8]) -> Digest {
        let layer_digest = self.put_blob(repository, layer);
        let config = json!({"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[layer_digest]}});
        let config = config.to_string();
        let config_digest = self.put_blob(repository, config.as_bytes());
        let manifest = json!({"schemaVersion":2,"mediaType":media::OCI_MANIFEST,
            "config":{"mediaType":media::OCI_CONFIG,"digest":config_digest,"size":config.len()},
            "layers":[{"mediaType":media::OCI_LAYER,"digest":layer_digest,"size":layer.len()}]});
        self.put_manifest(repository, tag, media::OCI_MANIFEST, manifest.to_string().as_bytes())
    }

    pub(super) fn log(&self) -> Vec<String> {
        self.content.lock().expect("no test thread panics").log.clone()
    }

    pub(super) fn count(&self, prefix: &str) -> usize {
        self.log().iter().filter(|it| it.starts_with(prefix)).count()
    }

    pub(super) fn reference(&self, rest: &str) -> Reference {
        Reference::parse(&format!("{}/{rest}", self.host)).expect("a reference")
    }
}

fn serve(stream: TcpStream, content: &Mutex<Content>, fault: &Fault) {
    let Ok(mut writer) = stream.try_clone() else { return };
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader) {
        let n = {
            let mut content = content.lock().expect("no test thread panics");
            let line = format!("{} {}", request.method, request.path);
            content.log.push(line.clone());
            content.auth_seen.push(request.headers.get("authorization").cloned().unwrap_or_default());
            let n = content.seen.entry(line).or_default();
            *n += 1;
            *n
        };
        let reply = fault(&request, n).unwrap_or_else(|| route(&request, content));
        let head = request.method == "HEAD";
        let sent = match reply {
            Reply::Answer(status, headers, body) => {
                let mut text = format!("HTTP/1.1 {status} x\r\n");
                for (name, value) in &headers {
                    write!(text, "{name}: {value}\r\n").expect("a string takes all");
                }
                if !headers.iter().any(|(name, _)| name == "Content-Length") {
                    write!(text, "Content-Length: {}\r\n", body.len()).expect("a string takes all");
                }
                text += "\r\n";
                writer.write_all(text.as_bytes()).and_then(|()| if head { Ok(()) } else { writer.write_all(&body) })
            }
            Reply::Cut(body, n) => {
                let text = format!("HTTP/1.1 200 x\r\nContent-Length: {}\r\n\r\n", body.len());
                writer.write_all(text.as_bytes()).and_then(|()| writer.write_all(&body[..n])).ok();
                return;
            }
            Reply::Close => return,
        };
        if sent.is_err() {
            return;
        }
    }
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|it| it.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { method, path: path.to_owned(), query: query.to_owned(), headers, body })
}

fn route(request: &Request, content: &Mutex<Content>) -> Reply {
    let mut content = content.lock().expect("no test thread panics");
    let path = request.path.trim_start_matches("/v2/").to_owned();
    let query: HashMap<String, String> = url::form_urlencoded::parse(request.query.as_bytes()).into_owned().collect();
    let typed = |media_type: &str, bytes: &[u8]| {
        let headers =
            [("Content-Type", media_type.to_owned()), ("Docker-Content-Digest", Digest::of(bytes).to_string())];
        Reply::Answer(200, headers.map(|(name, value)| (name.to_owned(), value)).to_vec(), bytes.to_vec())
    };
    if let Some((repository, name)) = path.split_once("/manifests/") {
        let key = (repository.to_owned(), name.to_owned());
        if request.method == "PUT" {
            let media_type = request.headers.get("content-type").cloned().unwrap_or_default();
            let digest = Digest::of(&request.body).to_string();
            content.manifests.insert((key.0.clone(), digest), (media_type.clone(), request.body.clone()));
            content.manifests.insert(key, (media_type, request.body.clone()));
            return answer(201, "");
        }
        return match content.manifests.get(&key) {
            Some((media_type, bytes)) => typed(media_type, bytes),
            None => answer(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"not here"}]}"#),
        };
    }
    if let Some((repository, upload)) = path.split_once("/blobs/uploads/") {
        if let (Some(digest), Some(from)) = (query.get("mount"), query.get("from"))
            && content.held.contains(&(from.clone(), digest.clone()))
        {
            content.held.insert((repository.to_owned(), digest.clone()));
            return answer(201, "");
        }
        if request.method == "POST" {
            let place = format!("/v2/{repository}/blobs/uploads/1?state=a%2Bb");
            return Reply::Answer(202, vec![("Location".into(), place)], Vec::new());
        }
        let digest = Digest::of(&request.body).to_string();
        if upload != "1"
            || query.get("digest") != Some(&digest)
            || query.get("state").map(String::as_str) != Some("a+b")
        {
            return answer(400, r#"{"errors":[{"code":"DIGEST_INVALID"}]}"#);
        }
        content.held.insert((repository.to_owned(), digest.clone()));
        content.blobs.insert(digest, request.body.clone());
        return answer(201, "");
    }
    if let Some((repository, digest)) = path.split_once("/blobs/") {
        let held = content.held.contains(&(repository.to_owned(), digest.to_owned()));
        let Some(bytes) = content.blobs.get(digest).filter(|_| held) else { return answer(404, "") };
        if let Some(range) = request.headers.get("range") {
            let from: usize = range.trim_start_matches("bytes=").trim_end_matches('-').parse().expect("our own range");
            let place = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
            return Reply::Answer(206, vec![("Content-Range".into(), place)], bytes[from..].to_vec());
        }
        return typed("application/octet-stream", bytes);
    }
    answer(404, "")
}

#[expect(clippy::disallowed_methods, reason = "the sandbox is not reachable from here")]
fn command(program: &std::ffi::OsStr) -> std::process::Command {
    std::process::Command::new(program)
}

pub(super) fn client(config: Option<&str>) -> (Client, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut options = ClientOptions::new(command);
    options.certificate_folders.clear();
    if let Some(config) = config {
        std::fs::write(folder.path().join("config.json"), config).expect("writable");
        options.docker_config = Some(folder.path().to_owned());
    }
    (Client::new(options), folder)
}

pub(super) fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(work)
}

fn quiet(_: u64) {}

fn amd64() -> Platform {
    Platform::parse("linux/amd64").expect("a platform")
}

fn layer_of(bytes: &[u8]) -> Descriptor {
    let media_type = media::OCI_LAYER.into();
    let digest: oci_spec::image::Digest = Digest::of(bytes).to_string().parse().expect("a digest");
    Descriptor::new(media_type, bytes.len() as u64, digest)
}

fn fetch_layer(client: &Client, server: &Server, bytes: &[u8]) -> Result<Vec<u8>, RegistryError> {
    let at = server.reference("lib/base:v1");
    run(client.blob(&at, &layer_of(bytes), || Ok(Vec::new()), &quiet))
}

fn image_with_layer(fault: impl Fn(&Request, usize) -> Option<Reply> + Send + Sync + 'static) -> (Server, Vec<u8>) {
    let server = Server::start(fault);
    let layer: Vec<u8> = (0..3_000_000_u32).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect();
    server.put_image("lib/base", "v1", &layer);
    (server, layer)
}

#[test]
fn an_image_is_resolved_and_read() {
    let (server, layer) = image_with_layer(|_, _| None);
    let (client, _folder) = client(None);
    let at = server.reference("lib/base:v1");
    let image = run(client.image(&at, &amd64(), &NoDocuments)).expect("it is there");
    assert_eq!(image.layers.len(), 1);
    assert_eq!(fetch_layer(&client, &server, &layer).expect("it is there"), layer);
    let error = run(client.resolve(&server.reference("lib/base:v2"))).expect_err("no such tag");
    assert!(matches!(error, RegistryError::Status { status: 404, .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(&server.host) && text.contains("lib/base:v2") && text.contains("404"), "{text}");
}

#[test]
fn a_lost_transfer_goes_on_where_it_broke_off() {
    let (server, layer) = image_with_layer(|request, n| {
        (request.path.contains("/blobs/") && n == 1).then(|| {
            let layer: Vec<u8> = (0..3_000_000_u32).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect();
            Reply::Cut(layer, 1_500_000)
        })
    });
    let (client, _folder) = client(None);
    assert_eq!(fetch_layer(&client, &server, &layer).expect("resumed"), layer);
    assert_eq!(server.count("GET /v2/lib/base/blobs/"), 2);
}

#[test]
fn wrong_content_is_refused_after_one_more_try() {
    let (server, layer) =
        image_with_layer(|request, _| (request.path.contains("/blobs/")).then(|| answer(200, vec![0; 3_000_000])));
    let (client, _folder) = client(None);
    let error = fetch_layer(&client, &server, &layer).expect_err("wrong bytes");
    assert!(matches!(error, RegistryError::Digest { .. }), "{error}");
    assert_eq!(server.count("GET /v2/lib/base/blobs/"), 2);
}

#[test]
fn bodies_that_are_too_long_are_refused() {
    let (server, layer) =
        image_with_layer(|request, _| (request.path.contains("/blobs/")).then(|| answer(200, vec![0; 3_000_001])));
    let (client, _folder) = client(None);
    let error = fetch_layer(&client, &server, &layer).expect_err("one byte too many");
    assert!(matches!(error, RegistryError::Size { .. }), "{error}");
}

#[test]
fn faults_that_end_are_survived_and_others_named() {
    let (server, _) = image_with_layer(|request, n| match (request.method.as_str(), n) {
        ("HEAD", 1) => Some(answer(503, "")),
        ("GET", 1) if request.path.contains("manifests") => Some(Reply::Close),
        ("GET", 2) if request.path.contains("manifests") => Some(Reply::Cut(vec![b' '; 100], 50)),
        _ => None,
    });
    let (client, _folder) = client(None);
    run(client.image(&server.reference("lib/base:v1"), &amd64(), &NoDocuments)).expect("it works in the end");

    let down = Server::start(|_, _| Some(answer(500, r#"{"errors":[{"code":"BROKEN","message":"very"}]}"#)));
    let error = run(client.resolve(&down.reference("a:b"))).expect_err("always 500").to_string();
    assert!(error.contains("500") && error.contains(&down.host), "{error}");
}

#[test]
fn retry_after_is_obeyed_within_reason() {
    let limited = |seconds: &'static str| {
        Server::start(move |request, n| {
            (request.method == "HEAD" && n == 1)
                .then(|| Reply::Answer(429, vec![("Retry-After".into(), seconds.into())], Vec::new()))
        })
    };
    let (client, _folder) = client(None);
    let server = limited("1");
    server.put_image("a", "b", b"x");
    let start = std::time::Instant::now();
    run(client.resolve(&server.reference("a:b"))).expect("after a second");
    assert!(start.elapsed().as_millis() >= 990);
    let error = run(client.resolve(&limited("3600").reference("a:b"))).expect_err("too long").to_string();
    assert!(error.contains("429") && error.contains("3600"), "{error}");
}

fn token_server(uses: usize) -> Server {
    let spent = Mutex::new(0_usize);
    Server::start(move |request, _| {
        if request.path == "/token" {
            let form = String::from_utf8_lossy(&request.body).into_owned();
            let good =
                form.contains("username=u") && form.contains("password=p") && form.contains("grant_type=password");
            return Some(if good { answer(200, r#"{"token":"t","expires_in":300}"#) } else { answer(401, "") });
        }
        let shown = request.headers.get("authorization").is_some_and(|it| it == "Bearer t");
        let mut spent = spent.lock().expect("no test thread panics");
        *spent += usize::from(shown);
        if shown && !spent.is_multiple_of(uses + 1) {
            return None;
        }
        let host = request.headers.get("host").cloned().unwrap_or_default();
        let error = if shown { r#",error="invalid_token""# } else { "" };
        let challenge = format!(r#"Bearer realm="http://{host}/token",service="s"{error}"#);
        Some(Reply::Answer(401, vec![("WWW-Authenticate".into(), challenge)], Vec::new()))
    })
}

#[test]
fn tokens_are_fetched_when_asked_for_and_used_again() {
    let server = token_server(1000);
    server.put_image("lib/base", "v1", b"layer");
    let config = format!(r#"{{"auths":{{"{}":{{"auth":"dTpw"}}}}}}"#, server.host);
    let (known, _folder) = client(Some(&config));
    run(known.image(&server.reference("lib/base:v1"), &amd64(), &NoDocuments)).expect("with a token");
    assert_eq!(server.count("POST /token"), 1);
    let first = server.content.lock().expect("no test thread panics").auth_seen[0].clone();
    assert_eq!(first, "", "nothing is shown before it is asked for");

    let (unknown, _folder) = client(None);
    let error = run(unknown.resolve(&server.reference("lib/base:v1"))).expect_err("no credentials").to_string();
    assert!(error.contains(&server.host) && error.contains("unauthorized"), "{error}");
}

#[test]
fn a_spent_token_is_fetched_anew() {
    let server = token_server(2);
    server.put_image("lib/base", "v1", b"layer");
    let config = format!(r#"{{"auths":{{"{}":{{"auth":"dTpw"}}}}}}"#, server.host);
    let (client, _folder) = client(Some(&config));
    for _ in 0..4 {
        run(client.image(&server.reference("lib/base:v1"), &amd64(), &NoDocuments)).expect("with new tokens");
    }
}

#[test]
fn realms_that_are_no_web_servers_are_refused() {
    for realm in ["file:///etc/passwd", "x", ""] {
        let server = Server::start(move |_, _| {
            let challenge = format!(r#"Bearer realm="{realm}""#);
            Some(Reply::Answer(401, vec![("WWW-Authenticate".into(), challenge)], Vec::new()))
        });
        let (client, _folder) = client(None);
        let error = run(client.resolve(&server.reference("a:b"))).expect_err("no token to be had").to_string();
        assert!(error.contains(&server.host), "{error}");
    }
}

#[test]
fn credentials_do_not_follow_a_redirect_to_another_place() {
    let other = Server::start(|request, _| (request.path == "/blob").then(|| answer(200, b"layer".to_vec())));
    let place = format!("http://{}/blob", other.host);
    let server = Server::start(move |request, _| {
        if !request.headers.contains_key("authorization") {
            return Some(Reply::Answer(401, vec![("WWW-Authenticate".into(), "Basic realm=x".into())], Vec::new()));
        }
        request
            .path
            .contains("/blobs/")
            .then(|| Reply::Answer(307, vec![("Location".into(), place.clone())], Vec::new()))
    });
    let config = format!(r#"{{"auths":{{"{}":{{"auth":"dTpw"}}}}}}"#, server.host);
    let (client, _folder) = client(Some(&config));
    let at = server.reference("lib/base:v1");
    let got = run(client.blob(&at, &layer_of(b"layer"), || Ok(Vec::new()), &quiet)).expect("redirected");
    assert_eq!(got, b"layer");
    assert_eq!(other.content.lock().expect("no test thread panics").auth_seen, [""]);
}

/// A host that answers every request with a challenge of its own, and keeps what its realm is sent.
fn thief() -> Server {
    Server::start(|request, _| {
        if request.path == "/token" {
            return Some(answer(200, r#"{"token":"stolen"}"#));
        }
        let host = request.headers.get("host").cloned().unwrap_or_default();
        let challenge = format!(r#"Bearer realm="http://{host}/token",service="s""#);
        Some(Reply::Answer(401, vec![("WWW-Authenticate".into(), challenge)], Vec::new()))
    })
}

#[test]
fn a_challenge_of_a_host_that_a_registry_redirects_to_gets_no_password() {
    let other = thief();
    // The same machine by another name and port, as a host of its own.
    let place = format!("http://{}/blob", other.host.replace("127.0.0.1", "localhost"));
    let server = Server::start(move |request, _| {
        request.path.contains("/v2/").then(|| Reply::Answer(307, vec![("Location".into(), place.clone())], Vec::new()))
    });
    let config = format!(r#"{{"auths":{{"{}":{{"auth":"dTpw"}}}}}}"#, server.host);
    let (client, _folder) = client(Some(&config));
    let at = server.reference("lib/base:v1");
    let blob = run(client.blob(&at, &layer_of(b"layer"), || Ok(Vec::new()), &quiet));
    for error in [blob.expect_err("not authorized"), run(client.resolve(&at)).expect_err("not authorized")] {
        let text = error.to_string();
        assert!(text.contains("localhost") && text.contains(&server.host), "{text}");
    }
    assert_eq!(other.count("POST /token") + other.count("GET /token"), 0);
    assert!(other.content.lock().expect("no test thread panics").auth_seen.iter().all(String::is_empty));
}

#[test]
fn an_upload_that_leads_elsewhere_takes_no_token_along() {
    let other = thief();
    let place = format!("http://{}/upload", other.host);
    let server = Server::start(move |request, _| {
        if !request.headers.contains_key("authorization") {
            return Some(Reply::Answer(401, vec![("WWW-Authenticate".into(), "Basic realm=x".into())], Vec::new()));
        }
        (request.method == "POST").then(|| Reply::Answer(202, vec![("Location".into(), place.clone())], Vec::new()))
    });
    let config = format!(r#"{{"auths":{{"{}":{{"auth":"dTpw"}}}}}}"#, server.host);
    let (client, _folder) = client(Some(&config));
    let error = push(&client, &server, "team/app", vec![upload(b"new", &[])]).expect_err("asked for a password");
    assert!(matches!(error, RegistryError::Auth { .. }), "{error}");
    assert_eq!(other.count("POST /token") + other.count("GET /token"), 0);
    assert!(other.content.lock().expect("no test thread panics").auth_seen.iter().all(String::is_empty));
}

#[test]
fn tls_is_never_left_on_the_word_of_a_server() {
    let place = |from: &str, to: &str| {
        let headers = [(reqwest::header::LOCATION, to.parse().expect("a header value"))].into_iter().collect();
        api::location(&url::Url::parse(from).expect("a URL"), &headers).map(|next| next.map(|it| it.to_string()))
    };
    assert!(place("https://h/v2/", "http://h/x").is_err_and(|why| why.contains("http:")));
    assert!(place("http://h/v2/", "file:///etc/passwd").is_err());
    assert_eq!(place("https://h/v2/", "/x"), Ok(Some("https://h/x".to_owned())));
    assert_eq!(place("http://h/v2/", "http://o/x"), Ok(Some("http://o/x".to_owned())));
}

#[test]
fn redirects_without_end_or_to_files_are_refused() {
    for place in ["/v2/a/blobs/loop", "file:///etc/passwd"] {
        let server = Server::start(move |request, _| {
            request
                .path
                .contains("/blobs/")
                .then(|| Reply::Answer(307, vec![("Location".into(), place.into())], Vec::new()))
        });
        let (client, _folder) = client(None);
        let at = server.reference("a:b");
        let error = run(client.blob(&at, &layer_of(b"x"), || Ok(Vec::new()), &quiet)).expect_err("nowhere").to_string();
        assert!(error.contains("redirect"), "{error}");
    }
}

fn upload(bytes: &'static [u8], found_in: &[(String, String)]) -> Upload {
    let source = BlobSource::Bytes(bytes::Bytes::from_static(bytes));
    Upload { digest: Digest::of(bytes), size: bytes.len() as u64, source, found_in: found_in.to_vec() }
}

fn push(client: &Client, server: &Server, path: &str, blobs: Vec<Upload>) -> Result<(), RegistryError> {
    let bytes = br#"{"schemaVersion":2}"#.to_vec();
    let root = Document { digest: Digest::of(&bytes), media_type: media::OCI_MANIFEST.to_owned(), bytes };
    let push = Push {
        domain: &server.host,
        path,
        tags: &["v1".to_owned()],
        blobs,
        documents: vec![root],
        insecure: false,
        progress: &quiet,
    };
    run(client.push(push))
}

#[test]
fn blobs_go_once_and_the_tag_last() {
    let server = Server::start(|_, _| None);
    server.put_blob("team/app", b"there");
    let (client, _folder) = client(None);
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), b"file").expect("writable");
    let from_file = Upload {
        digest: Digest::of(b"file"),
        size: 4,
        source: BlobSource::File(file.path().into()),
        found_in: Vec::new(),
    };
    let blobs = vec![upload(b"new", &[]), upload(b"new", &[]), upload(b"there", &[]), from_file];
    push(&client, &server, "team/app", blobs).expect("accepted");
    assert_eq!(server.count("PUT /v2/team/app/blobs/uploads/"), 2);
    assert_eq!(server.log().last().map(String::as_str), Some("PUT /v2/team/app/manifests/v1"));
    // The second repository has the blobs mounted, the second push finds all there.
    push(&client, &server, "other/app", vec![upload(b"new", &[])]).expect("accepted");
    assert_eq!(server.count("PUT /v2/other/app/blobs/uploads/"), 0);
    push(&client, &server, "team/app", vec![upload(b"new", &[])]).expect("accepted");
    assert_eq!(server.count("PUT /v2/team/app/manifests/v1"), 1);
}

#[test]
fn a_refused_mount_is_followed_by_the_bytes() {
    let server = Server::start(|_, _| None);
    let (client, _folder) = client(None);
    let nowhere = [(server.host.clone(), "not/there".to_owned())];
    push(&client, &server, "a", vec![upload(b"new", &nowhere)]).expect("sent");
    assert_eq!(server.count("POST"), 1, "the upload that the mount began is used");
    assert_eq!(server.count("PUT /v2/a/blobs/"), 1);
}

#[test]
fn lost_uploads_are_begun_anew() {
    let server = Server::start(|request, n| match (request.method.as_str(), n) {
        ("PUT", 1) if request.path.contains("/uploads/") => Some(Reply::Close),
        ("PUT", 2) if request.path.contains("/uploads/") => Some(answer(503, "")),
        ("POST", 3) => Some(answer(500, "")),
        ("PUT", 1) => Some(Reply::Close),
        _ => None,
    });
    let (client, _folder) = client(None);
    push(&client, &server, "a", vec![upload(b"new", &[])]).expect("survived");
    assert!(server.count("HEAD /v2/a/blobs/") >= 3);
}

#[test]
fn refusals_are_final_and_carry_the_registrys_words() {
    let server = Server::start(|request, _| {
        (request.method == "POST")
            .then(|| answer(403, r#"{"errors":[{"code":"DENIED","message":"no \u001b]0;x\u0007"}]}"#))
    });
    let (client, _folder) = client(None);
    let error = push(&client, &server, "team/app", vec![upload(b"new", &[])]).expect_err("denied").to_string();
    assert!(error.contains("403") && error.contains("DENIED") && error.contains("team/app"), "{error}");
    assert!(!error.contains('\u{1b}') && !error.contains('\u{7}'), "{error}");
    assert_eq!(server.count("POST"), 1);
    assert_eq!(server.count("PUT"), 0);
}

#[test]
fn a_large_upload_that_breaks_off_goes_on_in_pieces() {
    let received = Arc::new(Mutex::new(Vec::new()));
    let kept = received.clone();
    let server = Server::start(move |request, n| {
        let mut kept = kept.lock().expect("no test thread panics");
        let state = |kept: &[u8]| {
            let place = ("Location".to_owned(), "/v2/a/blobs/uploads/1?state=a%2Bb".to_owned());
            vec![place, ("Range".to_owned(), format!("0-{}", kept.len().saturating_sub(1)))]
        };
        match (request.method.as_str(), request.path.ends_with("/blobs/uploads/1")) {
            // The whole blob.
            ("PUT", true) if n == 1 => Some(Reply::Close),
            // Half of the second piece arrives.
            ("PATCH", true) if n == 2 => {
                kept.extend_from_slice(&request.body[..request.body.len() / 2]);
                Some(Reply::Close)
            }
            ("PATCH", true) => {
                let range = request.headers.get("content-range").expect("pieces have a range");
                assert!(range.starts_with(&format!("{}-", kept.len())), "{range}");
                kept.extend_from_slice(&request.body);
                Some(Reply::Answer(202, state(&kept), Vec::new()))
            }
            ("GET", true) => Some(Reply::Answer(204, state(&kept), Vec::new())),
            ("PUT", true) => Some(answer(201, "")),
            _ => None,
        }
    });
    let bytes: Vec<u8> = (0..40_u32 << 20).map(|n| (n >> 12) as u8).collect();
    let bytes: &'static [u8] = bytes.leak();
    let (client, _folder) = client(None);
    push(&client, &server, "a", vec![upload(bytes, &[])]).expect("survived");
    assert!(*received.lock().expect("no test thread panics") == bytes, "not what was sent");
    assert_eq!(server.count("PUT /v2/a/blobs/"), 2);
}

#[test]
fn a_registry_that_takes_no_pieces_gets_the_whole_again() {
    let server = Server::start(|request, n| match (request.method.as_str(), request.path.contains("/uploads/1")) {
        ("PUT", true) if n == 1 => Some(Reply::Close),
        ("PATCH", true) => Some(answer(405, "")),
        _ => None,
    });
    let bytes: &'static [u8] = vec![7; 20 << 20].leak();
    let (client, _folder) = client(None);
    push(&client, &server, "a", vec![upload(bytes, &[])]).expect("sent");
    assert_eq!((server.count("PATCH"), server.count("PUT /v2/a/blobs/")), (1, 2));
}

#[test]
fn referrers_are_listed_where_the_registry_does_not_list_them() {
    for has_api in [false, true] {
        let server = Server::start(move |request, _| {
            let is_ours = has_api && request.method == "PUT" && request.path.contains("/manifests/");
            is_ours.then(|| Reply::Answer(201, vec![("OCI-Subject".into(), "sha256:…".into())], Vec::new()))
        });
        let subject = Digest::of(b"what it is about");
        let push_one = |text: &'static str| {
            let bytes = json!({"schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "artifactType": text,
                "subject": {"digest": subject}, "layers": []});
            let bytes = bytes.to_string().into_bytes();
            let document = Document { digest: Digest::of(&bytes), media_type: media::OCI_MANIFEST.into(), bytes };
            let target = NameTarget { domain: &server.host, path: "a", tag: None, insecure: false };
            let (client, _folder) = client(None);
            run(client.set_name(&target, &document)).expect("accepted");
        };
        push_one("one");
        push_one("two");
        push_one("two");
        let tag = subject.to_string().replace(':', "-");
        let content = server.content.lock().expect("no test thread panics");
        let listed = content.manifests.get(&("a".to_owned(), tag)).map(|(_, bytes)| bytes.clone());
        assert_eq!(listed.is_some(), !has_api);
        let Some(listed) = listed else { continue };
        let listed: serde_json::Value = serde_json::from_slice(&listed).expect("an index");
        let kinds: Vec<_> =
            listed["manifests"].as_array().expect("a list").iter().map(|it| &it["artifactType"]).collect();
        assert_eq!(kinds, ["one", "two"]);
    }
}

#[test]
fn nothing_listening_is_named() {
    let (client, _folder) = client(None);
    let at = Reference::parse("127.0.0.1:1/a:b").expect("a reference");
    let error = run(client.resolve(&at)).expect_err("refused").to_string();
    assert!(error.contains("127.0.0.1:1") && error.contains("refused"), "{error}");
}

#[test]
fn an_insecure_registry_may_speak_plain_http() {
    let server = Server::start(|_, _| None);
    let (plain, _folder) = client(None);
    let mut options = plain.shared.connections.options.clone();
    options.hosts.insert(server.host.clone(), HostSettings { insecure: true, ..HostSettings::default() });
    server.put_image("a", "b", b"x");
    run(Client::new(options).resolve(&server.reference("a:b"))).expect("over plain HTTP");
}

#[test]
fn mirrors_are_asked_first_and_may_fail() {
    let origin = Server::start(|_, _| None);
    origin.put_image("a", "b", b"x");
    let mirror = Server::start(|_, _| None);
    let (plain, _folder) = client(None);
    let mut options = plain.shared.connections.options.clone();
    let mirrors = vec![MirrorSettings {
        address: RegistryAddress::parse(&format!("{}/cache", mirror.host)),
        settings: HostSettings::default(),
    }];
    options.hosts.insert(origin.host.clone(), HostSettings { mirrors, ..HostSettings::default() });
    run(Client::new(options.clone()).resolve(&origin.reference("a:b"))).expect("from the registry itself");
    assert_eq!((mirror.count("HEAD /v2/cache/a/"), origin.count("HEAD")), (1, 1));
    mirror.put_image("cache/a", "b", b"x");
    run(Client::new(options).resolve(&origin.reference("a:b"))).expect("from the mirror");
    assert_eq!(origin.count("HEAD"), 1);
}
