//! The side of the helper: `bake __network`, process 1 of a new pid namespace, its stdin a socket.
//!
//! 1. read the [`NetworkStart`], a line
//! 2. fork: the child stays in the host's network to start the tool there
//! 3. the parent makes a user and a network namespace; the child starts the tool for it, and says how that went
//! 4. the parent makes the host's own addresses unreachable, closes the ways around that, and reports [`NetworkReport`], a line
//! 5. it ends when the socket closes, or the tool has ended; with it end all processes of the pid namespace
//!
//! The user namespace is there so that the tool has no rights outside: pasta enters it.

use std::{
    fs,
    io::{self, BufRead as _, Read as _, Seek as _, Write as _},
    os::{
        fd::{AsFd, AsRawFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    process::Stdio,
    thread,
};

use rustix::{
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, socket_with},
    process::{DumpableBehavior, WaitOptions, set_dumpable_behavior},
    thread::UnshareFlags,
};
use serde::{Deserialize, Serialize};

use super::{
    firewall::{self, ClosedWays},
    route,
    tool::{NetworkTool, NetworkToolKind},
};
use crate::sandbox::{command::command, namespace, sys};

/// The instructions to `bake __network`: one line of JSON on its stdin.
#[derive(Serialize, Deserialize)]
pub(super) struct NetworkStart {
    pub(super) tool: NetworkTool,
}

/// The report of `bake __network`: one line of JSON.
#[derive(Serialize, Deserialize)]
pub(super) enum NetworkReport {
    /// The network namespace of the helper is connected to the outside.
    Ready {
        /// What a step writes to a device is looked at too, so that it may have `NET_RAW`.
        may_write_frames: bool,
    },
    /// It is not, for this reason; the helper ends.
    Failed(String),
}

/// Connects a new network namespace to the outside, and keeps it so until stdin closes; returns the exit code.
///
/// `sandbox::helper_main` calls it when the first argument is `__network`.
pub(crate) fn network_helper_main() -> u8 {
    sys::close_from(3);
    let Ok(socket) = io::stdin().as_fd().try_clone_to_owned() else { return 1 };
    let mut socket = UnixStream::from(socket);
    let report = match connect(&socket) {
        Ok(closed) => NetworkReport::Ready { may_write_frames: closed == ClosedWays::Frames },
        Err(reason) => NetworkReport::Failed(reason),
    };
    let is_ready = matches!(report, NetworkReport::Ready { .. });
    let Ok(mut line) = serde_json::to_vec(&report) else { return 1 };
    line.push(b'\n');
    if socket.write_all(&line).is_err() || !is_ready {
        return 1;
    }
    let watching = thread::Builder::new().spawn(|| {
        // Orphans of the pid namespace become our children: without any, the tool has ended.
        while !matches!(rustix::process::wait(WaitOptions::empty()), Err(Errno::CHILD)) {}
        sys::exit_now(1);
    });
    if watching.is_err() {
        return 1;
    }
    // Nothing more is sent: this returns when the other side is gone.
    let _closed = socket.read(&mut [0]);
    0
}

/// Connects the namespace; returns what of it could be closed.
fn connect(socket: &UnixStream) -> Result<ClosedWays, String> {
    let failed = |action: &'static str| move |error: io::Error| format!("cannot {action}: {error}");
    let mut line = String::new();
    io::BufReader::new(socket).read_line(&mut line).map_err(failed("read its orders"))?;
    let NetworkStart { tool } = serde_json::from_str(&line).map_err(|error| error.to_string())?;
    let local = route::local_prefixes().map_err(|errno| format!("cannot list the addresses of the host: {errno}"))?;
    // The number that /proc has for us, which is that of the pid namespace of `bake`.
    let pid = fs::read_link("/proc/self").map_err(failed("find its process id"))?;
    let pid = pid.to_string_lossy().into_owned();
    let (wait, go) = io::pipe().map_err(failed("make a pipe"))?;
    let (mut answer, mut outcome) = io::pipe().map_err(failed("make a pipe"))?;
    if sys::fork().map_err(failed("start a process"))?.is_none() {
        drop((go, answer));
        let started = start_tool(&tool, &pid, wait);
        let text = started.as_ref().err().map_or("", String::as_str);
        let _parent_gone = outcome.write_all(text.as_bytes());
        drop(outcome);
        if let Ok(Some(mut child)) = started {
            let _ended = child.wait();
        }
        sys::exit_now(0);
    }
    drop((wait, outcome));
    enter_namespaces()?;
    (&go).write_all(b"!").map_err(failed("start the tool"))?;
    drop(go);
    let mut refusal = String::new();
    answer.read_to_string(&mut refusal).map_err(failed("wait for the tool"))?;
    if !refusal.is_empty() {
        return Err(refusal);
    }
    route::make_unreachable(&local).map_err(|errno| format!("cannot hide the addresses of the host: {errno}"))?;
    let closed = firewall::close(&local).unwrap_or_else(|errno| {
        // A kernel without nftables: routes hold back whoever does not name a device.
        tracing::debug!(%errno, "no packet filter");
        ClosedWays::Sockets
    });
    // Without NET_RAW, `ping` works where this range has the group of the step. /proc/sys may be read-only: then it does not.
    let _no_ping = fs::write("/proc/sys/net/ipv4/ping_group_range", "0 0");
    Ok(closed)
}

/// Enters a network namespace, owned by a user namespace of its own where that is allowed.
fn enter_namespaces() -> Result<(), String> {
    match sys::unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNET) {
        Ok(()) => namespace::map_single(0, 0).map_err(|error| format!("cannot map its user: {error}"))?,
        // User namespaces are switched off: slirp4netns does without.
        Err(_) => sys::unshare(UnshareFlags::NEWNET).map_err(|errno| format!("cannot make a network: {errno}"))?,
    }
    // The tool, which is root of that user namespace only, must be able to open our namespaces.
    set_dumpable_behavior(DumpableBehavior::Dumpable).map_err(|errno| format!("cannot be opened: {errno}"))?;
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None);
    let up = socket.and_then(|socket| sys::loopback_up(socket.as_fd()));
    up.map_err(|errno| format!("cannot switch the loopback device on: {errno}"))?;
    for setting in ["accept_dad", "dad_transmits"] {
        // Else IPv6 addresses are usable a second later only. /proc/sys may be read-only: then it is so.
        let _slower = fs::write(format!("/proc/sys/net/ipv6/conf/default/{setting}"), "0");
    }
    Ok(())
}

