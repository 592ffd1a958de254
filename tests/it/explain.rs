//! `bake explain`: for changes of every kind the cause is named, before the build, in its progress, and after it.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

use serde_json::Value;

use crate::support::{Bake, Ran, base_layout};

const DOCKERFILE: &str = "\
FROM base AS build
ARG V=1
ENV E=one
WORKDIR /work
COPY src src
RUN --mount=type=secret,id=token --mount=type=bind,source=data,target=/data echo $V > made && cat src/a >> made
RUN cat made > /copied
FROM scratch
COPY --from=build /copied /copied
";

fn definition(more: &str) -> String {
    format!(
        "variable \"S\" {{\n  default = \"5e45171fe\"\n  sensitive = true\n}}\n\
         target \"default\" {{\n  contexts = {{ base = \"oci-layout://{}\" }}\n  \
         secret = [\"id=token,src=token\", \"id=other,src=token\"]\n  output = [\"type=local,dest=out\"]\n  {more}\n}}\n",
        base_layout().display()
    )
}

/// The project, not built yet.
fn project() -> Bake {
    let bake = Bake::new();
    bake.write("Dockerfile", DOCKERFILE);
    bake.write("docker-bake.hcl", &definition(""));
    bake.write(".dockerignore", "out\nhome\nstate\n");
    bake.write("token", "t0k3n-v41ue");
    bake.write("src/a", "first\n");
    bake.write("src/b", "second\n");
    bake.write("src/c", "third\n");
    bake.write("data/list", "one\n");
    bake
}

fn run(bake: &Bake, command: &[&str], more: &[&str]) -> Ran {
    bake.run(&[command, &["--allow=fs=*"], more].concat()).ok()
}

fn build(bake: &Bake, more: &[&str]) -> Ran {
    run(bake, &["--progress=plain"], more)
}

/// The steps that `bake explain` knows.
fn explain(bake: &Bake, more: &[&str]) -> Vec<Value> {
    let ran = run(bake, &["explain", "--json"], more);
    let answer: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:#?}"));
    answer["steps"].as_array().expect("steps are a list").clone()
}

fn step<'a>(steps: &'a [Value], text: &str) -> &'a Value {
    let is_it = |step: &&Value| step["name"].as_str().is_some_and(|name| name.contains(text));
    steps.iter().find(is_it).unwrap_or_else(|| panic!("no step `{text}`: {steps:#?}"))
}

/// Every file of the state directory with its size and time of change.
fn state(bake: &Bake) -> Vec<(PathBuf, u64, SystemTime)> {
    let (mut all, mut open) = (Vec::new(), vec![bake.path("state")]);
    while let Some(path) = open.pop() {
        // A helper of the build before notes there, when it has ended, that what was written is on the disk.
        if path == bake.path("state/v1/synced") {
            continue;
        }
        let meta = fs::symlink_metadata(&path).expect("nothing is removed meanwhile");
        all.push((path.clone(), meta.len(), meta.modified().expect("there are times")));
        if meta.is_dir() {
            open.extend(fs::read_dir(&path).expect("readable").map(|entry| entry.expect("readable").path()));
        }
    }
    all.sort();
    all
}

/// One change of the project, and what is to be said of it.
struct Change {
    what: &'static str,
    change: Box<dyn Fn(&Bake)>,
    args: Vec<&'static str>,
    /// Part of the name of the step that runs for it.
    step: &'static str,
    kind: &'static str,
    name: &'static str,
    /// Part of the text.
    says: &'static str,
}

