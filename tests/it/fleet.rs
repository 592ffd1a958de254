//! Plans built by BuildKit daemons: one, two, and one that is lost.

use std::{
    fs,
    path::Path,
    process::{Child, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{
    docker_registry::Registry,
    dockerd::{Dockerd, ImageStore, Relay},
    support::{Bake, Ran, base_layout, skipped, tar_entries},
};

/// A daemon behind a socket of its own.
struct Node {
    daemon: Arc<Dockerd>,
    relay: Relay,
}

impl Node {
    fn new(bake: &Bake, name: &str, daemon: Arc<Dockerd>) -> Self {
        let relay = Relay::unix(&daemon, &bake.path(name));
        Self { daemon, relay }
    }

    /// As `--builder` takes it.
    fn address(&self, platform: &str) -> String {
        let platform = if platform.is_empty() { String::new() } else { format!("?platform={platform}") };
        format!("{}{platform}", self.relay.address())
    }
}

/// A node whose daemon other tests use as well; `None` where there can be none.
fn shared(bake: &Bake) -> Option<Node> {
    Some(Node::new(bake, "node.sock", Dockerd::shared(ImageStore::Containerd)?))
}

/// Two nodes of one's own.
fn two(bake: &Bake) -> Option<[Node; 2]> {
    let start = |name: &str| Some(Node::new(bake, name, Arc::new(Dockerd::start(ImageStore::Containerd)?)));
    Some([start("one.sock")?, start("two.sock")?])
}

fn build(bake: &Bake, builders: &[String], args: &[&str]) -> Ran {
    let flags = builders.iter().flat_map(|it| ["--builder", it]);
    let args: Vec<&str> =
        ["--progress=plain", "--allow", "fs.read=*"].into_iter().chain(flags).chain(args.iter().copied()).collect();
    bake.run_with("", &args, &[("BAKE_LOG", "debug"), ("TOKEN", "hunter2-secret")])
}

/// How much of a kind has travelled in a run: `files`, `blobs_received`, …
fn travelled(ran: &Ran, what: &str) -> u64 {
    let line = ran.stderr.lines().rev().find(|line| line.contains("what travelled")).expect("it is logged");
    let (_, rest) = line.split_once(&format!("{what}: ")).expect("it is counted");
    rest.split(|it: char| !it.is_ascii_digit()).next().and_then(|it| it.parse().ok()).expect("a number")
}

/// A context with some files.
fn context(bake: &Bake) {
    bake.write("ctx/a.txt", "hello\n");
    bake.write("ctx/sub/deep/b.txt", &"b".repeat(100_000));
    bake.write("ctx/unread.txt", &"u".repeat(1_000_000));
    std::os::unix::fs::symlink("../a.txt", bake.path("ctx/sub/link")).expect("links can be made");
}

/// A definition whose targets are FROM a base with a shell.
fn with_base(rest: &str) -> String {
    let layout = base_layout().display();
    format!("target \"_base\" {{\n  contexts = {{ base = \"oci-layout://{layout}\" }}\n}}\n{rest}")
}

fn files_below(folder: &Path) -> Vec<(String, String)> {
    fn walk(folder: &Path, below: &Path, found: &mut Vec<(String, String)>) {
        let mut names: Vec<_> =
            fs::read_dir(folder).expect("it is there").map(|it| it.expect("readable").path()).collect();
        names.sort();
        for path in names {
            let name = path.strip_prefix(below).expect("below it").display().to_string();
            let stat = path.symlink_metadata().expect("it is there");
            if stat.is_dir() {
                walk(&path, below, found);
            } else if stat.is_symlink() {
                found.push((name, fs::read_link(&path).expect("a link").display().to_string()));
            } else {
                found.push((
                    name,
                    format!(
                        "{:?}",
                        fs::read(&path).map(|it| (it.len(), it.iter().map(|it| u64::from(*it)).sum::<u64>()))
                    ),
                ));
            }
        }
    }
    let mut found = Vec::new();
    walk(folder, folder, &mut found);
    found
}

#[test]
fn every_output_of_a_node_is_that_of_the_embedded_engine_and_does_not_travel_twice() {
    let bake = Bake::new();
    let Some(node) = shared(&bake) else { return };
    context(&bake);
    bake.write(
        "docker-bake.hcl",
        r#"target "default" {
             context = "ctx"
             dockerfile-inline = "FROM scratch\nCOPY a.txt /a.txt\nCOPY sub /sub\nENV A=1\n"
             attest = ["type=provenance,disabled=true"]
             tags = ["app:1"]
             output = ["type=local,dest=out", "type=tar,dest=out.tar", "type=oci,dest=oci.tar",
                       "type=oci,tar=false,dest=layout", "type=docker,dest=docker.tar"]
           }"#,
    );
    let first = build(&bake, &[node.address("")], &[]).ok();
    assert!(travelled(&first, "files") > 100_000, "{first:#?}");
    assert!(travelled(&first, "files") < 1_000_000, "what no step reads is not sent: {first:#?}");
    let names: Vec<String> = tar_entries(&bake.path("out.tar")).into_iter().map(|(name, _)| name).collect();
    assert!(names.iter().any(|name| name.trim_start_matches("./") == "sub/deep/b.txt"), "{names:?}");
    for archive in ["oci.tar", "docker.tar"] {
        let names: Vec<String> = tar_entries(&bake.path(archive)).into_iter().map(|(name, _)| name).collect();
        assert!(names.iter().any(|name| name == "index.json"), "{archive}: {names:?}");
    }
    let index: Value = serde_json::from_str(&bake.read("layout/index.json")).expect("JSON");
    assert_eq!(
        index["manifests"][0]["annotations"]["io.containerd.image.name"], "docker.io/library/app:1",
        "{index:#}"
    );
    let by_daemon = files_below(&bake.path("out"));
    let second = build(&bake, &[node.address("")], &[]).ok();
    assert_eq!(travelled(&second, "files"), 0, "{second:#?}");
    assert_eq!(travelled(&second, "blobs_received"), 0, "{second:#?}");
    assert!(second.stderr.contains("3 results unchanged"), "{second:#?}");
    fs::remove_dir_all(bake.path("out")).expect("it is there");
    bake.run(&["--set", "default.output=type=local,dest=out"]).ok();
    assert_eq!(by_daemon, files_below(&bake.path("out")));
}

#[test]
fn targets_share_contexts_and_read_each_other_and_secrets_stay_hidden() {
    let bake = Bake::new();
    let Some(node) = shared(&bake) else { return };
    context(&bake);
    bake.write(
        "docker-bake.hcl",
        &with_base(
            r#"group "default" { targets = ["app"] }
               target "lib" {
                 inherits = ["_base"]
                 context = "ctx"
                 dockerfile-inline = "FROM base\nCOPY a.txt /lib.txt\nRUN cat /proc/sys/kernel/random/uuid > /id\n"
               }
               target "app" {
                 matrix = { n = ["1", "2", "3"] }
                 name = "app${n}"
                 context = "ctx"
                 contexts = { lib = "target:lib" }
                 args = { N = n }
                 secret = ["id=token,env=TOKEN"]
                 dockerfile-inline = <<EOF
FROM lib
ARG N
RUN --mount=type=secret,id=token cat /run/secrets/token; echo $N > /n
FROM scratch
COPY --from=0 /n /id /lib.txt /
EOF
                 output = ["type=local,dest=out/${n}"]
               }"#,
        ),
    );
    let ran = build(&bake, &[node.address("")], &[]).ok();
    assert!(!ran.stderr.contains("hunter2-secret"), "{ran:#?}");
    assert!(ran.stderr.contains("***"), "{ran:#?}");
    let of = |name: &str| ["1", "2", "3"].map(|n| bake.read(&format!("out/{n}/{name}")));
    assert_eq!(of("n"), ["1\n", "2\n", "3\n"]);
    assert_eq!(of("lib.txt"), ["hello\n"; 3]);
    let [a, b, c] = of("id");
    assert!(a == b && b == c, "what three targets read was built once");
}

#[test]
fn a_failing_step_is_told_with_its_line_exit_code_and_output() {
    let bake = Bake::new();
    let Some(node) = shared(&bake) else { return };
    context(&bake);
    // A large Dockerfile comes back in the headers of the error.
    let comment = format!("# {}\n", "x".repeat(98)).repeat(20_000);
    bake.write("Dockerfile", &format!("FROM base\n{comment}RUN echo first words; exit 7\n"));
    bake.write(
        "docker-bake.hcl",
        &with_base(
            r#"target "default" {
                 inherits = ["_base"]
                 output = ["type=local,dest=out"]
               }
               target "missing" {
                 context = "ctx"
                 dockerfile-inline = "FROM scratch\nCOPY nothing /x\n"
                 output = ["type=local,dest=out"]
               }
               target "syntax" {
                 dockerfile-inline = "FROM scratch\nCOYP a /x\n"
                 output = ["type=local,dest=out"]
               }"#,
        ),
    );
    let ran = build(&bake, &[node.address("")], &[]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    for part in ["bake::solve::exit_code", "exit code: 7", "[Dockerfile:20002:1]", "│ first words", "target: default"]
    {
        assert!(ran.stderr.contains(part), "{part}: {}", ran.stderr.replace(&comment, ""));
    }
    assert!(!bake.path("out").exists());
    let missing = build(&bake, &[node.address("")], &["missing"]);
    assert!(missing.code == Some(1) && missing.stderr.contains("inline of missing:2:1]"), "{missing:#?}");
    assert!(missing.stderr.contains("nothing") && !missing.stderr.contains("failed to solve"), "{missing:#?}");
    let syntax = build(&bake, &["unix:///nowhere.sock".to_owned()], &["syntax"]);
    assert!(
        syntax.stderr.contains("COYP") && !syntax.stderr.contains("nowhere"),
        "nothing is asked first: {syntax:#?}"
    );
}

#[test]
fn one_image_of_two_nodes_is_complete_and_nothing_is_written_if_one_fails() {
    let bake = Bake::new();
    let Some(nodes) = two(&bake) else { return };
    context(&bake);
    let builders = [nodes[0].address("linux/amd64"), nodes[1].address("linux/arm64")];
    bake.write(
        "docker-bake.hcl",
        r#"target "default" {
             context = "ctx"
             platforms = ["linux/amd64", "linux/arm64"]
             dockerfile-inline = "FROM scratch\nARG TARGETARCH\nCOPY a.txt /$TARGETARCH\n"
             output = ["type=local,dest=out", "type=tar,dest=out.tar", "type=oci,dest=oci.tar"]
           }
           target "bad" {
             context = "ctx"
             dockerfile-inline = "FROM scratch\nRUN [\"/none\"]\n"
             output = ["type=local,dest=bad"]
           }
           target "good" {
             matrix = { n = ["1", "2", "3", "4", "5", "6", "7", "8", "9"] }
             name = "good${n}"
             context = "ctx"
             dockerfile-inline = "FROM scratch\nCOPY a.txt /${n}\n"
             output = ["type=local,dest=good/${n}", "type=tar,dest=good-${n}.tar"]
           }
           group "mixed" { targets = ["good", "bad"] }"#,
    );
    let ran = build(&bake, &builders, &[]).ok();
    assert!(ran.stderr.contains("(on unix://"), "steps say where they run: {ran:#?}");
    let written: Vec<String> = files_below(&bake.path("out")).into_iter().map(|(name, _)| name).collect();
    assert_eq!(written, ["linux_amd64/amd64", "linux_arm64/arm64"]);
    let names: Vec<String> = tar_entries(&bake.path("out.tar")).into_iter().map(|(name, _)| name).collect();
    for name in ["linux_amd64/amd64", "linux_arm64/arm64"] {
        assert!(names.iter().any(|it| it == name), "{names:?}");
    }
    let entries = tar_entries(&bake.path("oci.tar"));
    let index = entries.iter().find(|(name, _)| name == "index.json").expect("an index");
    let root: Value = serde_json::from_slice(&index.1).expect("JSON");
    let root = root["manifests"][0]["digest"].as_str().expect("a digest").replace("sha256:", "blobs/sha256/");
    let image: Value =
        serde_json::from_slice(&entries.iter().find(|(name, _)| *name == root).expect("there").1).expect("JSON");
    let platforms: Vec<&str> = image["manifests"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|it| it["platform"]["architecture"].as_str())
        .filter(|it| *it != "unknown")
        .collect();
    assert_eq!(platforms, ["amd64", "arm64"], "{image:#}");
    let again = build(&bake, &builders, &[]).ok();
    assert_eq!(travelled(&again, "files"), 0, "{again:#?}");
    let mixed = build(&bake, &builders, &["mixed"]);
    assert_eq!(mixed.code, Some(1), "{mixed:#?}");
    assert!(!bake.path("good").exists() && !bake.path("good-1.tar").exists() && !bake.path("bad").exists());
}