/// Waits for the namespaces of `pid`, and starts the tool for them; returns when they are connected, with the process
/// that must go on, if it is our child.
fn start_tool(tool: &NetworkTool, pid: &str, mut wait: io::PipeReader) -> Result<Option<std::process::Child>, String> {
    let failed = |error: io::Error| format!("{} cannot be started: {error}", tool.kind.name());
    let mut sign = [0];
    wait.read_exact(&mut sign).map_err(failed)?;
    let log = rustix::fs::memfd_create("log", rustix::fs::MemfdFlags::CLOEXEC).map_err(|errno| failed(errno.into()))?;
    let mut log = fs::File::from(log);
    // Not close-on-exec: the tool writes to it.
    let (ready, tells_ready) = rustix::pipe::pipe().map_err(|errno| failed(errno.into()))?;
    let mut command = command(&tool.program);
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command.args(tool.kind.args(pid, tells_ready.as_raw_fd())).stdout(Stdio::null());
    let mut child = command.stderr(log.try_clone().map_err(failed)?).spawn().map_err(failed)?;
    drop(tells_ready);
    let is_connected = match tool.kind {
        NetworkToolKind::Pasta => child.wait().map_err(failed)?.success(),
        NetworkToolKind::Slirp4netns => says_ready(ready),
    };
    if is_connected {
        return Ok((tool.kind == NetworkToolKind::Slirp4netns).then_some(child));
    }
    let mut said = String::new();
    let _unread = log.rewind().and_then(|()| log.read_to_string(&mut said));
    // The reason comes last; what is not text, or about its own log, says nothing.
    let reason = said.lines().map(str::trim).rfind(|line| !line.is_empty() && !line.contains("syslog"));
    Err(format!("{}: {}", tool.kind.name(), reason.unwrap_or("ended without a message")))
}

/// Whether something was written before the other side closed.
fn says_ready(pipe: OwnedFd) -> bool {
    matches!(fs::File::from(pipe).read(&mut [0]), Ok(1))
}
