//! What the kernel shows in a container: /proc, /dev, /sys, with the dangerous parts covered.

use std::os::fd::{AsFd, OwnedFd};

use rustix::{
    fs::{Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, statfs, symlinkat},
    io::{Errno, Result},
    mount::MountAttrFlags,
};

use super::{
    error::SandboxError,
    fsmount::{self, Detached, NODEV, NOEXEC, NOSUID, RDONLY},
    inside::{Inside, Make},
    spec::{SandboxSecurity, Spec},
};

/// Made while the host's own can be seen, as some can only be borrowed from there.
pub(super) struct System {
    proc: Detached,
    sys: Detached,
    cgroup: Option<Detached>,
    devices: Vec<(&'static str, Detached)>,
    security: SandboxSecurity,
}

pub(super) const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty"];
/// What a command that may do anything gets as well, where the host has it.
pub(super) const MORE_DEVICES: &[&str] = &[
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
pub(super) const MASKED_PROC: &[&str] =
    &["acpi", "asound", "kcore", "keys", "latency_stats", "timer_list", "timer_stats", "sched_debug", "scsi"];
pub(super) const MASKED_SYS: &[&str] = &["firmware", "devices/virtual/powercap"];
pub(super) const READONLY_PROC: &[&str] = &["bus", "fs", "irq", "sys", "sysrq-trigger"];

/// Makes or borrows them.
pub(super) fn prepare(spec: &Spec) -> std::result::Result<System, SandboxError> {
    let all = NOSUID | NODEV | NOEXEC;
    let failed = |target: &str| {
        let target = target.to_owned();
        move |errno: Errno| SandboxError::Mount { target, reason: errno.to_string() }
    };
    // In a container that hides parts of its own, or without a network of ours, the kernel gives no new ones away.
    let proc = match fsmount::make("proc", &[], all) {
        Err(Errno::PERM) => fsmount::bind_host("/proc", all),
        other => other,
    };
    let sys_attrs = match spec.security {
        SandboxSecurity::Sandbox => all | RDONLY,
        SandboxSecurity::Insecure => all,
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
    let more = if spec.security == SandboxSecurity::Insecure { MORE_DEVICES } else { &[] };
    let mut devices = Vec::new();
    for name in DEVICES.iter().chain(more) {
        match fsmount::bind_host(format!("/dev/{name}"), NOSUID | NOEXEC) {
            Ok(device) => devices.push((*name, device)),
            Err(Errno::NOENT) => (),
            Err(errno) => return Err(failed(&format!("/dev/{name}"))(errno)),
        }
    }
    let (proc, sys) = (proc.map_err(failed("/proc"))?, sys.map_err(failed("/sys"))?);
    Ok(System { proc, sys, cgroup, devices, security: spec.security })
}

/// Puts them into the root.
pub(super) fn attach(system: System, spec: &Spec, inside: &mut Inside) -> std::result::Result<(), SandboxError> {
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
    let dev_attrs = if security == SandboxSecurity::Insecure { NOSUID } else { NOSUID | NODEV };
    let dev = fsmount::make("tmpfs", &[("mode", "755"), ("size", "65536k")], dev_attrs);
    let dev = dev.map_err(|errno| SandboxError::Mount { target: "/dev".to_owned(), reason: errno.to_string() })?;
    let dev = attach("/dev", dev)?;
    on("/dev", fill_dev(&dev, system.devices, spec.shm_size))?;
    let sys = attach("/sys", system.sys)?;
    if let Some(cgroup) = system.cgroup {
        let _without = cgroup.attach(&sys, "fs/cgroup");
    }
    if security == SandboxSecurity::Sandbox {
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

/// Covers what tells too much, and takes the pen from what is written to the whole machine.
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