impl Change {
    fn file(
        what: &'static str,
        step: &'static str,
        (kind, name, says): (&'static str, &'static str, &'static str),
        change: impl Fn(&Bake) + 'static,
    ) -> Self {
        Self { what, change: Box::new(change), args: Vec::new(), step, kind, name, says }
    }

    /// A change of the Dockerfile, which replaces the first text by the second.
    fn text(
        what: &'static str,
        step: &'static str,
        told: (&'static str, &'static str, &'static str),
        (from, to): (&'static str, &'static str),
    ) -> Self {
        assert!(DOCKERFILE.contains(from), "{from}");
        Self::file(what, step, told, move |bake| bake.write("Dockerfile", &DOCKERFILE.replacen(from, to, 1)))
    }

    /// A line of the target.
    fn target(
        what: &'static str,
        step: &'static str,
        told: (&'static str, &'static str, &'static str),
        line: &'static str,
    ) -> Self {
        Self::file(what, step, told, move |bake| bake.write("docker-bake.hcl", &definition(line)))
    }
}

const FIRST_RUN: &str = "RUN --mount";

fn of_files() -> Vec<Change> {
    vec![
        Change::file("content", "COPY src", ("file-changed", "src/a", "was 6 bytes"), |it| {
            it.write("src/a", "other\n\n");
        }),
        Change::file("mode", "COPY src", ("file-mode", "src/a", "`0755`, was `0644`"), |bake| {
            fs::set_permissions(bake.path("src/a"), fs::Permissions::from_mode(0o755)).expect("it is there");
        }),
        Change::file("name", "COPY src", ("file-renamed", "src/z", "src/b is now called src/z"), |bake| {
            fs::rename(bake.path("src/b"), bake.path("src/z")).expect("it is there");
        }),
        Change::file("a new file", "COPY src", ("file-added", "src/new", "is new"), |it| it.write("src/new", "new")),
        Change::file("a new folder", "COPY src", ("file-added", "src/folder", "a folder"), |bake| {
            fs::create_dir(bake.path("src/folder")).expect("it is new");
        }),
        Change::file("a file less", "COPY src", ("file-removed", "src/b", "is gone"), |bake| {
            fs::remove_file(bake.path("src/b")).expect("it is there");
        }),
        Change::file("ignored", "COPY src", ("file-removed", "src/c", "hidden by `src/c` in .dockerignore"), |bake| {
            bake.write(".dockerignore", "out\nhome\nstate\nsrc/c\n");
        }),
        Change::file("bound file", FIRST_RUN, ("file-changed", "data/list", "data/list changed"), |bake| {
            bake.write("data/list", "two\n");
        }),
    ]
}

fn of_text() -> Vec<Change> {
    vec![
        Change::text("default of ARG", FIRST_RUN, ("argument", "V", "`2`, was `1`"), ("V=1", "V=2")),
        Change::text("ENV", FIRST_RUN, ("environment", "E", "`two`, was `one`"), ("E=one", "E=two")),
        Change::text("one more ENV", FIRST_RUN, ("environment", "F", "`three` is new"), ("E=one", "E=one F=three")),
        Change::text("secret id", FIRST_RUN, ("secret", "other", "was `token"), ("id=token", "id=other")),
        Change::text("mount", FIRST_RUN, ("mount", "/data2", "was `bind of /data at /data`"), ("=/data ", "=/data2 ")),
        Change::text(
            "one more mount",
            FIRST_RUN,
            ("mount", "/t", "`tmpfs at /t` is new"),
            ("--mount=type=bind", "--mount=type=tmpfs,target=/t --mount=type=bind"),
        ),
        Change::text(
            "instruction",
            "RUN cat made made",
            ("instruction", "", "was `RUN cat made > /copied`"),
            ("cat made >", "cat made made >"),
        ),
        Change::text("WORKDIR", "WORKDIR /other", ("instruction", "", "was `WORKDIR /work`"), ("/work", "/other")),
        Change::text("WORKDIR of a RUN", "RUN cat made", ("workdir", "", "`/third`, was `/"), ("/work", "/third")),
        Change::text("USER", "RUN cat made", ("user", "", "`0`, was `root`"), ("RUN cat", "USER 0\nRUN cat")),
        Change::text(
            "SHELL",
            "RUN cat made",
            ("command", "", "was `/bin/sh -c"),
            ("RUN cat", "SHELL [\"/bin/sh\", \"-e\", \"-c\"]\nRUN cat"),
        ),
        Change::text(
            "order",
            "RUN true",
            ("instruction", "", "was `RUN cat made > /copied`"),
            ("RUN cat", "RUN true\nRUN cat"),
        ),
        Change::text(
            "the step before",
            "RUN cat made",
            ("earlier-step", "", "`RUN :`, was `RUN "),
            ("RUN cat", "RUN :\nRUN cat"),
        ),
        Change::text(
            "--chown",
            "COPY --chown",
            ("instruction", "", "was `COPY src src`"),
            ("COPY src", "COPY --chown=1:2 src"),
        ),
        Change::text(
            "--network",
            "RUN --network=none cat",
            ("network", "", "`none`, was `default`"),
            ("RUN cat", "RUN --network=none cat"),
        ),
    ]
}

fn of_settings() -> Vec<Change> {
    let mut all = vec![
        Change::target("argument", FIRST_RUN, ("argument", "V", "`7`, was `1`"), "args = { V = \"7\" }"),
        Change::target("sensitive", FIRST_RUN, ("argument", "V", "`***`, was `"), "args = { V = S }"),
        Change::target("network", "RUN cat made", ("network", "", "`none`, was `default`"), "network = \"none\""),
        Change::target("shm", "RUN cat made", ("shm-size", "", "bytes"), "shm-size = \"128m\""),
        Change::target("limit", "RUN cat made", ("limit", "", "nofile=1000:2000"), "ulimits = [\"nofile=1000:2000\"]"),
        Change::target("host", "RUN cat made", ("host", "", "`there` is new"), "extra-hosts = { there = \"1.2.3.4\" }"),
        Change::target(
            "hostname",
            "RUN cat",
            ("hostname", "", "`h` is new"),
            "args = { BUILDKIT_SANDBOX_HOSTNAME = \"h\" }",
        ),
        Change::target("no-cache", "COPY src", ("no-cache", "", "`no-cache` asks for it"), "no-cache = true"),
    ];
    // Without a build between, the option alone asks for it.
    all.push(Change {
        what: "--no-cache",
        change: Box::new(|_| ()),
        args: vec!["--no-cache"],
        step: "RUN cat made",
        kind: "no-cache",
        name: "",
        says: "`no-cache` asks for it",
    });
    all
}

/// What is told first about a step.
fn first<'a>(why: &'a Value, told: &str) -> (&'a str, &'a str, &'a str) {
    let first = &why[0];
    let text = |name: &str| first[name].as_str().unwrap_or_default();
    assert!(first.is_object(), "{told}: nothing is told");
    (text("kind"), text("name"), text("text"))
}

/// Makes the change, and looks at what is said of it before, in, and after the build.
fn check(bake: &Bake, change: &Change) {
    let Change { what, args, step: text, kind, name, says, .. } = change;
    (change.change)(bake);
    let before = state(bake);
    let steps = explain(bake, args);
    let written: Vec<_> = state(bake).into_iter().filter(|it| !before.contains(it)).collect();
    assert_eq!(written, [], "{what}: something was written");
    let found = step(&steps, text);
    assert_eq!(found["state"], "runs", "{what}: {steps:#?}");
    let told = first(&found["why"], what);
    assert_eq!((told.0, told.1), (*kind, *name), "{what}: {found:#}");
    assert!(told.2.contains(says), "{what}: {found:#}");
    assert!(found["line"].as_u64().is_some_and(|line| line > 1), "{what}: {found:#}");
    let ran = build(bake, args);
    let steps_run: Vec<&str> = ran.stderr.lines().filter(|line| line.contains("runs again: ")).collect();
    let number = ran.stderr.lines().find(|line| line.contains(text)).and_then(|line| line.split(' ').next());
    let of_step = steps_run.iter().find(|line| Some(line.split(' ').next().unwrap_or_default()) == number);
    assert!(of_step.is_some(), "{what}: {ran:#?}");
    let after = explain(bake, if args.is_empty() { args } else { &[] });
    let found = step(&after, text);
    if *kind != "no-cache" {
        assert_eq!(found["state"], "cached", "{what}: {found:#}");
    }
    assert_eq!(first(&found["lastRun"]["why"], what), told, "{what}: {found:#}");
}

/// Makes each change to the same project and takes it back, so that one store sees them all.
fn walk(changes: Vec<Change>) {
    let bake = project();
    build(&bake, &[]);
    for change in changes {
        check(&bake, &change);
        fs::remove_dir_all(bake.path("src")).expect("it is there");
        for (name, text) in [("src/a", "first\n"), ("src/b", "second\n"), ("src/c", "third\n"), ("data/list", "one\n")]
        {
            bake.write(name, text);
        }
        bake.write(".dockerignore", "out\nhome\nstate\n");
        bake.write("Dockerfile", DOCKERFILE);
        bake.write("docker-bake.hcl", &definition(""));
        let ran = build(&bake, &[]);
        let is_forced = change.kind == "no-cache";
        assert!(is_forced || !ran.stderr.contains("runs again"), "{}: {ran:#?}", change.what);
    }
    let values = ["t0k3n-v41ue", "5e45171fe"];
    for (path, ..) in
        state(&bake).iter().filter(|(path, ..)| path.is_file() && path.starts_with(bake.path("state/v1/index")))
    {
        let text = String::from_utf8_lossy(&fs::read(path).expect("readable")).into_owned();
        assert!(values.iter().all(|value| !text.contains(value)), "{}: {text}", path.display());
    }
}

#[test]
fn changes_of_files_are_named() {
    walk(of_files());
}

#[test]
fn changes_of_the_dockerfile_are_named() {
    walk(of_text());
}

#[test]
fn changes_of_settings_are_named_and_sensitive_values_are_nowhere() {
    walk(of_settings());
}

/// The base image of another content, as a layout in `folder`.
fn other_base(bake: &Bake, folder: &str) {
    bake.write("base.Dockerfile", "FROM base\nRUN echo other > /other\n");
    let text = format!(
        "target \"default\" {{\n  dockerfile = \"base.Dockerfile\"\n  contexts = {{ base = \"oci-layout://{}\" }}\n  \
         output = [\"type=oci,tar=false,dest={folder}\"]\n}}\n",
        base_layout().display()
    );
    bake.write("base.hcl", &text);
    let home = bake.path("other-state");
    let args = ["--progress=plain", "--allow=fs=*", "-f", "base.hcl"];
    let _ran = bake.run_with("", &args, &[("BAKE_HOME", home.to_str().expect("UTF-8"))]).ok();
}

#[test]
fn another_base_image_is_named() {
    let bake = project();
    other_base(&bake, "out/base2");
    build(&bake, &[]);
    let text = definition("").replace(&base_layout().display().to_string(), "out/base2");
    bake.write("docker-bake.hcl", &text);
    let steps = explain(&bake, &[]);
    let told = first(&step(&steps, "WORKDIR")["why"], "base");
    assert_eq!(told.0, "base-image", "{steps:#?}");
    let told = first(&step(&steps, "COPY src")["why"], "after base");
    assert!(told.2.contains("follows `WORKDIR /work`"), "{steps:#?}");
    let ran = build(&bake, &[]);
    assert!(ran.stderr.contains("runs again: the base image changed: `FROM oci-layout://"), "{ran:#?}");
}

#[test]
fn another_platform_is_named_and_each_platform_has_runs_of_its_own() {
    let bake = Bake::new();
    bake.write("Dockerfile", "FROM scratch\nCOPY src /src\n");
    bake.write("docker-bake.hcl", "target \"default\" {\n  output = [\"type=cacheonly\"]\n}\n");
    bake.write("src/a", "first\n");
    build(&bake, &["--set=*.platform=linux/s390x"]);
    let told = |platform: &str| {
        let steps = explain(&bake, &[&format!("--set=*.platform={platform}")]);
        let told = first(&step(&steps, "COPY src")["why"], platform);
        (told.0.to_owned(), told.2.to_owned())
    };
    assert_eq!(told("linux/arm64").1, "the platform changed: `linux/arm64`, was `linux/s390x`");
    build(&bake, &["--set=*.platform=linux/arm64"]);
    bake.write("src/a", "other\n");
    assert_eq!(told("linux/s390x").0, "file-changed");
    assert_eq!(told("linux/arm64").0, "file-changed");
}

#[test]
fn files_of_a_stage_are_named_where_they_are_known() {
    let bake = project();
    build(&bake, &[]);
    bake.write("src/a", "other\n");
    let steps = explain(&bake, &[]);
    // What the stage will make is not there yet.
    assert_eq!(step(&steps, "COPY --from")["state"], "depends", "{steps:#?}");
    let ran = build(&bake, &[]);
    assert!(ran.stderr.contains("runs again: copied changed"), "{ran:#?}");
    assert!(ran.stderr.contains("runs again: it follows `COPY src src`, whose result changed"), "{ran:#?}");
    // A step above that makes the same leaves it cached.
    bake.write("src/b", "more\n");
    let ran = build(&bake, &[]);
    assert!(ran.stderr.contains("runs again: src/b changed") && !ran.stderr.contains("copied changed"), "{ran:#?}");
}

#[test]
fn what_prune_took_is_no_change() {
    let bake = project();
    build(&bake, &[]);
    let _ran = bake.run(&["prune", "--force", "--filter=type=snapshot"]).ok();
    let steps = explain(&bake, &[]);
    assert_eq!(first(&step(&steps, "COPY src")["why"], "pruned").0, "gone", "{steps:#?}");
    build(&bake, &[]);
    let _ran = bake.run(&["prune", "--force", "--all"]).ok();
    let steps = explain(&bake, &[]);
    assert_eq!(first(&step(&steps, "COPY src")["why"], "pruned").0, "first", "{steps:#?}");
}

#[test]
fn before_the_first_build_all_steps_run_and_no_state_is_made() {
    let bake = project();
    let ran = run(&bake, &["explain"], &[]);
    assert!(ran.stdout.contains("RUN cat made > /copied  Dockerfile:7\n  runs\n"), "{}", ran.stdout);
    assert!(ran.stdout.ends_with("4 to run, 1 may run, 0 cached\n"), "{}", ran.stdout);
    assert!(!bake.path("state").join("v1").exists());
}

#[test]
fn more_than_ten_files_are_counted() {
    let bake = project();
    build(&bake, &[]);
    (0..25).for_each(|n| bake.write(&format!("src/many/{n:02}"), "new"));
    let steps = explain(&bake, &[]);
    let found = step(&steps, "COPY src");
    assert_eq!(found["why"].as_array().map(Vec::len), Some(10), "{found:#}");
    assert_eq!(found["moreFiles"], 15, "{found:#}");
    let ran = run(&bake, &["explain"], &[]);
    assert!(ran.stdout.contains("src/many/00 is new: 3 bytes") && ran.stdout.contains("and 15 more files"), "{ran:#?}");
    let ran = build(&bake, &[]);
    assert!(ran.stderr.contains("runs again: src/many/00 is new (and 24 more)"), "{ran:#?}");
}

#[test]
fn a_build_that_is_known_writes_nothing_of_this() {
    let bake = project();
    build(&bake, &[]);
    build(&bake, &[]);
    let tables = |bake: &Bake| {
        let of_steps =
            |path: &Path| path.components().any(|part| part.as_os_str() == "step-1" || part.as_os_str() == "files-1");
        state(bake).into_iter().filter(|(path, ..)| of_steps(path)).collect::<Vec<_>>()
    };
    let before = tables(&bake);
    assert!(before.len() > 4, "{before:?}");
    build(&bake, &[]);
    assert_eq!(tables(&bake), before);
}
