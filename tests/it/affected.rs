//! `bake affected`: which targets can have another result since a revision, by what differs; builds of them; errors. That no
//! target is left out is held by builds of random changes in `affected_builds`.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    process::Command,
};

use serde_json::Value;

use crate::support::{Bake, Ran, commit, git};

/// A repository `r` of four targets: `web` with a context of its own, `api` on the target `base` with the context of the
/// repository, `docs` with what its ignore file leaves.
pub(crate) fn repository() -> Bake {
    let bake = Bake::new();
    bake.write(
        "r/docker-bake.hcl",
        r#"variable "V" {
  default = "1"
}
include {
  file = "common.hcl"
}
group "default" {
  targets = ["web", "api"]
}
target "base" {
  context = "shared"
}
target "web" {
  inherits = ["_common"]
  context  = "web"
  args     = { V = V }
}
target "api" {
  inherits   = ["_common"]
  dockerfile = "api/Dockerfile"
  contexts   = { base = "target:base", data = "data" }
}
target "docs" {
  context = "docs"
  args    = { VERSION = trimspace(file("version.txt")), N = length(fileset("docs", "*.txt")) }
}
"#,
    );
    bake.write("r/common.hcl", "target \"_common\" {\n  labels = { team = \"one\" }\n}\n");
    bake.write("r/version.txt", "1\n");
    bake.write("r/.dockerignore", ".git\n**/*.md\n");
    bake.write("r/web/Dockerfile", "FROM scratch\nARG V\nCOPY src /src\n");
    bake.write("r/web/src/a", "a\n");
    bake.write("r/web/README", "not read\n");
    bake.write("r/shared/Dockerfile", "FROM scratch\nCOPY . /shared/\n");
    bake.write("r/shared/lib", "lib\n");
    bake.write("r/data/d", "data\n");
    bake.write("r/data/unread", "data\n");
    bake.write("r/api/Dockerfile", "FROM base\nCOPY api/*.txt api/link /api/\nCOPY --from=data /d /d\n");
    bake.write("r/api/a.txt", "a\n");
    bake.write("r/api/b.go", "b\n");
    bake.write("r/tools/linked", "linked\n");
    symlink("../tools/linked", bake.path("r/api/link")).expect("links can be made");
    bake.write("r/docs/Dockerfile", "FROM scratch\nARG VERSION\nARG N\nCOPY --exclude=*.tmp . /docs/\n");
    bake.write("r/docs/.dockerignore", "drafts\n");
    bake.write("r/docs/index.txt", "text\n");
    bake.write("r/docs/drafts/one", "draft\n");
    git(&bake, "r", &["init", "-q", "-b", "main"]);
    commit(&bake, "r");
    bake
}

/// The affected targets, and their reasons as JSON.
pub(crate) fn affected(bake: &Bake, args: &[&str]) -> Vec<(String, Vec<Value>)> {
    let ran = bake.run_in("r", &[&["affected", "--format=json"], args].concat()).ok();
    let answer: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:#?}"));
    let target = |it: &Value| {
        let name = it["target"].as_str().expect("a name").to_owned();
        let reasons = it["reasons"].as_array().expect("a list").clone();
        assert!(!reasons.is_empty(), "{answer:#}");
        (name, reasons)
    };
    answer["targets"].as_array().expect("a list").iter().map(target).collect()
}

/// Names, each with the kind, path and line of its reasons.
fn told(bake: &Bake, args: &[&str]) -> String {
    let of_reason = |it: &Value| {
        let line = it["line"].as_u64().map(|line| format!(":{line}")).unwrap_or_default();
        format!("{} {}{line}", it["kind"].as_str().expect("a kind"), it["path"].as_str().unwrap_or("-"))
    };
    let of_target = |(name, reasons): &(String, Vec<Value>)| {
        format!("{name}: {}", reasons.iter().map(of_reason).collect::<Vec<_>>().join(", "))
    };
    affected(bake, args).iter().map(of_target).collect::<Vec<_>>().join("\n")
}

/// Makes a change, asks, and takes it back.
fn after(bake: &Bake, change: impl FnOnce(&Path)) -> String {
    change(&bake.path("r"));
    let answer = told(bake, &["--since", "HEAD"]);
    git(bake, "r", &["reset", "-q", "--hard"]);
    git(bake, "r", &["clean", "-fdq"]);
    answer
}

