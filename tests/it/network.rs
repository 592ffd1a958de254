//! What steps reach of the machine: nothing of its network, nothing of its devices; and what is left of a run that was
//! killed: nothing.

use std::{
    collections::BTreeSet,
    fs,
    io::Read as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket},
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            fs::PermissionsExt as _,
            net::{SocketAddr, UnixListener},
        },
    },
    path::Path,
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::support::{Bake, base_layout, skipped};

/// Who runs `bake`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TestUser {
    Root,
    /// An ordinary user, who may open /dev/net/tun.
    WithTun,
    /// An ordinary user, as most machines have them.
    WithoutTun,
}

/// Leaves a test that cannot be done here, and says so.
macro_rules! needs_root_and {
    ($($program:literal),*) => {
        for program in [$($program),*] {
            let is_there = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"].iter().any(|dir| Path::new(dir).join(program).exists());
            if !is_there || !is_root() {
                skipped(&format!("needs root and the program {program}"), (!is_there).then_some(program));
                return;
            }
        }
    };
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|it| std::os::unix::fs::MetadataExt::uid(&it) == 0)
}

/// A working folder with one target whose Dockerfile has these steps.
fn bake(user: TestUser, steps: &str) -> Bake {
    let bake = Bake::new();
    let copied = Command::new("cp").arg("-r").arg(base_layout()).arg(bake.path("base")).status();
    assert!(copied.is_ok_and(|status| status.success()));
    bake.write("Dockerfile", &format!("FROM base\n{steps}"));
    bake.write(
        "docker-bake.hcl",
        "target \"default\" {\n  contexts = { base = \"oci-layout://base\" }\n  output = [\"type=cacheonly\"]\n  entitlements = [\"network.host\"]\n}\n",
    );
    if user != TestUser::Root {
        let given = Command::new("chown").args(["-R", "1000:1000"]).arg(bake.dir.path()).status();
        assert!(given.is_ok_and(|status| status.success()));
    }
    bake
}

/// The command that runs `bake` as this user: in mounts of its own, where `prepare` has been run by a shell.
fn command(bake: &Bake, user: TestUser, prepare: &str, env: &[(&str, &str)]) -> Command {
    let as_user = match user {
        TestUser::Root => "",
        _ => "setpriv --reuid=1000 --regid=1000 --clear-groups ",
    };
    let tun = match user {
        TestUser::WithTun => "mknod \"$TUN\" c 10 200 && chmod 666 \"$TUN\" && mount --bind \"$TUN\" /dev/net/tun && ",
        _ => "",
    };
    let script = format!("{tun}{prepare} exec {as_user}\"$@\"");
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script, "sh", env!("CARGO_BIN_EXE_bake")]);
    command.args(["--progress=plain", "--allow", "fs.read=*", "--allow", "network.host"]);
    command.stdin(Stdio::null()).current_dir(bake.dir.path()).env_clear();
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command.env("HOME", bake.path("home")).env("BAKE_HOME", bake.path("state")).env("NO_COLOR", "1");
    command.env("TUN", bake.path("tun")).envs(env.iter().copied());
    command
}

/// Exit code, and all that it said.
fn run(bake: &Bake, user: TestUser, prepare: &str, env: &[(&str, &str)]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = command(bake, user, prepare, env).output().expect("the binary starts");
    (status.code(), format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)))
}

/// The addresses of this machine beside the loopback ones, as /proc lists them.
fn own_addresses() -> BTreeSet<IpAddr> {
    let mut found = BTreeSet::new();
    let mut last = None;
    for line in fs::read_to_string("/proc/net/fib_trie").unwrap_or_default().lines() {
        match line.trim().strip_prefix("|-- ") {
            Some(address) => last = address.parse::<Ipv4Addr>().ok(),
            None if line.contains("/32 host LOCAL") => found.extend(last.map(IpAddr::V4)),
            None => (),
        }
    }
    for line in fs::read_to_string("/proc/net/if_inet6").unwrap_or_default().lines() {
        let number = line.split(' ').next().and_then(|hex| u128::from_str_radix(hex, 16).ok());
        let address = number.map(Ipv6Addr::from).filter(|it| it.segments()[0] != 0xfe80);
        found.extend(address.map(IpAddr::V6));
    }
    found.retain(|address| !address.is_loopback());
    found
}

