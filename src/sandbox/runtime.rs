//! A step run by another program, runc or crun, in place of our own helper: by the OCI runtime specification.
//!
//! ```text
//! a thread with mounts of its own ─► overlay root, the spec's mounts, each on a path of the bundle ─► config.json
//!   ─► /proc/self/exe __runtime ─► PROGRAM run ─► exit code; what was only made to be mounted on is removed from the layer
//! ```
//!
//! The bundle lies in `SandboxSpec::work`. Its mounts belong to the thread and the program, and go away with them. The same is
//! mounted, allowed and hidden as by the helper, but for what a runtime cannot express: an unknown system call reaches
//! the kernel. The step ends with `bake`, however that ends: `runtime_helper.rs`.

use std::{
    fs,
    io::Write as _,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, ExitStatus, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags, fstat, open},
    mount::{MountPropagationFlags, mount_change},
    thread::{CapabilitySet, UnshareFlags, capabilities},
};
use serde_json::{Value, json};

use super::{
    agent,
    cancel::StepCancel,
    cgroup::{self, Cgroups, RunCgroup},
    command::{command, find_program, is_program},
    console::console_of,
    error::SandboxError,
    filter, fsmount,
    helper::{keep_last, look_up_user},
    inside::{Inside, Make},
    limits::KEPT,
    mounts::{self, PreparedMounts},
    namespace,
    network::StepNetworkLease,
    processes::StepProcesses,
    program::own_program,
    root::{self, Workshop},
    runtime_helper::{RuntimeCommand, RuntimeLifetime, RuntimeStart},
    spec::{SandboxSpec, StepOwners, StepStdin},
    stubs, sys, system,
    user::Ids,
    watch::{Exit, Started, StepStreams, watch},
};
use crate::spec::{ResourceLimits, SecurityMode, SwapLimit};

/// The program that runs steps: `bake` itself, or an OCI runtime such as runc or crun.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Runtime {
    /// Our own helper.
    #[default]
    Embedded,
    /// A program with the command line of runc.
    Program(PathBuf),
}

impl Runtime {
    /// Finds the runtime of this name: `embedded`, a path, or a program looked up in `path` and where the system's own
    /// are.
    pub(crate) fn find(name: &str, path: &str) -> Option<Self> {
        if name == "embedded" {
            return Some(Self::Embedded);
        }
        let found = match name.contains('/') {
            true => std::path::absolute(name).ok().filter(|file| is_program(file)),
            false => find_program(name, path),
        };
        found.map(Self::Program)
    }
}