#[test]
fn twenty_targets_on_one_folder_are_divided_and_each_node_gets_each_file_once() {
    let bake = Bake::new();
    let Some(nodes) = two(&bake) else { return };
    context(&bake);
    bake.write(
        "docker-bake.hcl",
        r#"target "default" {
             matrix = { n = [for i in range(20) : "${i}"] }
             name = "t${n}"
             context = "ctx"
             dockerfile-inline = "FROM scratch\nCOPY sub /sub\nCOPY a.txt /${n}\n"
             output = ["type=cacheonly"]
           }"#,
    );
    let builders = [nodes[0].address(""), nodes[1].address("")];
    let first = build(&bake, &builders, &[]).ok();
    let once = travelled(&first, "files");
    assert!((200_000..205_000).contains(&once), "{once} bytes for two nodes");
    let on = |name: &str| {
        first
            .stderr
            .lines()
            .filter(|line| line.contains("3/") || line.contains("2/2"))
            .filter(|line| line.contains(name) && !line.contains("CACHED"))
            .count()
    };
    let (one, other) = (on("one.sock"), on("two.sock"));
    assert!(one >= 8 && other >= 8, "{one} and {other}: {first:#?}");
    let second = build(&bake, &builders, &[]).ok();
    assert_eq!(travelled(&second, "files"), 0, "{second:#?}");
    assert!(!second.stderr.contains(" DONE "), "{second:#?}");
}

