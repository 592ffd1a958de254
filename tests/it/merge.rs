//! `bake merge`: images that runners have pushed for one platform each become one index.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
};

use serde_json::Value;

use crate::{
    docker_registry::Registry,
    support::{Bake, Ran},
};

fn project(registry: &str) -> Bake {
    let bake = Bake::new();
    write_project(&bake, registry);
    bake
}

fn write_project(bake: &Bake, registry: &str) {
    bake.write("Dockerfile", "FROM scratch\nARG TARGETARCH\nCOPY Dockerfile /file-$TARGETARCH\n");
    let target = |name: &str| {
        format!(
            "target \"{name}\" {{\n  platforms = [\"linux/amd64\", \"linux/arm64\"]\n  \
             tags = [\"{registry}/{name}:1\", \"{registry}/{name}:latest\", \"{registry}/copy/{name}:1\"]\n  \
             annotations = [\"index:org.example.who=us\", \"manifest-descriptor:org.example.entry=yes\"]\n  \
             attest = [\"type=provenance,mode=max\"]\n  output = [\"type=image\"]\n}}\n"
        )
    };
    bake.write("docker-bake.hcl", &(target("app") + &target("api")));
}

/// What a runner of one platform does.
fn runner(bake: &Bake, registry: &str, arch: &str, target: &str) -> Ran {
    let args = [
        format!("--set={target}.platform=linux/{arch}"),
        format!("--set={target}.tags="),
        format!("--set={target}.output=type=image,name={registry}/{target},push-by-digest=true,push=true"),
        format!("--metadata-file={target}-{arch}.json"),
        target.to_owned(),
    ];
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    bake.run_with("", &args, &[("BAKE_HOME", arch)]).ok()
}

/// What the registry has under a name; `None` if there is no such name.
fn get(registry: &str, path: &str) -> Option<Value> {
    let accept = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json";
    let mut stream = TcpStream::connect(registry).expect("the registry runs");
    // Version 1.0, so that the answer ends with the connection and is in one piece.
    write!(stream, "GET /v2/{path} HTTP/1.0\r\nHost: {registry}\r\nAccept: {accept}\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    head.split(' ').nth(1).filter(|status| *status == "200")?;
    Some(serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}")))
}

#[test]
fn platforms_that_runners_pushed_become_one_index_with_attestations_and_annotations() {
    let outside = Bake::new();
    let registry = Registry::start(&outside);
    let at = registry.address.clone();
    let bake = project(&at);
    for target in ["app", "api"] {
        for arch in ["amd64", "arm64"] {
            let _ran = runner(&bake, &at, arch, target);
        }
    }
    assert!(get(&at, "app/manifests/1").is_none(), "no runner moves a tag");
    let files = ["app-amd64", "app-arm64", "api-amd64", "api-arm64"].map(|name| format!("--metadata={name}.json"));
    // One platform is missing: no tag of any target is moved.
    let missing = bake.run(&["merge", &files[0], &files[1], &files[2], "app", "api"]);
    assert_eq!(missing.code, Some(1), "{missing:#?}");
    assert!(missing.stderr.contains("no runner has pushed these platforms of the target: linux/arm64"), "{missing:#?}");
    assert!(get(&at, "app/manifests/1").is_none());
    // Two images of one platform, or one that the target does not have: none is chosen silently.
    bake.write("Dockerfile", "FROM scratch\nCOPY Dockerfile /other\n");
    fs::rename(bake.path("app-amd64.json"), bake.path("first.json")).expect("it is there");
    let _ran = runner(&bake, &at, "amd64", "app");
    fs::rename(bake.path("app-amd64.json"), bake.path("second.json")).expect("it is there");
    fs::rename(bake.path("first.json"), bake.path("app-amd64.json")).expect("it is there");
    let twice = bake.run(&["merge", &files[0], &files[1], "--metadata=second.json", "app"]);
    assert_eq!(twice.code, Some(1), "{twice:#?}");
    assert!(twice.stderr.contains("two different images of one platform were pushed: linux/amd64"), "{twice:#?}");
    let other = bake.run(&["merge", &files[0], &files[1], "--set=app.platform=linux/arm64", "app"]);
    assert!(other.stderr.contains("the target has no such platform") && other.code == Some(1), "{other:#?}");
    assert!(get(&at, "app/manifests/1").is_none());
    let mut args = vec!["merge", "--metadata-file=merged.json"];
    args.extend(files.iter().map(String::as_str));
    args.extend(["app", "api"]);
    let merged = bake.run(&args).ok();
    assert!(merged.stderr.contains(&format!("pushed {at}/app:latest")), "{merged:#?}");
    let metadata: Value = serde_json::from_str(&bake.read("merged.json")).expect("JSON");
    for name in ["app/manifests/1", "app/manifests/latest", "copy/app/manifests/1"] {
        let index = get(&at, name).expect("it was pushed");
        assert_eq!(index["annotations"]["org.example.who"], "us", "{index:#}");
        let entries = index["manifests"].as_array().expect("a list");
        let platforms: Vec<String> = entries
            .iter()
            .map(|it| format!("{}/{}", it["platform"]["os"], it["platform"]["architecture"]).replace('"', ""))
            .collect();
        assert_eq!(platforms, ["linux/amd64", "unknown/unknown", "linux/arm64", "unknown/unknown"], "{index:#}");
        assert_eq!(entries[0]["annotations"]["org.example.entry"], "yes", "{index:#}");
        // What an attestation is about is in the same index.
        assert_eq!(entries[3]["annotations"]["vnd.docker.reference.digest"], entries[2]["digest"]);
        let repository = name.split("/manifests").next().expect("a path");
        for entry in entries {
            let digest = entry["digest"].as_str().expect("a digest");
            assert!(get(&at, &format!("{repository}/manifests/{digest}")).is_some(), "{name}: {digest}");
        }
    }
    let digest = metadata["app"]["containerimage.digest"].as_str().expect("a digest");
    assert!(get(&at, &format!("app/manifests/{digest}")).is_some());
    assert!(get(&at, "api/manifests/latest").is_some());
    // The same again is the same index.
    bake.run(&args).ok();
    let again: Value = serde_json::from_str(&bake.read("merged.json")).expect("JSON");
    assert_eq!(again, metadata);
}

#[test]
fn faults_of_all_files_and_targets_are_told() {
    let bake = project("r.invalid");
    bake.write("empty.json", "{}");
    bake.write("wrong.json", "[");
    bake.write("local.json", "{\"app\": {}, \"api\": {}}");
    let told = |files: &[&str], wanted: &[&str]| {
        let files: Vec<String> = files.iter().map(|file| format!("--metadata={file}")).collect();
        let mut args = vec!["merge", "app", "api"];
        args.extend(files.iter().map(String::as_str));
        let ran = bake.run(&args);
        assert_eq!(ran.code, Some(1), "{ran:#?}");
        wanted.iter().for_each(|words| assert!(ran.stderr.contains(words), "{words}: {ran:#?}"));
    };
    told(&["wrong.json", "none.json"], &["this is no metadata file: wrong.json", "cannot be read: none.json"]);
    told(&["empty.json"], &["no metadata file has the target: app", "no metadata file has the target: api"]);
    told(&["local.json"], &["no image of the target was pushed, by local.json: app"]);
    assert_eq!(bake.run(&["merge"]).code, Some(2));
}
