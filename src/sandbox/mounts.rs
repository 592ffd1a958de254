//! The mounts of a container, in two halves: `prepare` makes them all, detached, while the host's files can be seen;
//! `attach` puts them into the root after that root has become everything.

use std::{
    os::fd::{AsFd, BorrowedFd},
    path::Path,
};

use rustix::{
    fs::{CWD, FileType, Gid, Mode, OFlags, Uid, chownat, fstat, mkdirat, open, openat},
    io::Errno,
    mount::MountAttrFlags,
};

use super::{
    agent::socket_name,
    error::SandboxError,
    fsmount::{self, Detached, NODEV, NOEXEC, NOSUID, RDONLY},
    inside::{self, Inside, Make},
    root::{self, Workshop},
    spec::{SandboxMount, SandboxMountKind, SandboxSpec},
};
use crate::spec::{NetworkMode, SecurityMode};

/// One mount that is made but not attached yet, and the path in the root where it belongs.
pub(super) struct PreparedMounts {
    pub(super) target: String,
    pub(super) tree: Detached,
    pub(super) is_dir: bool,
}

/// Fills a directory that may lie below all other layers with the mount points that every container needs.
///
/// With it nothing has to be made and removed for them in each step. It is to be on the file system of the layers.
pub(crate) fn make_skeleton(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    let etc = dir.join("etc");
    std::fs::DirBuilder::new().mode(0o755).create(&etc)?;
    for name in ["hosts", "resolv.conf"] {
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(etc.join(name))?;
    }
    Ok(())
}

/// Makes the mounts of the spec, and of the files that every container has, in the order of their targets; nothing is
/// attached yet.
///
/// `resolv_conf` is the content of that file where the host's own would not work.
pub(super) fn prepare(
    spec: &SandboxSpec,
    resolv_conf: Option<&str>,
    shop: &Workshop<'_>,
) -> Result<Vec<PreparedMounts>, SandboxError> {
    let mut mounts: Vec<(String, usize)> =
        spec.mounts.iter().enumerate().map(|(ix, mount)| (clean(&mount.target), ix)).collect();
    mounts.sort_by(|a, b| a.0.split('/').cmp(b.0.split('/')));
    let mut prepared = Vec::with_capacity(mounts.len() + 2);
    for (target, ix) in mounts {
        let mount = &spec.mounts[ix];
        if target == "/" {
            let reason = "a mount cannot replace the root".to_owned();
            return Err(SandboxError::Mount { target: mount.target.clone(), reason });
        }
        if !matches!(mount.kind, SandboxMountKind::Secret { .. } | SandboxMountKind::Text { .. }) {
            let tree = make(mount, ix, spec.security, shop)?;
            let is_dir = kind_of(tree.root().as_fd()) == FileType::Directory;
            prepared.push(PreparedMounts { target, tree, is_dir });
        }
    }
    let host_file = match resolv_conf {
        Some(_) => None,
        None => fsmount::bind_host("/etc/resolv.conf", RDONLY | NOSUID | NODEV | NOEXEC).ok(),
    };
    let resolv_conf = resolv_conf.or_else(|| host_file.is_none().then_some(PUBLIC_DNS));
    prepared.extend(files(spec, resolv_conf, shop)?);
    if let Some(tree) = host_file {
        prepared.push(PreparedMounts { target: "/etc/resolv.conf".to_owned(), tree, is_dir: false });
    }
    prepared.sort_by(|a, b| a.target.split('/').cmp(b.target.split('/')));
    Ok(prepared)
}

