//! What provenance states: who made it and how it is read, what went in with its digests, and nothing of this machine.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
};

use serde_json::{Value, json};

use crate::{
    small_registry::{SmallRegistry, digest},
    support::{Bake, GitServer, base_layout},
};

/// A server of one text.
fn http(text: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream.try_clone().expect("open"));
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|n| n > 2) {}
            write!(&stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}", text.len())
                .ok();
        }
    });
    format!("http://{address}/data")
}

fn head_of(bake: &Bake, folder: &str) -> String {
    let shown = std::process::Command::new("git").args(["rev-parse", "HEAD"]).current_dir(bake.path(folder)).output();
    String::from_utf8_lossy(&shown.expect("git is installed").stdout).trim().to_owned()
}

fn statement(bake: &Bake, name: &str) -> Value {
    serde_json::from_str(&bake.read(&format!("{name}/provenance.json"))).expect("JSON")
}

/// Materials as `uri algorithm:hex`, or what v0.2 calls them.
fn materials(list: &Value) -> Vec<String> {
    let one = |it: &Value| {
        let (algorithm, hex) = it["digest"].as_object().and_then(|all| all.iter().next()).expect("a digest");
        format!("{} {algorithm}:{}", it["uri"].as_str().expect("a text"), hex.as_str().expect("a text"))
    };
    list.as_array().expect("a list").iter().map(one).collect()
}

#[test]
fn provenance_says_who_built_and_of_what_and_has_the_layout_of_the_peer() {
    let bake = Bake::new();
    let registry = SmallRegistry::start();
    let name = format!("{}/team/base:1", registry.address);
    bake.write("base/Dockerfile", "FROM scratch\nCOPY Dockerfile /base\n");
    bake.run(&["build", "--provenance=false", "--push", "-t", &name, "base"]).ok();
    let base = registry.tag("team/base", "1").expect("it was pushed");
    bake.write("repo/file", "of the repository\n");
    let server = GitServer::new(&bake, "repo");
    let url = http("downloaded");
    bake.write(
        "app/Dockerfile",
        &format!(
            "FROM {name}\nADD {url} /data\nADD {}#main /repo\nCOPY --from=other /bin/busybox /busybox\n",
            server.url()
        ),
    );
    let layout = base_layout().display().to_string();
    let definition = |version: &str, more: &str| {
        format!(
            "target \"default\" {{\n  context = \"app\"\n  contexts = {{ other = \"oci-layout://{layout}\" }}\n  \
             attest = [\"type=provenance,mode=max,version={version}{more}\"]\n  \
             output = [\"type=local,dest={version}\"]\n}}\n"
        )
    };
    let grant = format!("fs.read={layout}");
    for version in ["v1", "v0.2"] {
        bake.write("docker-bake.hcl", &definition(version, ""));
        bake.run(&["--allow", &grant, "--progress=plain"]).ok();
    }
    let index: Value =
        serde_json::from_str(&std::fs::read_to_string(format!("{layout}/index.json")).expect("there")).expect("JSON");
    let layout_digest =
        index["manifests"][0]["digest"].as_str().expect("a digest").trim_start_matches("sha256:").to_owned();
    let platform = if cfg!(target_arch = "aarch64") { "linux%2Farm64" } else { "linux%2Famd64" };
    let wanted = [
        format!("{} sha1:{}", format_args!("{}#main", server.url()), head_of(&bake, "repo")),
        format!("{url} {}", digest(b"downloaded")),
        format!("pkg:docker/{}/team/base@1?platform={platform} {base}", registry.address),
        format!("pkg:oci/other@sha256:{layout_digest}?platform={platform} sha256:{layout_digest}"),
    ];

    let v1 = statement(&bake, "v1");
    assert_eq!(
        (&v1["_type"], &v1["predicateType"]),
        (&json!("https://in-toto.io/Statement/v1"), &json!("https://slsa.dev/provenance/v1"))
    );
    let predicate = &v1["predicate"];
    assert_eq!(predicate["buildDefinition"]["buildType"], "urn:bake:build:v1:buildkit-layout");
    assert_eq!(predicate["runDetails"]["builder"]["id"], "urn:bake:builder:embedded");
    let mut found = materials(&predicate["buildDefinition"]["resolvedDependencies"]);
    found.sort();
    assert_eq!(found, wanted);
    let request = &predicate["buildDefinition"]["externalParameters"]["request"];
    assert_eq!(request["args"]["context:other"], "oci-layout:other");
    assert_eq!(predicate["buildDefinition"]["externalParameters"]["configSource"]["path"], "Dockerfile");
    // Nothing is taken from the folder: what went in is known in full.
    assert_eq!(predicate["runDetails"]["metadata"]["buildkit_completeness"]["resolvedDependencies"], true);
    assert!(predicate["buildDefinition"]["internalParameters"]["buildConfig"]["llbDefinition"].is_array());

    let v02 = statement(&bake, "v0.2");
    assert_eq!(v02["predicate"]["buildType"], "urn:bake:build:v1:buildkit-layout");
    assert_eq!(v02["predicate"]["builder"]["id"], "urn:bake:builder:embedded");
    let mut found = materials(&v02["predicate"]["materials"]);
    found.sort();
    assert_eq!(found, wanted);

    for text in [v1.to_string(), v02.to_string()] {
        for path in [bake.dir.path().display().to_string(), layout.clone(), "/tmp".to_owned()] {
            assert!(!text.contains(&path), "{path} is in: {text}");
        }
    }
    bake.write("docker-bake.hcl", &definition("v1", ",builder-id=https://ci.example/7"));
    bake.run(&["--allow", &grant, "--progress=plain"]).ok();
    assert_eq!(statement(&bake, "v1")["predicate"]["runDetails"]["builder"]["id"], "https://ci.example/7");
}

