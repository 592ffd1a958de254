//! Steps run by our own helper: starts it, hands over the spec, and tidies up after it.

use std::{
    io::{Read, Write},
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::ExitStatusExt},
    },
    process::{Child, ExitStatus, Stdio},
    thread,
};

use rustix::thread::UnshareFlags;

use super::{
    agent,
    cancel::StepCancel,
    cgroup::{self, Cgroups, RunCgroup, UnkeptLimit},
    command::command,
    console::console_of,
    error::SandboxError,
    helper::{HelperReport, NetworkSetup, StepStart},
    namespace,
    network::StepNetworkLease,
    processes::StepProcesses,
    program::own_program,
    spec::{SandboxSpec, StepStdin},
    stubs, sys,
    watch::{Exit, Started, StepStreams, watch},
};

/// Runs the command of a step to its end in namespaces of our own; as [`super::Sandbox::run`].
pub(super) fn run(
    spec: &SandboxSpec,
    network: &StepNetworkLease<'_>,
    (pids_limit, run): (Option<u64>, Option<&RunCgroup>),
    streams: StepStreams<'_>,
    cancel: &StepCancel,
) -> Result<Exit, SandboxError> {
    let _agents = agent::start_agents(spec)?;
    let cgroups = Cgroups::make(&spec.resources, pids_limit, run);
    let oom_before = cgroup::oom_baseline();
    let start = StepStart {
        spec,
        user_namespace: namespace::is_user_namespace(),
        cgroups: cgroups.procs(),
        network: match network {
            StepNetworkLease::Loopback => NetworkSetup::Loopback,
            shared if !shared.allows_raw_sockets() => NetworkSetup::InheritWithoutRaw,
            StepNetworkLease::SharedHost | StepNetworkLease::Pooled(_) | StepNetworkLease::Host => {
                NetworkSetup::Inherit
            }
        },
        resolv_conf: network.resolv_conf(),
    };
    let start = serde_json::to_vec(&start);
    let start = start.map_err(|error| SandboxError::io_setup("describe the container", &error.into()))?;
    let (ours, theirs) = UnixStream::pair().map_err(|error| SandboxError::io_setup("make a socket", &error))?;
    let (status, reports) = thread::scope(|scope| {
        // Namespaces are entered by this thread for its child, which dies with it.
        let keeper = thread::Builder::new().name("sandbox".to_owned());
        let keeper = keeper.spawn_scoped(scope, || {
            network.enter()?;
            keep(theirs, &ours, (&start, spec.stdin), streams, cancel)
        });
        let keeper = keeper.map_err(|error| SandboxError::io_setup("start a thread", &error))?;
        keeper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    if cancel.is_cancelled() {
        return Err(SandboxError::Cancelled);
    }
    let HelperReports { made: Some(made), outside } = read_reports(&ours, reports)? else {
        return Err(SandboxError::HelperDied { status: status.to_string() });
    };
    stubs::clean(&spec.upper, &made);
    let signal = status.signal();
    let code = status.code().or(signal.map(|signal| 128 + signal)).unwrap_or(-1);
    let killed = code == 128 + libc::SIGKILL;
    let oom = cgroups.oom_killed() || (killed && cgroup::oom_kills() > oom_before);
    let pids_limit = cgroups.reached_pids_limit();
    let mut unkept_limits = cgroups.into_unkept();
    if let Some(cause) = outside {
        unkept_limits.extend(spec.resources.given().map(|name| UnkeptLimit { name, cause: cause.clone() }));
    }
    Ok(Exit { code, signal, oom, pids_limit, unkept_limits })
}

/// Starts the helper as process 1 of a new pid namespace, tells it what to do, and watches it to its end. Returns the part
/// of its reports that was read meanwhile, too.
fn keep(
    theirs: UnixStream,
    mut ours: &UnixStream,
    (start, stdin): (&[u8], StepStdin),
    StepStreams { output, user }: StepStreams<'_>,
    cancel: &StepCancel,
) -> Result<(ExitStatus, Vec<u8>), SandboxError> {
    // What fits into a socket waits there for the helper.
    const FITS: usize = 64 << 10;
    let (now, later) = start.split_at(start.len().min(FITS));
    ours.write_all(now).map_err(|error| SandboxError::io_setup("write to its helper", &error))?;
    let (mut child, started) = spawn(theirs)?;
    // A helper that is gone says why in its report.
    let _gone = ours.write_all(later).and_then(|()| ours.shutdown(std::net::Shutdown::Write));
    let stop = || started.kill();
    let mut reports = Vec::new();
    let watched = console_of(stdin, user, ours, &mut reports)
        .and_then(|console| watch(&started, console, output, cancel, &stop))
        .inspect_err(|_| stop());
    let status = child.wait().map_err(|error| SandboxError::io_setup("wait for the command", &error));
    watched.and(status).map(|status| (status, reports))
}

fn spawn(socket: UnixStream) -> Result<(Child, Started), SandboxError> {
    sys::unshare(UnshareFlags::NEWPID).map_err(namespace::diagnose)?;
    let mut helper = command(own_program());
    helper.arg("__sandbox").stdin(Stdio::from(OwnedFd::from(socket)));
    Started::spawn(helper, StepProcesses::All)
}

/// What the helper reported before it became the command.
#[derive(Default)]
struct HelperReports {
    /// `None` if it died before it could become the command.
    made: Option<stubs::MadeStubs>,
    /// Why it could not enter a control group.
    outside: Option<String>,
}

/// `text` is what was read of the reports already.
///
/// # Errors
/// What the helper reported instead of becoming the command.
fn read_reports(mut socket: &UnixStream, mut text: Vec<u8>) -> Result<HelperReports, SandboxError> {
    let read = socket.read_to_end(&mut text);
    read.map_err(|error| SandboxError::io_setup("read the report of its helper", &error))?;
    let mut reports = HelperReports::default();
    for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match serde_json::from_slice(line) {
            Ok(HelperReport::Ready(made)) => reports.made = Some(made),
            Ok(HelperReport::Outside(cause)) => reports.outside = Some(cause),
            Ok(HelperReport::Failed(error)) => return Err(error),
            Err(error) => return Err(SandboxError::io_setup("parse the report of its helper", &error.into())),
        }
    }
    Ok(reports)
}