fn append(path: &Path, text: &str) {
    let before = fs::read_to_string(path).unwrap_or_default();
    fs::write(path, before + text).expect("files can be written");
}

#[test]
fn files_affect_the_targets_whose_steps_read_them() {
    let bake = repository();
    assert_eq!(after(&bake, |_| ()), "");
    assert_eq!(after(&bake, |r| append(&r.join("web/README"), "x")), "");
    assert_eq!(after(&bake, |r| append(&r.join("web/src/a"), "x")), "web: file web/src/a");
    assert_eq!(after(&bake, |r| append(&r.join("web/src/new"), "x")), "web: file web/src/new");
    assert_eq!(after(&bake, |r| append(&r.join("api/b.go"), "x")), "");
    assert_eq!(after(&bake, |r| append(&r.join("api/c.txt"), "x")), "api: file api/c.txt");
    assert_eq!(after(&bake, |r| append(&r.join("shared/lib"), "x")), "base: file shared/lib\napi: file shared/lib");
    assert_eq!(after(&bake, |r| append(&r.join("data/d"), "x")), "api: file data/d");
    assert_eq!(after(&bake, |r| append(&r.join("data/unread"), "x")), "");
    assert_eq!(after(&bake, |r| append(&r.join("docs/drafts/one"), "x")), "");
    assert_eq!(after(&bake, |r| append(&r.join("docs/x.tmp"), "x")), "");
    assert_eq!(after(&bake, |r| append(&r.join("tools/linked"), "x")), "api: file tools/linked");
    let executable = fs::Permissions::from_mode(0o755);
    let mode = |r: &Path| fs::set_permissions(r.join("web/src/a"), executable).expect("it is ours");
    assert_eq!(after(&bake, mode), "web: file web/src/a");
    assert_eq!(after(&bake, |r| fs::create_dir(r.join("docs/empty")).expect("writable")), "docs: file docs/empty");
    let retarget = |r: &Path| {
        fs::remove_file(r.join("api/link")).expect("it is there");
        symlink("a.txt", r.join("api/link")).expect("links can be made");
    };
    assert_eq!(after(&bake, retarget), "api: file api/link");
    let rename = |r: &Path| fs::rename(r.join("web/src/a"), r.join("web/b")).expect("it is there");
    assert_eq!(after(&bake, rename), "web: file web/src, file web/src/a");
}

#[test]
fn definitions_dockerfiles_and_ignore_files_count() {
    let bake = repository();
    let edit = |path: &str, from: &str, to: &str| {
        let (path, from, to) = (path.to_owned(), from.to_owned(), to.to_owned());
        move |r: &Path| {
            let text = fs::read_to_string(r.join(&path)).expect("it is there");
            assert!(text.contains(&from), "{text}");
            fs::write(r.join(&path), text.replace(&from, &to)).expect("writable");
        }
    };
    assert_eq!(after(&bake, edit("docker-bake.hcl", "\"1\"", "\"2\"")), "web: definition docker-bake.hcl:16");
    assert_eq!(
        after(&bake, edit("common.hcl", "one", "two")),
        "web: definition common.hcl:2\napi: definition common.hcl:2"
    );
    assert_eq!(after(&bake, edit("version.txt", "1", "2")), "docs: definition docker-bake.hcl:25");
    assert_eq!(after(&bake, |r| append(&r.join("docker-bake.hcl"), "# a comment\n")), "");
    assert_eq!(
        after(&bake, |r| append(&r.join("docker-bake.hcl"), "target \"new\" {\n  context = \"web\"\n}\n")),
        "new: new-target docker-bake.hcl:27"
    );
    assert_eq!(
        after(&bake, edit("docker-bake.hcl", "target:base", "target:docs")),
        "api: definition docker-bake.hcl:21",
        "another link"
    );
    assert_eq!(after(&bake, edit("web/Dockerfile", "COPY", "# a comment\nCOPY")), "");
    assert_eq!(after(&bake, edit("web/Dockerfile", "/src\n", "/source\n")), "web: dockerfile web/Dockerfile:3");
    assert_eq!(after(&bake, |r| append(&r.join("web/Dockerfile"), "LABEL a=b\n")), "web: dockerfile web/Dockerfile:4");
    let own = |r: &Path| fs::rename(r.join("web/Dockerfile"), r.join("web/dockerfile")).expect("it is there");
    assert_eq!(after(&bake, own), "", "the same steps under another name");
    assert_eq!(
        after(&bake, |r| append(&r.join("shared/Dockerfile"), "LABEL a=b\n")),
        "base: dockerfile shared/Dockerfile:3, file shared/Dockerfile\napi: dockerfile shared/Dockerfile:3, file shared/Dockerfile"
    );
    assert_eq!(after(&bake, |r| append(&r.join(".dockerignore"), "**/*.go\n")), "api: ignore-file .dockerignore");
    let of_its_own = |r: &Path| append(&r.join("web/Dockerfile.dockerignore"), "src/z\n");
    assert_eq!(after(&bake, of_its_own), "web: ignore-file web/Dockerfile.dockerignore");
    let remove = |r: &Path| fs::remove_file(r.join("docs/.dockerignore")).expect("it is there");
    assert_eq!(after(&bake, remove), "docs: ignore-file docs/.dockerignore, file docs/.dockerignore");
    let counted = |r: &Path| append(&r.join("docs/more.txt"), "x");
    assert_eq!(after(&bake, counted), "docs: definition docker-bake.hcl:25, file docs/more.txt");
    let broken = after(&bake, |r| append(&r.join("web/Dockerfile"), "NONSENSE\n"));
    assert_eq!(broken, "web: not-comparable docker-bake.hcl:13");
}

