//! A container of Azure Blob Storage, or a bucket of Google Cloud Storage: a double in memory of what caches ask of either, with
//! the conditions under which an object is written.

use std::{
    collections::BTreeMap,
    io::{BufReader, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

use crate::small_registry::Request;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cloud {
    Azure,
    Google,
}

#[derive(Default)]
struct Content {
    /// Bytes and generation, by the path of the request.
    objects: BTreeMap<String, (Vec<u8>, u64)>,
    n_written: u64,
    has_container: bool,
    /// Blocks of Azure that are in no list yet, by path and id.
    blocks: BTreeMap<(String, String), Vec<u8>>,
    /// What no real service would have accepted.
    faults: Vec<String>,
}

/// A store on a free port; its threads end with the process.
pub(crate) struct BucketDouble {
    /// Host and port.
    pub(crate) address: String,
    content: Arc<Mutex<Content>>,
}

impl BucketDouble {
    pub(crate) fn start(cloud: Cloud) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let content = Arc::new(Mutex::new(Content::default()));
        let shared = Arc::clone(&content);
        drop(std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let content = Arc::clone(&shared);
                drop(std::thread::spawn(move || serve(stream, &content, cloud)));
            }
        }));
        Self { address, content }
    }

    /// The names of all objects, without the container or bucket.
    pub(crate) fn names(&self) -> Vec<String> {
        let content = self.content.lock().expect("no thread panics");
        content.objects.keys().map(|path| path.split('/').skip(2).collect::<Vec<_>>().join("/")).collect()
    }

    /// Puts other bytes in the place of all blobs.
    pub(crate) fn spoil(&self) {
        let mut content = self.content.lock().expect("no thread panics");
        let blobs = content.objects.iter_mut().filter(|(path, _)| path.contains("sha256"));
        blobs.for_each(|(_, (bytes, _))| bytes.iter_mut().for_each(|byte| *byte ^= 1));
    }

    /// Fails if a request was sent that the real service would have refused.
    #[track_caller]
    pub(crate) fn check(&self) {
        let faults = self.content.lock().expect("no thread panics").faults.clone();
        assert!(faults.is_empty(), "{faults:#?}");
    }
}

fn serve(stream: TcpStream, content: &Mutex<Content>, cloud: Cloud) {
    let Ok(mut writer) = stream.try_clone() else { return };
    let mut reader = BufReader::new(stream);
    while let Some(request) = Request::read(&mut reader) {
        let (status, body, generation) = answer(&request, &mut content.lock().expect("no thread panics"), cloud);
        let tag = generation.map_or_else(String::new, |it| format!("ETag: \"{it}\"\r\nx-goog-generation: {it}\r\n"));
        let head = format!(
            "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n{tag}\r\n",
            body.len()
        );
        let body = if request.method == "HEAD" { &[][..] } else { &body[..] };
        if writer.write_all(head.as_bytes()).and_then(|()| writer.write_all(body)).is_err() {
            return;
        }
    }
}

fn answer(request: &Request, content: &mut Content, cloud: Cloud) -> (u16, Vec<u8>, Option<u64>) {
    let header = |name: &str| request.headers.get(name).map(String::as_str);
    let path = request.path.replace("%3A", ":").replace("%2F", "/");
    let is_signed = match cloud {
        Cloud::Azure => header("authorization").is_some_and(|it| it.starts_with("SharedKey account:")),
        Cloud::Google => header("authorization").is_none_or(|it| it.starts_with("Bearer")),
    };
    if !is_signed || cloud == Cloud::Azure && header("x-ms-version").is_none() {
        content.faults.push(format!("{} {path}: {:?}", request.method, request.headers));
        return (403, Vec::new(), None);
    }
    if request.method == "PUT" && request.query == "restype=container" {
        return (if std::mem::replace(&mut content.has_container, true) { 409 } else { 201 }, Vec::new(), None);
    }
    if cloud == Cloud::Azure && !content.has_container {
        return (404, b"<Error><Code>ContainerNotFound</Code></Error>".to_vec(), None);
    }
    let known = content.objects.get(&path);
    if request.method == "POST" {
        return parts_of_google(request, &path, content);
    }
    if request.method != "PUT" {
        return known
            .map_or_else(|| (404, Vec::new(), None), |(bytes, generation)| (200, bytes.clone(), Some(*generation)));
    }
    if header("x-goog-copy-source").is_some() {
        return (200, b"<CopyObjectResult></CopyObjectResult>".to_vec(), None);
    }
    let mut bytes = request.body.clone();
    match request.query("comp").as_deref() {
        Some("block") => {
            content.blocks.insert((path, request.query("blockid").unwrap_or_default()), bytes);
            return (201, Vec::new(), None);
        }
        Some("blocklist") => {
            let list = String::from_utf8_lossy(&bytes).into_owned();
            let ids = list.split("<Uncommitted>").skip(1).filter_map(|part| part.split('<').next());
            bytes =
                ids.flat_map(|id| content.blocks.remove(&(path.clone(), id.to_owned())).unwrap_or_default()).collect();
        }
        None if request.query("partNumber").is_some() => {
            let number = request.query("partNumber").unwrap_or_default();
            content.blocks.insert((path, format!("{number:0>8}")), bytes);
            return (200, Vec::new(), Some(1));
        }
        _ if cloud == Cloud::Azure && header("x-ms-blob-type") != Some("BlockBlob") => {
            content.faults.push(format!("{} {path}: no type of a blob", request.method));
            return (400, Vec::new(), None);
        }
        _ => (),
    }
    let generation = known.map_or(0, |(_, generation)| *generation);
    let is_refused = header("if-none-match").is_some_and(|it| it == "*" && generation > 0)
        || header("if-match").is_some_and(|it| it.trim_matches('"') != generation.to_string())
        || header("x-goog-if-generation-match").is_some_and(|it| it != generation.to_string());
    if is_refused {
        return (412, Vec::new(), None);
    }
    content.n_written += 1;
    content.objects.insert(path, (bytes, content.n_written));
    (201, Vec::new(), Some(content.n_written))
}

/// Begins or ends an upload in parts (XML API of Cloud Storage, multipart uploads).
fn parts_of_google(request: &Request, path: &str, content: &mut Content) -> (u16, Vec<u8>, Option<u64>) {
    if request.query.starts_with("uploads") {
        let begun = "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>";
        return (200, begun.as_bytes().to_vec(), None);
    }
    let mine = content.blocks.keys().filter(|(of, _)| of == path).cloned().collect::<Vec<_>>();
    let bytes = mine.iter().flat_map(|key| content.blocks.remove(key).unwrap_or_default()).collect();
    content.n_written += 1;
    content.objects.insert(path.to_owned(), (bytes, content.n_written));
    let done = "<CompleteMultipartUploadResult><ETag>\"1\"</ETag></CompleteMultipartUploadResult>";
    (200, done.as_bytes().to_vec(), Some(content.n_written))
}
