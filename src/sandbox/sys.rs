//! The system calls that rustix does not offer, or not as safe functions. All `unsafe` of the sandbox is here.
#![expect(unsafe_code, reason = "system calls without a safe wrapper")]

use std::{
    ffi::{CString, c_char, c_int, c_long, c_ulong},
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

use rustix::{mount::MountAttrFlags, thread::UnshareFlags};

/// Tells the allocator that one thread at a time does the work of this process.
///
/// *Cost:* glibc gives a second thread an area of its own, which grows by a system call for every few pages: for a plan
/// of 1000 targets a thousand calls. The first area grows by megabytes then.
pub(crate) fn allocate_for_one_thread() {
    #[cfg(target_env = "gnu")]
    for (option, value) in [(libc::M_ARENA_MAX, 1), (libc::M_TOP_PAD, 4 << 20)] {
        // SAFETY: changes how memory is taken from the system, and nothing that was handed out. Not to be able to only
        // costs time, so that the answer does not matter.
        unsafe { libc::mallopt(option, value) };
    }
}

/// Moves the calling thread into new namespaces (unshare(2)).
pub(super) fn unshare(flags: UnshareFlags) -> rustix::io::Result<()> {
    // SAFETY: never called with FILES, so no thread sees another's descriptors change.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

/// Splits a process of one thread in two; true in the child.
///
/// Only for a process that has one thread: then the child may do all the parent may.
pub(super) fn fork() -> io::Result<Option<c_int>> {
    // SAFETY: the process has one thread, as the caller promises, so no lock can be held by another.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        child => Ok(Some(child)),
    }
}

/// Waits for a child made by [`fork`]; true if it ended with exit code 0.
pub(super) fn wait(child: c_int) -> io::Result<bool> {
    let mut status = 0;
    loop {
        // SAFETY: `status` outlives the call.
        if unsafe { libc::waitpid(child, &raw mut status, 0) } == child {
            return Ok(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Ends the process at once (_exit(2)), without running what the parent registered.
pub(super) fn exit_now(code: c_int) -> ! {
    // SAFETY: always sound.
    unsafe { libc::_exit(code) }
}

/// Replaces this process by another program; returns only if that fails, with the reason.
pub(super) fn execve(program: &CString, args: &[CString], env: &[CString]) -> rustix::io::Errno {
    let pointers = |list: &[CString]| -> Vec<*const c_char> {
        list.iter().map(|it| it.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: both lists end with null and point to strings that outlive the call.
    unsafe { libc::execve(program.as_ptr(), args.as_ptr(), env.as_ptr()) };
    last_errno()
}

/// Adds attributes to a mount, or to all mounts of its tree.
pub(super) fn mount_setattr(mount: BorrowedFd<'_>, attrs: MountAttrFlags, recursive: bool) -> rustix::io::Result<()> {
    let attr = libc::mount_attr { attr_set: attrs.bits().into(), attr_clr: 0, propagation: 0, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a string that ends with null, `attr` outlives the call and its size is given.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    check(done)
}

/// Installs a system call filter for the rest of this process's life, and for its descendants (seccomp(2)).
pub(super) fn install_filter(program: &[libc::sock_filter]) -> rustix::io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| rustix::io::Errno::TOOBIG)?;
    // The kernel only reads through the pointer.
    let prog = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    // SAFETY: `prog` and the instructions outlive the call, which copies them.
    let done = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            c_long::from(libc::SECCOMP_SET_MODE_FILTER),
            libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            &raw const prog,
        )
    };
    check(done)
}

/// Closes all descriptors from `first` on. Best effort: kernels before 5.9 cannot.
pub(super) fn close_from(first: u32) {
    // SAFETY: the helper calls it before it opens or owns any of them.
    unsafe { libc::syscall(libc::SYS_close_range, c_ulong::from(first), c_ulong::from(u32::MAX), 0) };
}

/// Replaces stdin by a copy of the descriptor.
pub(super) fn become_stdin(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: nothing owns descriptor 0 other than as stdin, which may be anything.
    match unsafe { libc::dup2(fd.as_raw_fd(), 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Resets SIGPIPE to its default, which the Rust runtime ignores: an ignored signal would stay ignored in the command.
pub(super) fn default_sigpipe() {
    // SAFETY: no handler of ours is replaced.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

/// Switches on the loopback device of the current network namespace.
pub(super) fn loopback_up(socket: BorrowedFd<'_>) -> rustix::io::Result<()> {
    // SAFETY: all-zero bytes are a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo\0") {
        *to = from.cast_signed() as c_char;
    }
    #[expect(clippy::cast_possible_truncation, reason = "the flags are the low 16 bits")]
    {
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    }
    // SAFETY: the request is an `ifreq`, which is what this command takes, and outlives the call.
    check(c_long::from(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) }))
}

fn check(done: c_long) -> rustix::io::Result<()> {
    if done < 0 { Err(last_errno()) } else { Ok(()) }
}

fn last_errno() -> rustix::io::Errno {
    rustix::io::Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(rustix::io::Errno::INVAL)
}

/// The exit code of a test process that may make no user namespace.
#[cfg(test)]
pub(super) const REFUSED: u8 = 99;

/// Lets the test binary be its own helper: `/proc/self/exe __sandbox` never reaches its `main`.
#[cfg(test)]
mod as_helper {
    #[used]
    #[unsafe(link_section = ".init_array")]
    static START: extern "C" fn(std::ffi::c_int, *const *const std::ffi::c_char) = start;

    /// The name of the variable `tests::AS_USER`, as the C library knows it.
    const AS_USER: &std::ffi::CStr = c"BAKE_TEST_USER_NAMESPACE";

    extern "C" fn start(count: std::ffi::c_int, args: *const *const std::ffi::c_char) {
        // SAFETY: no thread has begun that could change the environment.
        if unsafe { !libc::getenv(AS_USER.as_ptr()).is_null() } {
            // No thread has begun: the last chance to change namespaces.
            let refused = crate::sandbox::enter_user_namespace().is_err();
            if refused {
                super::exit_now(super::REFUSED.into());
            }
        }
        if count < 2 {
            return;
        }
        // SAFETY: the C library passes `main`'s arguments, of which there are at least two.
        let first = unsafe { std::ffi::CStr::from_ptr(*args.add(1)) };
        let first = std::os::unix::ffi::OsStrExt::from_bytes(first.to_bytes());
        if let Some(code) = crate::sandbox::helper_main(first) {
            super::exit_now(code.into());
        }
    }
}
