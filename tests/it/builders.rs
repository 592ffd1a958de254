//! Builders and their nodes: what `bake builders` says of those that answer, and of those that do not.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    dockerd::{CertificateKind, Certificates, Dockerd, ImageStore, Relay},
    support::{Bake, Ran, skipped},
};

/// What `bake builders --json` says, and how it ended.
fn asked(bake: &Bake, names: &[&str], env: &[(&str, &str)]) -> (Vec<Value>, Option<i32>) {
    let ran = bake.run_with("", &[&["builders", "--json"], names].concat(), env);
    let all: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:#?}"));
    (all.as_array().expect("a list").clone(), ran.code)
}

/// The only node of the only builder.
#[track_caller]
fn node(bake: &Bake, name: &str, env: &[(&str, &str)]) -> Value {
    let (all, _) = asked(bake, &[name], env);
    assert_eq!(all.len(), 1, "{all:#?}");
    all[0]["nodes"][0].clone()
}

#[track_caller]
fn runs(node: &Value) {
    assert_eq!(node["status"], "running", "{node:#}");
    assert_eq!(node["active_builds"], 0, "{node:#}");
    let arch = if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" };
    assert_eq!(node["native"][0], arch, "{node:#}");
    assert_ne!(node["version"], "", "{node:#}");
}

/// What is wrong with the only node, and what to do.
#[track_caller]
fn fault(bake: &Bake, name: &str, env: &[(&str, &str)]) -> String {
    let node = node(bake, name, env);
    assert_eq!(node["status"], "error", "{node:#}");
    format!("{} ({})", node["error"].as_str().unwrap_or_default(), node["help"].as_str().unwrap_or_default())
}

