//! Faults of finding, reading and parsing definition files.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
};

use super::Page;
use crate::support::Bake;

#[test]
fn without_a_definition_it_says_what_was_looked_for_and_where() {
    Page::new("f1_no_definition")
        .case("an empty folder", &[], &["--print"])
        .case("a file without a word", &[("docker-bake.hcl", "")], &["--print"])
        .case("the same, named", &[("my.hcl", "")], &["-f", "my.hcl", "--print"])
        .check();
}

#[test]
fn a_file_that_cannot_be_read_is_named_with_who_named_it() {
    let files = [("docker-bake.hcl", "target \"a\" {}\n"), ("ci/release.hcl", "target \"a\" {}\n")];
    Page::new("f2_missing_file")
        .case("misspelt", &files, &["-f", "docker-bak.hcl", "--print"])
        .case("misspelt in a folder", &files, &["-f", "ci/relaese.hcl", "--print"])
        .case("the folder is missing", &files, &["-f", "cd/release.hcl", "--print"])
        .case("a folder", &files, &["-f", "ci", "--print"])
        .case("below a file", &files, &["-f", "docker-bake.hcl/x.hcl", "--print"])
        .case("two of them", &files, &["-f", "a.hcl", "-f", "b.hcl", "--print"])
        .with("by the environment", &files, &["--print"], &[("BUILDX_BAKE_FILE", "ci/release.hcl:gone.hcl")], b"")
        .check();
}

#[test]
fn a_syntax_error_shows_what_was_found_and_what_is_wanted() {
    Page::new("f3_syntax_hcl")
        .hcl("two attributes in a block of one line", "target \"a\" { context = \".\", tags = [\"x\"] }\n")
        .hcl("a value is missing", "target \"a\" {\n  context =\n  tags = [\"x\"]\n}\n")
        .hcl("a string without its end", "target \"a\" {\n  context = \"src\n  tags = [\"x\"]\n}\n")
        .hcl("a block without its end", "target \"a\" {\n  context = \".\"\n\ntarget \"b\" {\n}\n")
        .hcl("a brace too many", "target \"a\" {\n}\n}\n")
        .hcl("a list without its end", "target \"a\" {\n  tags = [\"x\",\n  context = \".\"\n}\n")
        .hcl("an item without a comma", "target \"a\" {\n  tags = [\"x\" \"y\"]\n}\n")
        .hcl("an interpolation without its end", "target \"a\" {\n  context = \"${a\"\n}\n")
        .hcl("a directive without its end", "target \"a\" {\n  context = \"%{ if true }x\"\n}\n")
        .hcl("a heredoc without its end", "target \"a\" {\n  dockerfile-inline = <<EOT\nFROM scratch\n}\n")
        .hcl("single quotes", "target 'a' {\n  context = '.'\n}\n")
        .hcl("a colon for an equals sign", "target \"a\" {\n  context: \".\"\n}\n")
        .hcl("an escape that there is not", "target \"a\" {\n  context = \"C:\\dir\"\n}\n")
        .hcl("an attribute twice, and then something else", "a = 1\nb = = 2\nc = 3\nd = ]\n")
        .check();
    Page::new("f3_syntax_json")
        .case(
            "a comma is missing",
            &[("b.json", "{\"target\": {\"a\": {}\n \"b\": {}}}\n")],
            &["-f", "b.json", "--print"],
        )
        .case(
            "a comma too many",
            &[("b.json", "{\"target\": {\"a\": {\"tags\": [\"x\",]}}}\n")],
            &["-f", "b.json", "--print"],
        )
        .case("no end", &[("b.json", "{\"target\": {\"a\": {}\n")], &["-f", "b.json", "--print"])
        .case("no object", &[("b.json", "[1]\n")], &["-f", "b.json", "--print"])
        .case("a comment", &[("b.json", "{\n  // mine\n  \"target\": {}}\n")], &["-f", "b.json", "--print"])
        .case(
            "an expression in a string",
            &[("b.json", "{\"target\": {\"a\": {\"context\": \"x${1 +}\"}}}\n")],
            &["-f", "b.json", "--print"],
        )
        .check();
    Page::new("f3_syntax_yaml")
        .compose("a tab", "services:\n\tweb:\n\t\tbuild: .\n")
        .compose("a list that is not closed", "services:\n  web:\n    build:\n      tags: [x\n")
        .compose("a wrong indent", "services:\n  web:\n    build: .\n   image: x\n")
        .compose("a key twice", "services:\n  web:\n    build: .\n    build: ./x\n")
        .compose("an alias of nothing", "services:\n  web:\n    build: *base\n")
        .case(
            "a bake file in YAML",
            &[("bake.yaml", "target:\n  a:\n    tags: [\"${1 +}\"]\n")],
            &["-f", "bake.yaml", "--print"],
        )
        .check();
}

#[test]
fn a_text_of_no_known_format_is_named_with_what_it_was_read_as() {
    let page = Page::new("f4_unknown_format")
        .case("words", &[("notes.txt", "this is no definition\n")], &["-f", "notes.txt", "--print"])
        .case("a Dockerfile", &[("Dockerfile", "FROM scratch\nCOPY . .\n")], &["-f", "Dockerfile", "--print"])
        .case("YAML", &[("x.conf", "services:\n  web: [\n")], &["-f", "x.conf", "--print"])
        .case("JSON", &[("x.conf", "{\"target\": \n")], &["-f", "x.conf", "--print"]);
    page.with("standard input", &[], &["-f", "-", "--print"], &[], b"this is no definition\n").check();
}

