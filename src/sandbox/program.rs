//! The program of `bake` itself, as its helpers are started from it.

use std::{
    os::fd::{AsRawFd, OwnedFd},
    sync::OnceLock,
};

use super::fsmount;

/// The path of our own program by a read-only mount of its own: through /proc/PID/exe a container's root could write to
/// it.
pub(super) fn own_program() -> &'static str {
    static PROGRAM: OnceLock<(String, Option<OwnedFd>)> = OnceLock::new();
    let (path, _kept) = PROGRAM.get_or_init(|| match read_only_program() {
        Some(fd) => (format!("/proc/self/fd/{}", fd.as_raw_fd()), Some(fd)),
        None => ("/proc/self/exe".to_owned(), None),
    });
    path
}

fn read_only_program() -> Option<OwnedFd> {
    // By its path, as the link itself leads into the mounts of whoever started us.
    let path = std::fs::read_link("/proc/self/exe").ok()?;
    let fd = fsmount::bind_host(path.as_path(), fsmount::RDONLY).ok()?.into_fd()?;
    let (ours, found) = (rustix::fs::stat("/proc/self/exe").ok()?, rustix::fs::fstat(&fd).ok()?);
    // Another program may have taken its place since.
    ((ours.st_dev, ours.st_ino) == (found.st_dev, found.st_ino)).then_some(fd)
}