/// Runs the command of a step to its end with the OCI runtime `program`; as [`super::Sandbox::run`].
pub(super) fn run(
    program: &Path,
    spec: &SandboxSpec,
    network: &StepNetworkLease<'_>,
    (pids_limit, run): (Option<u64>, Option<&RunCgroup>),
    streams: StepStreams<'_>,
    cancel: &StepCancel,
) -> Result<Exit, SandboxError> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let id = format!("bake-{}-r{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    // Limits that the user asked for are the runtime's; this one holds for all that it starts.
    let cgroups = Cgroups::make(&ResourceLimits::default(), pids_limit, run);
    let container =
        Container { program, id, bundle: spec.work.join("bundle"), network, pids_limit, cgroups: cgroups.procs() };
    let _agents = agent::start_agents(spec)?;
    let oom_before = cgroup::oom_kills();
    let (status, made) = thread::scope(|scope| {
        // Mounts, namespaces and working directory are this thread's own.
        let keeper = thread::Builder::new().name("runtime".to_owned());
        let keeper = keeper.spawn_scoped(scope, || container.keep(spec, streams, cancel));
        let keeper = keeper.map_err(|error| SandboxError::io_setup("start a thread", &error))?;
        keeper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    stubs::clean(&spec.upper, &made);
    if cancel.is_cancelled() {
        return Err(SandboxError::Cancelled);
    }
    let code = match status.code() {
        Some(0) => {
            return Ok(Exit { code: 0, signal: None, oom: false, pids_limit: None, unkept_limits: Vec::new() });
        }
        Some(code) => code,
        None => return Err(container.fault(&status.to_string())),
    };
    if let Some(message) = container.logged() {
        return Err(container.fault(&message));
    }
    let signal = (128..160).contains(&code).then(|| code - 128).filter(|signal| *signal == libc::SIGKILL);
    let oom = signal.is_some() && cgroup::oom_kills() > oom_before;
    // A runtime that cannot keep a limit of the spec does not start the step.
    Ok(Exit { code, signal, oom, pids_limit: cgroups.reached_pids_limit(), unkept_limits: Vec::new() })
}

/// A step as the runtime knows it.
struct Container<'a> {
    program: &'a Path,
    id: String,
    bundle: PathBuf,
    network: &'a StepNetworkLease<'a>,
    pids_limit: Option<u64>,
    /// The `cgroup.procs` files of the groups that the runtime is started in.
    cgroups: Vec<PathBuf>,
}

impl Container<'_> {
    /// Makes the mounts, starts the runtime and watches it to its end.
    fn keep(
        &self,
        spec: &SandboxSpec,
        StepStreams { output, user }: StepStreams<'_>,
        cancel: &StepCancel,
    ) -> Result<(ExitStatus, stubs::MadeStubs), SandboxError> {
        step("make namespaces", sys::unshare(UnshareFlags::NEWNS))?;
        let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
        step("make its mounts private", mount_change("/", private))?;
        self.network.enter()?;
        let made = self.prepare(spec)?;
        // In a container that hides parts of its /proc, the kernel gives no new one away.
        let lifetime = match fsmount::make("proc", &[], fsmount::NOSUID) {
            Ok(_) => RuntimeLifetime::PidNamespace,
            Err(_) => RuntimeLifetime::Watched,
        };
        let (mut child, started, socket) = self.spawn(spec, lifetime)?;
        let stop = || {
            if lifetime == RuntimeLifetime::Watched {
                self.delete();
            }
            started.kill();
        };
        let watched = console_of(spec.stdin, user, &socket, &mut Vec::new())
            .and_then(|console| watch(&started, console, output, cancel, &stop))
            .inspect_err(|_| stop());
        let status = child.wait().map_err(|error| SandboxError::io_setup("wait for the runtime", &error));
        if cancel.is_cancelled() || watched.is_err() {
            // A runtime that was killed leaves its control groups.
            self.delete();
        }
        watched.and(status).map(|status| (status, made))
    }

    /// Writes the bundle; what was made in the root only to be mounted on.
    fn prepare(&self, spec: &SandboxSpec) -> Result<stubs::MadeStubs, SandboxError> {
        let (rootfs, shop_dir) = (self.bundle.join("rootfs"), self.bundle.join("shop"));
        for dir in [&self.bundle, &rootfs, &shop_dir] {
            fs::create_dir(dir).map_err(|error| SandboxError::io_setup("make the bundle of the runtime", &error))?;
        }
        let user_namespace = namespace::is_user_namespace();
        let mut prepared =
            mounts::prepare(spec, self.network.resolv_conf().as_deref(), &workshop(&shop_dir, spec, user_namespace)?)?;
        root::mount_root(spec, &dir(&spec.upper)?, &workshop(&rootfs, spec, user_namespace)?)?;
        let mut inside = Inside::new(dir(&rootfs)?);
        let ids = look_up_user(&spec.user, &inside)?;
        for kernels in ["/proc", "/dev", "/sys"] {
            let made = inside.find_or_make(kernels, Make::Dir { uid: 0, gid: 0 });
            made.map_err(|errno| cannot_mount(kernels, &errno.to_string()))?;
        }
        // In a user namespace runc opens each device that it finds made, which fails for /dev/tty without a terminal: it
        // then makes that one itself.
        let devices = system::devices(spec.security, &shop_dir)?.into_iter();
        prepared.extend(
            devices.filter(|(name, _)| !user_namespace || *name != "tty").map(|(name, tree)| PreparedMounts {
                target: format!("/dev/{name}"),
                tree,
                is_dir: false,
            }),
        );
        let mut binds = Vec::with_capacity(prepared.len());
        for (ix, it) in prepared.into_iter().enumerate() {
            binds.push(self.bind(it, ix, &mut inside)?);
        }
        let cwd = if spec.cwd.is_empty() { "/" } else { &spec.cwd };
        let cwd_made = inside.find_or_make(cwd, Make::Dir { uid: ids.uid, gid: ids.gid });
        cwd_made.map_err(|errno| SandboxError::Cwd { path: cwd.to_owned(), errno: errno.raw_os_error() })?;
        let config = config(self, spec, &ids, cwd, user_namespace, binds)?;
        let text = serde_json::to_vec(&config)
            .map_err(|error| SandboxError::io_setup("describe the container", &error.into()))?;
        // It has the secret variables: for us alone, and in memory.
        let memory = fsmount::make("tmpfs", &[("mode", "0700")], fsmount::NOSUID | fsmount::NODEV);
        let memory = step("make a file system in memory", memory.and_then(|it| it.attach(CWD, &shop_dir)))?;
        drop(memory);
        fs::write(shop_dir.join("config.json"), text)
            .and_then(|()| std::os::unix::fs::symlink("shop/config.json", self.bundle.join("config.json")))
            .map_err(|error| SandboxError::io_setup("describe the container", &error))?;
        self.hide_mixed_cgroups(spec);
        Ok(inside.into_made())
    }

    /// Puts a mount on a path of the bundle, from where the runtime takes it.
    fn bind(&self, mount: PreparedMounts, ix: usize, inside: &mut Inside) -> Result<Value, SandboxError> {
        let PreparedMounts { target, tree, is_dir } = mount;
        let below = |dir: &str| target == dir || target.strip_prefix(dir).is_some_and(|it| it.starts_with('/'));
        if below("/proc") || below("/sys") {
            return Err(cannot_mount(&target, "it lies in a file system of the kernel"));
        }
        if !below("/dev") {
            let make = if is_dir { Make::MountDir } else { Make::MountFile };
            let place =
                inside.find_or_make(&target, make).map_err(|errno| cannot_mount(&target, &errno.to_string()))?;
            let found = fstat(&place).map_err(|errno| cannot_mount(&target, &errno.to_string()))?;
            if (FileType::from_raw_mode(found.st_mode) == FileType::Directory) != is_dir {
                let reason = if is_dir { "a file is in its place" } else { "a directory is in its place" };
                return Err(cannot_mount(&target, reason));
            }
        }
        let source = self.bundle.join(format!("mount{ix}"));
        let made = if is_dir { fs::create_dir(&source) } else { fs::write(&source, "") };
        made.map_err(|error| cannot_mount(&target, &error.to_string()))?;
        tree.attach(CWD, &source).map_err(|errno| cannot_mount(&target, &errno.to_string()))?;
        Ok(json!({"destination": target, "type": "bind", "source": source, "options": ["rbind", "rprivate"]}))
    }

    /// crun refuses to run where version 2 of the control groups has only some of the controllers. Without limits to set
    /// it does not need them: then it is not to see them.
    fn hide_mixed_cgroups(&self, spec: &SandboxSpec) {
        if self.is_crun() && spec.resources == ResourceLimits::default() {
            let cover = fsmount::make("tmpfs", &[], fsmount::RDONLY);
            let _not_mixed = cover.and_then(|it| it.attach(CWD, "/sys/fs/cgroup/unified"));
        }
    }

    fn is_crun(&self) -> bool {
        self.program.file_name().is_some_and(|it| it.to_string_lossy().contains("crun"))
    }

    fn command(&self) -> std::process::Command {
        let mut command = command(self.program);
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.arg("--root").arg(self.bundle.join("state")).arg("--log").arg(self.bundle.join("log"));
        command.args(["--log-format", "json"]);
        command
    }

    /// Starts the runtime below its helper, which ends when the socket closes.
    fn spawn(
        &self,
        spec: &SandboxSpec,
        lifetime: RuntimeLifetime,
    ) -> Result<(Child, Started, UnixStream), SandboxError> {
        let mut run = self.command();
        if self.is_crun() && spec.resources == ResourceLimits::default() {
            run.arg("--cgroup-manager=disabled");
        }
        run.arg("run").arg("--bundle").arg(&self.bundle).arg(&self.id);
        let mut delete = self.command();
        delete.args(["delete", "--force", &self.id]);
        let start = RuntimeStart {
            run: RuntimeCommand::of(&run),
            delete: RuntimeCommand::of(&delete),
            cgroups: self.cgroups.clone(),
            lifetime,
            stdin: spec.stdin,
        };
        let mut start = serde_json::to_vec(&start)
            .map_err(|error| SandboxError::io_setup("describe the runtime", &error.into()))?;
        start.push(b'\n');
        let (mut ours, theirs) = UnixStream::pair().map_err(|error| SandboxError::io_setup("make a socket", &error))?;
        ours.write_all(&start).map_err(|error| SandboxError::io_setup("write to its helper", &error))?;
        if lifetime == RuntimeLifetime::PidNamespace {
            sys::unshare(UnshareFlags::NEWPID).map_err(namespace::diagnose)?;
        }
        let mut helper = command(own_program());
        helper.arg("__runtime").stdin(OwnedFd::from(theirs));
        let (child, started) = Started::spawn(helper, StepProcesses::BelowRuntime)?;
        Ok((child, started, ours))
    }

    /// Kills the container, if there is one.
    fn delete(&self) {
        let mut command = self.command();
        command.args(["delete", "--force", &self.id]).stdout(Stdio::null()).stderr(Stdio::null());
        let _there_is_none = command.status();
    }

    /// What the runtime says went wrong; nothing when it was the command that failed.
    fn logged(&self) -> Option<String> {
        let text = fs::read_to_string(self.bundle.join("log")).ok()?;
        let entries = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        entries
            .filter(|entry| matches!(entry["level"].as_str(), Some("error" | "fatal")))
            .filter_map(|entry| entry["msg"].as_str().map(|text| text.trim().to_owned()))
            .next_back()
    }

    fn fault(&self, message: &str) -> SandboxError {
        SandboxError::Runtime { program: self.program.to_owned(), message: message.to_owned() }
    }
}

