//! Shared caches in a bucket of S3, on a real server of its protocol.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::{
    cache_faults::Machines,
    object_server::{self, Admitted, ObjectServer},
    support::{Bake, Ran, noise, skipped, steps_and_targets},
};

fn run(bake: &Bake, home: &str, cache: &str, env: &[(&str, &str)], args: &[&str]) -> Ran {
    let args = [&["--progress=plain"], args].concat();
    bake.run_with("", &args, &[&[("BAKE_HOME", home), ("BAKE_CACHE", cache)], env].concat())
}

fn n_run(ran: &Ran) -> usize {
    ran.stderr.matches(" DONE ").count()
}

#[test]
fn a_second_machine_builds_nothing_and_fetches_only_what_it_needs() {
    let bake = steps_and_targets();
    let Some(server) = ObjectServer::start(&bake, Admitted::OneUser) else { return };
    let cache = format!("{},prefix=p/,name=n;m,mode=max", server.cache());
    let first = run(&bake, "h1", &cache, &server.env(), &[]).ok();
    assert!(n_run(&first) == 2 && !first.stderr.contains("cannot"), "{first:#?}");
    let blobs = || server.requests(&["GET", "/cache/p/blobs/sha256"]).len();
    let found = run(&bake, "h2", &cache, &server.env(), &["--set=*.output=type=cacheonly"]).ok();
    assert_eq!((n_run(&found), blobs()), (0, 0), "nobody looks into a layer: {found:#?}");
    let found = run(&bake, "h3", &cache, &server.env(), &[]).ok();
    assert_eq!((n_run(&found), blobs(), bake.read("out/b").as_str()), (0, 1, "content"), "{found:#?}");
    // A layer that is sent in parts.
    let long = noise(20 << 20);
    std::fs::write(bake.path("g"), &long).expect("writable");
    let args = ["--set=default.dockerfile=Dockerfile.long"];
    bake.write("Dockerfile.long", "FROM scratch\nCOPY g /b\n");
    let _made = run(&bake, "h1", &cache, &server.env(), &args).ok();
    let found = run(&bake, "h2", &cache, &server.env(), &args).ok();
    assert!(n_run(&found) == 0 && std::fs::read(bake.path("out/b")).expect("it was built") == long, "{found:#?}");
    assert_eq!(server.requests(&["POST", "?uploads"]).len(), 1, "{:?}", server.requests(&["POST"]));
    // What is there is not written again, under neither name.
    let written = server.requests(&["PUT", " 200"]);
    assert_eq!(written.iter().filter(|it| it.contains("/manifests/")).count(), 4, "{written:?}");
    let n_blobs = written.iter().filter(|it| it.contains("/p/blobs/")).count();
    // Blobs that are older than `touch_refresh` are made younger, by a request whose signature holds.
    let again = run(&bake, "h3", &format!("{cache},touch_refresh=0s"), &server.env(), &[]).ok();
    let refreshed = server.requests(&["PUT", "/p/blobs/", " 200"]).len() - n_blobs;
    assert_eq!((refreshed, server.requests(&[" 403"])), (2, vec![]), "{again:#?}");
}

#[test]
fn credentials_are_needed_and_shown_nowhere() {
    let bake = steps_and_targets();
    let Some(server) = ObjectServer::start(&bake, Admitted::OneUser) else { return };
    let (id, secret) = &server.key;
    let with = |secret: &str| format!("{},mode=max,access_key_id={id},secret_access_key={secret}", server.cache());
    let made = run(&bake, "h1", &with(secret), &[("BAKE_LOG", "debug")], &[]).ok();
    assert!(n_run(&made) == 2 && !made.stderr.contains(secret.as_str()), "{made:#?}");
    let wrong = "wrong-secret-of-the-test";
    let to = format!("{},ignore-error=true", with(wrong));
    let refused = run(&bake, "h2", &to, &[("BAKE_LOG", "debug")], &[]).ok();
    assert!(refused.stderr.contains("a cache cannot be read: ") && n_run(&refused) == 2, "{refused:#?}");
    assert!(refused.stderr.contains("a cache cannot be written: "), "{refused:#?}");
    assert!(refused.stderr.contains("access is denied") && !refused.stderr.contains(wrong), "{refused:#?}");
    let printed = run(&bake, "h2", &to, &[], &["--print"]).ok();
    assert!(printed.stdout.contains("secret_access_key") && !printed.stdout.contains(wrong), "{printed:#?}");
    // Nor where the text cannot be read.
    let bad = run(&bake, "h2", "type=s3,secret_access_key=first-half,second-half,bucket=b", &[], &[]);
    let shown = ["first-half", "second-half"].map(|half| bad.stderr.contains(half));
    assert_eq!((bad.code, shown), (Some(1), [false, false]), "{bad:#?}");
    // The file of a profile.
    bake.write("keys", &format!("[ci]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n"));
    let keys = bake.path("keys").display().to_string();
    let profile = [("AWS_SHARED_CREDENTIALS_FILE", keys.as_str()), ("AWS_PROFILE", "ci")];
    let found = run(&bake, "h3", &server.cache(), &profile, &[]).ok();
    assert_eq!(n_run(&found), 0, "{found:#?}");
}

