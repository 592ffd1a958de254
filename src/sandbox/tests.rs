//! Real containers from a root of static busybox. As root they run for root, and once more, in a process of its own, for
//! an ordinary user.
#![expect(clippy::print_stderr, reason = "a test that is left out says so")]

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use super::{
    Exit, NetworkChoice, Runtime, Sandbox, SandboxError, SandboxMount, SandboxMountKind, SandboxOptions, SandboxSpec,
    StepAgent, StepCancel, StepOwners, StepStdin, StepStream, namespace,
};
use crate::spec::{NetworkMode, ResourceLimits, SecurityMode, Ulimit};

/// Tells `sys::as_helper` to enter a user namespace before the tests begin.
const AS_USER: &str = "BAKE_TEST_USER_NAMESPACE";

/// Leaves a test that cannot be done here, and says so.
macro_rules! needs_containers {
    () => {
        if !is_able() {
            eprintln!("SKIPPED: needs root, or the user namespace that another test makes");
            return;
        }
    };
}

fn is_able() -> bool {
    use rustix::thread::{CapabilitySet, capabilities};
    capabilities(None).is_ok_and(|it| it.effective.contains(CapabilitySet::SYS_ADMIN | CapabilitySet::SETUID))
}

/// A root to run in: one layer with busybox, an upper and a work directory.
struct Place {
    dir: tempfile::TempDir,
    spec: SandboxSpec,
}