#[test]
fn a_remote_context_is_known_by_its_commit() {
    let bake = Bake::new();
    bake.write("repo/sub/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    let server = GitServer::new(&bake, "repo");
    let url = format!("{}#main:sub", server.url());
    bake.run(&["build", "--provenance=mode=min", "-o", "out", &url]).ok();
    let predicate = &statement(&bake, "out")["predicate"];
    let source = &predicate["buildDefinition"]["externalParameters"]["configSource"];
    let uri = format!("{}#main", server.url());
    assert_eq!(*source, json!({"uri": uri, "digest": {"sha1": head_of(&bake, "repo")}, "path": "Dockerfile"}));
    let found = materials(&predicate["buildDefinition"]["resolvedDependencies"]);
    assert_eq!(found, [format!("{uri} sha1:{}", head_of(&bake, "repo"))]);
    assert_eq!(predicate["runDetails"]["metadata"]["buildkit_hermetic"], true);
}

#[test]
fn no_path_of_the_machine_is_published() {
    let bake = Bake::new();
    bake.write("p/far/Dockerfile", "FROM scratch\nCOPY file /\nCOPY --from=near file /near\n");
    bake.write("p/file", "x");
    bake.write("near/file", "y");
    bake.write("p/.dockerignore", "far\n");
    let (far, near) = (bake.path("p/far/Dockerfile").display().to_string(), bake.path("near").display().to_string());
    let arguments =
        ["build", "--provenance=mode=max", "-o", "out", "-f", &far, &format!("--build-context=near={near}"), "."];
    bake.run_in("p", &arguments).ok();
    let text = bake.read("p/out/provenance.json");
    assert!(!text.contains(&bake.dir.path().display().to_string()), "{text}");
    let predicate = &statement(&bake, "p/out")["predicate"];
    assert_eq!(predicate["buildDefinition"]["externalParameters"]["request"]["args"]["context:near"], "local:near");
    assert_eq!(predicate["runDetails"]["metadata"]["buildkit_completeness"]["resolvedDependencies"], false);
}