fn instance(bake: &Bake, name: &str, driver: &str, nodes: &[(&str, &str, &str)]) {
    let node = |(name, endpoint, options): &(&str, &str, &str)| {
        format!(r#"{{"Name":"{name}","Endpoint":"{endpoint}","Platforms":null,"DriverOpts":{options},"Flags":null}}"#)
    };
    let nodes = nodes.iter().map(node).collect::<Vec<_>>().join(",");
    let text = format!(r#"{{"Name":"{name}","Driver":"{driver}","Nodes":[{nodes}],"Dynamic":false}}"#);
    bake.write(&format!("home/.docker/buildx/instances/{}", name.to_lowercase()), &text);
}

/// A program on the search path of a run; the value of `PATH`.
fn program(bake: &Bake, name: &str, text: &str) -> String {
    bake.write(&format!("bin/{name}"), text);
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(bake.path(&format!("bin/{name}")), mode).expect("modes can be set");
    format!("{}:{}", bake.path("bin").display(), std::env::var("PATH").unwrap_or_default())
}

/// A program that notes its arguments and carries its standard input and output to a socket.
fn carrier(bake: &Bake, name: &str, relay: &Relay) -> String {
    let socket = relay.address().trim_start_matches("unix://");
    let text = format!(
        "#!/usr/bin/python3\nimport os, socket, sys, threading\n\
         open({args:?}, 'w').write(' '.join(sys.argv[1:]))\n\
         if 'get' in sys.argv:\n    print(open({pods:?}).read()); sys.exit()\n\
         s = socket.socket(socket.AF_UNIX); s.connect({socket:?})\n\
         def there():\n    while b := os.read(0, 65536): s.sendall(b)\n    s.shutdown(socket.SHUT_WR)\n\
         threading.Thread(target=there, daemon=True).start()\n\
         while b := s.recv(65536): os.write(1, b)\n",
        args = bake.path(&format!("{name}.args")),
        pods = bake.path("pods.json"),
    );
    program(bake, name, &text)
}

#[test]
fn what_is_known_is_listed_and_this_process_first() {
    let bake = Bake::new();
    instance(&bake, "Fleet", "remote", &[("f0", "unix:///nowhere/a.sock", "{}"), ("f1", "tcp://127.0.0.1:1", "null")]);
    bake.write("home/.docker/buildx/instances/bad", "{");
    let (all, code) = asked(&bake, &[], &[("DOCKER_HOST", "unix:///nowhere/docker.sock")]);
    assert_eq!(code, Some(0));
    let names: Vec<&str> = all.iter().filter_map(|it| it["name"].as_str()).collect();
    assert!(names.starts_with(&["embedded", "bad", "Fleet"]), "{names:?}");
    assert!(all[1]["errors"][0].as_str().expect("a fault").contains("instances/bad`: EOF"), "{all:#?}");
    let reasons: Vec<&str> =
        all[2]["nodes"].as_array().expect("nodes").iter().filter_map(|it| it["error"].as_str()).collect();
    assert_eq!(
        reasons,
        [
            "the node at unix:///nowhere/a.sock cannot be reached: there is no such socket",
            "the node at tcp://127.0.0.1:1 cannot be reached: connection refused"
        ]
    );
    let ran = bake.run(&["builders", "fleat"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("there is no builder and no Docker context of this name: fleat"), "{ran:?}");
    assert!(ran.stderr.contains("did you mean `fleet`?"), "{ran:?}");
    let ran = bake.run(&["builders", "tpc://h:1"]);
    assert!(ran.code == Some(2) && ran.stderr.contains("did you mean `tcp`?"), "{ran:?}");
}

#[test]
fn the_current_builder_is_used_when_asked_for() {
    let bake = Bake::new();
    instance(&bake, "one", "remote", &[("n", "unix:///one.sock", "{}")]);
    let name = |env: &[(&str, &str)]| asked(&bake, &["current"], env).0[0]["name"].as_str().map(str::to_owned);
    let none = [("DOCKER_HOST", "unix:///nowhere.sock")];
    assert_eq!(name(&none).as_deref(), Some("default"), "no builder was chosen: that of Docker");
    bake.write("home/.docker/buildx/current", r#"{"Key":"unix:///nowhere.sock","Name":"one","Global":false}"#);
    assert_eq!(name(&none).as_deref(), Some("one"));
    assert_eq!(name(&[("DOCKER_HOST", "unix:///other.sock")]).as_deref(), Some("default"));
    bake.write("home/.docker/buildx/current", r#"{"Key":"unix:///nowhere.sock","Name":"one","Global":true}"#);
    assert_eq!(name(&[("DOCKER_HOST", "unix:///other.sock")]).as_deref(), Some("one"));
}

#[test]
fn a_build_takes_no_builder_that_nobody_named() {
    let bake = Bake::new();
    bake.write(
        "docker-bake.hcl",
        "target \"default\" {\n  dockerfile-inline = \"FROM scratch\"\n  output = [\"type=cacheonly\"]\n}\n",
    );
    instance(&bake, "one", "remote", &[("n", "unix:///one.sock", "{}")]);
    bake.write("home/.docker/buildx/current", r#"{"Key":"","Name":"one","Global":true}"#);
    let build = |args: &[&str], env: &[(&str, &str)]| -> Ran { bake.run_with("", args, env) };
    build(&[], &[]).ok();
    build(&[], &[("BUILDX_BUILDER", "default")]).ok();
    build(&["--builder", "embedded"], &[("BAKE_BUILDER", "one")]).ok();
    for (args, env) in [
        (&["--builder", "one"][..], &[][..]),
        (&["--builder", "unix:///one.sock"], &[]),
        (&[], &[("BAKE_BUILDER", "one")]),
        (&[], &[("BUILDX_BUILDER", "one")]),
        (&["--builder", "current"], &[]),
    ] {
        let ran = build(args, env);
        assert_eq!(ran.code, Some(1), "{args:?} {env:?}: {ran:?}");
        assert!(ran.stderr.contains("bake::builder::"), "{ran:?}");
    }
    let ran = build(&["--builder", "one", "--builder", "embedded"], &[]);
    assert!(ran.code == Some(2) && ran.stderr.contains("no node beside others"), "{ran:?}");
}

/// What `docker buildx` is asked for by scripts that made a builder with it.
#[test]
fn builders_of_scripts_are_this_process() {
    let bake = Bake::new();
    bake.write("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    instance(&bake, "one", "remote", &[("n", "unix:///one.sock", "{}")]);
    let call = |args: &[&str]| crate::plugin::call_in(&bake, "", "docker-buildx", args, &[]);
    let ran = call(&["buildx", "build", "--builder", "ci", "-o", "type=local,dest=out", "."]).ok();
    assert!(ran.stderr.contains("no builder has this name, everything is built in this process: ci"), "{ran:?}");
    let ran = call(&["buildx", "--builder", "one", "build", "-o", "type=local,dest=out", "."]);
    assert!(ran.code == Some(1) && ran.stderr.contains("bake::builder::"), "{ran:?}");
    let listed = call(&["buildx", "ls"]).ok().stdout;
    assert!(listed.contains("embedded*") && listed.contains("\\_ n"), "{listed}");
    let inspected = call(&["buildx", "inspect", "one"]).ok().stdout;
    assert!(inspected.contains("Status:           error") && inspected.contains("no such socket"), "{inspected}");
}

#[test]
fn a_node_that_says_nothing_is_told_in_time() {
    let bake = Bake::new();
    // Taken and never answered.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = format!("tcp://{}", silent.local_addr().expect("it has an address"));
    bake.write("ca.pem", "nothing");
    let begun = Instant::now();
    let told = fault(&bake, &address, &[]);
    assert!(told.contains("no answer within 5 seconds (see whether"), "{told}");
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    let told = fault(&bake, &format!("{address}?cacert=ca.pem"), &[]);
    assert!(told.contains("`ca.pem` is not usable: there is no certificate in it"), "{told}");
    let told = fault(&bake, &format!("{address}?cacert=none.pem"), &[]);
    assert!(told.contains("`none.pem`"), "{told}");
    let path = program(&bake, "ssh", "#!/bin/sh\necho 'Permission denied (publickey).' >&2\nexit 255\n");
    let told = fault(&bake, "ssh://me@box", &[("PATH", &path)]);
    assert!(told.contains("the node at ssh://me@box cannot be reached: Permission denied (publickey)."), "{told}");
    let told = fault(&bake, "kube-pod://pod", &[("PATH", "/nowhere")]);
    assert!(told.contains("`kubectl` is not installed"), "{told}");
    let told = fault(&bake, "docker-container://none", &[("DOCKER_CONTEXT", "far")]);
    assert!(told.contains("no such Docker context: far"), "{told}");
}

#[test]
fn a_docker_daemon_is_a_node_by_address_context_and_builder() {
    for store in [ImageStore::Containerd, ImageStore::Overlay2] {
        let Some(daemon) = Dockerd::shared(store) else { return };
        let bake = Bake::new();
        let host = daemon.host();
        runs(&node(&bake, "docker://", &[("DOCKER_HOST", &host)]));
        runs(&node(&bake, "default", &[("DOCKER_HOST", &host)]));
        let hash = "d8f4eb9bbbee6ce4d8ab9ec1a1c58f3fb8c0ab0b4e2c1a5c3fb6b7fd0f5a3a1e";
        let folder = format!("home/.docker/contexts/meta/{hash}");
        bake.write(&format!("{folder}/meta.json"), "{}");
        instance(&bake, "d", "docker", &[("d", &host, "{}")]);
        let (all, code) = asked(&bake, &["d"], &[]);
        runs(&all[0]["nodes"][0]);
        assert_eq!((code, &all[0]["default_load"]), (Some(0), &true.into()));
        let told = fault(&bake, "docker-container://none", &[("DOCKER_HOST", &host)]);
        assert!(told.contains("there is no such container: none (make it with `docker buildx"), "{told}");
    }
}

#[test]
fn a_buildkit_is_a_node_by_socket_ssh_and_pod() {
    let Some(daemon) = Dockerd::shared(ImageStore::Containerd) else { return };
    let bake = Bake::new();
    let relay = Relay::unix(&daemon, &bake.path("b.sock"));
    runs(&node(&bake, relay.address(), &[]));
    let path = carrier(&bake, "ssh", &relay);
    runs(&node(&bake, "ssh://me@box:2222/run/b.sock", &[("PATH", &path)]));
    let args = bake.read("ssh.args");
    assert!(args.ends_with("-T -l me -p 2222 -- box buildctl --addr unix:///run/b.sock dial-stdio"), "{args}");
    let path = carrier(&bake, "kubectl", &relay);
    runs(&node(&bake, "kube-pod://pod-0?context=c&namespace=n&container=k", &[("PATH", &path)]));
    let args = bake.read("kubectl.args");
    assert_eq!(args, "--context=c --namespace=n exec -i pod-0 --container=k -- buildctl dial-stdio");
    let pod = |name: &str, phase: &str| format!(r#"{{"metadata":{{"name":"{name}"}},"status":{{"phase":"{phase}"}}}}"#);
    bake.write("pods.json", &format!(r#"{{"items":[{},{}]}}"#, pod("k-1", "Running"), pod("k-2", "Pending")));
    instance(&bake, "k", "kubernetes", &[("k_0", "kubernetes:///k?deployment=k_0", r#"{"namespace":"ci"}"#)]);
    let (all, _) = asked(&bake, &["k"], &[("PATH", &path)]);
    assert_eq!(all[0]["nodes"].as_array().map(Vec::len), Some(1), "{all:#?}");
    runs(&all[0]["nodes"][0]);
    relay.set_open(false);
    let told = fault(&bake, relay.address(), &[]);
    assert!(told.contains("the connection was closed") || told.contains("BuildKit daemon"), "{told}");
}

#[test]
fn certificates_that_do_not_fit_are_told_apart() {
    let Some(daemon) = Dockerd::shared(ImageStore::Containerd) else { return };
    let bake = Bake::new();
    let (own, other) = (Certificates::new(&bake, "own"), Certificates::new(&bake, "other"));
    own.sign("node", "node.test", CertificateKind::OfNameAndLoopback);
    own.sign("named", "node.test", CertificateKind::OfName);
    own.sign("old", "node.test", CertificateKind::Expired);
    own.sign("me", "me.test", CertificateKind::OfName);
    other.sign("me", "me.test", CertificateKind::OfName);
    let at = |relay: &Relay, options: &str| format!("{}?{options}", relay.address());
    let good = Relay::tcp(&daemon, &own, "node");
    runs(&node(&bake, &at(&good, &own.options("me")), &[]));
    let named = Relay::tcp(&daemon, &own, "named");
    runs(&node(&bake, &at(&named, &format!("{}&servername=node.test", own.options("me"))), &[]));
    let old = Relay::tcp(&daemon, &own, "old");
    let alone = format!("cacert={}", own.path("ca.pem").display());
    let mixed = other
        .options("me")
        .replace(&other.path("ca.pem").display().to_string(), &own.path("ca.pem").display().to_string());
    for (address, words) in [
        (at(&named, &own.options("me")), "is for another name: node.test (write servername=node.test)"),
        (at(&old, &own.options("me")), "the certificate of the daemon has expired"),
        (at(&good, &other.options("me")), "is signed by an unknown authority"),
        (at(&good, &alone), "the daemon wants a certificate of the client"),
        (at(&good, &mixed), "does not accept the certificate of the client"),
        (good.address().to_owned(), "if it wants TLS, add ?cacert=FILE"),
    ] {
        let told = fault(&bake, &address, &[]);
        assert!(told.contains(words), "{address}: {told}");
    }
    // The same by the file of a builder.
    let options = |client: &str| {
        let file = |name: &str| own.path(name).display().to_string();
        format!(
            r#"{{"cacert":"{}","cert":"{}","key":"{}"}}"#,
            file("ca.pem"),
            file(&format!("{client}.pem")),
            file(&format!("{client}.key"))
        )
    };
    instance(&bake, "r", "remote", &[("r0", good.address(), &options("me"))]);
    runs(&node(&bake, "r", &[]));
}

/// A container whose `buildctl` carries to the daemon itself.
#[test]
fn a_container_is_a_node_and_started_by_a_build() {
    let Some(daemon) = Dockerd::shared(ImageStore::Overlay2) else { return };
    let bake = Bake::new();
    bake.write("run/.keep", "");
    bake.write("root/bin/.keep", "");
    let relay = Relay::unix(&daemon, &bake.path("run/b.sock"));
    bake.write("buildctl.c", BUILDCTL);
    let built = std::process::Command::new("gcc")
        .args(["-static", "-O1", "-o", "root/bin/buildctl", "buildctl.c"])
        .current_dir(bake.path(""))
        .output();
    match built {
        Ok(built) if built.status.success() => (),
        Ok(built) => panic!("{}", String::from_utf8_lossy(&built.stderr)),
        Err(_) => return skipped("there is no C compiler", Some("gcc")),
    }
    let tar = std::process::Command::new("tar")
        .args(["-cf", "root.tar", "-C", "root", "."])
        .current_dir(bake.path(""))
        .status();
    assert!(tar.expect("tar is there").success());
    let post = |path: &str, more: &[&str]| {
        let request = [&["-X", "POST"], more, &[path]].concat();
        daemon.ask(&request).unwrap_or_else(|| panic!("{path}"))
    };
    let image = format!("@{}", bake.path("root.tar").display());
    post(
        "/images/create?fromSrc=-&repo=carrier&tag=1",
        &["-H", "Content-Type: application/x-tar", "--data-binary", &image],
    );
    let wanted = format!(
        r#"{{"Image":"carrier:1","Cmd":["/bin/buildctl","wait"],"HostConfig":{{"NetworkMode":"none","Binds":["{}:/run/buildkit"]}}}}"#,
        bake.path("run").display()
    );
    post("/containers/create?name=buildx_buildkit_c0", &["-H", "Content-Type: application/json", "-d", &wanted]);
    let host = daemon.host();
    instance(&bake, "c", "docker-container", &[("c0", &host, "{}")]);
    let told = fault(&bake, "c", &[]);
    assert!(told.contains("the container is stopped: buildx_buildkit_c0 (a build starts it)"), "{told}");
    let call = |args: &[&str]| crate::plugin::call_in(&bake, "", "docker-buildx", args, &[]);
    let inspected = call(&["buildx", "inspect", "--bootstrap", "c"]).ok().stdout;
    assert!(inspected.contains("Status:           running"), "{inspected}\n{}", daemon.log());
    runs(&node(&bake, "c", &[]));
    runs(&node(&bake, "docker-container://buildx_buildkit_c0", &[("DOCKER_HOST", &host)]));
    drop(relay);
    let told = fault(&bake, "c", &[]);
    assert!(told.contains("cannot connect"), "{told}");
    daemon.ask(&["-X", "DELETE", "/containers/buildx_buildkit_c0?force=true"]);
}

/// A stand-in for `buildctl dial-stdio`; `buildctl wait` keeps a container alive.
const BUILDCTL: &str = r#"
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
static int carry(int from, int to) {
    char buffer[65536];
    ssize_t count = read(from, buffer, sizeof buffer), done = 0;
    while (done < count) done += write(to, buffer + done, count - done);
    return count > 0;
}
int main(int count, char **words) {
    if (count > 1 && !strcmp(words[1], "wait")) for (;;) pause();
    struct sockaddr_un place = { AF_UNIX, "/run/buildkit/b.sock" };
    int there = socket(AF_UNIX, SOCK_STREAM, 0);
    signal(SIGPIPE, SIG_IGN);
    if (connect(there, (struct sockaddr *)&place, sizeof place)) { fputs("cannot connect\n", stderr); return 1; }
    struct pollfd both[2] = { { 0, POLLIN }, { there, POLLIN } };
    for (;;) {
        poll(both, 2, -1);
        if (both[0].revents && !carry(0, there)) return 0;
        if (both[1].revents && !carry(there, 1)) return 0;
    }
}
"#;