/// The gateway of the default route.
fn gateway() -> Option<IpAddr> {
    let routes = fs::read_to_string("/proc/net/route").ok()?;
    let line = routes.lines().find(|line| line.split('\t').nth(1) == Some("00000000"))?;
    let number = u32::from_str_radix(line.split('\t').nth(2)?, 16).ok()?;
    Some(IpAddr::V4(Ipv4Addr::from(number.to_ne_bytes())))
}

/// A port at which all addresses of this machine answer, until the process ends; and whoever came.
fn listen() -> (u16, std::sync::mpsc::Receiver<std::net::SocketAddr>) {
    let (sender, receiver) = std::sync::mpsc::channel();
    // The address of IPv6 takes IPv4 as well, where the kernel has it.
    let listener = TcpListener::bind("[::]:0").or_else(|_| TcpListener::bind("0.0.0.0:0")).expect("a port is free");
    let port = listener.local_addr().expect("it is bound").port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let from = stream.peer_addr().expect("it is connected");
            let _nobody_waits = sender.send(from);
        }
    });
    (port, receiver)
}

/// Runs a step that tries every address of the machine, and one that sees its abstract sockets.
fn reaches_nothing(user: TestUser, tool: &str, runtime: &str) {
    let (port, came) = listen();
    let name = format!("bake-test-{port}");
    let address = SocketAddr::from_abstract_name(&name).expect("a short name");
    let _abstract = UnixListener::bind_addr(&address).expect("the name is free");
    let mut addresses = own_addresses();
    assert!(!addresses.is_empty(), "this machine has no addresses to try");
    addresses.extend(gateway());
    addresses
        .extend(["127.0.0.1", "127.0.0.53", "::1", "10.0.2.2"].map(|it| it.parse::<IpAddr>().expect("an address")));
    let list: String = addresses.iter().map(|it| format!("{it} ")).collect();
    let tries =
        format!("for a in {list}; do echo | nc -w 1 $a {port} >/dev/null 2>&1; done; ! grep {name} /proc/net/unix");
    let isolated = bake(user, &format!("RUN {tries}\n"));
    let env = [("BAKE_NETWORK", tool), ("BAKE_RUNTIME", runtime)];
    let (code, text) = run(&isolated, user, "", &env);
    assert_eq!(code, Some(0), "{user:?} {tool} {runtime}: {text}");
    assert!(!text.contains("share the network"), "{user:?} {tool} {runtime}: {text}");
    assert_eq!(came.try_iter().collect::<Vec<_>>(), [], "{user:?} {tool} {runtime}: {text}");
    // The same step in the network of the host reaches it: so it would have been noticed.
    let shared = bake(user, &format!("RUN --network=host {tries}\n"));
    let (_, text) = run(&shared, user, "", &env);
    assert!(came.try_iter().count() > 1, "{user:?}: {text}");
}

#[test]
fn steps_reach_nothing_of_the_machine() {
    needs_root_and!("pasta", "slirp4netns", "runc", "crun", "setpriv");
    for tool in ["pasta", "slirp4netns"] {
        reaches_nothing(TestUser::Root, tool, "embedded");
        reaches_nothing(TestUser::WithTun, tool, "embedded");
    }
    for runtime in ["runc", "crun"] {
        reaches_nothing(TestUser::Root, "auto", runtime);
    }
}

/// Sends to an address by TCP or UDP, by the device of the default route or by none, with a socket or as a frame.
const PROBE: &str = r#"
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <stdio.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>

