//! `ADD` of a URL: credentials in it are shown and recorded nowhere, and a checksum is always compared.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::support::{Bake, Ran, tar_entries};

const PASSWORD: &str = "hunter2-of-the-test";

/// A server of the file `/g` for `user` with [`PASSWORD`], which answers a conditional request with 304. Its address.
fn server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    std::thread::spawn(move || {
        let wanted = format!("authorization: Basic {}", STANDARD.encode(format!("user:{PASSWORD}"))).to_lowercase();
        for stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream.try_clone().expect("open"));
            let mut request = String::new();
            while reader.read_line(&mut request).is_ok_and(|n| n > 2) {}
            let request = request.to_lowercase();
            let head = if !request.contains(&wanted) {
                "401 x\r\nContent-Length: 0\r\n"
            } else if request.contains("if-none-match") {
                "304 x\r\n"
            } else {
                "200 x\r\nETag: \"e\"\r\nContent-Length: 5\r\n"
            };
            let body = if head.starts_with("200") { "hello" } else { "" };
            (&stream).write_all(format!("HTTP/1.1 {head}Connection: close\r\n\r\n{body}").as_bytes()).ok();
        }
    });
    address
}

/// A server whose answers have these headers and this body.
fn serve(headers: &'static str, body: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream.try_clone().expect("open"));
            let mut request = String::new();
            while reader.read_line(&mut request).is_ok_and(|n| n > 2) {}
            let head =
                format!("HTTP/1.1 200 x\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
            (&stream).write_all(head.as_bytes()).and_then(|()| (&stream).write_all(&body)).ok();
        }
    });
    address
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).and_then(|()| encoder.finish()).expect("memory")
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(bytes);
    digest.iter().fold("sha256:".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

#[test]
fn a_file_that_is_sent_coded_is_decoded_unless_the_checksum_is_that_of_the_coded_bytes() {
    let bake = Bake::new();
    bake.write("docker-bake.hcl", "target \"default\" {\n  output = [\"type=local,dest=out\"]\n}\n");
    let coded = gzip("plain text\n");
    let (plain_sum, coded_sum) = (sha256(b"plain text\n"), sha256(&coded));
    let server = serve("Content-Encoding: gzip\r\nContent-Type: text/plain\r\n", coded.clone());
    let add = |flags: &str, path: &str| format!("FROM scratch\nADD {flags} http://{server}{path} /f\n");
    let content = |dockerfile: &str| {
        let _ran = build(&bake, dockerfile, "--progress=plain").ok();
        std::fs::read(bake.path("out/f")).expect("the file is there")
    };
    assert_eq!(content(&add("", "/app.js")), b"plain text\n");
    assert_eq!(content(&add(&format!("--checksum={plain_sum}"), "/checked.js")), b"plain text\n");
    assert_eq!(content(&add(&format!("--checksum={coded_sum}"), "/as-sent.js")), coded);
    // The compression of a gzip file, named a second time.
    assert_eq!(content(&add("", "/app.js.gz")), coded);
    let unknown = serve("Content-Encoding: br\r\n", b"??".to_vec());
    let ran = build(&bake, &format!("FROM scratch\nADD http://{unknown}/f /f\n"), "--progress=plain");
    assert!(ran.code == Some(1) && ran.stderr.contains("content coding that cannot be undone: br"), "{ran:?}");
    let wrong = serve("Content-Encoding: gzip\r\n", b"plain".to_vec());
    let ran = build(&bake, &format!("FROM scratch\nADD http://{wrong}/f /f\n"), "--progress=plain");
    assert!(ran.code == Some(1) && ran.stderr.contains("not in the content coding"), "{ran:?}");
}

fn build(bake: &Bake, dockerfile: &str, progress: &str) -> Ran {
    bake.write("Dockerfile", dockerfile);
    let ran = bake.run(&[progress, "--allow", "fs.write=*"]);
    for shown in [&ran.stdout, &ran.stderr] {
        assert!(!shown.contains(PASSWORD), "the password is shown: {shown}");
    }
    ran
}

/// All strings of a JSON document, those that are base64 decoded as well.
fn strings(value: &serde_json::Value, found: &mut Vec<String>) {
    match value {
        serde_json::Value::String(text) => {
            found.extend(STANDARD.decode(text).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()));
            found.push(text.clone());
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| strings(item, found)),
        serde_json::Value::Object(entries) => entries.values().for_each(|entry| strings(entry, found)),
        _ => (),
    }
}

fn target(bake: &Bake) {
    bake.write(
        "docker-bake.hcl",
        "target \"default\" {\n  context = \".\"\n  attest = [\"type=provenance,mode=max\"]\n  \
         output = [\"type=oci,dest=out.tar\"]\n}\n",
    );
}

#[test]
fn credentials_of_a_url_are_in_no_log_history_or_provenance() {
    let (bake, address) = (Bake::new(), server());
    target(&bake);
    let dockerfile = format!("FROM scratch\nADD http://user:{PASSWORD}@{address}/g /g\n");
    for progress in ["--progress=plain", "--progress=rawjson"] {
        let ran = build(&bake, &dockerfile, progress).ok();
        assert!(format!("{}{}", ran.stdout, ran.stderr).contains(&format!("ADD http://{address}/g")), "{ran:#?}");
    }
    let (mut text, mut has_source, mut has_history, mut is_pinned) = (Vec::new(), false, false, false);
    let pin = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    let pinned = format!("{{\"type\":\"http\",\"ref\":\"http://{address}/g\",\"pin\":\"{pin}\"}}");
    for (_, content) in tar_entries(&bake.path("out.tar")) {
        text.push(String::from_utf8_lossy(&content).into_owned());
        if let Ok(document) = serde_json::from_slice(&content) {
            strings(&document, &mut text);
        }
    }
    for text in &text {
        assert!(!text.contains(PASSWORD), "the password is recorded: {text}");
        has_source |= text.starts_with("FROM scratch\nADD http://");
        has_history |= text.starts_with("ADD http://");
        is_pinned |= text.starts_with("{\"frontend\"") && text.contains(&pinned);
    }
    assert!(is_pinned, "build information has the digest of the download: {text:#?}");
    assert!(has_source && has_history, "the places where it was are there: {text:#?}");
}

#[test]
fn a_checksum_is_compared_although_the_server_says_that_nothing_changed() {
    let (bake, address) = (Bake::new(), server());
    target(&bake);
    let dockerfile = |flag: &str| format!("FROM scratch\nADD {flag} http://user:{PASSWORD}@{address}/g /g\n");
    build(&bake, &dockerfile(""), "--progress=plain").ok();
    let other = format!("--checksum=sha256:{}", "0".repeat(64));
    let ran = build(&bake, &dockerfile(&other), "--progress=plain");
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(ran.stderr.contains("has the digest sha256:2cf24dba"), "{}", ran.stderr);
    assert!(ran.stderr.contains("http://*"), "the line is quoted: {}", ran.stderr);
}
