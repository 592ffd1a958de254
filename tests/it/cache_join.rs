//! Shared caches that several builds, runs and machines write: nobody loses records of another, and nothing grows for ever.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;

use crate::{
    docker_registry::Registry,
    small_registry::SmallRegistry,
    support::{Bake, Ran},
};

/// Targets `t1` to `t9` that differ, each with one step.
const TARGETS: &str = r#"target "t" {
  name              = "t${n}"
  matrix            = { n = ["1", "2", "3", "4", "5", "6", "7", "8", "9"] }
  dockerfile-inline = "FROM scratch\nARG N\nCOPY f /f-$N\n"
  args              = { N = n }
  output            = ["type=cacheonly"]
}
target "platforms" {
  dockerfile-inline = "FROM scratch\nARG TARGETARCH\nCOPY f /f-$TARGETARCH\n"
  platforms         = ["linux/amd64", "linux/arm64", "linux/s390x"]
  output            = ["type=cacheonly"]
}
"#;

fn project() -> Bake {
    let bake = Bake::new();
    bake.write("docker-bake.hcl", TARGETS);
    bake.write("f", "content");
    bake
}

fn run(bake: &Bake, home: &str, args: &[&str]) -> Ran {
    let args = [&["--progress=plain", "--allow=fs=*"], args].concat();
    bake.run_with("", &args, &[("BAKE_HOME", home)]).ok()
}

fn write(bake: &Bake, home: &str, to: &str, targets: &[&str]) {
    let set = format!("--set=*.cache-to={to},mode=max");
    let _ran = run(bake, home, &[&[set.as_str()], targets].concat());
}

/// How many steps a machine that knows nothing runs when it is given the cache.
fn steps(bake: &Bake, home: &str, from: &str, targets: &[&str]) -> usize {
    let set = format!("--set=*.cache-from={from}");
    let ran = run(bake, home, &[&[set.as_str()], targets].concat());
    assert!(!ran.stderr.contains("cannot be read"), "{ran:#?}");
    ran.stderr.matches(" DONE ").count()
}

/// The blobs of a layout, and the digests that `index.json` names under the tag `latest`.
fn layout(folder: &Path) -> (BTreeSet<String>, usize) {
    let blobs = fs::read_dir(folder.join("blobs/sha256")).expect("it is a layout");
    let blobs = blobs.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect();
    let index: Value =
        serde_json::from_slice(&fs::read(folder.join("index.json")).expect("it is a layout")).expect("JSON");
    let name = "org.opencontainers.image.ref.name";
    let manifests = index["manifests"].as_array().expect("a list");
    (blobs, manifests.iter().filter(|it| it["annotations"][name] == "latest").count())
}

#[test]
fn targets_platforms_and_runs_that_write_one_folder_keep_each_others_records() {
    let bake = project();
    write(&bake, "h1", "type=local,dest=cache", &["t1", "t2", "platforms"]);
    write(&bake, "h2", "type=local,dest=cache", &["t3"]);
    let from = "type=local,src=cache";
    assert_eq!(steps(&bake, "h3", from, &["t1", "t2", "t3", "platforms"]), 0);
    assert_eq!(steps(&bake, "h3", from, &["t4"]), 1);
    // Other images of the folder stay.
    for tag in ["v1", "latest"] {
        let image = format!("--set=t5.output=type=oci,tar=false,dest=cache,name=r.invalid/app:{tag}");
        let _ran = run(&bake, "h1", &[&image, "t5"]);
    }
    assert_eq!(steps(&bake, "h3", from, &["t1"]), 0, "an image of the same tag does not hide the cache");
    write(&bake, "h1", "type=local,dest=cache,reset=true", &["t6"]);
    let (blobs, _) = layout(&bake.path("cache"));
    bake.write("Dockerfile", "FROM image\n");
    let used = ["build", "--build-context=image=oci-layout://cache:v1", "--allow=fs=*", "-o", "out", "."];
    let _ran = bake.run(&used).ok();
    assert_eq!(bake.read("out/f-5"), "content", "{blobs:?}");
    assert_eq!((steps(&bake, "h4", from, &["t6"]), steps(&bake, "h4", from, &["t1"])), (0, 1));
}