#[test]
fn a_text_that_is_not_utf8_is_named_with_the_first_wrong_byte() {
    let bake = Bake::new();
    std::fs::write(bake.path("docker-bake.hcl"), b"target \"a\" {\n  context = \"caf\xe9\"\n}\n").expect("writable");
    Page::new("f5_not_utf8").at(&bake, "latin-1", &["--print"], &[], b"").check();
}

/// Answers each of so many requests with the text, and says where.
pub(super) fn serve(n_requests: usize, status: &'static str, body: Vec<u8>) -> (String, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound").to_string();
    let thread = std::thread::spawn(move || {
        for _ in 0..n_requests {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
                request.push(byte[0]);
            }
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            // A client that has read enough goes away.
            let _written = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
        }
    });
    (address, thread)
}

#[test]
fn a_remote_definition_that_cannot_be_had_is_named_by_its_url() {
    let (gone, gone_thread) = serve(1, "404 Not Found", b"no".to_vec());
    let (large, large_thread) = serve(1, "200 OK", vec![b'#'; (2 << 20) + 1]);
    let (wrong, wrong_thread) = serve(1, "200 OK", b"target \"a\" {\n  tags = \"x\"\n}\n".to_vec());
    let url = |address: &str, name: &str| format!("http://{address}/{name}");
    let mut page = Page::new("f6_remote")
        .case("not there", &[], &[&url(&gone, "bake.hcl"), "--print"])
        .case("too large", &[], &[&url(&large, "bake.hcl"), "--print"])
        .case("a fault in it", &[], &[&url(&wrong, "bake.hcl"), "a", "--print"]);
    for address in [gone, large, wrong] {
        page = page.replace(&address, "[HOST]");
    }
    for thread in [gone_thread, large_thread, wrong_thread] {
        thread.join().expect("the server ends");
    }
    page.check();
}

#[test]
fn a_switch_of_the_environment_that_is_no_boolean_is_named() {
    let files = [("docker-bake.hcl", "target \"default\" {}\n")];
    Page::new("f7_bad_switch")
        .with("an error", &files, &["--print"], &[("BUILDX_BAKE_ENTITLEMENTS_FS", "maybe")], b"")
        .with("a warning", &files, &["--print"], &[("BUILDX_BAKE_DISABLE_VARS_ENV_LOOKUP", "maybe")], b"")
        .with("a way to show progress", &files, &["--print"], &[("BUILDKIT_PROGRESS", "loud")], b"")
        .check();
}

/// A pipe without a writer must not be waited for, whatever names it: the run would hang beyond SIGTERM.
#[test]
fn a_pipe_or_device_in_place_of_a_file_is_refused_at_once() {
    let bake = Bake::new();
    bake.write("docker-bake.hcl", "target \"a\" {\n  context = \"ctx\"\n}\n");
    bake.write("ctx/Dockerfile", "FROM scratch\nCOPY a /\n");
    bake.write("ignored/Dockerfile", "FROM scratch\nCOPY a /\n");
    bake.write("piped/a", "");
    bake.write("include.hcl", "include { file = \"pipe\" }\n");
    bake.write("env.yml", "services: {a: {build: ctx, env_file: [pipe]}}\n");
    bake.write("extends.yml", "services: {a: {extends: {file: pipe, service: a}}}\n");
    bake.write("read.hcl", "target \"a\" {\n  args = { x = file(\"pipe\") }\n}\n");
    for path in ["pipe", "ignored/.dockerignore", "piped/Dockerfile"] {
        let made = rustix::fs::mknodat(
            rustix::fs::CWD,
            bake.path(path),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        );
        made.expect("pipes can be made");
    }
    let none = "--set=*.output=type=cacheonly";
    for (args, named) in [
        (&["-f", "pipe", "--print"][..], "is a named pipe: pipe"),
        (&["-f", "/dev/zero", "--print"], "is a device: /dev/zero"),
        (&["--var-file", "pipe", "--print"], "is a named pipe: pipe"),
        (&["-f", "include.hcl", "--print"], "is a named pipe: pipe"),
        (&["-f", "env.yml", "--print"], "is a named pipe: pipe"),
        (&["-f", "extends.yml", "--print"], "is a named pipe: pipe"),
        (&["-f", "read.hcl", "--print"], "is a named pipe, not a regular file: pipe"),
        (&["a", "--set", "a.context=piped", none], "the Dockerfile is a named pipe: piped/Dockerfile"),
        (
            &["a", "--set", "a.dockerfile=/dev/zero", none, "--allow=fs.read=/dev"],
            "the Dockerfile is a device: /dev/zero",
        ),
        (&["a", "--set", "a.context=ignored", none], "the ignore file cannot be read: "),
    ] {
        let ran = bake.run(args);
        assert_eq!(ran.code, Some(1), "{args:?}: {ran:#?}");
        let said = ran.stderr.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
        assert!(said.contains(named), "{args:?}: {ran:#?}");
    }
}