#[test]
fn all_kinds_of_reads_count() {
    let bake = Bake::new();
    bake.write(
        "r/docker-bake.hcl",
        r#"target "mounts" {
  dockerfile = "mounts"
  contexts   = { lib = "lib" }
}
target "triggers" {
  dockerfile-inline = "FROM base\nRUN --mount=type=cache,from=lib,source=seed,target=/c true\n"
  contexts          = { base = "target:base", lib = "lib" }
}
target "base" {
  context           = "lib"
  dockerfile-inline = "FROM scratch\nONBUILD COPY onbuild /\n"
}
target "root" {
  dockerfile-inline = "FROM lib\n"
  contexts          = { lib = "through" }
}
target "layout" {
  dockerfile-inline = "FROM img\n"
  contexts          = { img = "oci-layout://layout:1" }
}
target "made" {
  context           = "lib"
  dockerfile-inline = "FROM scratch\nCOPY onbuild /\n"
  output            = ["type=oci,dest=layout,tar=false,name=x:1"]
}
"#,
    );
    bake.write("r/mounts", "FROM scratch AS a\nADD add.tar /\nFROM scratch\nRUN --mount=source=src/one,target=/s --mount=from=lib,source=two,target=/l true\nCOPY --from=a / /\n");
    for name in ["add.tar", "src/one", "src/two", "lib/one", "lib/two", "lib/onbuild", "lib/seed/f", "onbuild"] {
        bake.write(&format!("r/{name}"), name);
    }
    symlink("lib", bake.path("r/through")).expect("links can be made");
    git(&bake, "r", &["init", "-q", "-b", "main"]);
    let made = ["--allow=fs=*", "--progress=quiet", "made"];
    bake.run_with("r", &made, &[("BUILDX_NO_DEFAULT_ATTESTATIONS", "1")]).ok();
    commit(&bake, "r");
    let names = |path: &str| {
        append(&bake.path("r").join(path), " ");
        let found: Vec<String> = affected(&bake, &["--since=HEAD"]).into_iter().map(|(name, _)| name).collect();
        git(&bake, "r", &["reset", "-q", "--hard"]);
        found.join(" ")
    };
    assert_eq!(names("add.tar"), "mounts");
    assert_eq!(names("src/one"), "mounts");
    assert_eq!(names("src/two"), "");
    assert_eq!(names("lib/two"), "mounts triggers root", "what fills a cache mount is taken as a whole");
    assert_eq!(names("lib/one"), "triggers root");
    assert_eq!(names("lib/seed/f"), "triggers root");
    assert_eq!(names("onbuild"), "triggers");
    assert_eq!(names("layout/index.json"), "layout");
    fs::remove_file(bake.path("r/through")).expect("it is there");
    symlink("src", bake.path("r/through")).expect("links can be made");
    let found = affected(&bake, &["--since=HEAD"]);
    assert_eq!(found.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["root"], "{found:#?}");
}

