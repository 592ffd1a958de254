//! The file systems that the kernel gives a step: /proc, /dev, /sys, with the dangerous parts covered.

use std::{
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Uid},
    fs::{chmodat, chownat, mkdirat, mknodat, openat, openat2, stat, statfs, symlinkat},
    io::{Errno, Result},
    mount::MountAttrFlags,
};

use super::{
    error::SandboxError,
    fsmount::{self, Detached, NODEV, NOEXEC, NOSUID, RDONLY},
    inside::{Inside, Make},
    namespace::is_user_namespace,
    spec::SandboxSpec,
};
use crate::spec::SecurityMode;

/// The kernel's file systems and devices of a step, made but not attached yet.
///
/// They are made before the root is entered, because some can only be bound from the host's own.
pub(super) struct System {
    proc: Detached,
    sys: Detached,
    cgroup: Option<Detached>,
    devices: Vec<(&'static str, Detached)>,
    security: SecurityMode,
}

/// The devices that every step has.
const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty"];
/// The devices that a step with the entitlement `security.insecure` has as well, where the host has them.
const MORE_DEVICES: &[&str] = &[
    "kmsg",
    "fuse",
    "kvm",
    "net/tun",
    "loop-control",
    "loop0",
    "loop1",
    "loop2",
    "loop3",
    "loop4",
    "loop5",
    "loop6",
    "loop7",
];
const LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];
/// Names below /proc that are covered, as the default profile of containers does.
pub(super) const MASKED_PROC: &[&str] =
    &["acpi", "asound", "kcore", "keys", "latency_stats", "timer_list", "timer_stats", "sched_debug", "scsi"];
/// Names below /sys that are covered, as the default profile of containers does.
pub(super) const MASKED_SYS: &[&str] = &["firmware", "devices/virtual/powercap"];
/// Names below /proc that are read-only.
pub(super) const READONLY_PROC: &[&str] = &["bus", "fs", "irq", "sys", "sysrq-trigger"];

/// Makes the file systems and devices of a step, or binds those of the host where the kernel allows no new ones.
///
/// Something is mounted on `work`, which nothing else uses by its path afterwards.
pub(super) fn prepare(spec: &SandboxSpec, work: &Path) -> std::result::Result<System, SandboxError> {
    let all = NOSUID | NODEV | NOEXEC;
    let failed = |target: &str| {
        let target = target.to_owned();
        move |errno: Errno| SandboxError::Mount { target, reason: errno.to_string() }
    };
    // The kernel allows no new ones in a container that hides parts of its own, and no sysfs in another user namespace
    // than that of the network.
    let proc = match fsmount::make("proc", &[], all) {
        Err(Errno::PERM) => fsmount::bind_host("/proc", all),
        other => other,
    };
    let sys_attrs = match spec.security {
        SecurityMode::Sandbox => all | RDONLY,
        SecurityMode::Insecure => all,
    };
    let sys = match fsmount::make("sysfs", &[], sys_attrs) {
        Err(Errno::PERM) => fsmount::bind_host("/sys", sys_attrs),
        other => other,
    };
    const CGROUP2: i64 = 0x6367_7270;
    let cgroup = match statfs("/sys/fs/cgroup") {
        Ok(stat) if stat.f_type == CGROUP2 => fsmount::make("cgroup2", &[], sys_attrs).ok(),
        _ => None,
    };
    let devices = devices(spec.security, work)?;
    let (proc, sys) = (proc.map_err(failed("/proc"))?, sys.map_err(failed("/sys"))?);
    Ok(System { proc, sys, cgroup, devices, security: spec.security })
}

/// Makes the devices of a step, by their names in /dev, each a mount of its own.
///
/// They are nodes of our own in memory, mounted on `work`: what the step does to their modes and owners does not reach
/// those of the host. Where the system lets us make no nodes, in a user namespace above all, they are the host's by
/// read-only mounts: one can write to the device, but not change the node.
pub(super) fn devices(
    security: SecurityMode,
    work: &Path,
) -> std::result::Result<Vec<(&'static str, Detached)>, SandboxError> {
    let more = if security == SecurityMode::Insecure { MORE_DEVICES } else { &[] };
    let memory = fsmount::make("tmpfs", &[("mode", "0700")], NOSUID | NOEXEC).and_then(|it| it.attach(CWD, work));
    let memory = memory.map_err(|errno| SandboxError::setup("make a file system in memory", errno))?;
    let mut devices = Vec::new();
    for name in DEVICES.iter().chain(more) {
        match device(name, &memory) {
            Ok(device) => devices.push((*name, device)),
            Err(Errno::NOENT) => (),
            Err(errno) => {
                return Err(SandboxError::Mount { target: format!("/dev/{name}"), reason: errno.to_string() });
            }
        }
    }
    Ok(devices)
}