#[test]
fn a_wrong_or_lost_blob_is_refused_and_its_step_is_built() {
    let bake = steps_and_targets();
    let Some(server) = ObjectServer::start(&bake, Admitted::Everybody) else { return };
    let cache = format!("{},mode=max", server.cache());
    let _made = run(&bake, "h1", &cache, &server.env(), &[]).ok();
    let manifest: Value = serde_json::from_str(&server.request("GET", "/cache/manifests/buildkit", b"")).expect("JSON");
    let layers = manifest["layers"].as_array().expect("layers");
    for layer in layers {
        let size = usize::try_from(layer["annotations"]["size"].as_u64().expect("a size")).expect("small");
        let path = format!("/cache/blobs/{}", layer["blob"].as_str().expect("a digest"));
        server.request("PUT", &path, &vec![b'x'; size]);
    }
    let told = "a shared cache is left out, and what it has is built: its layer sha256:";
    let from = [&server.env()[..], &[("BAKE_CACHE_TO", "")]].concat();
    let wrong = run(&bake, "h2", &cache, &from, &[]).ok();
    assert!(wrong.stderr.contains(told) && n_run(&wrong) == 2, "{wrong:#?}");
    assert_eq!(bake.read("out/b"), "content");
    for layer in layers {
        server.request("DELETE", &format!("/cache/blobs/{}", layer["blob"].as_str().expect("a digest")), b"");
    }
    let lost = run(&bake, "h3", &cache, &from, &[]).ok();
    assert!(lost.stderr.contains(told) && lost.stderr.contains("it is not there"), "{lost:#?}");
    // Who writes the cache brings them back.
    let _healed = run(&bake, "h3", &cache, &server.env(), &[]).ok();
    let found = run(&bake, "h4", &cache, &from, &[]).ok();
    assert!(n_run(&found) == 0 && !found.stderr.contains(told), "{found:#?}");
}

#[test]
fn a_server_that_is_down_costs_a_warning() {
    let bake = steps_and_targets();
    let free = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a free port");
    let cache = format!("type=s3,bucket=b,region=r,endpoint_url=http://{free},retry_max_attempts=1");
    let env = [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "secret")];
    let read = run(&bake, "h1", &cache, &[&env[..], &[("BAKE_CACHE_TO", "")]].concat(), &[]).ok();
    assert_eq!(read.stderr.matches("a cache cannot be read: ").count(), 1, "{read:#?}");
    assert_eq!((n_run(&read), bake.read("out/b").as_str()), (2, "content"));
    let refused = run(&bake, "h1", &cache, &env, &[]);
    assert!(refused.code == Some(1) && refused.stderr.contains("× a cache cannot be written: "), "{refused:#?}");
    let warned = run(&bake, "h1", &format!("{cache},ignore-error=true"), &env, &[]).ok();
    assert!(warned.stderr.contains("⚠ a cache cannot be written: "), "{warned:#?}");
    // What is missing is told before anything runs.
    let missing = run(&bake, "h2", "type=s3,region=r", &env, &[]);
    assert!(missing.code == Some(1) && n_run(&missing) == 0, "{missing:#?}");
    assert!(missing.stderr.contains("it has no `bucket`: add bucket=…, or set"), "{missing:#?}");
}

#[test]
fn eight_machines_that_write_one_bucket_at_once_lose_no_record() {
    let bake = steps_and_targets();
    let Some(server) = ObjectServer::start(&bake, Admitted::Everybody) else { return };
    let cache = format!("{},mode=max", server.cache());
    let names: Vec<String> = (1..=8).map(|n| format!("t{n}")).collect();
    let start = |name: &String| {
        let mut command = bake.command("", &["--progress=plain", name]);
        command.env("BAKE_HOME", bake.path(&format!("home-{name}"))).env("BAKE_CACHE", &cache).envs(server.env());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("the binary starts")
    };
    let running: Vec<_> = names.iter().map(start).collect();
    for child in running {
        let output = child.wait_with_output().expect("it was started");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !stderr.contains('⚠'), "{stderr}");
    }
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    let found = run(&bake, "other", &cache, &server.env(), &all).ok();
    assert_eq!(n_run(&found), 0, "{found:#?}");
    let emptied = run(&bake, "home-t1", &format!("{cache},reset=true"), &server.env(), &["t1", "t2"]).ok();
    assert!(!emptied.stderr.contains('⚠'), "{emptied:#?}");
    let found = run(&bake, "last", &cache, &server.env(), &["t1", "t2", "t3"]).ok();
    assert_eq!(n_run(&found), 1, "of what earlier runs wrote nothing is left: {found:#?}");
}