/// Starts a run on nodes and reads what it says until a text comes.
struct Running {
    child: Child,
    log: std::path::PathBuf,
}

impl Running {
    fn start(bake: &Bake, builders: &[String], args: &[&str]) -> Self {
        let flags = builders.iter().flat_map(|it| ["--builder", it]);
        let args: Vec<&str> =
            ["--progress=plain", "--allow", "fs.read=*"].into_iter().chain(flags).chain(args.iter().copied()).collect();
        let log = bake.path("run.log");
        let file = fs::File::create(&log).expect("files can be made");
        let child = bake.command("", &args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).spawn();
        Self { child: child.expect("the binary starts"), log }
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn wait_for(&mut self, text: &str) {
        let until = Instant::now() + Duration::from_secs(60);
        while !self.said().contains(text) {
            let ended = self.child.try_wait().expect("a child");
            assert!(ended.is_none() && Instant::now() < until, "{text} never came: {}", self.said());
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn end(mut self) -> (Option<i32>, String) {
        let until = Instant::now() + Duration::from_secs(120);
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return (status.code(), self.said());
            }
            assert!(Instant::now() < until, "it does not end: {}", self.said());
            thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn the_work_of_a_node_that_is_killed_goes_to_the_other() {
    let bake = Bake::new();
    let Some(nodes) = two(&bake) else { return };
    context(&bake);
    bake.write(
        "docker-bake.hcl",
        &with_base(
            r#"target "default" {
                 matrix = { n = ["1", "2", "3", "4"] }
                 name = "t${n}"
                 inherits = ["_base"]
                 context = "ctx"
                 dockerfile-inline = <<EOF
FROM base
COPY sub /sub
RUN echo be''gun-${n}; sleep 4; echo ${n} > /n
FROM scratch
COPY --from=0 /n /
EOF
                 output = ["type=local,dest=out/${n}", "type=tar,dest=out-${n}.tar"]
               }"#,
        ),
    );
    let mut running = Running::start(&bake, &[nodes[0].address(""), nodes[1].address("")], &[]);
    // Both have begun.
    for name in ["one.sock", "two.sock"] {
        running.wait_for(name);
    }
    running.wait_for("begun-");
    nodes[0].daemon.kill();
    let (code, said) = running.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("was lost") && said.contains("go on on the other nodes"), "{said}");
    for n in ["1", "2", "3", "4"] {
        assert_eq!(bake.read(&format!("out/{n}/n")), format!("{n}\n"));
        assert_eq!(tar_entries(&bake.path(&format!("out-{n}.tar"))).len(), 1);
    }
    // Without another node it is an error that names it.
    let ran = build(&bake, &[nodes[0].address("")], &[]);
    assert!(ran.code == Some(1) && ran.stderr.contains("one.sock"), "{ran:#?}");
}

#[test]
fn a_connection_may_break_at_any_moment() {
    let bake = Bake::new();
    let Some([node, other]) = two(&bake) else { return };
    context(&bake);
    bake.write(
        "docker-bake.hcl",
        &with_base(
            r#"target "default" {
                 matrix = { n = ["1", "2", "3", "4", "5", "6"] }
                 name = "t${n}"
                 inherits = ["_base"]
                 context = "ctx"
                 args = { ROUND = "${ROUND}" }
                 dockerfile-inline = <<EOF
FROM base
ARG ROUND
COPY sub /sub
RUN sleep 0.3; echo ${n} > /n
FROM scratch
COPY --from=0 /n /
COPY sub /sub
EOF
                 output = ["type=local,dest=out/${n}", "type=tar,dest=out-${n}.tar", "type=oci,dest=oci-${n}.tar"]
               }
               variable "ROUND" { default = "" }"#,
        ),
    );
    // Transfer, steps, hold, export: the run takes one or two seconds.
    for round in 0..8_u64 {
        let args = ["--var".to_owned(), format!("ROUND={round}")];
        let builders = [node.address(""), other.address("")];
        let running = Running::start(&bake, &builders, &args.each_ref().map(String::as_str));
        thread::sleep(Duration::from_millis(60 + round * round * 35));
        node.relay.set_open(false);
        let (code, said) = running.end();
        assert_eq!(code, Some(0), "round {round}: {said}");
        for n in ["1", "2", "3", "4", "5", "6"] {
            assert_eq!(bake.read(&format!("out/{n}/n")), format!("{n}\n"));
            assert_eq!(bake.read(&format!("out/{n}/sub/deep/b.txt")).len(), 100_000);
            assert!(tar_entries(&bake.path(&format!("out-{n}.tar"))).len() >= 2);
            fs::remove_file(bake.path(&format!("out-{n}.tar"))).expect("it is there");
            fs::remove_file(bake.path(&format!("oci-{n}.tar"))).expect("it is there");
        }
        fs::remove_dir_all(bake.path("out")).expect("it is there");
        node.relay.set_open(true);
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn an_interrupted_run_leaves_no_step_running_and_writes_nothing() {
    let bake = Bake::new();
    let Some(node) = shared(&bake) else { return };
    bake.write(
        "docker-bake.hcl",
        &with_base(
            r#"target "default" {
                 inherits = ["_base"]
                 dockerfile-inline = "FROM base\nRUN echo be''gun; sleep 4321\n"
                 output = ["type=local,dest=out"]
               }"#,
        ),
    );
    let mut running = Running::start(&bake, &[node.address("")], &[]);
    running.wait_for("begun");
    let sleeps = || {
        let all = fs::read_dir("/proc").expect("it is mounted").filter_map(Result::ok);
        all.filter(|it| fs::read(it.path().join("cmdline")).is_ok_and(|line| line.windows(4).any(|it| it == b"4321")))
            .count()
    };
    assert!(sleeps() > 0);
    let pid = Pid::from_raw(i32::try_from(running.child.id()).expect("a process id")).expect("not zero");
    kill_process(pid, Signal::INT).expect("it runs");
    let (code, said) = running.end();
    assert_eq!(code, Some(130), "{said}");
    let until = Instant::now() + Duration::from_secs(5);
    while sleeps() > 0 {
        assert!(Instant::now() < until, "the step runs on");
        thread::sleep(Duration::from_millis(100));
    }
    assert!(!bake.path("out").exists());
}

#[test]
fn three_hundred_builds_are_held_at_once() {
    let bake = Bake::new();
    let Some(node) = shared(&bake) else { return };
    bake.write("ctx/a.txt", "a");
    bake.write(
        "docker-bake.hcl",
        r#"target "default" {
             matrix = { n = [for i in range(300) : "${i}"] }
             name = "t${n}"
             context = "ctx"
             dockerfile-inline = "FROM scratch\nCOPY a.txt /${n}\n"
             output = ["type=tar,dest=out/${n}.tar"]
           }"#,
    );
    build(&bake, &[node.address("")], &[]).ok();
    assert_eq!(fs::read_dir(bake.path("out")).expect("it is there").count(), 300);
}

#[test]
fn a_docker_daemon_loads_without_a_byte_and_says_what_its_old_store_cannot_do() {
    let bake = Bake::new();
    let Some(daemon) = Dockerd::shared(ImageStore::Overlay2) else { return };
    context(&bake);
    bake.write(
        "docker-bake.hcl",
        r#"target "default" {
             context = "ctx"
             dockerfile-inline = "FROM scratch\nCOPY a.txt /\n"
             tags = ["fleet-load:1"]
             output = ["type=docker"]
           }
           target "plain" {
             context = "ctx"
             dockerfile-inline = "FROM scratch\nCOPY a.txt /plain\n"
             tags = ["fleet-plain:1"]
           }"#,
    );
    let host = daemon.host();
    let env = [("DOCKER_HOST", host.as_str()), ("BAKE_LOG", "debug")];
    let args = ["--progress=plain", "--builder", "docker://"];
    let ran = bake.run_with("", &args, &env).ok();
    assert_eq!((travelled(&ran, "blobs_received"), travelled(&ran, "results_received")), (0, 0), "{ran:#?}");
    assert!(daemon.ask(&["/images/json"]).is_some_and(|images| images.contains("fleet-load:1")));
    // What has no output is loaded where the builder is a Docker context.
    bake.run_with("", &["--progress=plain", "--builder", "default", "plain"], &env).ok();
    assert!(daemon.ask(&["/images/json"]).is_some_and(|images| images.contains("fleet-plain:1")));
    let refused = bake.run_with("", &[&args[..], &["--set", "default.output=type=oci,dest=o.tar"]].concat(), &env);
    assert!(refused.code == Some(1) && refused.stderr.contains("containerd-snapshotter"), "{refused:#?}");
}