#[test]
fn targets_platforms_and_runs_that_write_one_reference_keep_each_others_records() {
    let bake = project();
    let registry = SmallRegistry::start();
    let reference = format!("type=registry,ref={}/cache:1", registry.address);
    write(&bake, "h1", &reference, &["t1", "t2", "platforms"]);
    write(&bake, "h2", &format!("{reference},image-manifest=false"), &["t3"]);
    assert_eq!(steps(&bake, "h3", &reference, &["t1", "t2", "t3", "platforms"]), 0);
    assert_eq!(steps(&bake, "h3", &reference, &["t4"]), 1);
    // What is there is not written again.
    registry.refuse_after(None);
    write(&bake, "h2", &format!("{reference},image-manifest=false"), &["t3"]);
    let log = registry.log();
    assert!(!log.iter().any(|it| it.starts_with("PUT") || it.starts_with("POST")), "{log:?}");
}

#[test]
fn eight_machines_that_write_one_reference_at_once_lose_no_record() {
    let bake = project();
    let registry = Registry::start(&bake);
    let reference = format!("type=registry,ref={}/cache:main", registry.address);
    let set = format!("--set=*.cache-to={reference},mode=max");
    let names: Vec<String> = (1..=8).map(|n| format!("t{n}")).collect();
    let start = |name: &String| {
        let mut command = bake.command("", &["--progress=plain", &set, name]);
        command.env("BAKE_HOME", bake.path(&format!("home-{name}")));
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        command.spawn().expect("the binary starts")
    };
    let running: Vec<_> = names.iter().map(start).collect();
    for child in running {
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let targets: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(steps(&bake, "h2", &reference, &targets), 0);
}

#[test]
fn a_folder_does_not_grow_with_the_builds() {
    let bake = project();
    let mut sizes = Vec::new();
    for target in ["t1", "t2", "t3", "t1"] {
        write(&bake, "h1", "type=local,dest=reset,reset=true", &[target]);
        let (blobs, n_latest) = layout(&bake.path("reset"));
        sizes.push((blobs.len(), n_latest));
        write(&bake, "h1", "type=local,dest=joined", &[target]);
    }
    assert_eq!(sizes, [(3, 1); 4], "a manifest, a config, a layer");
    let (blobs, n_latest) = layout(&bake.path("joined"));
    assert_eq!((blobs.len(), n_latest), (5, 1), "a manifest, a config, three layers: {blobs:?}");
    // All builds of one run are kept by a write that drops what others wrote.
    write(&bake, "h1", "type=local,dest=reset,reset=true", &["platforms", "t4"]);
    assert_eq!(steps(&bake, "h2", "type=local,src=reset", &["platforms", "t4"]), 0);
    // What is new and nothing names may belong to another export, which is about to name it.
    let other = "2".repeat(64);
    fs::write(bake.path(&format!("reset/blobs/sha256/{other}")), "of another").expect("writable");
    write(&bake, "h1", "type=local,dest=reset,reset=true", &["t4"]);
    assert!(layout(&bake.path("reset")).0.contains(&other));
}

#[test]
fn records_that_nobody_used_for_a_month_are_left_out() {
    let bake = project();
    let day = 24 * 60 * 60;
    let at = |days: i64, target: &str| {
        let epoch = (1_700_000_000 + days * day).to_string();
        let set = format!("--set=*.args.SOURCE_DATE_EPOCH={epoch}");
        let to = "--set=*.cache-to=type=local,dest=cache,mode=max";
        let _ran = run(&bake, "h1", &[&set, to, target]);
    };
    let has = |target: &str, n: u8| {
        let config = config(&bake.path("cache"));
        let records = config["records"].as_array().expect("records").len();
        assert_eq!(records, usize::from(n), "{target}: {config:#}");
    };
    at(0, "t1");
    at(29, "t2");
    has("t1", 2);
    // It is used again, and so stays longer.
    at(30, "t1");
    at(59, "t3");
    has("t3", 3);
    at(60, "t3");
    has("t3", 2);
}

/// The config of the only cache in a layout.
fn config(layout: &Path) -> Value {
    let blobs = fs::read_dir(layout.join("blobs/sha256")).expect("it is a layout");
    let mut configs = blobs.filter_map(|entry| {
        let bytes = fs::read(entry.expect("readable").path()).expect("readable");
        serde_json::from_slice(&bytes).ok().filter(|value: &Value| value["records"].is_array())
    });
    configs.next().expect("a cache has records")
}

#[test]
fn a_layer_that_a_registry_has_lost_takes_its_records_with_it() {
    let bake = project();
    let registry = SmallRegistry::start();
    let reference = format!("type=registry,ref={}/cache:1", registry.address);
    write(&bake, "h1", &reference, &["t1", "t2"]);
    registry.lose_layers();
    write(&bake, "h2", &reference, &["t3"]);
    assert_eq!(steps(&bake, "h3", &reference, &["t3"]), 0);
}
