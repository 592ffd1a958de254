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
    let (mut text, mut has_source, mut has_history) = (Vec::new(), false, false);
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
    }
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
