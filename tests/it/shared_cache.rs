//! Shared caches: what one says is believed by builds that are given it, and by no others of the same store.

use std::{fs, path::Path};

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::{
    small_registry::SmallRegistry,
    support::{Bake, Ran, base_layout},
};

/// Builds a target whose only step writes `text` to `/made`, and returns what the output holds.
fn build(bake: &Bake, home: &str, text: &str, more: &[&str]) -> (String, Ran) {
    bake.write(
        "Dockerfile",
        &format!(
            "FROM base AS run\nRUN echo {text} > /made\nRUN cat /made > /copied\nFROM scratch\n\
             COPY --from=run /copied /made\n"
        ),
    );
    bake.write(
        "docker-bake.hcl",
        &format!(
            "target \"default\" {{\n  contexts = {{ base = \"oci-layout://{}\" }}\n  \
             output = [\"type=local,dest=out\"]\n}}\n",
            base_layout().display()
        ),
    );
    let args = [&["--progress=plain", "--allow=fs.read=*"], more].concat();
    let ran = bake.run_with("", &args, &[("BAKE_HOME", home)]).ok();
    (bake.read("out/made").trim_end().to_owned(), ran)
}

fn json(path: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// The digest and the content of the blob that has the records.
fn config(layout: &Path) -> (String, Value) {
    let blobs = fs::read_dir(layout.join("blobs/sha256")).expect("it is a layout");
    let mut configs = blobs.filter_map(|entry| {
        let path = entry.expect("readable").path();
        let value = json(&path).filter(|value| value["records"].is_array())?;
        Some((path.file_name()?.to_str()?.to_owned(), value))
    });
    configs.next().expect("a cache has records")
}

/// Leaves the record of the first step alone. Records stand in the order of how many layers they have: first that of the
/// copy, which has one, then those of the steps on the base.
fn keep_the_first_step(config: &mut Value) {
    let records = config["records"].as_array_mut().expect("records");
    assert_eq!(records.len(), 3);
    records.truncate(2);
    records.remove(0);
}

/// Puts other bytes in the place of a blob, in all documents that name it. The old blob goes: one layout has one config.
fn replace(layout: &Path, old: &str, bytes: &[u8]) {
    let new: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    fs::remove_file(layout.join("blobs/sha256").join(old)).expect("it is there");
    fs::write(layout.join("blobs/sha256").join(&new), bytes).expect("writable");
    let (old_digest, new_digest) = (format!("sha256:{old}"), format!("sha256:{new}"));
    let blobs = fs::read_dir(layout.join("blobs/sha256")).expect("it is a layout");
    let paths = blobs.map(|entry| entry.expect("readable").path()).chain([layout.join("index.json")]);
    for path in paths.collect::<Vec<_>>() {
        let Some(mut value) = json(&path) else { continue };
        let mut is_changed = false;
        for list in ["manifests", "layers"] {
            for descriptor in value[list].as_array_mut().into_iter().flatten() {
                is_changed |= rename(descriptor, &old_digest, &new_digest, bytes.len());
            }
        }
        is_changed |= rename(&mut value["config"], &old_digest, &new_digest, bytes.len());
        if value["config"].is_null() {
            value.as_object_mut().expect("a document").remove("config");
        }
        let text = value.to_string();
        match path.file_name().and_then(|name| name.to_str()) {
            _ if !is_changed => (),
            Some("index.json") => fs::write(path, text).expect("writable"),
            name => replace(layout, name.expect("a digest"), text.as_bytes()),
        }
    }
}

fn rename(descriptor: &mut Value, old: &str, new: &str, size: usize) -> bool {
    let is_it = descriptor["digest"] == *old;
    if is_it {
        descriptor["digest"] = new.into();
        descriptor["size"] = size.into();
    }
    is_it
}

#[test]
fn a_cache_that_one_build_trusts_decides_about_no_other() {
    let bake = Bake::new();
    for (cache, home, text) in [("honest", "h1", "content"), ("evil", "h2", "planted")] {
        let to = format!("--set=default.cache-to=type=local,mode=max,dest={cache}");
        assert_eq!(build(&bake, home, text, &[&to]).0, text);
    }
    let (_, honest) = config(&bake.path("honest"));
    let (old, mut evil) = config(&bake.path("evil"));
    let honest = honest["records"].as_array().expect("records");
    let records = evil["records"].as_array_mut().expect("records");
    assert_eq!(records.len(), honest.len());
    for (mine, theirs) in records.iter_mut().zip(honest) {
        mine["digest"] = theirs["digest"].clone();
        mine["bake.id"] = theirs["bake.id"].clone();
    }
    replace(&bake.path("evil"), &old, evil.to_string().as_bytes());
    let from = "--set=default.cache-from=type=local,src=evil";
    decides_alone(&bake, "store", from, 0);
    // Only the first step is in the cache: those above it are the build's own.
    let (old, mut evil) = config(&bake.path("evil"));
    keep_the_first_step(&mut evil);
    replace(&bake.path("evil"), &old, evil.to_string().as_bytes());
    decides_alone(&bake, "other", from, 2);
}

/// Whoever names the cache believes it; the same store without it does not, and then keeps what it made itself.
/// `n_steps` are run above those of the cache.
#[track_caller]
fn decides_alone(bake: &Bake, home: &str, from: &str, n_steps: usize) {
    for expected in [n_steps, 0] {
        let (made, ran) = build(bake, home, "content", &[from]);
        assert_eq!((made.as_str(), ran.stderr.matches(" DONE ").count()), ("planted", expected), "{ran:#?}");
    }
    for more in [&[][..], &[from]] {
        let (made, ran) = build(bake, home, "content", more);
        assert_eq!(made, "content", "{ran:#?}");
    }
}

#[test]
fn steps_above_those_of_a_cache_are_found_again() {
    let bake = Bake::new();
    let to = "--set=default.cache-to=type=local,mode=max,dest=cache";
    assert_eq!(build(&bake, "h1", "content", &[to]).0, "content");
    // Without the record of the last step, which the other store then runs itself.
    let (old, mut cache) = config(&bake.path("cache"));
    keep_the_first_step(&mut cache);
    replace(&bake.path("cache"), &old, cache.to_string().as_bytes());
    let from = "--set=default.cache-from=type=local,src=cache";
    let (_, ran) = build(&bake, "h2", "content", &[from]);
    assert_eq!(ran.stderr.matches(" DONE ").count(), 2, "{ran:#?}");
    fs::remove_dir_all(bake.path("out")).expect("it is there");
    let (made, ran) = build(&bake, "h2", "content", &[from]);
    assert_eq!((made.as_str(), ran.stderr.matches(" DONE ").count()), ("content", 0), "{ran:#?}");
}

#[test]
fn inline_caches_are_found_in_an_index() {
    let bake = Bake::new();
    let registry = SmallRegistry::start();
    let image = format!("{}/inline:1", registry.address);
    let layout = base_layout().display().to_string();
    bake.write("Dockerfile", "FROM base\nARG TARGETARCH\nRUN echo content > /made\nRUN cat /made > /copied\n");
    // With the provenance that is made by default, and without; the first makes an index.
    for more in [&[][..], &["--provenance=false"]] {
        let context = format!("base=oci-layout://{layout}");
        let args = |more: &[&str]| {
            let common = ["build", "--progress=plain", "--allow=fs.read=*", "--build-context", &context];
            [&common[..], more, &["."]].concat().iter().map(|it| (*it).to_owned()).collect::<Vec<_>>()
        };
        let run = |home: &str, more: &[&str]| {
            let args = args(more);
            bake.run_with("", &args.iter().map(String::as_str).collect::<Vec<_>>(), &[("BAKE_HOME", home)]).ok()
        };
        run("h1", &[&["-t", &image, "--cache-to=type=inline", "--push"], more].concat());
        let from = format!("--cache-from={image}");
        let ran = run(&format!("h2{}", more.len()), &[&from, "--output=type=cacheonly"]);
        assert!(!ran.stderr.contains("cannot be read") && ran.stderr.matches(" DONE ").count() == 0, "{ran:#?}");
    }
}

/// The directories on the way of `COPY --link` are looked up in the base once: whoever finds the result needs no layer.
#[test]
fn copy_with_link_is_found_in_a_shared_cache_without_the_layers_below() {
    let bake = Bake::new();
    bake.write("f", "content");
    let base = base_layout().display();
    for mode in ["min", "max"] {
        bake.write("Dockerfile", &format!("FROM base\nRUN mkdir -m 0700 /d && echo {mode}\nCOPY --link f /d/f\n"));
        bake.write(
            "docker-bake.hcl",
            &format!(
                "target \"default\" {{\n  contexts = {{ base = \"oci-layout://{base}\" }}\n  \
                 output = [\"type=cacheonly\"]\n}}\n"
            ),
        );
        let run = |home: &str, set: &str| {
            let args = ["--progress=plain", "--allow=fs=*", "--set", set];
            bake.run_with("", &args, &[("BAKE_HOME", &format!("{home}-{mode}"))]).ok()
        };
        let _made = run("one", &format!("default.cache-to=type=local,dest=cache-{mode},mode={mode}"));
        let found = run("two", &format!("default.cache-from=type=local,src=cache-{mode}"));
        // Which step is shown first is not defined: the copy waits for nothing.
        let is_known = found.stderr.contains("CACHED [default 2/3] RUN mkdir");
        assert!(is_known && !found.stderr.contains("extracting"), "{found:?}");
        let layers = fs::read_dir(bake.path(&format!("two-{mode}/v1/snapshots"))).map_or(0, Iterator::count);
        // The copy itself, which a cache of the result alone does not have, needs no layer below it.
        assert_eq!(layers, usize::from(mode == "min"), "{found:?}");
    }
}