fn make(
    mount: &SandboxMount,
    ix: usize,
    security: SecurityMode,
    shop: &Workshop<'_>,
) -> Result<Detached, SandboxError> {
    let nodev = match security {
        SecurityMode::Sandbox => NODEV,
        SecurityMode::Insecure => MountAttrFlags::empty(),
    };
    let readonly = |yes: bool| if yes { RDONLY } else { MountAttrFlags::empty() };
    let failed = |errno: Errno| cannot_mount(&mount.target, errno);
    match &mount.kind {
        SandboxMountKind::Tree { layers, source, writable } => {
            let attrs = nodev | readonly(!writable);
            tree(layers, source, ix, *writable, attrs, shop).map_err(|errno| match errno {
                Errno::NOENT => SandboxError::MountSource { path: source.clone() },
                errno => failed(errno),
            })
        }
        SandboxMountKind::Dir { path, readonly: ro } => fsmount::bind_host(path.as_path(), nodev | readonly(*ro))
            .map_err(|errno| SandboxError::HostPath { path: path.clone(), errno: errno.raw_os_error() }),
        SandboxMountKind::Tmpfs { size } => {
            let size = size.map(|bytes| bytes.to_string());
            let mut options = vec![("mode", "1777")];
            options.extend(size.as_deref().map(|size| ("size", size)));
            fsmount::make("tmpfs", &options, NOSUID | nodev).map_err(failed)
        }
        SandboxMountKind::Ssh { .. } => fsmount::bind(&shop.dir, socket_name(ix), nodev).map_err(failed),
        SandboxMountKind::Secret { .. } | SandboxMountKind::Text { .. } => Err(failed(Errno::INVAL)),
    }
}

/// `source` of a tree of layers.
fn tree(
    layers: &[std::path::PathBuf],
    source: &str,
    ix: usize,
    writable: bool,
    attrs: MountAttrFlags,
    shop: &Workshop<'_>,
) -> rustix::io::Result<Detached> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let whole = match layers {
        [only] if !writable => open(only.as_path(), flags, Mode::empty())?,
        _ => {
            let (upper, work) = (format!("upper{ix}"), format!("work{ix}"));
            mkdirat(&shop.dir, &*upper, Mode::from(0o755))?;
            mkdirat(&shop.dir, &*work, Mode::from(0o755))?;
            let upper = openat(&shop.dir, &*upper, flags, Mode::empty())?;
            let work = openat(&shop.dir, &*work, flags, Mode::empty())?;
            let lowers = root::open_all(layers)?;
            root::overlay(&lowers, &upper, &work, shop)?;
            open(shop.path, flags, Mode::empty())?
        }
    };
    let found = inside::find(whole.as_fd(), if source.is_empty() { "/" } else { source })?;
    fsmount::bind(found, "", attrs)
}

/// The `resolv.conf` of a step on a host that has no name server.
pub(super) const PUBLIC_DNS: &str = "nameserver 8.8.8.8\nnameserver 8.8.4.4\n";

/// Files in memory: secrets, texts, `/etc/hosts`, and `/etc/resolv.conf` where its content is given.
fn files(
    spec: &SandboxSpec,
    resolv_conf: Option<&str>,
    shop: &Workshop<'_>,
) -> Result<Vec<PreparedMounts>, SandboxError> {
    let failed = |errno: Errno| SandboxError::Setup {
        action: "make the files of the container".to_owned(),
        errno: errno.raw_os_error(),
    };
    let memory = fsmount::make("tmpfs", &[("mode", "0700")], NOSUID | NODEV).map_err(failed)?;
    let memory = memory.attach(CWD, shop.path).map_err(failed)?;
    let hosts = hosts(spec);
    let closed = RDONLY | NOSUID | NODEV | NOEXEC;
    let mut prepared = vec![];
    let mut add = |target: String, content: &[u8], (mode, uid, gid): (u32, u32, u32), attrs| {
        let name = prepared.len().to_string();
        write_file(memory.as_fd(), &name, content, mode).map_err(failed)?;
        if (uid, gid) != (0, 0) {
            let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
            chownat(&memory, &*name, owner.0, owner.1, rustix::fs::AtFlags::empty()).map_err(|errno| match errno {
                Errno::INVAL => SandboxError::Unmapped { id: if uid == 0 { gid } else { uid } },
                errno => cannot_mount(&target, errno),
            })?;
        }
        let tree = fsmount::bind(&memory, &*name, attrs).map_err(|errno| cannot_mount(&target, errno))?;
        prepared.push(PreparedMounts { target, tree, is_dir: false });
        Ok::<(), SandboxError>(())
    };
    add("/etc/hosts".to_owned(), hosts.as_bytes(), (0o644, 0, 0), closed)?;
    if let Some(text) = resolv_conf {
        add("/etc/resolv.conf".to_owned(), text.as_bytes(), (0o644, 0, 0), closed)?;
    }
    for mount in &spec.mounts {
        match &mount.kind {
            SandboxMountKind::Secret { content, mode, uid, gid } => {
                add(clean(&mount.target), content, (*mode, *uid, *gid), closed)?;
            }
            SandboxMountKind::Text { text, mode } => {
                add(clean(&mount.target), text.as_bytes(), (*mode, 0, 0), RDONLY | NOSUID | NODEV)?;
            }
            _ => (),
        }
    }
    Ok(prepared)
}