#[test]
fn compose_files_and_what_they_name_count() {
    let bake = Bake::new();
    bake.write(
        "r/compose.yaml",
        "services:\n  one:\n    build:\n      context: one\n      args:\n        V: ${V}\n  two:\n    extends:\n      file: more.yaml\n      service: base\n",
    );
    bake.write("r/more.yaml", "services:\n  base:\n    build:\n      context: two\n      target: a\n");
    bake.write("r/.env", "V=1\n");
    bake.write("r/one/Dockerfile", "FROM scratch\nARG V\nLABEL v=$V\n");
    bake.write("r/two/Dockerfile", "FROM scratch AS a\nCOPY f /\nFROM scratch AS b\nCOPY g /\n");
    bake.write("r/two/f", "");
    bake.write("r/two/g", "");
    git(&bake, "r", &["init", "-q", "-b", "main"]);
    commit(&bake, "r");
    assert_eq!(after(&bake, |r| append(&r.join("two/g"), "x")), "", "another stage reads it");
    assert_eq!(after(&bake, |r| append(&r.join("two/f"), "x")), "two: file two/f");
    assert!(after(&bake, |r| fs::write(r.join(".env"), "V=2\n").expect("writable")).starts_with("one: definition"));
    let stage = |r: &Path| {
        let text = fs::read_to_string(r.join("more.yaml")).expect("it is there");
        fs::write(r.join("more.yaml"), text.replace("target: a", "target: b")).expect("writable");
    };
    assert_eq!(after(&bake, stage), "two: definition more.yaml:5");
    assert_eq!(after(&bake, |r| append(&r.join("two/Dockerfile"), "LABEL x=y\n")), "", "of another stage");
}

#[test]
fn variables_files_and_several_files_are_read_at_both_revisions() {
    let bake = repository();
    bake.write("r/vars.hcl", "V = \"7\"\n");
    bake.write("r/more.hcl", "target \"web\" {\n  labels = { more = \"1\" }\n}\n");
    commit(&bake, "r");
    let args = ["--since=HEAD", "--var-file=vars.hcl", "-f=docker-bake.hcl", "-f=more.hcl", "web", "docs"];
    assert_eq!(told(&bake, &args), "");
    bake.write("r/vars.hcl", "V = \"8\"\n");
    assert_eq!(told(&bake, &args), "web: definition docker-bake.hcl:16");
    bake.write("r/vars.hcl", "V = \"7\"\n");
    bake.write("r/more.hcl", "target \"web\" {\n  labels = { more = \"2\" }\n}\n");
    assert_eq!(told(&bake, &args), "web: definition more.hcl:2");
    let standard_input = bake.run_in("r", &["affected", "--since=HEAD", "-f", "-"]);
    assert!(standard_input.stderr.contains("bake::affected::no_past"), "{standard_input:#?}");
}

#[test]
fn revisions_are_compared_with_the_merge_base() {
    let bake = repository();
    git(&bake, "r", &["checkout", "-q", "-b", "topic"]);
    bake.write("r/web/src/a", "topic\n");
    commit(&bake, "r");
    git(&bake, "r", &["checkout", "-q", "main"]);
    bake.write("r/data/d", "main\n");
    commit(&bake, "r");
    git(&bake, "r", &["checkout", "-q", "topic"]);
    assert_eq!(told(&bake, &["--since=main"]), "web: file web/src/a");
    assert_eq!(told(&bake, &["--since=main", "--direct"]), "web: file web/src/a\napi: file data/d");
    git(&bake, "r", &["-c", "user.name=t", "-c", "user.email=t@t", "merge", "-q", "--no-edit", "main"]);
    assert_eq!(told(&bake, &["--since=main"]), "web: file web/src/a");
    assert_eq!(told(&bake, &["--since=HEAD~1"]), "api: file data/d", "what the merge brought");
    assert_eq!(told(&bake, &["--since=main", "--until=HEAD~1"]), "web: file web/src/a");
    bake.write("r/docs/index.txt", "not committed\n");
    assert_eq!(told(&bake, &["--since=HEAD", "--until=HEAD"]), "");
    assert_eq!(told(&bake, &["--since=HEAD~1", "--until=HEAD"]), "api: file data/d");
    assert_eq!(told(&bake, &["--since=HEAD"]), "docs: file docs/index.txt");
    // A definition that the disk does not have.
    git(&bake, "r", &["checkout", "-q", "."]);
    fs::write(bake.path("r/docker-bake.hcl"), "target \"other\" {\n  context = \"web\"\n}\n").expect("writable");
    commit(&bake, "r");
    assert_eq!(told(&bake, &["--since=HEAD~2", "--until=HEAD~1"]), "api: file data/d");
    git(&bake, "r", &["checkout", "-q", "--orphan", "apart"]);
    commit(&bake, "r");
    assert_eq!(told(&bake, &["--since=HEAD~0"]), "");
    assert!(told(&bake, &["--since=main"]).starts_with("other: new-target"), "nothing in common");
}