static uint16_t sum(uint8_t *p, int n) {
    uint32_t s = 0;
    for (int i = 0; i < n; i += 2) s += p[i] << 8 | p[i + 1];
    while (s >> 16) s = (s & 0xffff) + (s >> 16);
    return htons(~s);
}

/* A UDP packet in a frame for the gateway's address, whatever it is: the tools take all. */
static void frame(const char *device, const char *to, int port) {
    int s = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
    if (s < 0) { perror("packet"); return; }
    uint8_t f[64] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 32};
    f[22] = 64; f[23] = 17;
    struct ifreq r = {0};
    strncpy(r.ifr_name, device, IFNAMSIZ - 1);
    int q = socket(AF_INET, SOCK_DGRAM, 0);
    if (!ioctl(q, SIOCGIFADDR, &r)) memcpy(f + 26, &((struct sockaddr_in *)&r.ifr_addr)->sin_addr, 4);
    if (!ioctl(q, SIOCGIFHWADDR, &r)) memcpy(f + 6, r.ifr_hwaddr.sa_data, 6);
    inet_pton(AF_INET, to, f + 30);
    uint16_t c = sum(f + 14, 20);
    memcpy(f + 24, &c, 2);
    f[34] = 0x9c; f[35] = 0x40; f[36] = port >> 8; f[37] = port; f[39] = 12;
    memcpy(f + 42, "raw!", 4);
    struct sockaddr_ll a = {.sll_family = AF_PACKET, .sll_ifindex = if_nametoindex(device), .sll_halen = 6};
    /* What is said of the frame is a lie the second time. */
    for (int i = 0; i < 2; i++) {
        a.sll_protocol = htons(i ? ETH_P_ARP : ETH_P_IP);
        sendto(s, f, 46, 0, (struct sockaddr *)&a, sizeof a);
    }
}

int main(int argc, char **argv) {
    const char *device = argv[1], *to = argv[3];
    int port = atoi(argv[2]), six = strchr(to, ':') != NULL;
    for (int tcp = 0; tcp < 2; tcp++)
        for (int bound = 0; bound < 2; bound++) {
            int s = socket(six ? AF_INET6 : AF_INET, tcp ? SOCK_STREAM : SOCK_DGRAM, 0), on = 1;
            struct timeval t = {.tv_usec = 300000};
            setsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t);
            setsockopt(s, SOL_SOCKET, SO_BROADCAST, &on, sizeof on);
            if (bound) setsockopt(s, SOL_SOCKET, SO_BINDTODEVICE, device, strlen(device) + 1);
            struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
            struct sockaddr_in6 b = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
            inet_pton(AF_INET, to, &a.sin_addr);
            inet_pton(AF_INET6, to, &b.sin6_addr);
            b.sin6_scope_id = if_nametoindex(device);
            if (!connect(s, six ? (void *)&b : (void *)&a, six ? sizeof b : sizeof a)) send(s, "probe", 5, MSG_NOSIGNAL);
        }
    if (!six) frame(device, to, port);
    return 0;
}
"#;

/// Datagrams that come to any address of this machine, until the process ends.
fn listen_for_datagrams(port: u16) -> std::sync::mpsc::Receiver<std::net::SocketAddr> {
    let (sender, receiver) = std::sync::mpsc::channel();
    let socket =
        UdpSocket::bind(("::", port)).or_else(|_| UdpSocket::bind(("0.0.0.0", port))).expect("the port is free");
    thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, from)) = socket.recv_from(&mut buffer) {
            let _nobody_waits = sender.send(from);
        }
    });
    receiver
}

