//! A socket of our own on which the SSH agent of a step answers. Behind it is the user's agent, to which it forwards: so the
//! command needs no access to the agent's socket itself, and the agent sees a connection from the user. Or it is this
//! process, which signs with keys that the definition names.

use std::{
    io::{self, Read as _, Write as _},
    net::Shutdown,
    os::unix::{
        fs::{PermissionsExt, chown},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use super::{
    error::SandboxError,
    spec::{SandboxMountKind, SandboxSpec, StepAgent},
};
use crate::ssh::KeyRing;

/// Answers for the agent of a step on a socket until it is dropped.
pub(super) struct Forwarder {
    socket: PathBuf,
    stop: Arc<AtomicBool>,
}

impl Forwarder {
    /// Starts listening on `socket`, which is made with this mode and owner, with `agent` behind it.
    pub(super) fn start(socket: &Path, agent: &StepAgent, mode: u32, uid: u32, gid: u32) -> io::Result<Self> {
        let listener = listen(socket)?;
        std::fs::set_permissions(socket, std::fs::Permissions::from_mode(mode & 0o777))?;
        if (uid, gid) != (0, 0) {
            chown(socket, Some(uid), Some(gid))?;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, agent) = (Arc::clone(&stop), agent.to_owned());
        thread::Builder::new().name("ssh-agent".to_owned()).spawn(move || {
            for inner in listener.incoming() {
                if stopped.load(Ordering::Acquire) {
                    break;
                }
                let Ok(inner) = inner else { continue };
                let _refused = match &agent {
                    StepAgent::Socket(agent) => UnixStream::connect(agent).and_then(|outer| connect(inner, outer)),
                    StepAgent::Keys(keys) => serve(inner, Arc::clone(keys)),
                };
            }
        })?;
        Ok(Self { socket: socket.to_owned(), stop })
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // Wakes the listener.
        let _gone = reach(&self.socket);
    }
}

/// Starts a forwarder for each `--mount=type=ssh` of the step.
pub(super) fn start_agents(spec: &SandboxSpec) -> Result<Vec<Forwarder>, SandboxError> {
    let mut agents = Vec::new();
    for (ix, mount) in spec.mounts.iter().enumerate() {
        if let SandboxMountKind::Ssh { agent, mode, uid, gid } = &mount.kind {
            let socket = spec.work.join(socket_name(ix));
            let started = Forwarder::start(&socket, agent, *mode, *uid, *gid);
            agents.push(started.map_err(|error| SandboxError::io_setup("forward the SSH agent", &error))?);
        }
    }
    Ok(agents)
}

/// The name of the socket that forwards to an agent, in the work directory of the step.
pub(super) fn socket_name(ix: usize) -> String {
    format!("agent{ix}")
}

/// Answers the requests of one connection, in a thread that ends with it.
fn serve(mut stream: UnixStream, keys: Arc<KeyRing>) -> io::Result<()> {
    let mut answer_all = move || -> io::Result<()> {
        loop {
            // Each message has its length before it.
            let mut length = [0; 4];
            stream.read_exact(&mut length)?;
            let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
            if length > KeyRing::MAX_REQUEST {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let mut request = vec![0; length];
            stream.read_exact(&mut request)?;
            let answer = keys.answer(&request);
            let length = u32::try_from(answer.len()).unwrap_or(u32::MAX);
            stream.write_all(&[&length.to_be_bytes(), &*answer].concat())?;
        }
    };
    thread::Builder::new().name("ssh-agent".to_owned()).spawn(move || {
        let _end_of_connection = answer_all();
    })?;
    Ok(())
}

/// Copies both ways until both sides are done; the threads end with their connection.
fn connect(inner: UnixStream, outer: UnixStream) -> io::Result<()> {
    let (inner_too, outer_too) = (inner.try_clone()?, outer.try_clone()?);
    for (mut from, mut to) in [(inner, outer), (outer_too, inner_too)] {
        thread::Builder::new().name("ssh-agent".to_owned()).spawn(move || {
            let _broken = io::copy(&mut from, &mut to);
            let _closed = to.shutdown(Shutdown::Write);
        })?;
    }
    Ok(())
}

/// A socket's path must fit into 108 bytes; by way of its folder's descriptor it does.
fn listen(socket: &Path) -> io::Result<UnixListener> {
    let (_folder, short) = shorten(socket)?;
    UnixListener::bind(short)
}

fn reach(socket: &Path) -> io::Result<UnixStream> {
    let (_folder, short) = shorten(socket)?;
    UnixStream::connect(short)
}

fn shorten(socket: &Path) -> io::Result<(std::fs::File, PathBuf)> {
    use std::os::fd::AsRawFd;
    let (Some(folder), Some(name)) = (socket.parent(), socket.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let folder = std::fs::File::open(folder)?;
    let short = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
    Ok((folder, short))
}
