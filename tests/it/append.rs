//! `append=true`: several targets write one archive or layout, all of it or nothing; and images of a layout are contexts by name.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::support::{Bake, skipped, tar_entries};

/// Two targets with one base, which write to one place.
fn definition(output: &str) -> String {
    format!(
        r#"variable "B" {{ default = "b" }}
group "default" {{ targets = ["b", "a"] }}
target "base" {{ dockerfile-inline = "FROM scratch\nCOPY shared /shared\n" }}
target "a" {{
  contexts          = {{ base = "target:base" }}
  dockerfile-inline = "FROM base\nCOPY a /a\n"
  tags              = ["example.test/a:1", "a:latest"]
  output            = ["{output}"]
}}
target "b" {{
  contexts          = {{ base = "target:base" }}
  args              = {{ B = B }}
  dockerfile-inline = "FROM base\nARG B\nCOPY $B /b\n"
  tags              = ["example.test/b:1"]
  output            = ["{output}"]
}}
"#
    )
}

fn project(output: &str) -> Bake {
    let bake = Bake::new();
    bake.write("docker-bake.hcl", &definition(output));
    ["shared", "a", "b", "c"].into_iter().for_each(|name| bake.write(name, name));
    bake
}

fn entries(bake: &Bake, archive: &str) -> Vec<(String, Vec<u8>)> {
    tar_entries(&bake.path(archive))
}

fn json_in(entries: &[(String, Vec<u8>)], name: &str) -> Value {
    let (_, bytes) = entries.iter().find(|(entry, _)| entry == name).unwrap_or_else(|| panic!("{name} is missing"));
    serde_json::from_slice(bytes).expect("JSON")
}

fn index_of(bake: &Bake, layout: &str) -> Value {
    serde_json::from_str(&bake.read(&format!("{layout}/index.json"))).expect("JSON")
}

/// Full name, tag and digest of each entry of an index.
fn names(index: &Value) -> Vec<(String, String)> {
    let text = |it: &Value, key: &str| it["annotations"][key].as_str().unwrap_or("-").to_owned();
    let manifests = index["manifests"].as_array().expect("a list");
    manifests
        .iter()
        .map(|it| (text(it, "io.containerd.image.name"), text(it, "org.opencontainers.image.ref.name")))
        .collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(name, tag)| ((*name).to_owned(), (*tag).to_owned())).collect()
}

fn blobs(bake: &Bake, layout: &str) -> BTreeSet<String> {
    let folder = bake.path(&format!("{layout}/blobs/sha256"));
    let names = fs::read_dir(folder).expect("a folder").map(|it| it.expect("an entry").file_name());
    names.map(|it| it.to_string_lossy().into_owned()).collect()
}

