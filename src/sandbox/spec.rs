//! What to run, and in what surroundings: plain data that crosses a pipe to the helper. No graph types, no look-ups.

use std::path::PathBuf;

use rustix::process::Resource;
use serde::{Deserialize, Serialize};

/// A process to run. Host paths are absolute and trusted; paths in the container are not.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Spec {
    /// The trees below the root, bottom first; empty for a root that starts out empty.
    pub(crate) layers: Vec<PathBuf>,
    /// Empty; receives the changes, in overlayfs upper-directory form. Mode, owner and time of the topmost layer's root
    /// are given to it; without layers its own are those of `/`.
    pub(crate) upper: PathBuf,
    /// An empty directory on the same file system as `upper`, for our use; the caller removes it afterwards.
    pub(crate) work: PathBuf,
    /// Argument vector; never empty. A name without `/` is looked up in the `PATH` of `env`.
    pub(crate) args: Vec<String>,
    /// The whole environment; `HOME` is added when missing. Later entries of the same name win.
    pub(crate) env: Vec<(String, String)>,
    /// Made, owned by the user, if it does not exist.
    pub(crate) cwd: String,
    /// `USER` as written: empty, `name`, `name:group`, `uid`, `uid:gid`, `:group`.
    pub(crate) user: String,
    pub(crate) hostname: String,
    pub(crate) network: SandboxNetwork,
    pub(crate) security: SandboxSecurity,
    /// Beside the root; in any order.
    pub(crate) mounts: Vec<SandboxMount>,
    /// Name and address.
    pub(crate) extra_hosts: Vec<(String, String)>,
    pub(crate) rlimits: Vec<Rlimit>,
    /// Size of `/dev/shm` in bytes; 64 MiB if not given.
    pub(crate) shm_size: Option<u64>,
    pub(crate) resources: SandboxResources,
}

/// Which network the process sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SandboxNetwork {
    /// A namespace of its own with access to the outside; where none can be had, the host's, without NET_RAW.
    #[default]
    Default,
    /// Only a loopback device, up.
    None,
    /// That of the host, as an entitlement allows.
    Host,
}

/// How much the process may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SandboxSecurity {
    #[default]
    Sandbox,
    /// All capabilities of `bake`, no system call filter, nothing masked.
    Insecure,
}

/// One mount beside the root.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SandboxMount {
    /// Absolute path in the container; resolved inside the root, made if missing and removed again if still empty.
    pub(crate) target: String,
    pub(crate) kind: SandboxMountKind,
}

/// What is mounted.
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
    /// A socket that forwards to the agent listening on the host's `agent` socket.
    Ssh { agent: PathBuf, mode: u32, uid: u32, gid: u32 },
    /// A read-only file in memory that can be executed, owned by root.
    Text { text: String, mode: u32 },
}

/// One resource limit, by its name in `--ulimit` (`nofile`); `u64::MAX` is unlimited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rlimit {
    pub(crate) name: String,
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

/// Limits by control group, as far as the system lets us: never a reason to fail.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SandboxResources {
    /// Bytes.
    pub(crate) memory: Option<u64>,
    /// Bytes of memory and swap together; -1 is unlimited.
    pub(crate) memory_swap: Option<i64>,
    pub(crate) cpu_shares: Option<i64>,
    pub(crate) cpu_period: Option<i64>,
    pub(crate) cpu_quota: Option<i64>,
    pub(crate) cpuset_cpus: Option<String>,
    pub(crate) cpuset_mems: Option<String>,
}

impl Rlimit {
    /// The limit of this name, for setrlimit(2).
    pub(super) fn resource(&self) -> Option<Resource> {
        resource_of(&self.name)
    }

    /// Reads `name=soft[:hard]`; -1 is unlimited. `None` if it is not of this form or no limit has this name.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (name, values) = text.split_once('=')?;
        let number = |value: &str| match value.trim() {
            "-1" | "unlimited" => Some(u64::MAX),
            value => value.parse().ok(),
        };
        let (soft, hard) = values.split_once(':').unwrap_or((values, values));
        let (soft, hard) = (number(soft)?, number(hard)?);
        let known = resource_of(name).is_some();
        (known && soft <= hard).then(|| Self { name: name.to_owned(), soft, hard })
    }
}

/// The limit of this name in `--ulimit`.
fn resource_of(name: &str) -> Option<Resource> {
    Some(match name {
        "as" => Resource::As,
        "core" => Resource::Core,
        "cpu" => Resource::Cpu,
        "data" => Resource::Data,
        "fsize" => Resource::Fsize,
        "locks" => Resource::Locks,
        "memlock" => Resource::Memlock,
        "msgqueue" => Resource::Msgqueue,
        "nice" => Resource::Nice,
        "nofile" => Resource::Nofile,
        "nproc" => Resource::Nproc,
        "rss" => Resource::Rss,
        "rtprio" => Resource::Rtprio,
        "rttime" => Resource::Rttime,
        "sigpending" => Resource::Sigpending,
        "stack" => Resource::Stack,
        _ => return None,
    })
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

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Form::Text(text.into()).serialize(to),
            Err(_) => Form::Bytes(bytes.to_vec()).serialize(to),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        Ok(match Form::deserialize(from)? {
            Form::Text(text) => text.into_owned().into_bytes(),
            Form::Bytes(bytes) => bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rlimit_reads_soft_and_hard() {
        let limit = |name: &str, soft, hard| Some(Rlimit { name: name.to_owned(), soft, hard });
        assert_eq!(Rlimit::parse("nofile=1024:2048"), limit("nofile", 1024, 2048));
        assert_eq!(Rlimit::parse("core=0"), limit("core", 0, 0));
        assert_eq!(Rlimit::parse("memlock=-1"), limit("memlock", u64::MAX, u64::MAX));
        for bad in ["nofile", "nofile=", "nofile=2:1", "nofil=1", "nofile=x", "nofile=1:2:3"] {
            assert_eq!(Rlimit::parse(bad), None, "{bad}");
        }
    }

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
