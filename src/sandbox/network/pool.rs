//! The pool: hands a network namespace to each step that runs, and keeps those that are free for the next.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    process::Child,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space},
};

use super::{
    dns::{self, DnsForward},
    helper::{NetworkReport, NetworkStart},
    route,
    tool::{NetworkChoice, NetworkTool},
};
use crate::{
    sandbox::{
        command::command, error::SandboxError, mounts::PUBLIC_DNS, program::own_program, spec::SandboxSpec, sys,
    },
    spec::{NetworkMode, SecurityMode},
};

/// How long a tool may take to connect a namespace.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Why steps run in the host's network namespace although nobody asked for it; shown once a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostNetworkNotice {
    /// What each tool said, or that none is installed.
    pub(crate) cause: String,
}

/// The connected network namespaces of one run, used by one step after another.
pub(crate) struct NetworkPool {
    choice: NetworkChoice,
    state: Mutex<PoolState>,
}

struct PoolState {
    access: OutsideAccess,
    free: Vec<ConnectedNamespace>,
    notice: Option<HostNetworkNotice>,
}

/// How namespaces are connected to the outside.
enum OutsideAccess {
    /// No step has needed it yet.
    Untried,
    /// By this tool: it has worked once.
    By(NetworkTool),
    /// By no tool: steps share the host's namespace.
    Host,
}

/// The network of one step, for as long as it runs.
pub(crate) enum StepNetworkLease<'p> {
    /// A new namespace with nothing but a loopback device, made by whoever starts the step.
    Loopback,
    /// A namespace of the pool.
    Pooled(PooledNamespace<'p>),
    /// The host's own, because no other can be had: without NET_RAW.
    SharedHost,
    /// The host's own, as the step asks.
    Host,
}

/// A namespace that goes back to the pool when the step has ended.
pub(crate) struct PooledNamespace<'p> {
    pool: &'p NetworkPool,
    namespace: Option<ConnectedNamespace>,
    is_reusable: bool,
}

/// A network namespace with access to the outside, which ends with this value.
struct ConnectedNamespace {
    namespace: OwnedFd,
    /// The helper ends when it closes.
    socket: UnixStream,
    /// Kept, not waited for: its end takes time that no run is to spend.
    _helper: Child,
    resolv_conf: Arc<str>,
    /// Whether a step in it may have `NET_RAW`.
    may_write_frames: bool,
}

impl NetworkPool {
    /// A pool without namespaces: nothing is started before a step needs it.
    pub(crate) fn new(choice: NetworkChoice) -> Self {
        let access = match &choice {
            NetworkChoice::Host => OutsideAccess::Host,
            NetworkChoice::Tools(_) => OutsideAccess::Untried,
        };
        Self { choice, state: Mutex::new(PoolState { access, free: Vec::new(), notice: None }) }
    }

