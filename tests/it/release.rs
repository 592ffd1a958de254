//! All or nothing: what a release shows when something fails, when it is killed, and what the next run does.

use std::{collections::BTreeMap, fs, path::Path};

use crate::{
    small_registry::{SmallRegistry, digest},
    support::{Bake, tar_entries},
};

const RELEASE: &str = r#"
    variable "REGISTRY" { default = "" }
    variable "VERSION" { default = "1" }
    variable "BROKEN" { default = "" }
    group "default" {
      targets = ["archive", "image", "folder", "push"]
      release = "defer-output"
    }
    target "base" {
      args = { VERSION = VERSION, BROKEN = BROKEN }
      dockerfile-inline = <<EOT
        FROM scratch
        COPY source /
        ARG VERSION
        LABEL version=$VERSION
        EOT
    }
    target "archive" {
      inherits = ["base"]
      output   = ["type=tar,dest=out/a.tar"]
    }
    target "image" {
      inherits = ["base"]
      output   = ["type=oci,dest=out/new/image.tar", "type=oci,tar=false,dest=out/layout"]
    }
    target "folder" {
      inherits = ["base"]
      output   = ["type=local,dest=out/folder", "type=local,dest=out/deep/er"]
    }
    target "push" {
      inherits = ["base"]
      tags     = ["${REGISTRY}/app:one", "${REGISTRY}/app:two", "${REGISTRY}/other:one"]
      output   = ["type=registry"]
    }
    target "broken" {
      dockerfile-inline = "FROM scratch\nCOPY nothing-of-this-name /\n"
      output   = ["type=tar,dest=out/broken.tar"]
    }
    target "small" {
      dockerfile-inline = "FROM scratch\nCOPY source/file /\n"
      output   = ["type=local,dest=out/small"]
    }"#;

/// A project whose sources have a version, and its registry.
struct Project {
    bake: Bake,
    registry: SmallRegistry,
}

impl Project {
    fn new() -> Self {
        let project = Self { bake: Bake::new(), registry: SmallRegistry::start() };
        project.bake.write("docker-bake.hcl", RELEASE);
        project.bake.write("out/folder/theirs", "not ours");
        project.version("1");
        project
    }

    fn version(&self, version: &str) {
        self.bake.write("source/file", &format!("version {version}"));
        self.bake.write("source/sub/file", &format!("version {version}"));
    }

    #[must_use]
    fn run(&self, version: &str, args: &[&str]) -> crate::support::Ran {
        let (version, registry) = (format!("VERSION={version}"), format!("REGISTRY={}", self.registry.address));
        let mut all = vec!["--progress=plain", "--var", &version, "--var", &registry];
        all.extend(args);
        self.bake.run(&all)
    }

    /// Everything that is visible: the files below `out` by their digests, and the tags.
    fn visible(&self) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        collect(&self.bake.path("out"), "out", &mut found);
        for (repository, tag) in [("app", "one"), ("app", "two"), ("other", "one")] {
            let digest = self.registry.tag(repository, tag);
            found.insert(format!("{repository}:{tag}"), digest.unwrap_or_default());
        }
        found
    }

    fn journals(&self) -> usize {
        fs::read_dir(self.bake.path("state/v1/journals")).map_or(0, Iterator::count)
    }
}

fn collect(folder: &Path, name: &str, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let entry = entry.expect("readable");
        let name = format!("{name}/{}", entry.file_name().to_string_lossy());
        if entry.file_type().expect("a type").is_dir() {
            found.insert(format!("{name}/"), String::new());
            collect(&entry.path(), &name, found);
        } else {
            found.insert(name, digest(&fs::read(entry.path()).expect("readable")));
        }
    }
}

#[test]
fn a_release_shows_everything_and_again_changes_nothing() {
    let project = Project::new();
    project.run("1", &[]).ok();
    let entries = tar_entries(&project.bake.path("out/a.tar"));
    assert!(entries.iter().any(|(name, content)| name == "sub/file" && content == b"version 1"), "{entries:?}");
    assert_eq!(project.bake.read("out/folder/sub/file"), "version 1");
    assert_eq!(project.bake.read("out/deep/er/file"), "version 1");
    assert_eq!(project.bake.read("out/folder/theirs"), "not ours");
    assert!(project.bake.path("out/layout/index.json").exists() && project.bake.path("out/new/image.tar").exists());
    let tags = [("app", "one"), ("app", "two"), ("other", "one")].map(|(path, tag)| project.registry.tag(path, tag));
    assert!(tags[0].is_some() && tags.iter().all(|tag| *tag == tags[0]), "{tags:?}");
    assert_eq!(project.journals(), 0);
    // What is pushed states when it was built, and so is new each time.
    let files = || project.visible().into_iter().filter(|(name, _)| name.starts_with("out/")).collect::<Vec<_>>();
    let before = files();
    assert!(before.iter().all(|(name, _)| !name.contains(".bake-")), "{before:?}");
    let again = project.run("1", &[]).ok();
    assert_eq!(files(), before);
    assert!(again.stderr.contains("unchanged"), "{again:?}");
}

