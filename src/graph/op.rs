//! The ops. A closed set: every `match` over [`Op`] is a place that must know all of them.
//!
//! Paths inside an image are plain text with `/`, absolute and cleaned unless said otherwise; they are never host paths.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::oci::{Descriptor, DiffId, Digest};

/// What a vertex does.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) enum Op {
    /// An empty tree. No inputs.
    Scratch,
    /// The layers of an image. No inputs.
    Image(ImageOp),
    /// A directory of the user's machine, less what is ignored. No inputs.
    Local(Local),
    /// A commit's tree. No inputs.
    Git(GitOp),
    /// One downloaded file. No inputs.
    Http(HttpOp),
    /// Runs a process. Input 0 is its root; mounts name further inputs. The result is the changed root.
    Exec(Box<Exec>),
    /// Changes a tree by copying and making files. Input 0 is the tree that is changed; actions name further inputs.
    File(File),
    /// Input 0 with the layers of inputs 1.. put above it, without looking at it (`COPY --link`).
    Merge,
}

/// An image whose manifest is resolved: the tag has been pinned.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct ImageOp {
    /// As shown to the user, pinned: `docker.io/library/alpine:3@sha256:…`.
    pub(crate) reference: String,
    pub(crate) manifest: Digest,
    pub(crate) origin: LayerOrigin,
    /// Lowest first. Their diff ids are the content of the result.
    pub(crate) layers: Vec<ImageLayer>,
}

/// Where the blobs of an image are read.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum LayerOrigin {
    /// A repository of a registry.
    Registry { domain: String, path: String },
    /// An OCI layout folder of the host, absolute.
    Layout { folder: String },
}

/// One layer of a base image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ImageLayer {
    pub(crate) diff_id: DiffId,
    pub(crate) descriptor: Descriptor,
}

/// A directory of the host. Its content is hashed where it lies, when something copies from it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub(crate) struct Local {
    /// Absolute host path, symlinks not resolved.
    pub(crate) folder: String,
    /// What to call it in messages: `context`, or the name of the named context.
    pub(crate) name: String,
    /// Patterns of the ignore file, in order, already cleaned; see `dockerfile::ignore`.
    pub(crate) ignore: Vec<String>,
    /// Name of the ignore file to blame, if there is one.
    pub(crate) ignore_file: Option<String>,
}

/// A commit of a git repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct GitOp {
    pub(crate) url: String,
    /// Branch, tag or commit as written; `None` is the default branch.
    pub(crate) reference: Option<String>,
    pub(crate) subdir: Option<String>,
    pub(crate) checksum: Option<String>,
    pub(crate) keep_git_dir: bool,
    pub(crate) submodules: bool,
    /// Give files the time of the commit instead of that of the checkout.
    pub(crate) mtime_commit: bool,
}

/// One file from a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct HttpOp {
    pub(crate) url: String,
    pub(crate) checksum: Option<Digest>,
    /// Name of the file in the result's root.
    pub(crate) filename: String,
    /// Unpack it as a build context, when it is an archive.
    pub(crate) unpack: bool,
}

/// A process to run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Exec {
    /// Argument vector; never empty.
    pub(crate) args: Vec<String>,
    /// In order of first definition; no secret is in it.
    pub(crate) env: Vec<(String, String)>,
    pub(crate) cwd: String,
    /// As written in USER, resolved in the root's own passwd: empty is root.
    pub(crate) user: String,
    pub(crate) hostname: Option<String>,
    pub(crate) network: StepNetwork,
    pub(crate) security: StepSecurity,
    pub(crate) mounts: Vec<MountOp>,
    /// Name and address.
    pub(crate) extra_hosts: Vec<(String, String)>,
    /// `name=soft:hard`.
    pub(crate) ulimits: Vec<String>,
    pub(crate) shm_size: Option<u64>,
    /// Proxy variables: given to the process, never part of a key.
    pub(crate) proxy: Vec<(String, String)>,
    /// Environment variables whose values are secrets.
    pub(crate) secret_env: Vec<SecretEnv>,
    /// Where its secrets and agents are taken from: kind and id, and the source. Steps that are equal but for these are
    /// two vertices; see [`Graph::ambiguous`](super::Graph::ambiguous).
    pub(crate) sources: Vec<(String, String)>,
    pub(crate) resources: StepResources,
}

/// Limits of a process; never part of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct StepResources {
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

/// The network of a process (`RUN --network`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) enum StepNetwork {
    /// That of the sandbox.
    #[default]
    Default,
    /// Loopback only.
    None,
    /// That of the host; asks for the entitlement `network.host`.
    Host,
}