    /// Takes the network that a step is to run in; blocks while a namespace is connected.
    ///
    /// # Errors
    /// When a tool that has worked before does so no longer. That none works is no error: [`Self::take_notice`].
    pub(crate) fn acquire(&self, spec: &SandboxSpec) -> Result<StepNetworkLease<'_>, SandboxError> {
        match spec.network {
            NetworkMode::None => return Ok(StepNetworkLease::Loopback),
            NetworkMode::Host => return Ok(StepNetworkLease::Host),
            NetworkMode::Default => (),
        }
        let found = self.find_or_connect()?;
        Ok(found.map_or(StepNetworkLease::SharedHost, |namespace| {
            StepNetworkLease::Pooled(PooledNamespace {
                pool: self,
                namespace: Some(namespace),
                // A step that may do anything may have changed addresses and routes.
                is_reusable: spec.security == SecurityMode::Sandbox,
            })
        }))
    }

    /// Takes the reason why steps share the host's namespace; `None` if they do not, or it was taken before.
    pub(crate) fn take_notice(&self) -> Option<HostNetworkNotice> {
        self.lock().notice.take()
    }

    /// A free namespace or a new one; `None` where no tool works.
    fn find_or_connect(&self) -> Result<Option<ConnectedNamespace>, SandboxError> {
        let mut state = self.lock();
        while let Some(namespace) = state.free.pop() {
            if namespace.is_alive() {
                return Ok(Some(namespace));
            }
        }
        let tool = match &state.access {
            OutsideAccess::Host => return Ok(None),
            OutsideAccess::By(tool) => tool.clone(),
            // The others wait: one step finds out for all of them.
            OutsideAccess::Untried => return Ok(self.try_tools(&mut state)),
        };
        drop(state);
        let connected = ConnectedNamespace::connect(&tool);
        connected.map(Some).map_err(|reason| SandboxError::Network { reason })
    }

    fn try_tools(&self, state: &mut PoolState) -> Option<ConnectedNamespace> {
        let NetworkChoice::Tools(tools) = &self.choice else { return None };
        let mut causes = Vec::new();
        for tool in tools {
            match ConnectedNamespace::connect(tool) {
                Ok(namespace) => {
                    tracing::debug!(tool = ?tool, "steps are connected by");
                    state.access = OutsideAccess::By(tool.clone());
                    return Some(namespace);
                }
                Err(reason) => causes.push(reason),
            }
        }
        if causes.is_empty() {
            causes.push("neither pasta nor slirp4netns is installed".to_owned());
        } else if let Err(error) = fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun") {
            causes.push(format!("/dev/net/tun cannot be opened: {error}"));
        }
        state.access = OutsideAccess::Host;
        state.notice = Some(HostNetworkNotice { cause: causes.join("; ") });
        None
    }

    fn lock(&self) -> MutexGuard<'_, PoolState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StepNetworkLease<'_> {
    /// Moves the calling thread into the namespace of the lease, if it has one. Processes that the thread starts are in
    /// it too.
    pub(crate) fn enter(&self) -> Result<(), SandboxError> {
        let Self::Pooled(PooledNamespace { namespace: Some(connected), .. }) = self else { return Ok(()) };
        move_into_link_name_space(connected.namespace.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(|errno| SandboxError::setup("enter the network of the step", errno))
    }

    /// Whether a step in it may have `NET_RAW`: not where it could read or forge what is not its own.
    pub(crate) fn allows_raw_sockets(&self) -> bool {
        match self {
            Self::Loopback | Self::Host => true,
            Self::SharedHost => false,
            Self::Pooled(pooled) => pooled.namespace.as_ref().is_some_and(|connected| connected.may_write_frames),
        }
    }

    /// The content of `resolv.conf` that works in the namespace; `None` means that of the host.
    pub(crate) fn resolv_conf(&self) -> Option<String> {
        match self {
            Self::Pooled(PooledNamespace { namespace: Some(connected), .. }) => {
                Some((*connected.resolv_conf).to_owned())
            }
            _ => None,
        }
    }
}

impl Drop for PooledNamespace<'_> {
    fn drop(&mut self) {
        if let Some(namespace) = self.namespace.take().filter(|_| self.is_reusable) {
            self.pool.lock().free.push(namespace);
        }
    }
}

impl ConnectedNamespace {
    /// Starts the helper in a thread of its own: a pid namespace is for the children of the thread that asks for it.
    fn connect(tool: &NetworkTool) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("{} cannot be started: {error}", tool.kind.name());
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        let spawned = thread::scope(|scope| {
            let starter = thread::Builder::new().name("network".to_owned()).spawn_scoped(scope, || {
                sys::unshare(UnshareFlags::NEWPID)?;
                let mut helper = command(own_program());
                helper.arg("__network").stdin(OwnedFd::from(theirs));
                helper.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn()
            });
            starter?.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        let helper = spawned.map_err(failed)?;
        let mut line = serde_json::to_vec(&NetworkStart { tool: tool.clone() }).map_err(|e| failed(e.into()))?;
        line.push(b'\n');
        ours.set_read_timeout(Some(TIMEOUT)).and_then(|()| (&ours).write_all(&line)).map_err(failed)?;
        let mut answer = String::new();
        BufReader::new(&ours).read_line(&mut answer).map_err(failed)?;
        let may_write_frames = match serde_json::from_str(&answer) {
            Ok(NetworkReport::Ready { may_write_frames }) => may_write_frames,
            Ok(NetworkReport::Failed(reason)) => return Err(reason),
            Err(_) => return Err(format!("{}: its helper ended without a report", tool.kind.name())),
        };
        let namespace = fs::File::open(format!("/proc/{}/ns/net", helper.id())).map_err(failed)?;
        let resolv_conf = resolv_conf(tool)?;
        Ok(Self { namespace: namespace.into(), socket: ours, _helper: helper, resolv_conf, may_write_frames })
    }

    /// Whether its helper, and so its tool, still runs.
    fn is_alive(&self) -> bool {
        let mut fds = [PollFd::new(&self.socket, PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut fds, Some(&now)).is_ok() && !fds[0].revents().contains(PollFlags::HUP)
    }
}

/// What a step behind `tool` is to have as its `resolv.conf`.
fn resolv_conf(tool: &NetworkTool) -> Result<Arc<str>, String> {
    let local = route::local_prefixes().map_err(|errno| format!("cannot list the addresses of the host: {errno}"))?;
    let host = fs::read_to_string("/etc/resolv.conf").unwrap_or_else(|_| PUBLIC_DNS.to_owned());
    let forward = DnsForward { address: tool.kind.dns_address(), has_ipv6: tool.kind.has_ipv6() };
    Ok(dns::resolv_conf(&host, &local, forward).into())
}
