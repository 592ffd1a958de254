//! The root of a step: layers stacked by overlayfs, made the root directory of the process.

use std::{
    ffi::CString,
    fmt::Write as _,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, Gid, Mode, OFlags, Uid, chmod, chownat, fstat, open},
    io::{Errno, Result},
    mount::{MountFlags, MoveMountFlags, UnmountFlags, mount, move_mount, unmount},
    process::{chroot, fchdir, pivot_root},
};

use super::{error::SandboxError, fsmount, spec::SandboxSpec, stubs::restore_mtime};

const O_DIR: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A directory on the file system of the upper one on which the mounts of a step are made.
///
/// It can be mounted on any number of times, because all of these mounts go away with the old root.
pub(super) struct Workshop<'a> {
    pub(super) path: &'a Path,
    /// The directory itself, below all mounts.
    pub(super) dir: OwnedFd,
    pub(super) user_namespace: bool,
}

/// Mounts the root of the step on the workshop.
pub(super) fn mount_root(
    spec: &SandboxSpec,
    upper: &OwnedFd,
    shop: &Workshop<'_>,
) -> std::result::Result<(), SandboxError> {
    let failed = |errno: Errno| SandboxError::Overlay { count: spec.layers.len(), errno: errno.raw_os_error() };
    if spec.layers.is_empty() {
        // Nothing below: the upper directory is the root as it is.
        let root = fsmount::bind(upper, "", fsmount::NODEV).map_err(failed)?;
        return root.attach(CWD, shop.path).map(drop).map_err(failed);
    }
    let lowers = open_all(&spec.layers).map_err(failed)?;
    // overlayfs makes a directory `work` in it and leaves all else there alone.
    overlay(&lowers, upper, &shop.dir, shop).map_err(failed)
}

/// Opens directories for reference (`O_PATH`).
pub(super) fn open_all(dirs: &[PathBuf]) -> Result<Vec<OwnedFd>> {
    dirs.iter().map(|dir| open(dir.as_path(), O_DIR, Mode::empty())).collect()
}

/// Mounts an overlay on the workshop; the lowest of `lowers` first.
///
/// The directories are named by their descriptors, relative to /proc/self/fd: any number of layers fits into the one
/// page of options that the kernel takes, whatever their real paths.
pub(super) fn overlay(lowers: &[OwnedFd], upper: &OwnedFd, work: &OwnedFd, shop: &Workshop<'_>) -> Result<()> {
    if let Some(top) = lowers.last() {
        copy_attributes(top, upper)?;
    }
    let mut options = String::from("lowerdir=");
    for (ix, lower) in lowers.iter().rev().enumerate() {
        let colon = if ix == 0 { "" } else { ":" };
        let _infallible = write!(options, "{colon}{}", lower.as_raw_fd());
    }
    let _infallible = write!(options, ",upperdir={},workdir={}", upper.as_raw_fd(), work.as_raw_fd());
    // The upper must be a plain diff that means the same in any stack: it may hold no inode numbers of other layers. The
    // names of renamed directories, without which a rename fails, are taken out after the step.
    options.push_str(match shop.user_namespace {
        false => ",index=off,xino=off,redirect_dir=on,metacopy=off",
        // With these attributes overlayfs has neither of the other two, which may then not be named.
        true => ",index=off,xino=off,userxattr",
    });
    let fds = open("/proc/self/fd", O_DIR, Mode::empty())?;
    fchdir(&fds)?;
    // Volatile: an unmount does not write the whole file system to disk; whoever keeps the result syncs once. Since 5.10.
    let variants = [format!("{options},volatile"), options];
    let mut last = Errno::INVAL;
    for variant in variants {
        let data = CString::new(variant).map_err(|_| Errno::INVAL)?;
        match mount("overlay", shop.path, "overlay", MountFlags::NODEV, Some(&*data)) {
            Err(Errno::INVAL) => last = Errno::INVAL,
            other => return other,
        }
    }
    Err(last)
}

/// An overlay shows its upper directory's own mode, owner and time as those of its root.
fn copy_attributes(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    let stat = fstat(from)?;
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    // Ids that our user namespace does not know cannot be given; then it stays ours.
    let _unmapped = chownat(to, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH);
    chmod(format!("/proc/self/fd/{}", to.as_raw_fd()), Mode::from_raw_mode(stat.st_mode))?;
    restore_mtime(to.as_fd(), &stat)
}

/// Makes what is mounted on the workshop the root of this process, and detaches the old root (pivot_root(2)).
pub(super) fn enter(shop: &Workshop<'_>) -> Result<()> {
    let root = open(shop.path, O_DIR, Mode::empty())?;
    fchdir(&root)?;
    match pivot_root(".", ".") {
        // The new root now lies below the old one, at the same place.
        Ok(()) => unmount(".", UnmountFlags::DETACH)?,
        // The initial RAM file system cannot be pivoted away, only covered.
        Err(Errno::INVAL) => {
            let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
            move_mount(&root, "", CWD, "/", flags)?;
            chroot(".")?;
        }
        Err(error) => return Err(error),
    }
    rustix::process::chdir("/")
}
