//! Caches that are set once for all targets: by a `cache` block, and by `BAKE_CACHE`, `BAKE_CACHE_FROM` and `BAKE_CACHE_TO`.

use serde_json::{Value, json};

use crate::{
    small_registry::SmallRegistry,
    support::{Bake, Ran},
};

const BLOCK: &str = r#"variable "CI" { default = "ci" }
cache {
  from = ["r.invalid/main:cache", "type=registry,ref=r.invalid/${CI}:cache"]
  to   = [{ type = "registry", ref = "r.invalid/${CI}:cache", mode = "max" }]
}
target "plain" {}
target "child" { inherits = ["own"] }
target "own" {
  cache-from = ["r.invalid/own:cache"]
}
target "none" {
  cache-from = []
  cache-to   = []
}
"#;

fn printed(bake: &Bake, args: &[&str], env: &[(&str, &str)]) -> (Ran, Value) {
    let ran = bake.run_with("", &[&["--print"], args].concat(), env);
    let plan: Value = serde_json::from_str(&ran.stdout).unwrap_or_default();
    (ran, plan["target"].clone())
}

/// The references that a target reads and writes.
fn caches(targets: &Value, name: &str) -> (Vec<String>, Vec<String>) {
    let of = |key: &str| {
        let items = targets[name][key].as_array().into_iter().flatten();
        items.map(|it| it["ref"].as_str().or(it["src"].as_str()).or(it["dest"].as_str()).unwrap_or_default().to_owned())
    };
    (of("cache-from").collect(), of("cache-to").collect())
}

fn texts(all: &[&str]) -> Vec<String> {
    all.iter().map(|it| (*it).to_owned()).collect()
}

#[test]
fn a_block_gives_caches_to_targets_that_name_none() {
    let bake = Bake::new();
    bake.write("docker-bake.hcl", BLOCK);
    let (ran, targets) = printed(&bake, &["plain", "own", "child", "none"], &[]);
    assert_eq!(ran.stderr, "");
    let (main, ci) = ("r.invalid/main:cache", "r.invalid/ci:cache");
    assert_eq!(caches(&targets, "plain"), (texts(&[main, ci]), texts(&[ci])));
    assert_eq!(targets["plain"]["cache-to"], json!([{"mode": "max", "ref": ci, "type": "registry"}]));
    for name in ["own", "child"] {
        assert_eq!(caches(&targets, name), (texts(&["r.invalid/own:cache"]), texts(&[ci])), "{name}");
    }
    assert_eq!(caches(&targets, "none"), (texts(&[]), texts(&[])));
    let (_, set) = printed(&bake, &["--var=CI=other", "--set=plain.cache-to=type=inline", "plain"], &[]);
    assert_eq!(caches(&set, "plain").0, texts(&[main, "r.invalid/other:cache"]));
    assert_eq!(set["plain"]["cache-to"], json!([{"type": "inline"}]));
    // Formatting keeps it, and the other syntaxes say the same.
    bake.run(&["fmt", "docker-bake.hcl"]).ok();
    assert_eq!(printed(&bake, &["plain", "own", "child", "none"], &[]).1, targets);
}