#[test]
fn one_target_that_fails_changes_nothing() {
    let project = Project::new();
    project.run("1", &[]).ok();
    let before = project.visible();
    project.version("2");
    for args in [&["default", "broken"][..], &["--execution=defer-output", "push", "archive", "broken"]] {
        let ran = project.run("2", args);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert_eq!(project.visible(), before, "{ran:?}");
    }
    // The command line wins over the group: without deferring, what was ready is there.
    assert_eq!(project.run("2", &["--execution=defer-error", "default", "broken"]).code, Some(1));
    let after = project.visible();
    assert_eq!(after["out/folder/file"], digest(b"version 2"));
    assert_ne!(after["app:two"], before["app:two"]);
    assert!(!project.bake.path("out/broken.tar").exists());
}

#[test]
fn a_first_release_that_fails_leaves_no_folder_behind() {
    let project = Project::new();
    let before = project.visible();
    assert_eq!(project.run("1", &["default", "broken"]).code, Some(1));
    assert_eq!(project.visible(), before);
}

#[test]
fn a_registry_that_refuses_at_any_request_leaves_old_or_new_and_the_next_run_ends_it() {
    let project = Project::new();
    project.run("1", &[]).ok();
    project.registry.refuse_after(None);
    project.version("2");
    project.run("2", &[]).ok();
    let n_requests = project.registry.log().len();
    assert!(n_requests > 10, "{:?}", project.registry.log());
    let mut n_half = 0;
    for n in 0..n_requests {
        let version = (n + 3).to_string();
        project.version(&version);
        let before = project.visible();
        project.registry.refuse_after(Some(n));
        let ran = project.run(&version, &[]);
        assert_eq!(ran.code, Some(1), "request {n}: {ran:?}");
        project.registry.refuse_after(None);
        let is_half = project.journals() > 0;
        if !is_half {
            assert_eq!(project.visible(), before, "request {n}: {ran:?}");
        } else {
            n_half += 1;
            assert!(ran.stderr.contains("bake::release::unfinished"), "request {n}: {ran:?}");
            // Whatever is built next with this state directory.
            let next = project.run(&version, &["small"]).ok();
            assert!(next.stderr.contains("was finished"), "request {n}: {next:?}");
            assert_eq!(project.journals(), 0);
            let after = project.visible();
            assert_eq!(after["out/folder/file"], digest(format!("version {version}").as_bytes()));
            assert!(after["app:one"] != before["app:one"] && after["app:one"] == after["other:one"]);
            assert_eq!(after["app:one"], after["app:two"]);
        }
        project.run(&version, &[]).ok();
    }
    assert!(n_half > 0, "the tags are set by requests of their own");
}

#[test]
fn a_tag_that_somebody_else_sets_meanwhile_stays_and_is_reported() {
    let project = Project::new();
    project.run("1", &[]).ok();
    project.version("2");
    project.registry.refuse_after(None);
    project.run("2", &[]).ok();
    let n_requests = project.registry.log().len();
    project.version("3");
    // The last request sets the last tag.
    project.registry.refuse_after(Some(n_requests - 1));
    assert_eq!(project.run("3", &[]).code, Some(1));
    assert_eq!(project.journals(), 1);
    project.registry.refuse_after(None);
    let elsewhere = Bake::new();
    elsewhere.write("docker-bake.hcl", RELEASE);
    elsewhere.write("source/file", "theirs");
    let registry = format!("REGISTRY={}", project.registry.address);
    elsewhere.run(&["--progress=plain", "--var", &registry, "push"]).ok();
    let theirs = project.registry.tag("other", "one");
    let next = project.run("3", &["small"]).ok();
    assert!(next.stderr.contains("bake::release::given_up"), "{next:?}");
    assert_eq!(project.registry.tag("other", "one"), theirs);
    assert_eq!(project.journals(), 0);
}

#[test]
fn a_folder_that_became_a_link_or_a_file_is_replaced_with_what_lay_in_it() {
    let bake = Bake::new();
    bake.write(
        "docker-bake.hcl",
        r#"target "default" {
             context = "c"
             dockerfile-inline = "FROM scratch\nCOPY . /\n"
             output = ["type=local,dest=out,mode=delete"]
           }"#,
    );
    bake.write("c/a", "a");
    bake.write("c/s/x", "x");
    let args = ["--progress=plain", "--execution=defer-output", "--allow", "buildx.local.delete"];
    bake.run(&args).ok();
    fs::remove_dir_all(bake.path("c/s")).expect("it is there");
    std::os::unix::fs::symlink("a", bake.path("c/s")).expect("links can be made");
    bake.run(&args).ok();
    assert_eq!(fs::read_link(bake.path("out/s")).expect("a link"), Path::new("a"));
    fs::remove_file(bake.path("c/s")).expect("it is there");
    bake.write("c/s/y", "y");
    bake.run(&args).ok();
    fs::remove_dir_all(bake.path("c/s")).expect("it is there");
    bake.write("c/s", "file");
    bake.run(&args).ok();
    assert_eq!(bake.read("out/s"), "file");
    assert_eq!(fs::read_dir(bake.path("out")).expect("it is there").count(), 2);
}