#[test]
fn all_merge_bases_of_criss_cross_merges_count() {
    let bake = repository();
    let merge = |branch: &str| {
        git(&bake, "r", &["-c", "user.name=t", "-c", "user.email=t@t", "merge", "-q", "--no-edit", branch]);
    };
    git(&bake, "r", &["branch", "other"]);
    bake.write("r/web/src/a", "of main\n");
    commit(&bake, "r");
    git(&bake, "r", &["branch", "main-1"]);
    git(&bake, "r", &["checkout", "-q", "other"]);
    bake.write("r/data/d", "of other\n");
    commit(&bake, "r");
    git(&bake, "r", &["branch", "other-1"]);
    merge("main-1");
    git(&bake, "r", &["checkout", "-q", "main"]);
    merge("other-1");
    assert_eq!(git_output(&bake, "r", &["merge-base", "--all", "main", "other"]).lines().count(), 2);
    assert_eq!(told(&bake, &["--since=other"]), "web: file web/src/a\napi: file data/d");
}

#[test]
fn attributes_of_git_count_where_they_change_the_disk() {
    let bake = repository();
    git(&bake, "r", &["config", "core.safecrlf", "false"]);
    let committed = |file: &str, line: &str| {
        append(&bake.path("r").join(file), line);
        commit(&bake, "r");
        told(&bake, &["--since=HEAD~1"])
    };
    assert_eq!(committed("web/.gitattributes", "*.c linguist-vendored\n"), "");
    assert_eq!(committed("web/.gitattributes", "* text eol=crlf\n"), "web: file web");
    let all = committed(".gitattributes", "* text eol=crlf\n");
    assert_eq!(all.lines().count(), 4, "{all}");
    assert!(all.contains("api: file shared, file ., file data"), "{all}");
}

#[test]
fn names_of_images_count_without_an_output() {
    let bake = repository();
    bake.write("r/more.hcl", "target \"web\" {\n  tags = [\"web:1\"]\n  annotations = [\"a=b\"]\n}\n");
    commit(&bake, "r");
    bake.write("r/more.hcl", "target \"web\" {\n  tags = [\"web:2\"]\n  annotations = [\"a=c\"]\n}\n");
    let args = ["--since=HEAD", "-f=docker-bake.hcl", "-f=more.hcl"];
    assert_eq!(told(&bake, &args), "web: definition more.hcl:2, definition more.hcl:3");
}

#[test]
fn work_trees_and_folders_below_the_top_are_the_same() {
    let bake = repository();
    git(&bake, "r", &["worktree", "add", "-q", "../other"]);
    append(&bake.path("other/web/src/a"), "x");
    let ran = bake.run_in("other", &["affected", "--since=main", "--format=matrix"]).ok();
    assert_eq!(ran.stdout, "{\"include\":[{\"target\":\"web\"}]}\n");
    bake.write("r/web/docker-bake.hcl", "target \"default\" {}\n");
    bake.write("r/web/.env", "");
    commit(&bake, "r");
    append(&bake.path("r/web/src/a"), "x");
    let ran = bake.run_in("r/web", &["affected", "--since=HEAD"]).ok();
    assert_eq!(ran.stdout, "default  web/src/a: modified, read by COPY src /src (web/Dockerfile:3)\n");
    assert!(ran.stderr.starts_with("1 of 1 targets is affected since HEAD ("), "{ran:#?}");
}