fn device(name: &str, memory: &OwnedFd) -> Result<Detached> {
    let path = format!("/dev/{name}");
    let host = stat(&*path)?;
    let (kind, mode) = (FileType::from_raw_mode(host.st_mode), Mode::from_raw_mode(host.st_mode));
    let node = name.replace('/', "-");
    // Nodes can be made in some user namespaces, but not opened.
    let made = match is_user_namespace() {
        true => Err(Errno::PERM),
        false => mknodat(memory, &*node, kind, mode, host.st_rdev),
    };
    match made {
        Ok(()) => {
            chownat(memory, &*node, Some(Uid::ROOT), Some(Gid::from_raw(host.st_gid)), AtFlags::empty())?;
            // The mode was made less by the umask.
            chmodat(memory, &*node, mode, AtFlags::empty())?;
            fsmount::bind(memory, &*node, NOSUID | NOEXEC)
        }
        Err(_) => fsmount::bind_host(path, RDONLY | NOSUID | NOEXEC),
    }
}

/// Attaches the file systems and devices to the root of the step.
pub(super) fn attach(system: System, spec: &SandboxSpec, inside: &mut Inside) -> std::result::Result<(), SandboxError> {
    let stays = Make::Dir { uid: 0, gid: 0 };
    let on = |target: &str, done: Result<()>| {
        done.map_err(|errno| SandboxError::Mount { target: target.to_owned(), reason: errno.to_string() })
    };
    let mut attach = |target: &str, tree: Detached| {
        let place = inside.find_or_make(target, stays);
        place
            .and_then(|place| tree.attach(&place, ""))
            .map_err(|errno| SandboxError::Mount { target: target.to_owned(), reason: errno.to_string() })
    };
    let security = system.security;
    let proc = attach("/proc", system.proc)?;
    let dev_attrs = if security == SecurityMode::Insecure { NOSUID } else { NOSUID | NODEV };
    let dev = fsmount::make("tmpfs", &[("mode", "755"), ("size", "65536k")], dev_attrs);
    let dev = dev.map_err(|errno| SandboxError::Mount { target: "/dev".to_owned(), reason: errno.to_string() })?;
    let dev = attach("/dev", dev)?;
    on("/dev", fill_dev(&dev, system.devices, spec.shm_size))?;
    let sys = attach("/sys", system.sys)?;
    if let Some(cgroup) = system.cgroup {
        let _without = cgroup.attach(&sys, "fs/cgroup");
    }
    if security == SecurityMode::Sandbox {
        on("/proc", protect(&proc, &sys, &dev))?;
    }
    Ok(())
}

/// Each device is a mount of its own: the file system they lie in holds none, so none that the command makes can be used.
fn fill_dev(dev: &OwnedFd, devices: Vec<(&'static str, Detached)>, shm_size: Option<u64>) -> Result<()> {
    for dir in ["pts", "shm", "mqueue"] {
        mkdirat(dev, dir, Mode::from(0o755))?;
    }
    for (name, target) in LINKS {
        symlinkat(*target, dev, *name)?;
    }
    for (name, device) in devices {
        if let Some((dir, _)) = name.split_once('/') {
            mkdirat(dev, dir, Mode::from(0o755))?;
        }
        openat(dev, name, OFlags::CREATE | OFlags::CLOEXEC, Mode::from(0o666))?;
        device.attach(dev, name)?;
    }
    let common = [("ptmxmode", "0666"), ("mode", "0620")];
    let with_group = [common[0], common[1], ("gid", "5")];
    let pts_attrs = NOSUID | NOEXEC;
    let pts = match fsmount::make("devpts", &with_group, pts_attrs) {
        // The group has no number in our user namespace.
        Err(Errno::INVAL) => fsmount::make("devpts", &common, pts_attrs),
        other => other,
    };
    pts?.attach(dev, "pts")?;
    let size = shm_size.unwrap_or(64 << 20).to_string();
    let attrs = NOSUID | NOEXEC | NODEV;
    fsmount::make("tmpfs", &[("mode", "1777"), ("size", &size)], attrs)?.attach(dev, "shm")?;
    if let Ok(queues) = fsmount::make("mqueue", &[], attrs) {
        queues.attach(dev, "mqueue")?;
    }
    Ok(())
}

/// Hides what would reveal too much about the machine, and makes read-only what would change it.
fn protect(proc: &OwnedFd, sys: &OwnedFd, dev: &OwnedFd) -> Result<()> {
    let mut empty_dir: Option<OwnedFd> = None;
    let masked = MASKED_PROC.iter().map(|it| (proc, *it)).chain(MASKED_SYS.iter().map(|it| (sys, *it)));
    for (dir, name) in masked {
        let Some(place) = find(dir, name)? else { continue };
        let stat = rustix::fs::fstat(&place)?;
        if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::Directory {
            fsmount::bind(dev, "null", MountAttrFlags::empty())?.attach(&place, "")?;
            continue;
        }
        let cover = match &empty_dir {
            Some(first) => fsmount::bind(first, "", MountAttrFlags::empty())?,
            None => fsmount::make("tmpfs", &[("size", "0"), ("mode", "755")], RDONLY | NOSUID | NODEV | NOEXEC)?,
        };
        let fd = cover.attach(&place, "")?;
        empty_dir.get_or_insert(fd);
    }
    for name in READONLY_PROC {
        if let Some(place) = find(proc, name)? {
            fsmount::bind(&place, "", RDONLY)?.attach(&place, "")?;
        }
    }
    Ok(())
}

fn find(dir: &OwnedFd, name: &str) -> Result<Option<OwnedFd>> {
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match openat2(dir.as_fd(), name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), how) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT | Errno::ACCESS) => Ok(None),
        Err(error) => Err(error),
    }
}