#[test]
fn caches_of_folders_and_registries_are_read_and_written_through_the_session() {
    let bake = Bake::new();
    let Some(nodes) = two(&bake) else { return };
    context(&bake);
    bake.write(
        "docker-bake.hcl",
        &with_base(
            r#"target "default" {
                 inherits = ["_base"]
                 context = "ctx"
                 dockerfile-inline = "FROM base\nCOPY a.txt /\nRUN cat /proc/sys/kernel/random/uuid > /id\nFROM scratch\nCOPY --from=0 /id /\n"
                 cache-to = ["type=local,dest=cache,mode=max"]
                 cache-from = ["type=local,src=cache"]
                 output = ["type=local,dest=out"]
               }"#,
        ),
    );
    build(&bake, &[nodes[0].address("")], &[]).ok();
    let first = bake.read("out/id");
    let index: Value = serde_json::from_str(&bake.read("cache/index.json")).expect("JSON");
    assert_eq!(index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"], "latest", "{index:#}");
    let ran = build(&bake, &[nodes[1].address("")], &[]).ok();
    assert_eq!(bake.read("out/id"), first, "the other node takes it from the cache: {ran:#?}");
}

#[test]
fn two_nodes_push_one_image_and_tags_move_last() {
    let bake = Bake::new();
    let Some(nodes) = two(&bake) else { return };
    let Some(host) = nodes[0].daemon.connect(213) else { return skipped("no veth pairs here", None) };
    nodes[1].daemon.connect(214).expect("as the other");
    let registry = Registry::at(&bake, &host);
    context(&bake);
    let name = format!("{}/app", registry.address);
    bake.write(
        "docker-bake.hcl",
        &format!(
            r#"target "default" {{
                 context = "ctx"
                 platforms = ["linux/amd64", "linux/arm64"]
                 dockerfile-inline = "FROM scratch\nARG TARGETARCH\nCOPY a.txt /$TARGETARCH\n"
                 tags = ["{name}:1", "{name}:2"]
                 output = ["type=registry,registry.insecure=true"]
               }}
               target "bad" {{
                 context = "ctx"
                 dockerfile-inline = "FROM scratch\nCOPY a.txt /x\n"
                 tags = ["{name}:3", "127.0.0.1:1/app:3"]
                 output = ["type=registry,registry.insecure=true"]
               }}
               group "mixed" {{ targets = ["default", "bad"] }}"#
        ),
    );
    let tags = || {
        let url = format!("http://{}/v2/app/tags/list", registry.address);
        let found = std::process::Command::new("curl").args(["-s", &url]).output().expect("curl");
        let answer: Value = serde_json::from_slice(&found.stdout).unwrap_or_default();
        let mut tags: Vec<String> =
            answer["tags"].as_array().into_iter().flatten().filter_map(|it| it.as_str().map(str::to_owned)).collect();
        tags.sort();
        tags
    };
    let builders = [nodes[0].address("linux/amd64"), nodes[1].address("linux/arm64")];
    let failed = build(&bake, &builders, &["mixed"]);
    assert_eq!(failed.code, Some(1), "{failed:#?}");
    assert!(tags().is_empty(), "one push failed, and {:?} moved", tags());
    let ran = build(&bake, &builders, &["--metadata-file", "meta.json"]).ok();
    assert_eq!(tags(), ["1", "2"], "{ran:#?}");
    let meta: Value = serde_json::from_str(&bake.read("meta.json")).expect("JSON");
    assert!(meta["default"]["containerimage.digest"].as_str().is_some_and(|it| it.starts_with("sha256:")), "{meta:#}");
    let again = build(&bake, &builders, &[]).ok();
    assert!(again.stderr.contains("unchanged"), "{again:#?}");
}