fn workshop<'a>(path: &'a Path, spec: &SandboxSpec, user_namespace: bool) -> Result<Workshop<'a>, SandboxError> {
    Ok(Workshop { path, dir: dir(&spec.work)?, user_namespace })
}

fn dir(path: &Path) -> Result<OwnedFd, SandboxError> {
    open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| SandboxError::HostPath { path: path.to_owned(), errno: errno.raw_os_error() })
}

/// The group of terminals.
const TTY: u32 = 5;

/// The container as the runtime specification has it.
fn config(
    container: &Container<'_>,
    spec: &SandboxSpec,
    ids: &Ids,
    cwd: &str,
    user_namespace: bool,
    binds: Vec<Value>,
) -> Result<Value, SandboxError> {
    for (map, id) in [("uid_map", ids.uid), ("gid_map", ids.gid)] {
        if user_namespace && !is_mapped(map, id) {
            return Err(SandboxError::Unmapped { id });
        }
    }
    let insecure = spec.security == SecurityMode::Insecure;
    let mut env = spec.env.clone();
    if !env.iter().any(|(name, _)| name == "HOME") {
        env.push(("HOME".to_owned(), ids.home.clone()));
    }
    keep_last(&mut env);
    let env: Vec<String> = env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let had = step("read its capabilities", capabilities(None))?.permitted;
    let allowed = if container.network.allows_raw_sockets() { KEPT } else { KEPT.difference(CapabilitySet::NET_RAW) };
    let bounding = names(if insecure { had } else { had & allowed });
    // Another user than root has none until it executes something that gives them.
    let effective = if ids.uid == 0 { bounding.clone() } else { Vec::new() };
    let rlimits: Vec<Value> = spec
        .ulimits
        .iter()
        .map(|limit| {
            let kind = format!("RLIMIT_{}", limit.name.as_str().to_ascii_uppercase());
            let (soft, hard) = limit.values();
            // Runtimes take the largest number for no limit, as the kernel does.
            json!({"type": kind, "soft": soft.unwrap_or(u64::MAX), "hard": hard.unwrap_or(u64::MAX)})
        })
        .collect();
    // A namespace with the user's own id alone knows no groups.
    let groups: Vec<u32> =
        ids.groups.iter().copied().filter(|_| !user_namespace || is_mapped("gid_map", TTY)).collect();
    let mut namespaces = vec!["pid", "ipc", "uts", "mount"];
    namespaces.extend(Path::new("/proc/self/ns/cgroup").exists().then_some("cgroup"));
    namespaces.extend(matches!(container.network, StepNetworkLease::Loopback).then_some("network"));
    let namespaces: Vec<Value> = namespaces.into_iter().map(|it| json!({"type": it})).collect();
    let hidden = |root: &str, list: &[&str]| -> Vec<String> {
        let list = if insecure { &[] } else { list };
        list.iter().map(|it| format!("{root}/{it}")).collect()
    };
    let masked = [hidden("/proc", system::MASKED_PROC), hidden("/sys", system::MASKED_SYS)].concat();
    let mut mounts = system_mounts(spec, container.network, user_namespace);
    mounts.extend(binds);
    let mut linux = json!({
        "namespaces": namespaces,
        "maskedPaths": masked,
        "readonlyPaths": hidden("/proc", system::READONLY_PROC),
        "resources": resources(spec, container.pids_limit.filter(|_| !user_namespace)),
        "devices": [],
    });
    if !insecure {
        linux["seccomp"] = seccomp(spec.owners);
    }
    Ok(json!({
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs", "readonly": false},
        "hostname": spec.hostname,
        "process": {
            "terminal": spec.stdin == StepStdin::Terminal,
            "user": {"uid": ids.uid, "gid": ids.gid, "umask": 0o022, "additionalGids": groups},
            "args": spec.args,
            "env": env,
            "cwd": cwd,
            "capabilities": {"bounding": bounding, "permitted": effective, "effective": effective},
            "rlimits": rlimits,
            "noNewPrivileges": false,
        },
        "mounts": mounts,
        "linux": linux,
    }))
}