fn hosts(spec: &SandboxSpec) -> String {
    let name = &spec.hostname;
    let mut text = format!("127.0.0.1\tlocalhost {name}\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    for host in &spec.extra_hosts {
        let address = match (host.is_gateway(), spec.network) {
            (false, _) => &host.address,
            (true, NetworkMode::Host) => "127.0.0.1",
            // Not reached: whoever lowered the build has said so.
            (true, NetworkMode::Default | NetworkMode::None) => continue,
        };
        text.extend([address, "\t", &host.name, "\n"]);
    }
    text
}

fn write_file(dir: BorrowedFd<'_>, name: &str, mut content: &[u8], mode: u32) -> rustix::io::Result<()> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = openat(dir, name, flags, Mode::from(0o600))?;
    while !content.is_empty() {
        let n = rustix::io::write(&file, content)?;
        content = &content[n..];
    }
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))
}

/// Attaches the prepared mounts to the root of the step, in their order.
pub(super) fn attach(prepared: Vec<PreparedMounts>, inside: &mut Inside) -> Result<(), SandboxError> {
    for PreparedMounts { target, tree, is_dir } in prepared {
        let make = if is_dir { Make::MountDir } else { Make::MountFile };
        let failed = |errno| cannot_mount(&target, errno);
        let place = inside.find_or_make(&target, make).map_err(failed)?;
        if (kind_of(place.as_fd()) == FileType::Directory) != is_dir {
            let reason = if is_dir { "a file is in its place" } else { "a directory is in its place" };
            return Err(SandboxError::Mount { target, reason: reason.to_owned() });
        }
        if is_kernels(place.as_fd()) {
            let reason = "it lies in a file system of the kernel".to_owned();
            return Err(SandboxError::Mount { target, reason });
        }
        tree.attach(&place, "").map_err(failed)?;
    }
    Ok(())
}

/// Whether a place lies in /proc or /sys, where a mount could forge or hide what programs rely on.
fn is_kernels(place: BorrowedFd<'_>) -> bool {
    const PROC: i64 = 0x9fa0;
    const SYSFS: i64 = 0x6265_6572;
    rustix::fs::fstatfs(place).is_ok_and(|stat| [PROC, SYSFS].contains(&stat.f_type))
}

fn kind_of(fd: BorrowedFd<'_>) -> FileType {
    fstat(fd).map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode))
}

fn cannot_mount(target: &str, errno: Errno) -> SandboxError {
    SandboxError::Mount { target: target.to_owned(), reason: errno.to_string() }
}

/// An absolute path without empty names, `.` and `..`.
fn clean(path: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => (),
            ".." => _ = names.pop(),
            name => names.push(name),
        }
    }
    format!("/{}", names.join("/"))
}
