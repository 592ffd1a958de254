//! Mounts as file descriptors: made detached, attached to a directory that is a descriptor too, so that no path of an
//! image is ever looked up by the kernel on our behalf.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::{
    fs::CWD,
    io::{Errno, Result},
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
        fsconfig_set_string, fsmount, fsopen, mount_remount, move_mount, open_tree,
    },
    path::Arg,
};

use super::sys;

pub(super) const RDONLY: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_RDONLY;
pub(super) const NOSUID: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID;
pub(super) const NODEV: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NODEV;
pub(super) const NOEXEC: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOEXEC;

/// A mount that is attached nowhere yet (fsmount(2), open_tree(2)).
pub(super) struct Detached {
    fd: OwnedFd,
    /// Attributes that can only be given once it is attached: the kernel is older than 5.12.
    late: MountAttrFlags,
}

/// Makes a new file system of type `kind`, detached.
pub(super) fn make(kind: &str, options: &[(&str, &str)], attrs: MountAttrFlags) -> Result<Detached> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    // What lists of mounts show in front.
    fsconfig_set_string(&context, "source", kind)?;
    for (key, value) in options {
        fsconfig_set_string(&context, *key, *value)?;
    }
    fsconfig_create(&context)?;
    let fd = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attrs)?;
    Ok(Detached { fd, late: MountAttrFlags::empty() })
}

/// Makes a bind mount of what `path` leads to, with all that is mounted below; `attrs` are added to those it has.
pub(super) fn bind(dir: impl AsFd, path: impl Arg, attrs: MountAttrFlags) -> Result<Detached> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_EMPTY_PATH;
    let fd = open_tree(dir, path, flags)?;
    let mut late = MountAttrFlags::empty();
    if !attrs.is_empty() {
        match sys::mount_setattr(fd.as_fd(), attrs, true) {
            Err(Errno::NOSYS) => late = attrs,
            other => other?,
        }
    }
    Ok(Detached { fd, late })
}

/// Makes a bind mount of what the host's `path` leads to.
pub(super) fn bind_host(path: impl Arg, attrs: MountAttrFlags) -> Result<Detached> {
    bind(CWD, path, attrs)
}

impl Detached {
    /// Attaches the mount on `path` below `dir`; an empty path is `dir` itself. A last component that is a link is not
    /// followed.
    ///
    /// Returns the descriptor of its root.
    pub(super) fn attach(self, dir: impl AsFd, path: impl Arg) -> Result<OwnedFd> {
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        move_mount(&self.fd, "", dir, path, flags)?;
        if !self.late.is_empty() {
            let here = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
            mount_remount(here, MountFlags::BIND | old_flags(self.late), "")?;
        }
        Ok(self.fd)
    }

    /// The descriptor that keeps the mount alive without ever being attached; `None` if it lacks some of its
    /// attributes.
    pub(super) fn into_fd(self) -> Option<OwnedFd> {
        self.late.is_empty().then_some(self.fd)
    }

    /// The descriptor of the root directory of the mount.
    pub(super) fn root(&self) -> &OwnedFd {
        &self.fd
    }
}

fn old_flags(attrs: MountAttrFlags) -> MountFlags {
    let pairs = [
        (RDONLY, MountFlags::RDONLY),
        (NOSUID, MountFlags::NOSUID),
        (NODEV, MountFlags::NODEV),
        (NOEXEC, MountFlags::NOEXEC),
    ];
    pairs.into_iter().filter(|(new, _)| attrs.contains(*new)).map(|(_, old)| old).collect()
}