/// /proc, /dev, /sys. Each device is a mount of its own, as with the helper, and comes with the other mounts: a runtime
/// finds them made, and none that the command makes can be used, whether or not a control group says so too.
fn system_mounts(spec: &SandboxSpec, network: &StepNetworkLease<'_>, user_namespace: bool) -> Vec<Value> {
    let shm = format!("size={}", spec.shm_size.unwrap_or(64 << 20));
    let mut pts = vec!["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    if !user_namespace || is_mapped("gid_map", TTY) {
        pts.push("gid=5");
    }
    let insecure = spec.security == SecurityMode::Insecure;
    let mut dev = vec!["nosuid", "strictatime", "mode=755", "size=65536k"];
    dev.extend((!insecure).then_some("nodev"));
    let sys_mode = if insecure { "rw" } else { "ro" };
    // Without a network of its own a user namespace is given no new one of these.
    let is_hosts = matches!(network, StepNetworkLease::SharedHost | StepNetworkLease::Host);
    let sys = match user_namespace && is_hosts {
        true => json!({"destination": "/sys", "type": "none", "source": "/sys",
            "options": ["rbind", "rprivate", "nosuid", "noexec", "nodev", sys_mode]}),
        false => json!({"destination": "/sys", "type": "sysfs", "source": "sysfs",
            "options": ["nosuid", "noexec", "nodev", sys_mode]}),
    };
    vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]}),
        json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": dev}),
        json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": pts}),
        json!({"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
            "options": ["nosuid", "noexec", "nodev", "mode=1777", shm]}),
        json!({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
            "options": ["nosuid", "noexec", "nodev"]}),
        sys,
    ]
}

