//! Shared caches that are slow, broken or far away: a build is as right as without them, and says what it did without.

use std::{
    os::unix::fs::MetadataExt as _,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    small_registry::{Fault, FaultyPart, SmallRegistry},
    support::{Bake, Ran, skipped},
};

/// Two steps, the first of which a stage makes whose layers are not in the result.
fn project() -> Bake {
    let bake = Bake::new();
    bake.write("docker-bake.hcl", "target \"default\" {\n  output = [\"type=local,dest=out\"]\n}\n");
    bake.write("f", "content");
    bake.write("Dockerfile", "FROM scratch AS one\nCOPY f /a\nFROM scratch\nCOPY --from=one /a /b\n");
    bake
}

fn run(bake: &Bake, home: &str, args: &[&str]) -> Ran {
    let args = [&["--progress=plain"], args].concat();
    bake.run_with("", &args, &[("BAKE_HOME", home)]).ok()
}

fn n_run(ran: &Ran) -> usize {
    ran.stderr.matches(" DONE ").count()
}

/// A registry with a cache of the project, and what reads it.
fn cached(bake: &Bake) -> (SmallRegistry, String) {
    let registry = SmallRegistry::start();
    let of = |key: &str, more: &str| format!("--set=*.{key}=type=registry,ref={}/cache:1{more}", registry.address);
    assert_eq!(n_run(&run(bake, "h1", &[&of("cache-to", ",mode=max")])), 2);
    let from = of("cache-from", "");
    (registry, from)
}

#[test]
fn a_cache_whose_layers_cannot_be_had_is_left_out_and_its_steps_are_built() {
    for fault in [Fault::Status(500), Fault::Status(404), Fault::WrongBytes] {
        let bake = project();
        let (registry, from) = cached(&bake);
        registry.break_down(fault, FaultyPart::Layers);
        let ran = run(&bake, "h2", &[&from]);
        assert_eq!(bake.read("out/b"), "content", "{fault:?}");
        let told = "a shared cache is left out, and what it has is built: its layer sha256:";
        assert!(ran.stderr.contains(told) && n_run(&ran) == 2, "{fault:?}: {ran:#?}");
        // The result is its own, and nothing asks again.
        registry.refuse_after(None);
        let again = run(&bake, "h2", &[&from]);
        assert_eq!((n_run(&again), registry.log()), (0, Vec::new()), "{again:#?}");
    }
}

#[test]
fn a_cache_that_cannot_be_read_is_a_warning() {
    for (fault, words) in [(Fault::Status(500), "was answered with 500"), (Fault::Hang, "did not answer within 30 s")] {
        let bake = project();
        let (registry, from) = cached(&bake);
        registry.break_down(fault, FaultyPart::All);
        let ran = run(&bake, "h2", &[&from]);
        assert_eq!((bake.read("out/b").as_str(), n_run(&ran)), ("content", 2));
        assert!(ran.stderr.contains("a cache cannot be read: ") && ran.stderr.contains(words), "{ran:#?}");
        // Nothing waits for it when everything is known.
        let begun = Instant::now();
        let again = run(&bake, "h2", &[&from]);
        assert!(n_run(&again) == 0 && begun.elapsed() < Duration::from_secs(20), "{again:#?}");
    }
}

#[test]
fn nothing_is_asked_for_that_nothing_needs() {
    let bake = project();
    let (registry, from) = cached(&bake);
    let layers = || {
        let log = registry.log();
        log.iter().filter(|it| it.starts_with("GET") && it.contains("/blobs/")).count()
    };
    // Who made it all knows it all.
    registry.refuse_after(None);
    assert_eq!(n_run(&run(&bake, "h1", &[&from])), 0);
    assert_eq!(registry.log(), Vec::<String>::new());
    // The records are read, which is one blob, and no layer for a result that nobody looks into.
    registry.refuse_after(None);
    assert_eq!(n_run(&run(&bake, "h2", &[&from, "--set=*.output=type=cacheonly"])), 0);
    assert_eq!(layers(), 1, "{:?}", registry.log());
    // The folder needs the layer of the result, and not that of the stage.
    registry.refuse_after(None);
    assert_eq!(n_run(&run(&bake, "h3", &[&from])), 0);
    assert_eq!((layers(), bake.read("out/b").as_str()), (2, "content"), "{:?}", registry.log());
}

#[test]
fn a_cache_that_cannot_be_written_is_an_error_or_with_ignore_error_a_warning() {
    let bake = project();
    let registry = SmallRegistry::start();
    registry.break_down(Fault::Status(403), FaultyPart::All);
    let to = |more: &str| format!("--set=*.cache-to=type=registry,ref={}/cache:1{more}", registry.address);
    let env = [("BAKE_HOME", "h1")];
    let refused = bake.run_with("", &[&to("")], &env);
    assert!(refused.code == Some(1) && refused.stderr.contains("× a cache cannot be written: "), "{refused:#?}");
    let warned = bake.run_with("", &[&to(",ignore-error=true")], &env).ok();
    assert!(warned.stderr.contains("⚠ a cache cannot be written: "), "{warned:#?}");
    assert_eq!(bake.read("out/b"), "content");
}