/// Inode and modification time: what changes when a file is written.
fn mark(bake: &Bake, file: &str) -> (u64, i64, i64) {
    let meta = fs::metadata(bake.path(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
    (meta.ino(), meta.mtime(), meta.mtime_nsec())
}

const BOTH: [(&str, &str); 3] =
    [("docker.io/library/a:latest", "latest"), ("example.test/a:1", "1"), ("example.test/b:1", "1")];

#[test]
fn an_archive_has_the_images_of_all_targets_and_each_blob_once() {
    let bake = project("type=oci,dest=out.tar,append=true");
    bake.run(&["--progress=plain", "--metadata-file=m.json"]).ok();
    let all = entries(&bake, "out.tar");
    assert_eq!(names(&json_in(&all, "index.json")), pairs(&BOTH));
    let files: Vec<&String> = all.iter().map(|(name, _)| name).collect();
    assert_eq!(files.iter().collect::<BTreeSet<_>>().len(), files.len(), "each entry once: {files:?}");
    // Two manifests, two configs, the layer that both have, and one of each; both have provenance.
    let n_layers = all
        .iter()
        .filter(|(name, bytes)| name.starts_with("blobs/sha256/") && bytes.starts_with(&[0x1f, 0x8b]))
        .count();
    assert_eq!(n_layers, 3, "{files:?}");
    let metadata: Value = serde_json::from_str(&bake.read("m.json")).expect("JSON");
    let digests: BTreeSet<&str> =
        ["a", "b"].iter().map(|name| metadata[*name]["containerimage.digest"].as_str().expect("a digest")).collect();
    let index = json_in(&all, "index.json");
    let listed: BTreeSet<&str> = index["manifests"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|it| it["digest"].as_str().expect("a digest"))
        .collect();
    assert_eq!(digests, listed);

    let before = mark(&bake, "out.tar");
    let again = bake.run(&["--progress=plain", "--metadata-file=m2.json", "a", "b"]).ok();
    assert_eq!(mark(&bake, "out.tar"), before, "nothing changed, nothing is written: {again:#?}");
    assert!(again.stderr.contains("nothing to do"), "{again:#?}");
    let kept: Value = serde_json::from_str(&bake.read("m2.json")).expect("JSON");
    assert_eq!(kept["b"]["containerimage.digest"], metadata["b"]["containerimage.digest"]);

    let digest = |index: &Value, nth: usize| index["manifests"][nth]["digest"].clone();
    bake.run(&["--var=B=c"]).ok();
    let changed = json_in(&entries(&bake, "out.tar"), "index.json");
    assert_eq!(names(&changed), pairs(&BOTH));
    assert_eq!(digest(&changed, 0), digest(&index, 0));
    assert_ne!(digest(&changed, 2), digest(&index, 2), "one target has changed");
}

#[test]
fn an_archive_for_docker_lists_all_images() {
    let bake = project("type=docker,dest=out.tar,append=true");
    bake.run(&[]).ok();
    let manifest = json_in(&entries(&bake, "out.tar"), "manifest.json");
    let tags: Vec<&Value> = manifest.as_array().expect("a list").iter().map(|it| &it["RepoTags"]).collect();
    assert_eq!(
        format!("{tags:?}"),
        r#"[Array [String("example.test/a:1"), String("a:latest")], Array [String("example.test/b:1")]]"#
    );
    let loaded = bake.run(&["--set=a.output=type=docker,append=true", "a"]);
    assert!(loaded.code == Some(1) && loaded.stderr.contains("append=true wants a `dest`"), "{loaded:#?}");
}

#[test]
fn another_tool_reads_every_image_of_an_archive() {
    let Ok(version) = Command::new("skopeo").arg("--version").output() else {
        return skipped("skopeo reads archives of several images", Some("skopeo"));
    };
    assert!(version.status.success());
    let bake = project("type=oci,dest=out.tar,append=true");
    bake.run(&["--set=b.tags=example.test/b:2"]).ok();
    bake.run(&["--set=*.output=type=docker,dest=docker.tar,append=true"]).ok();
    let skopeo = |args: &[&str]| {
        let output = Command::new("skopeo").args(args).current_dir(&bake.dir).output().expect("it starts");
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{args:?}: {stderr}");
        serde_json::from_str::<Value>(&stdout).expect("JSON")
    };
    let layers = |tag: &str| skopeo(&["inspect", &format!("oci-archive:out.tar:{tag}")])["Layers"].clone();
    assert_eq!(layers("latest")[0], layers("2")[0], "both have the base");
    assert_ne!(layers("latest")[1], layers("2")[1]);
    let tags = skopeo(&["list-tags", "docker-archive:docker.tar"])["Tags"].clone();
    assert_eq!(tags, serde_json::json!(["example.test/a:1", "a:latest", "example.test/b:1"]));
}

#[test]
fn standard_output_takes_one_archive_of_all() {
    let bake = project("type=oci,dest=-,append=true");
    let output = bake.command("", &[]).stdin(Stdio::null()).output().expect("the binary starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::write(bake.path("out.tar"), &output.stdout).expect("writable");
    assert_eq!(names(&json_in(&entries(&bake, "out.tar"), "index.json")), pairs(&BOTH));
}

#[test]
fn a_layout_keeps_what_it_has_and_loses_only_what_is_replaced() {
    let bake = project("type=oci,tar=false,dest=lay,append=true");
    bake.write(
        "other.hcl",
        "target \"default\" {\n  dockerfile-inline = \"FROM scratch\\nCOPY c /c\\n\"\n  tags = [\"example.test/other:1\"]\n  \
         output = [\"type=oci,tar=false,dest=lay\"]\n}\n",
    );
    bake.run(&["-f", "other.hcl"]).ok();
    let of_other = blobs(&bake, "lay");
    bake.run(&[]).ok();
    let expected = pairs(&[&[("example.test/other:1", "1")], &BOTH[..]].concat());
    assert_eq!(names(&index_of(&bake, "lay")), expected);
    let before = (mark(&bake, "lay/index.json"), blobs(&bake, "lay"));
    let again = bake.run(&["--progress=plain"]).ok();
    assert_eq!((mark(&bake, "lay/index.json"), blobs(&bake, "lay")), before, "{again:#?}");
    assert!(again.stderr.contains("nothing to do"), "{again:#?}");

    bake.run(&["--var=B=c"]).ok();
    assert_eq!(names(&index_of(&bake, "lay")), expected);
    let after = blobs(&bake, "lay");
    assert!(of_other.is_subset(&after), "what another definition wrote stays");
    assert_eq!(after.len(), before.1.len(), "blobs of the image that was replaced are gone");
    assert_ne!(after, before.1);
    for entry in index_of(&bake, "lay")["manifests"].as_array().expect("a list") {
        whole(&bake, entry);
    }
    assert!(!bake.path("lay/index.json.lock").exists());
}

/// Every blob that an entry of the layout `lay` refers to is there.
fn whole(bake: &Bake, entry: &Value) {
    let hex = |it: &Value| it["digest"].as_str().expect("a digest").trim_start_matches("sha256:").to_owned();
    let text = bake.read(&format!("lay/blobs/sha256/{}", hex(entry)));
    let document: Value = serde_json::from_str(&text).expect("JSON");
    document["manifests"].as_array().into_iter().flatten().for_each(|inner| whole(bake, inner));
    let named = document["layers"].as_array().into_iter().flatten().chain(document.get("config"));
    for blob in named.filter(|it| it.get("data").is_none()) {
        assert!(bake.path(&format!("lay/blobs/sha256/{}", hex(blob))).exists(), "{blob}");
    }
}

#[test]
fn a_failed_target_leaves_no_part_of_what_is_shared() {
    for output in ["type=oci,dest=out,append=true", "type=oci,tar=false,dest=out,append=true"] {
        for mode in ["fail-fast", "defer-error", "defer-output"] {
            let bake = project(output);
            let ran = bake.run(&["--var=B=missing", "--execution", mode]);
            assert_eq!(ran.code, Some(1), "{ran:#?}");
            assert!(!bake.path("out").exists(), "{output} {mode}: {ran:#?}");
            bake.run(&["--execution", mode]).ok();
            let before = if bake.path("out").is_dir() { "out/index.json" } else { "out" };
            let written = mark(&bake, before);
            assert_eq!(bake.run(&["--var=B=missing", "--execution", mode]).code, Some(1));
            assert_eq!(mark(&bake, before), written, "the old one stays: {output} {mode}");
        }
    }
}

#[test]
fn a_release_makes_the_whole_archive_visible() {
    for output in ["type=oci,dest=out,append=true", "type=oci,tar=false,dest=out,append=true"] {
        let bake = project(output);
        let run = |args: &[&str]| bake.run(&[&["--execution=defer-output", "--progress=plain"], args].concat()).ok();
        run(&[]);
        let index = || match bake.path("out").is_dir() {
            true => index_of(&bake, "out"),
            false => json_in(&entries(&bake, "out"), "index.json"),
        };
        assert_eq!(names(&index()), pairs(&BOTH), "{output}");
        assert!(run(&[]).stderr.contains("nothing to do"), "{output}");
        let before = index();
        run(&["--var=B=c"]);
        assert_eq!(names(&index()), pairs(&BOTH), "{output}");
        assert_ne!(index(), before, "{output}");
        let inside: Vec<_> =
            fs::read_dir(&bake.dir).expect("a folder").map(|it| it.expect("an entry").file_name()).collect();
        assert!(inside.iter().all(|name| !name.to_string_lossy().contains(".bake-")), "{inside:?}");
    }
}

#[test]
fn one_dest_without_append_is_refused_and_append_is_named() {
    let bake = project("type=oci,dest=out.tar");
    let ran = bake.run(&[]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("`append=true`, for one archive with all images"), "{ran:#?}");
    let bake = project("type=oci,dest=out.tar,append=true");
    for output in ["type=oci,dest=out.tar", "type=docker,dest=out.tar,append=true", "type=tar,dest=out.tar"] {
        let ran = bake.run(&["--set", &format!("a.output={output}")]);
        assert!(ran.code == Some(1) && ran.stderr.contains("bake::plan::same_dest"), "{output}: {ran:#?}");
    }
    fs::create_dir_all(bake.path("real")).expect("folders can be made");
    std::os::unix::fs::symlink("real", bake.path("link")).expect("links can be made");
    let linked = ["a.output=type=oci,dest=real/o.tar,append=true", "b.output=type=oci,dest=link/o.tar,append=true"];
    let ran = bake.run(&["--set", linked[0], "--set", linked[1]]);
    assert!(ran.code == Some(1) && ran.stderr.contains("give `dest` the same text in both"), "{ran:#?}");
    let twice = bake.run(&["--set=b.tags=example.test/a:1"]).ok();
    assert!(twice.stderr.contains("write different images to one tag, which keeps the last"), "{twice:#?}");
    assert_eq!(names(&json_in(&entries(&bake, "out.tar"), "index.json")).len(), 2);
}

#[test]
fn the_index_has_the_annotations_of_each_target() {
    let bake = project("type=oci,dest=out.tar,append=true");
    bake.run(&[
        "--set=a.platform=linux/amd64,linux/arm64",
        "--set=base.platform=linux/amd64,linux/arm64",
        "--set=*.annotations=index-descriptor:org.example.who=both",
        "--set=a.output=type=oci,dest=out.tar,append=true,annotation-index.org.example.own=a",
        "--provenance=mode=min",
        "a",
        "b",
    ])
    .ok();
    let all = entries(&bake, "out.tar");
    let index = json_in(&all, "index.json");
    assert_eq!(names(&index), pairs(&BOTH));
    for entry in index["manifests"].as_array().expect("a list") {
        assert_eq!(entry["annotations"]["org.example.who"], "both");
    }
    let hex = index["manifests"][1]["digest"].as_str().expect("a digest").trim_start_matches("sha256:");
    let inner = json_in(&all, &format!("blobs/sha256/{hex}"));
    assert_eq!(inner["annotations"]["org.example.own"], "a");
}

#[test]
fn processes_that_append_to_one_layout_at_once_lose_nothing() {
    let bake = Bake::new();
    let n_targets = 6;
    let target = |n: usize| {
        format!(
            "target \"t{n}\" {{\n  args = {{ V = \"x\" }}\n  dockerfile-inline = \"FROM scratch\\nARG V\\nCOPY $V/{n} /f\\nCOPY x/shared /s\\n\"\n  \
             tags = [\"example.test/t{n}:1\"]\n  output = [\"type=oci,tar=false,dest=lay,append=true\"]\n}}\n"
        )
    };
    bake.write("docker-bake.hcl", &(0..n_targets).map(target).collect::<String>());
    for n in 0..n_targets {
        bake.write(&format!("x/{n}"), &format!("x{n}"));
        bake.write(&format!("y/{n}"), &format!("y{n}"));
    }
    bake.write("x/shared", "shared");
    for round in ["x", "y", "x"] {
        let set = format!("*.args.V={round}");
        let start = |n: usize| {
            let mut command = bake.command("", &[&format!("t{n}"), "--set", &set]);
            command.env("BAKE_HOME", bake.path(&format!("state{n}")));
            command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary starts")
        };
        let all: Vec<_> = (0..n_targets).map(start).collect();
        for child in all {
            let output = child.wait_with_output().expect("it ends");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        let index = index_of(&bake, "lay");
        let found: BTreeSet<String> = names(&index).into_iter().map(|(name, _)| name).collect();
        let expected: BTreeSet<String> = (0..n_targets).map(|n| format!("example.test/t{n}:1")).collect();
        assert_eq!(found, expected, "round {round}");
        index["manifests"].as_array().expect("a list").iter().for_each(|entry| whole(&bake, entry));
    }
}

#[test]
fn images_of_a_layout_are_contexts_by_tag_name_and_digest() {
    let bake = project("type=oci,tar=false,dest=lay,append=true");
    bake.run(&[]).ok();
    let digest = index_of(&bake, "lay")["manifests"][2]["digest"].as_str().expect("a digest").to_owned();
    let take = |address: &str, file: &str| {
        let text = format!(
            "target \"t\" {{\n  contexts = {{ from = \"oci-layout://{address}\" }}\n  \
             dockerfile-inline = \"FROM from\\nCOPY --from=from {file} /copy\\n\"\n  output = [\"type=local,dest=out\"]\n}}\n"
        );
        bake.write("take.hcl", &text);
        bake.run(&["-f", "take.hcl", "t"])
    };
    let by_digest = format!("lay@{digest}");
    for (address, file) in [
        ("lay", "/a"),
        ("lay:latest", "/a"),
        ("lay?name=example.test/b:1", "/b"),
        ("./lay?name=a:latest", "/a"),
        ("lay?name=docker.io/library/a:latest", "/a"),
        (by_digest.as_str(), "/b"),
    ] {
        take(address, file).ok();
        assert_eq!(bake.read("out/copy"), file[1..], "{address}");
    }
    let ambiguous = take("lay:1", "/a");
    assert_eq!(ambiguous.code, Some(1));
    let expected = "several images are tagged `1`: example.test/a:1, example.test/b:1";
    assert!(ambiguous.stderr.contains(expected) && ambiguous.stderr.contains("?name=NAME"), "{ambiguous:#?}");
    let near = take("lay:latst", "/a");
    assert!(
        near.stderr.contains("there is no image tagged `latst`; it has: 1, a:latest, example.test/a:1"),
        "{near:#?}"
    );
    assert!(near.stderr.contains("did you mean `latest`?"), "{near:#?}");
    let near = take("lay?name=example.test/b:2", "/a");
    assert!(near.stderr.contains("did you mean `example.test/b:1`?"), "{near:#?}");
}

#[test]
fn a_digest_that_is_none_is_refused_and_not_ignored() {
    let bake = project("type=oci,dest=out,tar=false,append=true");
    bake.run(&["--allow=fs=*", "a"]).ok();
    for wrong in ["sha256:deadbeef", "sha256:zz", "sha256:"] {
        let context = format!("--build-context=base=oci-layout://out@{wrong}");
        let ran = bake.run_reading("", &["build", "--allow=fs=*", &context, "-"], "FROM base\n");
        assert_eq!(ran.code, Some(1), "{wrong}: {ran:#?}");
        assert!(ran.stderr.contains(&format!("the digest is not sha256:<64 hex digits>: {wrong}")), "{ran:#?}");
    }
}