/// How much a process may do (`RUN --security`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) enum StepSecurity {
    #[default]
    Sandbox,
    /// With all capabilities; asks for the entitlement `security.insecure`.
    Insecure,
}

/// An environment variable of a process whose value is a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct SecretEnv {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) required: bool,
}

/// One mount of an [`Exec`] beside its root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct MountOp {
    /// Absolute path in the container.
    pub(crate) target: String,
    pub(crate) kind: MountOpKind,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum MountOpKind {
    /// `source` of input `input`. Writes, if allowed at all, are thrown away after the command.
    Bind {
        input: usize,
        source: String,
        writable: bool,
    },
    /// A directory that outlives the run. `seed` fills it when it is first made.
    Cache {
        id: String,
        sharing: CacheSharing,
        seed: Option<(usize, String)>,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        readonly: bool,
    },
    Tmpfs {
        size: Option<u64>,
    },
    /// Mode and owner of the file; absent and optional means no file.
    Secret {
        id: String,
        mode: u32,
        uid: u32,
        gid: u32,
        required: bool,
    },
    Ssh {
        id: String,
        mode: u32,
        uid: u32,
        gid: u32,
        required: bool,
    },
    /// A file with this text, read-only (heredoc scripts).
    Text {
        text: String,
        mode: u32,
    },
}

/// Who may use a cache mount at the same time (`RUN --mount=type=cache,sharing=`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) enum CacheSharing {
    #[default]
    Shared,
    Private,
    Locked,
}

/// Changes to a tree, applied in order into one layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct File {
    pub(crate) actions: Vec<FileAction>,
}

/// One change of a tree.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) enum FileAction {
    /// COPY, or ADD of what is not remote (<https://docs.docker.com/reference/dockerfile/#copy>).
    Copy(Box<CopyAction>),
    /// Makes a directory and its missing parents, mode 0755; one that exists is left as it is.
    Mkdir { path: String, owner: Option<OwnerChange> },
    /// Makes a file with this text, by COPY of a heredoc. A destination ending in `/` or being a directory takes `name`.
    Mkfile { dest: String, name: String, text: String, mode: Option<ModeChange>, owner: Option<OwnerChange> },
}

/// A copy from an input into the tree.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct CopyAction {
    /// Index into the vertex's inputs.
    pub(crate) input: usize,
    /// Path in the input, as written (wildcards, `..`, pivot `/./` of `--parents`).
    pub(crate) source: String,
    /// Absolute; a trailing `/` says that it is a directory.
    pub(crate) dest: String,
    pub(crate) owner: Option<OwnerChange>,
    pub(crate) mode: Option<ModeChange>,
    /// Extract the source if it is an archive.
    pub(crate) unpack: bool,
    pub(crate) parents: bool,
    pub(crate) exclude: Vec<String>,
    /// The source may match nothing although it has no wildcard (never for Dockerfiles).
    pub(crate) optional: bool,
    /// Owner 0:0 for what has no `owner`: files of the user's machine. Otherwise the source's own ids are kept.
    pub(crate) reset_owner: bool,
    /// Mode for files without `mode` (downloads: 0600); `None` keeps the source's.
    pub(crate) default_file_mode: Option<u32>,
}

/// `--chown`: names are looked up in the destination's passwd and group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct OwnerChange {
    pub(crate) user: String,
    pub(crate) group: Option<String>,
    /// From USER for a WORKDIR (an unknown name is then an error as well), or from --chown.
    pub(crate) at_workdir: bool,
}

/// `--chmod`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum ModeChange {
    /// Replaces the permission bits, set-id and sticky bits included.
    Octal(u32),
    /// Checked, in BSD chmod grammar.
    Symbolic(String),
}

impl fmt::Display for ModeChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Octal(mode) => write!(f, "{mode:o}"),
            Self::Symbolic(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
impl Exec {
    /// A process as a bare `RUN` makes it.
    pub(crate) fn of_args(args: &[&str]) -> Self {
        Self {
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            env: Vec::new(),
            cwd: "/".to_owned(),
            user: String::new(),
            hostname: None,
            network: StepNetwork::Default,
            security: StepSecurity::Sandbox,
            mounts: Vec::new(),
            extra_hosts: Vec::new(),
            ulimits: Vec::new(),
            shm_size: None,
            proxy: Vec::new(),
            secret_env: Vec::new(),
            sources: Vec::new(),
            resources: StepResources::default(),
        }
    }
}