#[test]
fn steps_that_name_a_device_or_forge_frames_reach_nothing_of_the_machine() {
    needs_root_and!("pasta", "slirp4netns", "runc", "gcc");
    let (port, streams) = listen();
    let datagrams = listen_for_datagrams(port);
    let mut addresses = own_addresses();
    addresses.extend(gateway());
    let more = ["127.0.0.1", "::1", "224.0.0.1", "255.255.255.255", "10.0.2.2", "ff02::1"];
    addresses.extend(more.map(|it| it.parse::<IpAddr>().expect("an address")));
    let local = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let local = local.lines().filter_map(|line| u128::from_str_radix(line.split(' ').next()?, 16).ok());
    addresses.extend(local.map(|it| IpAddr::V6(Ipv6Addr::from(it))));
    let tries =
        |device: &str| -> String { addresses.iter().map(|it| format!("/probe {device} {port} {it}; ")).collect() };
    for (tool, device, runtime) in [
        ("pasta", default_device(), "embedded"),
        ("slirp4netns", "tap0".to_owned(), "embedded"),
        ("auto", default_device(), "runc"),
    ] {
        for step_user in ["0", "1000"] {
            let steps =
                format!("COPY probe /\nUSER {step_user}\nRUN {}grep CapEff /proc/self/status\n", tries(&device));
            let bake = bake(TestUser::Root, &steps);
            bake.write("probe.c", PROBE);
            let made =
                Command::new("gcc").args(["-static", "-o", "probe", "probe.c"]).current_dir(bake.dir.path()).status();
            assert!(made.is_ok_and(|status| status.success()), "the probe compiles");
            let env = [("BAKE_NETWORK", tool), ("BAKE_RUNTIME", runtime)];
            let (code, text) = run(&bake, TestUser::Root, "", &env);
            assert_eq!(code, Some(0), "{tool} {runtime}: {text}");
            assert!(!text.contains("share the network"), "{tool} {runtime}: {text}");
            thread::sleep(Duration::from_millis(200));
            let came: Vec<_> = streams.try_iter().chain(datagrams.try_iter()).collect();
            assert_eq!(came, [], "{tool} {runtime} {step_user}: {text}");
        }
    }
    // The same step in the network of the host reaches it: so it would have been noticed.
    let shared = bake(TestUser::Root, &format!("COPY probe /\nRUN --network=host {}\n", tries(&default_device())));
    shared.write("probe.c", PROBE);
    let made = Command::new("gcc").args(["-static", "-o", "probe", "probe.c"]).current_dir(shared.dir.path()).status();
    assert!(made.is_ok_and(|status| status.success()));
    let (_, text) = run(&shared, TestUser::Root, "", &[]);
    thread::sleep(Duration::from_millis(200));
    assert!(streams.try_iter().count() > 1 && datagrams.try_iter().count() > 1, "{text}");
}

/// The device of the default route, which pasta gives to its namespaces too.
fn default_device() -> String {
    let routes = fs::read_to_string("/proc/net/route").expect("Linux has it");
    let line = routes.lines().find(|line| line.split('\t').nth(1) == Some("00000000"));
    line.and_then(|line| line.split('\t').next()).expect("this machine has a default route").to_owned()
}

#[test]
fn without_a_tool_that_works_steps_share_the_network_and_cannot_forge_packets() {
    needs_root_and!("pasta", "slirp4netns", "runc", "setpriv");
    let steps = "RUN grep CapBnd /proc/self/status\nRUN cat /proc/self/status > /dev/null\n";
    let hidden = "for it in /usr/bin/pasta /usr/bin/slirp4netns; do mount --bind /dev/null $it; done;";
    for (user, runtime) in [(TestUser::Root, "embedded"), (TestUser::Root, "runc"), (TestUser::WithoutTun, "embedded")]
    {
        let prepare = if user == TestUser::Root { hidden } else { "" };
        let bake = bake(user, steps);
        let (code, text) = run(&bake, user, prepare, &[("BAKE_RUNTIME", runtime)]);
        assert_eq!(code, Some(0), "{text}");
        assert_eq!(text.matches("steps share the network of this machine").count(), 1, "{user:?} {runtime}: {text}");
        let cause = if user == TestUser::Root { "neither pasta nor slirp4netns is installed" } else { "tun" };
        assert!(text.contains(cause), "{user:?} {runtime}: {text}");
        assert!(text.contains("00000000a80405fb"), "{user:?} {runtime}: {text}");
    }
    // What the user asks for needs no notice.
    let bake = bake(TestUser::Root, steps);
    let (code, text) = run(&bake, TestUser::Root, "", &[("BAKE_NETWORK", "host")]);
    assert_eq!((code, text.contains("share the network")), (Some(0), false), "{text}");
    assert!(text.contains("00000000a80405fb"), "{text}");
    let (code, text) = run(&bake, TestUser::Root, "", &[("BAKE_NETWORK", "passta")]);
    assert!(code == Some(2) && text.contains("did you mean `pasta`?"), "{text}");
}

