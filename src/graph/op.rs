//! The ops. A closed set: every `match` over [`Op`] is a place that must know all of them.
//!
//! Paths inside an image are plain text with `/`, absolute and cleaned unless said otherwise; they are never host paths.

use serde::Serialize;

use crate::{
    oci::{Digest, ImageLayer, LayerOrigin, ModeChange},
    spec::{ExtraHost, NetworkMode, ResourceLimits, SecretOrigin, SecurityMode, Ulimit},
};

/// The operation of a vertex.
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
    /// Input 0 with the layers of inputs 1.. put above it (`COPY --link`). Of input 0 nothing counts but the mode and owner of
    /// directories on the way to what is copied.
    Merge,
}

/// An image whose manifest is resolved, so that its tag is pinned.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct ImageOp {
    /// As shown to the user, pinned: `docker.io/library/alpine:3@sha256:…`.
    pub(crate) reference: String,
    pub(crate) manifest: Digest,
    pub(crate) origin: LayerOrigin,
    /// Lowest first. Their diff ids are the content of the result.
    pub(crate) layers: Vec<ImageLayer>,
}

impl ImageOp {
    /// What stands for an image that no registry was asked for: told from others by its reference alone.
    pub(crate) fn unresolved(reference: &str) -> Self {
        Self {
            reference: reference.to_owned(),
            manifest: Digest::of(reference.as_bytes()),
            origin: LayerOrigin::Registry { domain: String::new(), path: String::new() },
            layers: Vec::new(),
        }
    }
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

/// A process to run in the tree of the first input (RUN).
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
    pub(crate) network: NetworkMode,
    pub(crate) security: SecurityMode,
    pub(crate) mounts: Vec<MountOp>,
    pub(crate) extra_hosts: Vec<ExtraHost>,
    pub(crate) ulimits: Vec<Ulimit>,
    pub(crate) shm_size: Option<u64>,
    /// Proxy variables: given to the process, never part of a key.
    pub(crate) proxy: Vec<(String, String)>,
    /// Environment variables whose values are secrets.
    pub(crate) secret_env: Vec<SecretEnv>,
    /// Its secrets and agents. Steps that are equal but for these are two vertices; see
    /// [`Graph::ambiguous`](super::vertex::Graph::ambiguous).
    pub(crate) sources: Vec<StepSource>,
    pub(crate) resources: ResourceLimits,
}

/// A secret or agent that a process uses, and where its build takes it from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub(crate) struct StepSource {
    pub(crate) kind: StepSourceKind,
    pub(crate) id: String,
    /// `None` if the build has none of this id.
    pub(crate) origin: Option<SecretOrigin>,
}

/// What a [`StepSource`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub(crate) enum StepSourceKind {
    Secret,
    /// An agent of ssh.
    Agent,
}

impl StepSource {
    /// The source as the two texts that enter keys: what it is, and where it comes from. Never changed: keys are stored.
    pub(crate) fn key_texts(&self) -> (String, String) {
        let kind = match self.kind {
            StepSourceKind::Secret => "secret",
            StepSourceKind::Agent => "ssh",
        };
        (format!("{kind} {}", self.id), self.origin.as_ref().map(ToString::to_string).unwrap_or_default())
    }
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

/// The kinds of mounts of a process.
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
        /// Mounts of one id in different namespaces are different directories. Empty for what all local builds share.
        #[serde(skip_serializing_if = "String::is_empty")]
        namespace: String,
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

/// Changes to a tree (COPY, ADD, WORKDIR), applied in order into one layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct File {
    pub(crate) actions: Vec<FileAction>,
}

/// One change of a tree by a [`File`] op.
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

/// The owner of `--chown`: names are looked up in the destination's passwd and group files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct OwnerChange {
    pub(crate) user: String,
    pub(crate) group: Option<String>,
    /// From USER for a WORKDIR (an unknown name is then an error as well), or from --chown.
    pub(crate) at_workdir: bool,
}

#[cfg(test)]
impl CopyAction {
    /// A copy from the first input beside the tree, as a bare `COPY` from a context makes it.
    pub(crate) fn of_paths(source: &str, dest: &str) -> Self {
        Self {
            input: 1,
            source: source.to_owned(),
            dest: dest.to_owned(),
            owner: None,
            mode: None,
            unpack: false,
            parents: false,
            exclude: Vec::new(),
            optional: false,
            reset_owner: true,
            default_file_mode: None,
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
            network: NetworkMode::Default,
            security: SecurityMode::Sandbox,
            mounts: Vec::new(),
            extra_hosts: Vec::new(),
            ulimits: Vec::new(),
            shm_size: None,
            proxy: Vec::new(),
            secret_env: Vec::new(),
            sources: Vec::new(),
            resources: ResourceLimits::default(),
        }
    }
}