/// `pids_limit` is left out in a user namespace: a runtime fails where it may make no control groups.
fn resources(spec: &SandboxSpec, pids_limit: Option<u64>) -> Value {
    let it = &spec.resources;
    let mut devices = vec![json!({"allow": spec.security == SecurityMode::Insecure, "access": "rwm"})];
    if spec.security == SecurityMode::Sandbox {
        // To make nodes is allowed, to use them not: the file systems of the container hold none.
        devices.push(json!({"allow": true, "type": "c", "access": "m"}));
        devices.push(json!({"allow": true, "type": "b", "access": "m"}));
    }
    let mut all = json!({"devices": devices});
    if let Some(limit) = pids_limit {
        all["pids"]["limit"] = json!(limit);
    }
    let memory = [("limit", it.memory.map(u64::cast_signed)), ("swap", it.memory_swap.map(SwapLimit::to_number))];
    let cpu = [("shares", it.cpu_shares), ("period", it.cpu_period), ("quota", it.cpu_quota)];
    for (kind, values) in [("memory", &memory[..]), ("cpu", &cpu[..])] {
        for (key, value) in values {
            if let Some(value) = value {
                all[kind][key] = json!(value);
            }
        }
    }
    for (key, value) in [("cpus", &it.cpuset_cpus), ("mems", &it.cpuset_mems)] {
        if let Some(value) = value {
            all["cpu"][key] = json!(value);
        }
    }
    all
}