/// A name server at an address of the loopback device, as systemd-resolved is one, that knows one answer.
fn name_server(address: &str) {
    let socket = UdpSocket::bind((address, 53)).expect("root may bind port 53");
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((n, from)) = socket.recv_from(&mut buffer) {
            let question = &buffer[12..n];
            let end = question.iter().position(|byte| *byte == 0).map_or(question.len(), |at| at + 5);
            let is_a = question.get(end - 3) == Some(&1);
            let mut answer = buffer[..2].to_vec();
            answer.extend([0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
            answer.extend(&question[..end]);
            if is_a {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 192, 0, 2, 77]);
            }
            let _nobody_waits = socket.send_to(&answer, from);
        }
    });
}

#[test]
fn names_are_resolved_by_a_server_on_the_loopback_device() {
    needs_root_and!("pasta", "slirp4netns", "setpriv");
    const SERVER: &str = "127.0.0.77";
    name_server(SERVER);
    let users = [TestUser::Root, TestUser::WithTun];
    let tools = ["pasta", "slirp4netns", "host"];
    for (user, tool) in users.into_iter().flat_map(|user| tools.map(|tool| (user, tool))) {
        let bake = bake(user, "RUN nslookup name.example\n");
        bake.write("resolv", &format!("nameserver {SERVER}\n"));
        let prepare = "mount --bind resolv /etc/resolv.conf;";
        let (code, text) = run(&bake, user, prepare, &[("BAKE_NETWORK", tool)]);
        assert!(code == Some(0) && text.contains("192.0.2.77"), "{user:?} {tool}: {text}");
    }
}

#[test]
fn the_device_nodes_of_the_machine_stay_as_they_are() {
    needs_root_and!("runc", "setpriv");
    let mode = || fs::metadata("/dev/full").expect("every machine has it").permissions().mode() & 0o7777;
    let before = mode();
    let steps = "RUN chmod 0640 /dev/full || true; chown 1:1 /dev/full || true; echo x > /dev/null\n";
    for (user, runtime) in [
        (TestUser::Root, "embedded"),
        (TestUser::Root, "runc"),
        (TestUser::WithoutTun, "embedded"),
        (TestUser::WithoutTun, "runc"),
    ] {
        let bake = bake(user, steps);
        let (code, text) = run(&bake, user, "", &[("BAKE_RUNTIME", runtime), ("BAKE_NETWORK", "host")]);
        assert_eq!(code, Some(0), "{user:?} {runtime}: {text}");
        assert_eq!(mode(), before, "{user:?} {runtime}");
    }
}

/// The processes below `pid`, each with the time at which it started: a number may be given again.
fn descendants(pid: u32) -> BTreeSet<(u32, String)> {
    let mut found = BTreeSet::new();
    let mut todo = vec![pid];
    while let Some(pid) = todo.pop() {
        let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
        for thread in threads.flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            for child in children.split_whitespace().filter_map(|number| number.parse().ok()) {
                found.extend(started_at(child).map(|time| (child, time)));
                todo.push(child);
            }
        }
    }
    found
}

