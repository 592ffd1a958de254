//! What to run, and in what surroundings: plain data that crosses a pipe to the helper. No graph types, no look-ups.

use std::{path::PathBuf, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    spec::{ExtraHost, NetworkMode, ResourceLimits, SecurityMode, Ulimit},
    ssh::KeyRing,
};

/// A process to run. Host paths are absolute and trusted; paths in the container are not.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SandboxSpec {
    /// The trees below the root, bottom first; empty for a root that starts out empty.
    pub(crate) layers: Vec<PathBuf>,
    /// Empty; receives the changes, in overlayfs upper-directory form. Mode, owner and time of the topmost layer's root
    /// are given to it; without layers its own are those of `/`.
    pub(crate) upper: PathBuf,
    /// An empty directory on the same file system as `upper`, for our use; the caller removes it afterwards.
    pub(crate) work: PathBuf,
    pub(crate) stdin: StepStdin,
    /// Argument vector; never empty. A name without `/` is looked up in the `PATH` of `env`.
    pub(crate) args: Vec<String>,
    /// The whole environment; `HOME` is added when missing. Later entries of the same name win.
    pub(crate) env: Vec<(String, String)>,
    /// Made, owned by the user, if it does not exist.
    pub(crate) cwd: String,
    /// `USER` as written: empty, `name`, `name:group`, `uid`, `uid:gid`, `:group`.
    pub(crate) user: String,
    pub(crate) hostname: String,
    pub(crate) network: NetworkMode,
    pub(crate) security: SecurityMode,
    pub(crate) owners: StepOwners,
    /// Beside the root; in any order.
    pub(crate) mounts: Vec<SandboxMount>,
    pub(crate) extra_hosts: Vec<ExtraHost>,
    pub(crate) ulimits: Vec<Ulimit>,
    /// Size of `/dev/shm` in bytes; 64 MiB if not given.
    pub(crate) shm_size: Option<u64>,
    pub(crate) resources: ResourceLimits,
}

/// What a process reads from its standard input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum StepStdin {
    /// An end at once.
    Closed,
    /// What the user gives, through a pipe.
    Pipe,
    /// A terminal of its own, to which its output goes as well.
    Terminal,
}

/// What becomes of the owners that a process gives to files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum StepOwners {
    /// The kernel keeps them; one that the user namespace does not have is refused.
    Kept,
    /// To the process everything is root's, and a change of owner does nothing and succeeds. Which owners the files of an
    /// image have is recorded by the caller.
    Recorded,
}

/// One mount of a process beside its root.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SandboxMount {
    /// Absolute path in the container; resolved inside the root, made if missing and removed again if still empty.
    pub(crate) target: String,
    pub(crate) kind: SandboxMountKind,
}

/// The kinds of mounts, with where their content is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum SandboxMountKind {
    /// The file or directory `source` of a tree (directories, bottom first; at least one), resolved inside it.
    /// Writes, if allowed, are thrown away.
    Tree { layers: Vec<PathBuf>, source: String, writable: bool },
    /// A directory of the host whose changes stay (cache mounts).
    Dir { path: PathBuf, readonly: bool },
    /// An empty temporary file system.
    Tmpfs { size: Option<u64> },
    /// A read-only file in memory that cannot be executed.
    Secret {
        #[serde(with = "octets")]
        content: Vec<u8>,
        mode: u32,
        uid: u32,
        gid: u32,
    },
    /// A socket on which an agent answers.
    Ssh {
        /// Not for the helper: it is served by the process that starts the step.
        #[serde(skip)]
        agent: StepAgent,
        mode: u32,
        uid: u32,
        gid: u32,
    },
    /// A read-only file in memory that can be executed, owned by root.
    Text { text: String, mode: u32 },
}

/// Who answers for the agent of a step.
#[derive(Clone, Debug)]
pub(crate) enum StepAgent {
    /// The agent that listens on this socket of the host.
    Socket(PathBuf),
    /// This process, with these keys.
    Keys(Arc<KeyRing>),
}

impl Default for StepAgent {
    /// An agent without keys.
    fn default() -> Self {
        Self::Keys(Arc::default())
    }
}

/// Bytes as a JSON string where they are text, else as a list of numbers.
pub(super) mod octets {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Form<'a> {
        Text(std::borrow::Cow<'a, str>),
        Bytes(Vec<u8>),
    }

    /// Writes bytes as a JSON string where they are UTF-8, else as a list of numbers.
    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Form::Text(text.into()).serialize(to),
            Err(_) => Form::Bytes(bytes.to_vec()).serialize(to),
        }
    }

    /// Reads what [`serialize`] wrote.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        Ok(match Form::deserialize(from)? {
            Form::Text(text) => text.into_owned().into_bytes(),
            Form::Bytes(bytes) => bytes,
        })
    }
}

/// The stream of a step that some bytes came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StepStream {
    Stdout,
    Stderr,
}

/// Receives the output of a step in pieces of any length, as they come.
pub(super) type StepOutputFn<'a> = dyn FnMut(StepStream, &[u8]) + 'a;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_cross_the_pipe_unchanged() {
        for content in [b"plain \"text\"\n".to_vec(), vec![0, 255, 128, 10]] {
            let kind = SandboxMountKind::Secret { content: content.clone(), mode: 0o400, uid: 0, gid: 0 };
            let text = serde_json::to_string(&kind).unwrap();
            let SandboxMountKind::Secret { content: back, .. } = serde_json::from_str(&text).unwrap() else { panic!() };
            assert_eq!(back, content);
        }
    }
}