/// Two network namespaces that are connected to each other, removed when dropped; with a server in the first one.
pub(crate) struct Machines {
    names: [String; 2],
    pub(crate) server: Option<Child>,
}

impl Machines {
    pub(crate) const ADDRESS: &str = "10.231.77.1";

    /// `None` where there is no right to make them, which is told. `name` tells those of one test from those of another.
    pub(crate) fn connect(name: &str) -> Option<Self> {
        let is_root = std::fs::metadata("/proc/self").is_ok_and(|it| it.uid() == 0);
        if !is_root || Command::new("ip").arg("-V").stdout(Stdio::null()).status().is_err() {
            skipped("needs root and the program ip", None);
            return None;
        }
        let id = format!("{name}{}", std::process::id());
        let machines = Self { names: [format!("bake-a{id}"), format!("bake-b{id}")], server: None };
        let [a, b] = &machines.names;
        for name in &machines.names {
            ip(&["netns", "add", name]);
        }
        ip(&["-n", a, "link", "add", "v0", "type", "veth", "peer", "name", "v0", "netns", b]);
        for (name, address) in [(a, "10.231.77.1/24"), (b, "10.231.77.2/24")] {
            ip(&["-n", name, "address", "add", address, "dev", "v0"]);
            ip(&["-n", name, "link", "set", "v0", "up"]);
            ip(&["-n", name, "link", "set", "lo", "up"]);
        }
        Some(machines)
    }

    /// Waits until the second machine reaches a port of the first.
    pub(crate) fn wait_for(&self, port: u16) {
        let begun = Instant::now();
        let mut probe = Command::new("bash");
        probe.args(["-c", &format!("exec 3<>/dev/tcp/{}/{port}", Self::ADDRESS)]);
        while !self.on(1, &probe).stderr(Stdio::null()).status().expect("bash is installed").success() {
            assert!(begun.elapsed() < Duration::from_secs(60), "the server does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Builds the project on one of the machines, whose caches are those of `BAKE_CACHE`: how many steps ran, and whether a
    /// cache could not be used.
    pub(crate) fn build(&self, n: usize, bake: &Bake, cache: &str, env: &[(&str, &str)]) -> (usize, bool) {
        let inner = bake.command("", &["--progress=plain"]);
        let mut command = self.on(n, &inner);
        command.current_dir(bake.dir.path()).env_clear();
        command.envs(inner.get_envs().filter_map(|(key, value)| Some((key, value?)))).envs(env.iter().copied());
        command.env("BAKE_HOME", bake.path(&format!("home{n}"))).env("BAKE_CACHE", cache);
        let output = command.output().expect("the binary starts");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{stderr}");
        (stderr.matches(" DONE ").count(), stderr.contains("cannot be"))
    }

    /// A command on one of the machines.
    pub(crate) fn on(&self, n: usize, command: &Command) -> Command {
        let mut outer = Command::new("ip");
        outer.args(["netns", "exec", &self.names[n]]).arg(command.get_program()).args(command.get_args());
        outer
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            server.kill().expect("the server was running");
            let _status = server.wait();
        }
        for name in &self.names {
            ip(&["netns", "delete", name]);
        }
    }
}

fn ip(args: &[&str]) {
    let status = Command::new("ip").args(args).status().expect("ip is installed");
    assert!(status.success(), "ip {args:?}");
}

#[test]
fn of_two_machines_that_share_a_registry_the_second_builds_nothing() {
    let Some(mut machines) = Machines::connect("r") else { return };
    let bake = project();
    bake.write(
        "registry.yml",
        &format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{}:5000'}}\nlog: {{level: error}}\n",
            bake.path("registry").display(),
            Machines::ADDRESS
        ),
    );
    let mut serve = Command::new("docker-registry");
    serve.arg("serve").arg(bake.path("registry.yml"));
    let mut serve = machines.on(0, &serve);
    let serve = serve.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    machines.server = Some(serve.expect("these tests need Debian's package docker-registry"));
    let cache = format!("type=registry,ref={}:5000/cache:main,mode=max,registry.insecure=true", Machines::ADDRESS);
    machines.wait_for(5000);
    let first = machines.build(0, &bake, &cache, &[]);
    assert_eq!(first, (2, false), "there is no cache yet, which is no fault of one that is written");
    std::fs::remove_dir_all(bake.path("out")).expect("it is there");
    assert_eq!(machines.build(1, &bake, &cache, &[]), (0, false));
    assert_eq!(bake.read("out/b"), "content");
}