#[test]
fn the_block_is_the_same_in_json_and_yaml() {
    let bake = Bake::new();
    bake.write("bake.hcl", "cache {\n  to = [\"r.invalid/a:cache\"]\n}\ntarget \"default\" {}\n");
    bake.write("bake.json", r#"{"cache": {"to": ["r.invalid/a:cache"]}, "target": {"default": {}}}"#);
    bake.write("bake.yaml", "cache:\n  to:\n    - r.invalid/a:cache\ntarget:\n  default: {}\n");
    for file in ["bake.hcl", "bake.json", "bake.yaml"] {
        let (ran, targets) = printed(&bake, &["-f", file], &[]);
        assert_eq!(ran.stderr, "", "{file}");
        assert_eq!(caches(&targets, "default"), (texts(&[]), texts(&["r.invalid/a:cache"])), "{file}");
    }
    // A value of this name stays a value.
    bake.write("bake.json", r#"{"cache": {"x": "v"}, "target": {"default": {"tags": ["r.invalid/${cache.x}"]}}}"#);
    let (ran, targets) = printed(&bake, &["-f", "bake.json"], &[]);
    assert_eq!((ran.stderr.as_str(), &targets["default"]["tags"]), ("", &json!(["r.invalid/v"])));
}

#[test]
fn the_environment_wins_over_blocks_and_targets_over_the_environment() {
    let bake = Bake::new();
    bake.write("docker-bake.hcl", BLOCK);
    let print = |env: &[(&str, &str)]| printed(&bake, &["plain", "own", "none"], env).1;
    let both = ("BAKE_CACHE", "type=registry,ref=r.invalid/env:cache,mode=max");
    let targets = print(&[both]);
    assert_eq!(caches(&targets, "plain"), (texts(&["r.invalid/env:cache"]), texts(&["r.invalid/env:cache"])));
    assert_eq!(targets["plain"]["cache-from"], json!([{"ref": "r.invalid/env:cache", "type": "registry"}]));
    assert_eq!(targets["plain"]["cache-to"][0]["mode"], "max");
    assert_eq!(caches(&targets, "own").0, texts(&["r.invalid/own:cache"]));
    assert_eq!(caches(&targets, "none"), (texts(&[]), texts(&[])));
    // The job of a pull request reads two and writes none.
    let read = ("BAKE_CACHE_FROM", "r.invalid/a:cache\n\n  r.invalid/b:cache\n");
    let targets = print(&[both, read, ("BAKE_CACHE_TO", "")]);
    assert_eq!(caches(&targets, "plain"), (texts(&["r.invalid/a:cache", "r.invalid/b:cache"]), texts(&[])));
    let targets = print(&[("BAKE_CACHE_TO", "type=local,dest=/elsewhere")]);
    let (from, to) = caches(&targets, "plain");
    assert_eq!((from.len(), to), (2, texts(&["/elsewhere"])));
}

#[test]
fn a_file_that_is_included_under_a_name_has_its_own_block() {
    let bake = Bake::new();
    bake.write("sub/bake.hcl", "cache {\n  to = [\"type=local,dest=c\"]\n}\ntarget \"inner\" {}\n");
    bake.write("other/bake.hcl", "target \"inner\" {}\n");
    bake.write(
        "docker-bake.hcl",
        "include \"a\" { file = \"sub/bake.hcl\" }\ninclude \"b\" { file = \"other/bake.hcl\" }\n\
         cache {\n  from = [\"r.invalid/x\"]\n  to = [\"type=local,dest=c\"]\n}\ntarget \"outer\" {}\n",
    );
    let (ran, targets) = printed(&bake, &["outer", "a_inner", "b_inner"], &[]);
    assert_eq!(ran.stderr, "");
    let from = || texts(&["r.invalid/x"]);
    assert_eq!(caches(&targets, "outer"), (from(), texts(&["c"])));
    assert_eq!(caches(&targets, "a_inner"), (from(), texts(&["sub/c"])));
    assert_eq!(caches(&targets, "b_inner"), (from(), texts(&["c"])));
}

#[test]
fn faults_of_defaults_are_told_with_their_place() {
    let bake = Bake::new();
    let told = |block: &str, env: &[(&str, &str)], words: &[&str]| {
        bake.write(
            "docker-bake.hcl",
            &format!("{block}\ntarget \"default\" {{\n  output = [\"type=cacheonly\"]\n}}\n"),
        );
        bake.write("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
        let ran = bake.run_with("", &[], env);
        assert!(words.iter().all(|it| ran.stderr.contains(it)), "{ran:#?}");
    };
    told("cache {\n  too = []\n}", &[], &["a `cache` block has no attribute of this name: too", "did you mean `to`?"]);
    told("cache \"x\" {}", &[], &["a `cache` block has no name", "docker-bake.hcl:1:7"]);
    told("cache {\n  to = 1\n}", &[], &["`to` of the `cache` block must be a list", "docker-bake.hcl:2:8"]);
    told("cache {\n  to = [\"type=lokal\"]\n}", &[], &["not a cache type: lokal", "docker-bake.hcl:2"]);
    told(
        "",
        &[("BAKE_CACHE", "ref=x")],
        &["the environment variable `BAKE_CACHE`: `type` is missing", "BAKE_CACHE:1:1"],
    );
    told("", &[("BAKE_CACHE_TO", "type=lokal")], &["not a cache type: lokal", "BAKE_CACHE_TO:1:1"]);
}

#[test]
fn one_variable_lets_the_second_machine_build_nothing() {
    let bake = Bake::new();
    let registry = SmallRegistry::start();
    bake.write("docker-bake.hcl", "target \"default\" {\n  output = [\"type=cacheonly\"]\n}\n");
    bake.write("Dockerfile", "FROM scratch AS one\nCOPY Dockerfile /a\nFROM scratch\nCOPY --from=one /a /b\n");
    let cache = format!("type=registry,ref={}/cache:1,mode=max", registry.address);
    let run = |home: &str| {
        let env = [("BAKE_HOME", home), ("BAKE_CACHE", cache.as_str())];
        // That there is no cache yet is no warning.
        bake.run_with("", &["--progress=plain", "--strict"], &env).ok().stderr.matches(" DONE ").count()
    };
    assert_eq!((run("h1"), run("h2"), run("h2")), (2, 0, 0));
}