impl Place {
    fn new(script: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let layer = dir.path().join("layer");
        for sub in ["bin", "etc", "tmp", "data"] {
            fs::create_dir_all(layer.join(sub)).unwrap();
        }
        fs::copy("/bin/busybox", layer.join("bin/busybox")).unwrap();
        for name in
            "chmod cat df echo env false grep hostname id kill ls mkdir mknod mount mv pwd readlink rm rmdir sed sh \
                     sleep stat test touch true umount unshare wc yes"
                .split_whitespace()
        {
            symlink("busybox", layer.join("bin").join(name)).unwrap();
        }
        fs::write(layer.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n").unwrap();
        fs::write(layer.join("etc/group"), "root:x:0:root\napp:x:1000:\nmore:x:50:app\n").unwrap();
        let spec = SandboxSpec {
            layers: vec![layer],
            upper: dir.path().join("upper"),
            work: dir.path().join("work"),
            args: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            env: vec![("PATH".to_owned(), "/sbin:/bin".to_owned())],
            cwd: "/".to_owned(),
            user: String::new(),
            hostname: "buildkitsandbox".to_owned(),
            network: NetworkMode::Default,
            security: SecurityMode::Sandbox,
            owners: StepOwners::Kept,
            mounts: Vec::new(),
            extra_hosts: Vec::new(),
            ulimits: Vec::new(),
            shm_size: None,
            stdin: StepStdin::Closed,
            resources: ResourceLimits::default(),
        };
        let place = Self { dir, spec };
        place.fresh();
        place
    }

    /// An empty upper and work directory.
    fn fresh(&self) {
        for dir in [&self.spec.upper, &self.spec.work] {
            let _absent = fs::remove_dir_all(dir);
            fs::create_dir(dir).unwrap();
            fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    fn with(mut self, change: impl FnOnce(&mut SandboxSpec)) -> Self {
        change(&mut self.spec);
        self
    }

    fn mount(mut self, target: &str, kind: SandboxMountKind) -> Self {
        self.spec.mounts.push(SandboxMount { target: target.to_owned(), kind });
        self
    }

    fn layer(&self) -> PathBuf {
        self.spec.layers[0].clone()
    }

    fn run(&self) -> Result<(Exit, String), SandboxError> {
        let mut all = Vec::new();
        let exit = run(&self.spec, &mut |_, bytes| all.extend_from_slice(bytes), &StepCancel::new()?)?;
        Ok((exit, String::from_utf8_lossy(&all).into_owned()))
    }

    /// What it printed; it must end well.
    fn out(&self) -> String {
        let (exit, text) = self.run().unwrap();
        assert_eq!(
            exit,
            Exit { code: 0, signal: None, oom: false, pids_limit: None, unkept_limits: Vec::new() },
            "{text}"
        );
        text
    }

    fn upper(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(&self.spec.upper)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !["dev", "proc", "sys"].contains(&&**name))
            .collect();
        names.sort();
        names
    }
}

/// Runs steps in the network of the machine: these tests are about the rest.
fn run(
    spec: &SandboxSpec,
    output: &mut (dyn FnMut(StepStream, &[u8]) + Send),
    cancel: &StepCancel,
) -> Result<Exit, SandboxError> {
    let options = SandboxOptions {
        runtime: Runtime::Embedded,
        network: NetworkChoice::Host,
        pids_limit: None,
        memory_limit: None,
        owners: StepOwners::Kept,
    };
    Sandbox::new(options).run(spec, output, cancel)
}

/// Whether more ids than the user's own can be used.
fn many_ids() -> bool {
    fs::read_to_string("/proc/self/uid_map").unwrap().lines().count() > 1 || !namespace::is_user_namespace()
}

fn dir(place: &Place, name: &str) -> PathBuf {
    let path = place.dir.path().join(name);
    fs::create_dir(&path).unwrap();
    path
}

#[test]
fn output_exit_code_and_changes_come_back() {
    needs_containers!();
    let place = Place::new("echo out; echo err >&2; echo x > /data/new; exit 3");
    let mut streams = Vec::new();
    let cancel = StepCancel::new().unwrap();
    let exit = run(&place.spec, &mut |stream, bytes| streams.push((stream, bytes.to_vec())), &cancel).unwrap();
    assert_eq!(exit, Exit { code: 3, signal: None, oom: false, pids_limit: None, unkept_limits: Vec::new() });
    streams.sort_by_key(|(stream, _)| *stream == StepStream::Stderr);
    assert_eq!(streams, [(StepStream::Stdout, b"out\n".to_vec()), (StepStream::Stderr, b"err\n".to_vec())]);
    assert_eq!(fs::read_to_string(place.spec.upper.join("data/new")).unwrap(), "x\n");
    assert!(!place.layer().join("data/new").exists());
}

#[test]
fn a_step_that_changes_nothing_leaves_nothing() {
    needs_containers!();
    let place = Place::new("test -s /etc/hosts && test -s /etc/resolv.conf && grep -c buildkitsandbox /etc/hosts");
    let before = fs::metadata(place.layer().join("etc")).unwrap().mtime();
    assert_eq!(place.out(), "1\n");
    assert_eq!(place.upper(), Vec::<String>::new());
    assert_eq!(fs::metadata(place.layer().join("etc")).unwrap().mtime(), before);
}

#[test]
fn a_skeleton_below_makes_stubs_unnecessary_and_shows_nowhere_else() {
    needs_containers!();
    let place = Place::new("grep -c localhost /etc/hosts; stat -c %a /etc; touch /etc/new");
    let skeleton = dir(&place, "skeleton");
    super::make_skeleton(&skeleton).unwrap();
    fs::set_permissions(place.layer().join("etc"), fs::Permissions::from_mode(0o711)).unwrap();
    let mut place = place.with(|spec| spec.layers.insert(0, skeleton.clone()));
    assert_eq!(place.out(), "2\n711\n");
    let names: Vec<_> = fs::read_dir(place.spec.upper.join("etc")).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(names, ["new"]);
    place.fresh();
    place.spec.args = vec!["/bin/true".to_owned()];
    assert_eq!(place.out(), "");
    assert_eq!(place.upper(), Vec::<String>::new());
    assert_eq!(fs::read(skeleton.join("etc/hosts")).unwrap(), b"");
}

#[test]
fn mount_points_are_removed_but_what_was_made_beside_them_stays() {
    needs_containers!();
    let place = Place::new("echo x > /etc/new; echo y > /run/kept; mount | grep -c ' /new/deep/t '")
        .mount("/new/deep/t", SandboxMountKind::Tmpfs { size: Some(4 << 20) })
        .mount("/run/secrets/s", SandboxMountKind::Secret { content: b"s".to_vec(), mode: 0o400, uid: 0, gid: 0 });
    assert_eq!(place.out(), "1\n");
    assert_eq!(place.upper(), ["etc", "run"]);
    let names = |dir: &str| fs::read_dir(place.spec.upper.join(dir)).unwrap().count();
    assert_eq!((names("etc"), names("run")), (1, 1));
}

#[test]
fn surroundings_are_those_of_a_container() {
    needs_containers!();
    let script = "echo $$; hostname; umask; pwd; id -u; readlink /proc/self/fd/0 | sed 's/:.*//'; cat; \
                  for d in null zero full random urandom tty ptmx; do test -c /dev/$d || echo no $d; done; \
                  echo x > /dev/null; ls -l /dev/stdin | sed 's/.*-> //'; test -d /dev/shm && echo shm; \
                  ls -d /proc/[0-9]* | wc -l; ls /sys/firmware 2>/dev/null | wc -l; touch /dev/f && echo $HOME; \
                  df -k /dev/shm | sed -n '2s/[^ ]* *\\([0-9]*\\).*/\\1/p'";
    let place = Place::new(script).with(|spec| spec.shm_size = Some(32 << 20));
    let text = place.out();
    let expected = "1\nbuildkitsandbox\n0022\n/\n0\npipe\n/proc/self/fd/0\nshm\n2\n0\n/root\n32768\n";
    // Where /proc is borrowed, other processes are seen.
    let lines = |text: &str| {
        text.lines().enumerate().filter(|(ix, _)| *ix != 8).map(|(_, it)| it.to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(lines(&text), lines(expected), "{text}");
}

#[test]
fn capabilities_and_filter_are_those_of_a_container() {
    needs_containers!();
    let place = Place::new(
        "grep -E 'Cap|Seccomp:|NoNewPrivs' /proc/self/status; mount -t tmpfs t /tmp 2>/dev/null && echo MOUNTED; \
         unshare -U true 2>/dev/null && echo UNSHARED; (echo x > /proc/sys/kernel/hostname) 2>/dev/null && echo WROTE; \
         (: > /proc/sysrq-trigger) 2>/dev/null && echo SYSRQ; cat /proc/kcore 2>/dev/null | wc -c",
    );
    // Nobody asked for the network of the machine: no raw sockets there.
    check_capabilities(&place.out(), "00000000a80405fb");
    place.fresh();
    check_capabilities(&place.with(|spec| spec.network = NetworkMode::Host).out(), "00000000a80425fb");
}

fn check_capabilities(text: &str, expected: &str) {
    let field =
        |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned();
    for name in ["CapEff:", "CapPrm:", "CapBnd:"] {
        assert_eq!(field(name), expected);
    }
    for name in ["CapInh:", "CapAmb:"] {
        assert_eq!(field(name), "0000000000000000");
    }
    assert_eq!((field("Seccomp:"), field("NoNewPrivs:")), ("2".to_owned(), "0".to_owned()));
    assert_eq!(text.lines().last(), Some("0"));
    assert!(!["MOUNTED", "UNSHARED", "WROTE", "SYSRQ"].iter().any(|it| text.contains(it)), "{text}");
}

#[test]
fn devices_made_by_the_command_cannot_be_used() {
    needs_containers!();
    if namespace::is_user_namespace() {
        return;
    }
    let script = "for d in /tmp /dev /c /t; do mknod $d/d c 1 3 && cat $d/d 2>/dev/null && echo USED $d; done; true";
    let place = Place::new(script).mount("/t", SandboxMountKind::Tmpfs { size: None });
    let cache = dir(&place, "cache");
    let place = place.mount("/c", SandboxMountKind::Dir { path: cache, readonly: false });
    assert_eq!(place.out(), "");
}

#[test]
fn the_user_is_looked_up_in_the_image() {
    needs_containers!();
    if !many_ids() {
        return;
    }
    let place = Place::new(
        "id -u; id -g; id -G; echo $HOME; pwd; stat -c '%u %a' .; grep CapEff /proc/self/status; \
                            echo via > /dev/stdout",
    )
    .with(|spec| (spec.user, spec.cwd) = ("app".to_owned(), "/made/by".to_owned()));
    let text = place.out();
    assert_eq!(text, "1000\n1000\n1000 50\n/home/app\n/made/by\n1000 755\nCapEff:\t0000000000000000\nvia\n");
    assert_eq!(place.upper(), ["made"]);
    let unknown = Place::new("true").with(|spec| spec.user = "ghost".to_owned());
    assert_eq!(unknown.run(), Err(SandboxError::UserNotFound { user: "ghost".to_owned() }));
}

#[test]
fn mounts_show_what_they_should_and_keep_only_what_they_should() {
    needs_containers!();
    let place = Place::new(
        "cat /run/secrets/s /src/f; (echo x > /src/f) 2>/dev/null || echo ro; echo y > /rw/f; echo z > /cache/z; \
         /dev/pipes/script; stat -c %a /run/secrets/s; echo n > /file; cat /file",
    );
    let (source, over, cache) = (dir(&place, "source"), dir(&place, "over"), dir(&place, "cache"));
    fs::write(source.join("f"), "lower ").unwrap();
    fs::write(over.join("f"), "upper\n").unwrap();
    let tree = |source_path: &str, writable| SandboxMountKind::Tree {
        layers: vec![source.clone(), over.clone()],
        source: source_path.to_owned(),
        writable,
    };
    let place = place
        .mount(
            "/run/secrets/s",
            SandboxMountKind::Secret { content: b"secret\n".to_vec(), mode: 0o440, uid: 0, gid: 0 },
        )
        .mount("/src", tree("/", false))
        .mount("/rw", tree("/", true))
        .mount("/file", tree("f", true))
        .mount("/cache", SandboxMountKind::Dir { path: cache.clone(), readonly: false })
        .mount(
            "/dev/pipes/script",
            SandboxMountKind::Text { text: "#!/bin/sh\necho script\n".to_owned(), mode: 0o755 },
        );
    assert_eq!(place.out(), "secret\nupper\nro\nscript\n440\nn\n");
    assert_eq!(fs::read_to_string(over.join("f")).unwrap(), "upper\n");
    assert_eq!(fs::read_to_string(cache.join("z")).unwrap(), "z\n");
    assert_eq!(place.upper(), Vec::<String>::new());
}

#[test]
fn links_of_the_image_lead_nowhere_else() {
    needs_containers!();
    let place = Place::new("echo x > /link/made; mount | grep -c ' /outside'");
    let outside = dir(&place, "outside");
    for name in ["link", "escape"] {
        symlink(&outside, place.layer().join(name)).unwrap();
    }
    symlink("/../../../../etc/nothing", place.layer().join("etc/resolv.conf")).unwrap();
    symlink(outside.join("hosts"), place.layer().join("etc/hosts")).unwrap();
    let place = place
        .mount("/escape/../link", SandboxMountKind::Tmpfs { size: None })
        .mount("/escape/secret", SandboxMountKind::Secret { content: b"s".to_vec(), mode: 0o400, uid: 0, gid: 0 });
    let _any = place.run().unwrap();
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    let place = Place::new("true").mount("/proc/sys", SandboxMountKind::Tmpfs { size: None });
    assert!(matches!(place.run(), Err(SandboxError::Mount { target, .. }) if target == "/proc/sys"));
}

#[test]
fn tree_sources_stay_in_the_tree() {
    needs_containers!();
    let place = Place::new("cat /m");
    let (tree, secret) = (dir(&place, "tree"), place.dir.path().join("secret"));
    fs::write(&secret, "host").unwrap();
    symlink(&secret, tree.join("x")).unwrap();
    let mount = |source: &str| SandboxMountKind::Tree {
        layers: vec![tree.clone()],
        source: source.to_owned(),
        writable: false,
    };
    let place = place.mount("/m", mount("x"));
    assert_eq!(place.run(), Err(SandboxError::MountSource { path: "x".to_owned() }));
    let place = Place::new("cat /m").mount("/m", mount("../secret"));
    assert_eq!(place.run(), Err(SandboxError::MountSource { path: "../secret".to_owned() }));
}

#[test]
fn reasons_for_not_starting_are_named() {
    needs_containers!();
    let start = |args: &[&str], prepare: &dyn Fn(&PathBuf)| {
        let place = Place::new("").with(|spec| spec.args = args.iter().map(|it| (*it).to_owned()).collect());
        prepare(&place.layer());
        place.run().unwrap_err()
    };
    let file = |layer: &PathBuf, content: &[u8], mode| {
        fs::write(layer.join("f"), content).unwrap();
        fs::set_permissions(layer.join("f"), fs::Permissions::from_mode(mode)).unwrap();
    };
    let program = || "/f".to_owned();
    assert_eq!(
        start(&["nosuchprog", "x"], &|_| ()),
        SandboxError::NotInPath { program: "nosuchprog".to_owned(), path: "/sbin:/bin".to_owned() }
    );
    assert_eq!(start(&["/f"], &|_| ()), SandboxError::NotFound { program: program() });
    assert_eq!(
        start(&["/f"], &|layer| file(layer, b"#!/bin/bash -e\n", 0o755)),
        SandboxError::MissingInterpreter { program: program(), interpreter: "/bin/bash".to_owned() }
    );
    assert_eq!(
        start(&["/f"], &|layer| file(layer, b"#!/bin/sh\n", 0o644)),
        SandboxError::NotExecutable { program: program() }
    );
    assert_eq!(start(&["/f"], &|layer| file(layer, b"hello", 0o755)), SandboxError::NotAProgram { program: program() });
    let mut elf = vec![0; 64];
    elf[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    elf[16] = 2;
    elf[18] = 243;
    assert!(matches!(
        start(&["/f"], &|layer| file(layer, &elf, 0o755)),
        SandboxError::WrongArchitecture { machine, .. } if machine == "riscv64"
    ));
    let own = |layer: &PathBuf| symlink("/proc/self/exe", layer.join("f")).unwrap();
    assert!(start(&["/f", "__sandbox"], &own).to_string().contains("/f"));
}

#[test]
fn a_root_without_layers_is_the_upper_itself() {
    needs_containers!();
    let place = Place::new("").with(|spec| {
        spec.layers.clear();
        spec.args = vec!["/busybox".to_owned(), "touch".to_owned(), "/made".to_owned()];
    });
    fs::copy("/bin/busybox", place.spec.upper.join("busybox")).unwrap();
    assert_eq!(place.out(), "");
    assert_eq!(place.upper(), ["busybox", "made"]);
}

#[test]
fn the_root_has_the_mode_of_the_layer_below() {
    needs_containers!();
    let place = Place::new("stat -c %a /; touch /made");
    fs::set_permissions(place.layer(), fs::Permissions::from_mode(0o751)).unwrap();
    fs::set_permissions(&place.spec.upper, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(place.out(), "751\n");
    assert_eq!(fs::metadata(&place.spec.upper).unwrap().mode() & 0o7777, 0o751);
}

#[test]
fn many_layers_with_long_paths_fit() {
    needs_containers!();
    let place = Place::new("ls /layers | wc -l");
    let base = place.dir.path().join("x".repeat(200));
    let layers = (0..200).map(|ix| {
        let layer = base.join(ix.to_string());
        fs::create_dir_all(layer.join("layers")).unwrap();
        fs::write(layer.join("layers").join(ix.to_string()), "").unwrap();
        layer
    });
    let layers: Vec<PathBuf> = layers.collect();
    assert_eq!(place.with(|spec| spec.layers.extend(layers)).out(), "200\n");
}

#[test]
fn network_none_has_only_a_loopback_device() {
    needs_containers!();
    let place = Place::new("cat /proc/net/dev | sed 1,2d | sed 's/:.*//;s/ //g'; ls /sys/class/net")
        .with(|spec| spec.network = NetworkMode::None);
    let text = place.out();
    assert_eq!(text.lines().next(), Some("lo"));
    assert!(!text.contains("eth"), "{text}");
}

#[test]
fn limits_hold() {
    needs_containers!();
    let place = Place::new("ulimit -n; ulimit -c")
        .with(|spec| spec.ulimits = ["nofile=100:200", "core=0"].map(|text| Ulimit::parse(text).unwrap()).to_vec());
    assert_eq!(place.out(), "100\n0\n");
}

#[test]
fn the_last_of_several_values_counts_and_nothing_else_is_in_the_environment() {
    needs_containers!();
    let place = Place::new("env | grep -v -e SHLVL -e PWD | sed 's/=/ /'").with(|spec| {
        spec.env.extend([("A", "1"), ("HOME", "/h"), ("A", "2")].map(|(a, b)| (a.to_owned(), b.to_owned())));
    });
    let mut lines: Vec<String> = place.out().lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["A 2", "HOME /h", "PATH /sbin:/bin"]);
}

#[test]
fn cancelling_kills_at_once_and_background_processes_end_with_the_command() {
    needs_containers!();
    let place = Place::new("sleep 100 & trap '' TERM; echo go; sleep 100");
    let cancel = StepCancel::new().unwrap();
    let raise = cancel.clone();
    let begin = Instant::now();
    let ended = run(&place.spec, &mut |_, _| raise.cancel(), &cancel);
    assert_eq!(ended, Err(SandboxError::Cancelled));
    assert_eq!(run(&place.spec, &mut |_, _| (), &cancel), Err(SandboxError::Cancelled));
    let place = Place::new("(trap '' TERM HUP INT; exec sleep 100) & echo done");
    assert_eq!(place.out(), "done\n");
    assert!(begin.elapsed() < Duration::from_secs(20));
}

#[test]
fn asking_lets_processes_clean_up_and_a_second_request_kills() {
    needs_containers!();
    let ask = |script: &str, kill_on: &'static str| {
        let place = Place::new(script);
        let cancel = StepCancel::new().unwrap();
        let raise = cancel.clone();
        let mut text = String::new();
        let mut on_output = |_: StepStream, bytes: &[u8]| {
            text += &String::from_utf8_lossy(bytes);
            if text.contains("go\n") {
                raise.ask();
            }
            if text.contains(kill_on) {
                raise.cancel();
            }
        };
        let begin = Instant::now();
        assert_eq!(run(&place.spec, &mut on_output, &cancel), Err(SandboxError::Cancelled));
        (text, begin.elapsed())
    };
    let (text, _) = ask("trap 'echo cleaned; exit 0' TERM; echo go; while :; do sleep 1; done", "never");
    // The shell says in its own words that its child was terminated.
    assert!(text.lines().any(|line| line == "cleaned"), "{text}");
    // The shell that started it does not go on.
    let (text, _) =
        ask("sh -c 'trap \"echo cleaned; exit 0\" TERM; echo go; while :; do sleep 1; done'; echo on", "never");
    assert!(text.lines().any(|line| line == "cleaned") && !text.lines().any(|line| line == "on"), "{text}");
    let (text, took) = ask("echo go; sleep 100; echo on", "never");
    assert_eq!(text, "go\n");
    assert!(took < Duration::from_secs(5), "nobody cleans up: {took:?}");
    let (text, took) = ask("trap 'echo caught' TERM; echo go; while :; do sleep 1; done", "caught");
    assert!(text.lines().any(|line| line == "caught"), "{text}");
    assert!(took < Duration::from_secs(8), "the second request kills: {took:?}");
}

#[test]
fn nodes_of_devices_are_not_those_of_the_host() {
    needs_containers!();
    let before = fs::metadata("/dev/full").unwrap();
    let place = Place::new(
        "chmod 0640 /dev/full 2>/dev/null; touch -d 2001-01-01 /dev/full 2>/dev/null; echo x > /dev/null && \
         (echo x > /dev/full) 2>/dev/null || stat -c '%F' /dev/full",
    );
    assert_eq!(place.out(), "character special file\n");
    let after = fs::metadata("/dev/full").unwrap();
    assert_eq!((after.mode(), after.ctime(), after.mtime()), (before.mode(), before.ctime(), before.mtime()));
}

#[test]
fn process_1_cannot_kill_itself_and_a_signal_is_told() {
    needs_containers!();
    assert_eq!(Place::new("kill -9 $$; echo alive").out(), "alive\n");
    let (exit, _) = Place::new("sh -c 'kill -9 $$'; exit $?").run().unwrap();
    assert_eq!(exit.code, 137);
}

#[test]
fn much_output_arrives_whole() {
    needs_containers!();
    let place = Place::new("yes 0123456789abcdef | head -c 3000000 2>/dev/null || yes 0123456789abcdef | sed 200000q")
        .with(|_| ());
    let text = place.out();
    assert!(text.len() >= 3_000_000, "{}", text.len());
}

#[test]
fn insecure_may_mount() {
    needs_containers!();
    let place = Place::new("mount -t tmpfs t /tmp && echo mounted; test -w /proc/sys/kernel/hostname && echo rw")
        .with(|spec| spec.security = SecurityMode::Insecure);
    assert!(place.out().starts_with("mounted\n"));
}

#[test]
fn an_agent_is_reached_through_a_socket_of_our_own() {
    needs_containers!();
    use std::io::{Read, Write};
    let place = Place::new("stat -c '%a %F' /run/agent");
    let path = place.dir.path().join("real");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let agent = StepAgent::Socket(path);
    let forward = super::agent::Forwarder::start(&place.spec.work.join("s"), &agent, 0o600, 0, 0).unwrap();
    let mut client = std::os::unix::net::UnixStream::connect(place.spec.work.join("s")).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    client.write_all(b"ask").unwrap();
    let mut three = [0; 3];
    server.read_exact(&mut three).unwrap();
    server.write_all(b"say").unwrap();
    drop(server);
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!((&three, &*answer), (b"ask", "say"));
    drop(forward);
    let place = place.mount("/run/agent", SandboxMountKind::Ssh { agent, mode: 0o600, uid: 0, gid: 0 });
    assert_eq!(place.out(), "600 socket\n");
}

#[test]
fn an_agent_of_our_own_answers_each_request_and_hangs_up_on_nonsense() {
    use std::io::{Read, Write};
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let _agent = super::agent::Forwarder::start(&socket, &StepAgent::default(), 0o600, 0, 0).unwrap();
    let mut client = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    // Which keys there are: none. A request to remove all keys, which is not done.
    for (request, expected) in [(11, &[0, 0, 0, 5, 12, 0, 0, 0, 0][..]), (19, &[0, 0, 0, 1, 5])] {
        client.write_all(&[0, 0, 0, 1, request]).unwrap();
        let mut answer = vec![0; expected.len()];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(answer, expected);
    }
    client.write_all(&[0xff; 4]).unwrap();
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
}

/// All of the above once more, in a process that an ordinary user started.
#[test]
fn an_ordinary_user_can_do_the_same() {
    use std::os::unix::process::CommandExt;
    let is_root = rustix::process::geteuid().is_root();
    if std::env::vars_os().any(|(name, _)| name == AS_USER) || (is_root && !is_able()) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut again = super::command("/proc/self/exe");
    again.args(["sandbox::tests::", "--test-threads=2"]).env(AS_USER, "1").env("TMPDIR", dir.path());
    if is_root {
        std::os::unix::fs::chown(dir.path(), Some(1000), Some(1000)).unwrap();
        again.uid(1000).gid(1000);
    }
    let output = again.stdout(Stdio::piped()).output().unwrap();
    if output.status.code() == Some(i32::from(super::sys::REFUSED)) {
        eprintln!("SKIPPED: ordinary users can make no user namespaces here");
        return;
    }
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
}