#[test]
fn of_two_machines_that_share_a_bucket_the_second_builds_nothing() {
    let Some(mut machines) = Machines::connect("s") else { return };
    let bake = steps_and_targets();
    let mut serve = Command::new(object_server::program());
    serve.args(["-H", Machines::ADDRESS, "-p", "5000"]);
    // `ip netns exec` is there in any case: whether the server is, shows when it is asked for its help.
    if Command::new(object_server::program()).arg("--help").stdout(Stdio::null()).status().is_err() {
        skipped("needs the program moto_server of the Python package moto", Some("moto_server"));
        return;
    }
    let serve = machines.on(0, &serve).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    machines.server = Some(serve.expect("ip is installed"));
    machines.wait_for(5000);
    let address = Machines::ADDRESS;
    let request =
        format!("PUT /cache HTTP/1.1\\r\\nHost: {address}\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n");
    let mut make = Command::new("bash");
    make.args(["-c", &format!("exec 3<>/dev/tcp/{address}/5000; printf '{request}' >&3; cat <&3")]);
    let made = machines.on(1, &make).output().expect("bash is installed");
    assert!(made.stdout.starts_with(b"HTTP/1.1 200"), "{made:?}");
    let cache = format!("type=s3,bucket=cache,endpoint_url=http://{address}:5000,use_path_style=true,mode=max");
    let env = [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "secret")];
    assert_eq!(machines.build(0, &bake, &cache, &env), (2, false));
    std::fs::remove_dir_all(bake.path("out")).expect("it is there");
    assert_eq!(machines.build(1, &bake, &cache, &env), (0, false));
    assert_eq!(bake.read("out/b"), "content");
}

/// What BuildKit writes: no field that is empty, keys and times of its own.
const OF_BUILDKIT: &str = r#"{"layers":[{"blob":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
"parent":-1,"annotations":{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip",
"diffID":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","createdAt":"2026-01-02T03:04:05Z"}}],
"records":[{"digest":"sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"},
{"layers":[{"layer":0,"createdAt":"2026-01-02T03:04:05Z"}],
"digest":"sha256:fcde2b2edba56bf408601fb721fe9b5c338d10ee429ea04fae5511b68fbf8fb9","inputs":[[{"selector":"s","link":0}]]}]}"#;

#[test]
fn what_buildkit_wrote_is_no_fault_and_servers_without_conditional_writes_are_told() {
    let bake = steps_and_targets();
    let Some(server) = ObjectServer::start(&bake, Admitted::Everybody) else { return };
    server.request("PUT", "/cache/manifests/buildkit", OF_BUILDKIT.as_bytes());
    let cache = format!("{},mode=max", server.cache());
    let made = run(&bake, "h1", &cache, &server.env(), &["t1"]).ok();
    assert!(n_run(&made) == 1 && !made.stderr.contains('⚠'), "{made:#?}");
    let blind = blind_to_conditions(&server.address);
    let cache = cache.replace(&server.address, &blind);
    let told = "has no conditional writes: builds that write a cache there at the same moment may lose records";
    let made = run(&bake, "h2", &cache, &server.env(), &["t2", "t3"]).ok();
    assert_eq!((n_run(&made), made.stderr.matches(told).count()), (2, 1), "{made:#?}");
    let found = run(&bake, "h3", &cache, &server.env(), &["t1", "t2", "t3"]).ok();
    assert_eq!(n_run(&found), 0, "{found:#?}");
}

/// A server that passes requests on without their conditions. Its threads end with the process.
fn blind_to_conditions(server: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let (address, server) = (listener.local_addr().expect("an address").to_string(), server.to_owned());
    drop(std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let server = server.clone();
            drop(std::thread::spawn(move || pass_on(client, &server)));
        }
    }));
    address
}

fn pass_on(mut client: TcpStream, server: &str) {
    let mut reader = BufReader::new(client.try_clone().expect("a socket"));
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let name = line.to_lowercase();
        if let Some(number) = name.strip_prefix("content-length:") {
            length = number.trim().parse().expect("a number");
        }
        if line == "\r\n" {
            head.push_str("Connection: close\r\n\r\n");
            break;
        }
        if !name.starts_with("if-") && !name.starts_with("connection:") {
            head.push_str(&line);
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("the whole body");
    let mut upstream = TcpStream::connect(server).expect("the server listens");
    upstream.write_all(&[head.as_bytes(), &body].concat()).expect("the server reads");
    let mut answer = Vec::new();
    upstream.read_to_end(&mut answer).expect("the server answers");
    // Whoever has gone away needs no answer.
    drop(client.write_all(&answer));
}