fn started_at(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    (fields[0] != "Z").then(|| fields[19].to_owned())
}

/// The control groups of runs.
fn cgroups_of(pid: u32) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![std::path::PathBuf::from("/sys/fs/cgroup")];
    while let Some(dir) = todo.pop() {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.file_type().is_ok_and(|it| it.is_dir())) {
            if entry.file_name().to_string_lossy().starts_with(&format!("bake-{pid}-")) {
                found.push(entry.path());
            }
            todo.push(entry.path());
        }
    }
    found
}

#[test]
fn nothing_outlives_a_run_that_is_killed() {
    needs_root_and!("pasta", "slirp4netns", "runc", "crun", "setpriv");
    for (user, runtime, tool) in [
        (TestUser::Root, "embedded", "pasta"),
        (TestUser::Root, "embedded", "slirp4netns"),
        (TestUser::Root, "runc", "pasta"),
        (TestUser::Root, "crun", "auto"),
        (TestUser::WithTun, "embedded", "pasta"),
        (TestUser::WithoutTun, "runc", "host"),
    ] {
        let bake = bake(user, "RUN echo is''running; trap '' TERM; sleep 1000 & sleep 1000\n");
        let env = [("BAKE_RUNTIME", runtime), ("BAKE_NETWORK", tool)];
        let mut killed = command(&bake, user, "", &env).stderr(Stdio::piped()).spawn().expect("the binary starts");
        let mut stderr = killed.stderr.take().expect("it is connected");
        let mut text = Vec::new();
        let mut buffer = [0; 4096];
        while !String::from_utf8_lossy(&text).contains(" isrunning\n") {
            let n = stderr.read(&mut buffer).expect("it can be read");
            assert_ne!(n, 0, "{user:?} {runtime}: {}", String::from_utf8_lossy(&text));
            text.extend(&buffer[..n]);
        }
        // `sh` and `setpriv` have become `bake`.
        let mut left = descendants(killed.id());
        assert!(!left.is_empty());
        killed.kill().expect("it runs");
        killed.wait().expect("it is ours");
        let begin = Instant::now();
        while !left.is_empty() {
            assert!(begin.elapsed() < Duration::from_secs(20), "{user:?} {runtime} {tool}: {left:?}");
            thread::yield_now();
            left.retain(|(pid, time)| started_at(*pid).as_ref() == Some(time));
        }
        // The next run removes what the kernel kept.
        let next = self::bake(user, "RUN true\n");
        let (code, text) = run(&next, user, "", &env);
        assert_eq!(code, Some(0), "{user:?} {runtime}: {text}");
        assert_eq!(cgroups_of(killed.id()), Vec::<std::path::PathBuf>::new(), "{user:?} {runtime}");
    }
}

#[test]
fn the_limit_of_processes_holds_and_is_named() {
    needs_root_and!("unshare");
    // Version 1, or version 2.
    let place = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"].map(std::path::Path::new).into_iter().find(|it| it.is_dir());
    let group = place.map(|place| place.join(format!("bake-test-{}", std::process::id())));
    if group.is_none_or(|group| fs::create_dir(&group).and_then(|()| fs::remove_dir(&group)).is_err()) {
        skipped("needs control groups that limit processes", None);
        return;
    }
    let bake = bake(TestUser::Root, "RUN for i in 1 2 3 4 5 6 7 8 9; do sleep 5 & done; wait; false\n");
    let env = [("BAKE_PIDS_LIMIT", "5"), ("BAKE_NETWORK", "host")];
    let (code, text) = run(&bake, TestUser::Root, "", &env);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("the limit of 5 processes") && text.contains("BAKE_PIDS_LIMIT"), "{text}");
    let (code, text) = run(&bake, TestUser::Root, "", &[("BAKE_PIDS_LIMIT", "many")]);
    assert!(code == Some(2) && text.contains("is not a number of processes: many"), "{text}");
}