#[test]
fn groups_and_the_command_line_name_a_mode() {
    let project = Project::new();
    let ran = project.run("1", &["--execution=defer-outptu"]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.stderr.contains("did you mean `defer-output`"), "{ran:?}");
    let ran = project.bake.run_with("", &["small"], &[("BAKE_EXECUTION", "never")]);
    assert!(ran.stderr.contains("BAKE_EXECUTION") && ran.code == Some(2), "{ran:?}");
    let text = r#"
        group "a" {
          targets = ["t"]
          release = "defer-output"
        }
        group "b" {
          targets = ["t"]
          release = "defer-error"
        }
        target "t" {
          dockerfile-inline = "FROM scratch"
          output = ["type=cacheonly"]
        }"#;
    project.bake.write("groups.hcl", text);
    let ran = project.bake.run(&["-f", "groups.hcl", "a", "b"]);
    assert!(ran.stderr.contains("bake::eval::release_conflict") && ran.code == Some(1), "{ran:?}");
    project.bake.run(&["-f", "groups.hcl", "--execution=fail-fast", "a", "b"]).ok();
    project.bake.run(&["-f", "groups.hcl", "a"]).ok();
    let printed = project.bake.run(&["-f", "groups.hcl", "--print", "a"]).ok();
    assert!(printed.stdout.contains("\"release\": \"defer-output\""), "{printed:?}");
    project.bake.write("printed.json", &printed.stdout);
    assert_eq!(project.bake.run(&["-f", "printed.json", "--print", "a"]).ok().stdout, printed.stdout);
}

#[test]
fn a_deferred_stream_holds_the_whole_result() {
    let project = Project::new();
    let ran = project.run("1", &["--execution=defer-output", "small", "--set", "small.output=type=tar,dest=-"]).ok();
    assert!(ran.stdout.contains("version 1"), "{ran:?}");
    let failed =
        project.run("1", &["--execution=defer-output", "small", "broken", "--set", "small.output=type=tar,dest=-"]);
    assert_eq!((failed.code, failed.stdout.as_str()), (Some(1), ""), "{failed:?}");
}

#[test]
fn an_engine_that_does_not_answer_is_found_out_before_anything_is_visible() {
    let project = Project::new();
    let before = project.visible();
    let load = "target \"load\" {\n  inherits = [\"base\"]\n  tags = [\"app:1\"]\n  output = [\"type=docker\"]\n}\n";
    project.bake.write("load.hcl", load);
    let registry = format!("REGISTRY={}", project.registry.address);
    let args = ["-f", "docker-bake.hcl", "-f", "load.hcl", "--progress=plain", "--var", &registry, "default", "load"];
    let host = format!("unix://{}", project.bake.path("none.sock").display());
    let ran = project.bake.run_with("", &args, &[("DOCKER_HOST", &host)]);
    assert!(
        ran.code == Some(1) && ran.stderr.contains("none.sock") && ran.stderr.contains("nothing is released"),
        "{ran:?}"
    );
    assert_eq!(project.visible(), before);
    assert_eq!(project.journals(), 0);
}

#[test]
fn a_release_that_cannot_end_is_listed_and_given_up() {
    let project = Project::new();
    assert!(project.bake.run(&["cache", "releases"]).ok().stderr.contains("no release is pending"));
    project.run("1", &[]).ok();
    project.registry.refuse_after(None);
    project.version("2");
    project.run("2", &[]).ok();
    let n_requests = project.registry.log().len();
    project.version("3");
    project.registry.refuse_after(Some(n_requests - 1));
    assert_eq!(project.run("3", &[]).code, Some(1));
    let old = project.registry.tag("other", "one");
    // It cannot end: each build warns, and is judged by itself.
    let pending = project.run("3", &["small"]);
    assert!(pending.code == Some(0) && pending.stderr.contains("bake cache releases --abandon"), "{pending:?}");
    let open = format!("  {}/other:one\n", project.registry.address);
    let listed = project.bake.run(&["cache", "releases"]).ok().stdout;
    assert!(listed.ends_with(&open) && listed.contains("still as before"), "{listed}");
    assert_eq!(project.journals(), 1);
    let given_up = project.bake.run(&["cache", "releases", "--abandon"]).ok().stdout;
    assert!(given_up.ends_with(&open) && given_up.contains("given up"), "{given_up}");
    assert_eq!(project.journals(), 0);
    project.registry.refuse_after(None);
    let next = project.run("3", &["small"]).ok();
    assert!(!next.stderr.contains("bake::release"), "{next:?}");
    assert_eq!(project.registry.tag("other", "one"), old);
}