#[test]
fn submodules_count_as_a_whole() {
    let bake = repository();
    bake.write("lib/file", "one\n");
    git(&bake, "lib", &["init", "-q", "-b", "main"]);
    commit(&bake, "lib");
    git(&bake, "r", &["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", "../lib", "data/lib"]);
    bake.write(
        "r/docker-bake.hcl",
        "target \"all\" {\n  context = \"data\"\n}\ntarget \"in\" {\n  context = \"data/lib\"\n}\ntarget \"out\" {\n  context = \"web\"\n}\n",
    );
    bake.write("r/data/Dockerfile", "FROM scratch\nCOPY lib/file /\n");
    bake.write("lib/Dockerfile", "FROM scratch\nCOPY file /\n");
    commit(&bake, "lib");
    git(&bake, "r/data/lib", &["pull", "-q"]);
    commit(&bake, "r");
    assert_eq!(told(&bake, &["--since=HEAD"]), "");
    append(&bake.path("r/data/lib/file"), "dirty");
    let both = "all: file data/lib\nin: ";
    assert!(told(&bake, &["--since=HEAD"]).starts_with(both), "with changes of its own");
    commit(&bake, "r/data/lib");
    assert!(told(&bake, &["--since=HEAD"]).starts_with(both), "at another commit");
    commit(&bake, "r");
    assert_eq!(told(&bake, &["--since=HEAD"]), "");
    assert!(told(&bake, &["--since=HEAD~1"]).starts_with(both), "at another commit, committed");
    assert!(!told(&bake, &["--since=HEAD~1"]).contains("out:"));
}

#[test]
fn what_cannot_be_compared_is_affected() {
    let bake = repository();
    bake.write("outside/f", "");
    bake.write("r/nested/f", "");
    bake.write("r/.gitignore", "nested\n");
    git(&bake, "r/nested", &["init", "-q"]);
    bake.write(
        "r/docker-bake.hcl",
        "target \"out\" {\n  context = \"web\"\n  contexts = { o = \"../outside\" }\n  dockerfile-inline = \"FROM scratch\\nCOPY --from=o . /\\n\"\n}\n\
         target \"nested\" {\n  context = \"nested\"\n  dockerfile-inline = \"FROM scratch\\nCOPY . /\\n\"\n}\n\
         target \"top\" {\n  dockerfile-inline = \"FROM scratch\\nCOPY . /\\n\"\n}\n\
         target \"guess\" {\n  context = \"web\"\n  dockerfile-inline = \"FROM alpine\\nCOPY $DIR/x /\\nADD https://example.com/x /\\n\"\n}\n\
         target \"far\" {\n  context = \"https://example.com/r.git\"\n  contexts = { w = \"data\" }\n}\n",
    );
    fs::remove_file(bake.path("r/.dockerignore")).expect("it is there");
    commit(&bake, "r");
    let args = ["--since=HEAD", "--allow=fs.read=*"];
    let always =
        "out: not-comparable docker-bake.hcl:2\nnested: not-comparable docker-bake.hcl:7\ntop: git-folder .git";
    assert_eq!(told(&bake, &args), always);
    append(&bake.path("r/web/README"), "x");
    assert!(told(&bake, &args).ends_with("guess: file web/README"), "what it reads is not known");
    git(&bake, "r", &["checkout", "-q", "."]);
    append(&bake.path("r/data/d"), "x");
    assert!(told(&bake, &args).ends_with("far: file data/d"), "its Dockerfile is not known");
    let ran = bake.run_in("r", &[&["affected", "--format=json"], &args[..]].concat()).ok();
    let answer: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let unpinned: Vec<String> = answer["unpinned"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|it| format!("{} {} {}", it["kind"], it["reference"], it["targets"]))
        .collect();
    assert_eq!(
        unpinned,
        [
            "\"image\" \"alpine:latest\" [\"guess\"]",
            "\"git\" \"https://example.com/r.git\" [\"far\"]",
            "\"http\" \"https://example.com/x\" [\"guess\"]"
        ]
    );
}

#[test]
fn sources_that_git_ignores_are_told() {
    let bake = repository();
    bake.write("r/.gitignore", "/web/src/\n/data/made\n*.log\n");
    bake.write("r/data/Dockerfile", "FROM scratch\nCOPY made/*.bin /\nCOPY d /\n");
    bake.write("r/data/made/x.bin", "1");
    bake.write(
        "r/docker-bake.hcl",
        "target \"made\" {\n  context = \"data\"\n}\ntarget \"web\" {\n  context = \"web\"\n}\n",
    );
    commit(&bake, "r");
    bake.write("r/data/made/x.bin", "2");
    bake.write("r/web/src/new", "ignored");
    let ran = bake.run_in("r", &["affected", "--since=HEAD", "--format=json"]).ok();
    let answer: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(answer["targets"], serde_json::json!([]));
    assert_eq!(answer["notCompared"], serde_json::json!([{ "path": "data/made", "targets": ["made"] }]), "{answer:#}");
    let ran = bake.run_in("r", &["affected", "--since=HEAD"]).ok();
    assert!(ran.stderr.ends_with("not compared, git ignores it: data/made\n"), "{ran:#?}");
}