/// Our filter in the words of the specification: what is denied, and no more.
fn seccomp(owners: StepOwners) -> Value {
    let denied = |names: Vec<&str>, errno: i32| json!({"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": errno});
    let argument = |name: &str, op: &str, value: u32, two: u32| {
        json!({"names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::EPERM,
            "args": [{"index": 0, "op": op, "value": value, "valueTwo": two}]})
    };
    let bits = |all: u32| (0..u32::BITS).map(|it| 1_u32 << it).filter(move |bit| all & bit != 0);
    let mut rules = vec![
        denied(filter::denied_names().collect(), libc::EPERM),
        denied(filter::missing_names().collect(), libc::ENOSYS),
        argument("socket", "SCMP_CMP_EQ", libc::AF_VSOCK.cast_unsigned(), 0),
    ];
    if owners == StepOwners::Recorded {
        rules.push(denied(filter::OWNER_CALLS.to_vec(), 0));
    }
    rules.extend(bits(filter::NEW_NAMESPACES).map(|bit| argument("clone", "SCMP_CMP_MASKED_EQ", bit, bit)));
    // A bit that no personality has is set when the current one is asked for.
    const ASKS: u32 = 0x1000_0000;
    const WEAKENING: u32 = 0x0ffc_0000;
    rules.extend(bits(WEAKENING).map(|bit| argument("personality", "SCMP_CMP_MASKED_EQ", bit | ASKS, bit)));
    json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": architectures(), "syscalls": rules})
}

const fn architectures() -> &'static [&'static str] {
    if cfg!(target_arch = "x86_64") {
        &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]
    } else {
        &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
    }
}

fn names(set: CapabilitySet) -> Vec<String> {
    set.iter_names().map(|(name, _)| format!("CAP_{name}")).collect()
}

/// Whether our user namespace has this user or group: `map` is `uid_map` or `gid_map`.
fn is_mapped(map: &str, id: u32) -> bool {
    let text = fs::read_to_string(Path::new("/proc/self").join(map)).unwrap_or_default();
    text.lines().any(|line| {
        let mut fields = line.split_whitespace().map(str::parse::<u64>);
        let (Some(Ok(first)), Some(Ok(count))) = (fields.next(), fields.nth(1)) else { return false };
        (first..first + count).contains(&u64::from(id))
    })
}

fn cannot_mount(target: &str, reason: &str) -> SandboxError {
    SandboxError::Mount { target: target.to_owned(), reason: reason.to_owned() }
}

fn step<T>(action: &str, done: rustix::io::Result<T>) -> Result<T, SandboxError> {
    done.map_err(|errno| SandboxError::setup(action, errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runtimes_are_found_by_name_or_path() {
        assert_eq!(Runtime::find("embedded", ""), Some(Runtime::Embedded));
        assert_eq!(Runtime::find("no-such-runtime", "/usr/bin"), None);
        assert_eq!(Runtime::find("/etc/passwd", ""), None, "it cannot be executed");
        let temp = tempfile::tempdir().unwrap();
        let program = temp.path().join("mine");
        fs::write(&program, "").unwrap();
        fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(Runtime::find("mine", temp.path().to_str().unwrap()), Some(Runtime::Program(program.clone())));
        assert_eq!(Runtime::find(program.to_str().unwrap(), ""), Some(Runtime::Program(program)));
    }

    #[test]
    fn the_filter_has_a_name_for_each_call_that_ours_denies() {
        let text = seccomp(StepOwners::Kept).to_string();
        for name in ["mount", "bpf", "open_by_handle_at", "io_uring_setup", "clone3", "AF_VSOCK"] {
            let quoted = format!("\"{name}\"");
            assert_eq!(text.contains(&quoted), name != "AF_VSOCK", "{name}");
        }
        assert!(filter::denied_names().all(|it| !it.is_empty() && !it.starts_with("SYS")));
    }

    #[test]
    fn capabilities_have_the_names_of_the_specification() {
        assert_eq!(names(CapabilitySet::NET_RAW | CapabilitySet::CHOWN), ["CAP_CHOWN", "CAP_NET_RAW"]);
        assert_eq!(names(KEPT).len(), 14);
    }
}