#[test]
fn only_affected_targets_are_built() {
    let bake = repository();
    append(&bake.path("r/web/src/a"), "x");
    append(&bake.path("r/docs/index.txt"), "x");
    let set = ["--set=*.output=type=cacheonly", "--progress=plain"];
    let built = bake.run_in("r", &[&["--affected", "--since=HEAD"], &set[..]].concat()).ok();
    assert!(built.stderr.contains("1 of 2 targets is affected since HEAD"), "of the group `default`: {built:#?}");
    assert!(built.stderr.contains("[web 1/1] COPY src /src") && !built.stderr.contains("docs"), "{built:#?}");
    let printed = bake.run_in("r", &["--affected", "--since=HEAD", "--print", "docs", "api"]).ok();
    assert!(printed.stdout.contains("\"docs\"") && !printed.stdout.contains("\"api\""), "{printed:#?}");
    git(&bake, "r", &["checkout", "-q", "."]);
    let none = bake.run_in("r", &[&["--affected", "--since=HEAD"], &set[..]].concat()).ok();
    assert!(none.stderr.starts_with("0 of 2 targets are affected") && !none.stderr.contains("COPY"), "{none:#?}");
    let alone = bake.run_in("r", &["--affected"]);
    assert_eq!(alone.code, Some(2), "{alone:#?}");
}

fn fails(ran: &Ran, code: &str, words: &[&str]) {
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    for word in [&[code], words].concat() {
        assert!(ran.stderr.contains(word), "{word}: {ran:#?}");
    }
}

#[test]
fn errors_say_what_to_type() {
    let bake = repository();
    let since = |revision: &str| bake.run_in("r", &["affected", "--since", revision]);
    fails(
        &since("mian"),
        "bake::affected::unknown_revision",
        &["not in this repository: mian", "did you mean `main`?"],
    );
    fails(&bake.run_in("r", &["affected", "--since=-x"]), "bake::affected::unknown_revision", &[]);
    fails(&since(""), "bake::affected::unknown_revision", &[]);
    fails(
        &bake.run_in("r", &["affected", "--since=main", "wbe"]),
        "bake::eval::unknown_target",
        &["did you mean `web`?"],
    );
    fs::create_dir(bake.path("plain")).expect("writable");
    bake.write("plain/docker-bake.hcl", "target \"default\" {}\n");
    fails(
        &bake.run_in("plain", &["affected", "--since=main"]),
        "bake::affected::no_repository",
        &["not in a git repository"],
    );
    let mut without_git = bake.command("r", &["affected", "--since=main"]);
    let output = without_git.env("PATH", bake.path("plain")).output().expect("the binary starts");
    assert!(String::from_utf8_lossy(&output.stderr).contains("bake::affected::no_git"), "{output:?}");
    // A definition that is at fault now is reported; one that was is a reason.
    bake.write("r/docker-bake.hcl", "target \"default\" {\n");
    commit(&bake, "r");
    fails(&since("main~1"), "bake::definition::", &[]);
    bake.write("r/docker-bake.hcl", "target \"default\" {\n  context = \"web\"\n}\n");
    assert_eq!(told(&bake, &["--since=HEAD"]), "default: not-comparable docker-bake.hcl:1");
}

#[test]
fn shallow_clones_are_told_how_to_be_deepened() {
    let bake = repository();
    for n in 0..3 {
        append(&bake.path("r/web/src/a"), &n.to_string());
        commit(&bake, "r");
    }
    git(&bake, "r", &["branch", "old", "HEAD~3"]);
    let url = format!("file://{}", bake.path("r").display());
    git(&bake, "", &["clone", "-q", "--depth=1", "--no-single-branch", &url, "c"]);
    let since = |revision: &str| bake.run_in("c", &["affected", "--since", revision]);
    let help = "git fetch --deepen=100 origin HEAD +refs/heads/old:refs/remotes/origin/old";
    fails(&since("origin/old"), "bake::affected::shallow", &[help, "git fetch --unshallow"]);
    fails(&since("HEAD~1"), "bake::affected::unknown_revision", &["the clone is shallow: git fetch --deepen=100"]);
    git(&bake, "c", &["fetch", "-q", "--deepen=100", "origin", "HEAD", "+refs/heads/old:refs/remotes/origin/old"]);
    let ran = since("origin/old").ok();
    assert!(ran.stdout.starts_with("web  web/src/a: modified"), "{ran:#?}");
}

#[test]
fn clones_with_a_filter_fetch_nothing() {
    let bake = repository();
    bake.write("r/version.txt", "2\n");
    bake.write("r/web/src/a", "2\n");
    commit(&bake, "r");
    git(&bake, "r", &["config", "uploadpack.allowFilter", "true"]);
    let url = format!("file://{}", bake.path("r").display());
    git(&bake, "", &["clone", "-q", "--filter=blob:none", &url, "c"]);
    let ran = bake.run_in("c", &["affected", "--since=HEAD~1"]).ok();
    assert!(ran.stderr.starts_with("4 of 4 targets are affected"), "{ran:#?}");
    let (_, command) =
        ran.stdout.lines().next().and_then(|line| line.split_once("get it with: git ")).expect("a command");
    let words: Vec<&str> = command.split([' ', ';', ')']).take(3).collect();
    git(&bake, "c", &words);
    let ran = bake.run_in("c", &["affected", "--since=HEAD~1"]).ok();
    assert_eq!(ran.stdout.lines().count(), 2, "{ran:#?}");
}

#[test]
fn no_program_of_a_repository_runs() {
    let bake = repository();
    bake.write("r/.git/evil", "#!/bin/sh\ntouch \"$(dirname \"$0\")/ran\"\n");
    let evil = bake.path("r/.git/evil");
    fs::set_permissions(&evil, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let evil = evil.display().to_string();
    for key in ["core.fsmonitor", "diff.external", "core.pager", "core.sshCommand"] {
        git(&bake, "r", &["config", key, &evil]);
    }
    append(&bake.path("r/web/src/a"), "x");
    assert_eq!(told(&bake, &["--since=main"]), "web: file web/src/a");
    assert!(!bake.path("r/.git/ran").exists());
}

/// What git says in a folder below the working folder.
pub(crate) fn git_output(bake: &Bake, folder: &str, args: &[&str]) -> String {
    let output = Command::new("git").args(args).current_dir(bake.path(folder)).output().expect("git is installed");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn unmerged_paths_and_odd_names_count() {
    let bake = repository();
    git(&bake, "r", &["checkout", "-q", "-b", "topic"]);
    bake.write("r/web/src/a", "topic\n");
    commit(&bake, "r");
    git(&bake, "r", &["checkout", "-q", "main"]);
    bake.write("r/web/src/a", "main\n");
    commit(&bake, "r");
    let merged = git_output(&bake, "r", &["-c", "user.name=t", "-c", "user.email=t@t", "merge", "topic"]);
    assert!(merged.contains("CONFLICT"), "{merged}");
    assert_eq!(told(&bake, &["--since=HEAD"]), "web: file web/src/a");
    git(&bake, "r", &["merge", "--abort"]);
    for name in ["a b", "ü", "new\nline", "quo\"te"] {
        append(&bake.path("r/web/src").join(name), "x");
        commit(&bake, "r");
        assert_eq!(affected(&bake, &["--since=HEAD~1"]).len(), 1, "{name}");
    }
}

#[test]
fn a_folder_that_only_an_excluded_file_keeps_in_the_context_counts() {
    let bake = Bake::new();
    bake.write("r/.dockerignore", "*\n!x\n!a/b/*.go\n");
    bake.write("r/Dockerfile", "FROM scratch\nCOPY --exclude=**/*.go . /\n");
    bake.write("r/docker-bake.hcl", "target \"default\" {\n  output = [\"type=cacheonly\"]\n}\n");
    bake.write("r/x", "1");
    bake.write("r/a/b/x.go", "1");
    git(&bake, "r", &["init", "-q", "-b", "main"]);
    commit(&bake, "r");
    fs::remove_file(bake.path("r/a/b/x.go")).expect("it is there");
    let ran = bake.run_in("r", &["affected", "--since=HEAD"]).ok();
    assert!(ran.stdout.contains("a/b/x.go"), "{ran:#?}");
    // Its content alone is not copied.
    git(&bake, "r", &["checkout", "-q", "."]);
    bake.write("r/a/b/x.go", "2");
    let ran = bake.run_in("r", &["affected", "--since=HEAD"]).ok();
    assert_eq!(ran.stdout, "", "{ran:#?}");
}
