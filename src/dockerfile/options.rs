//! The input of [`lower`](super::lower) beside the file, and its output.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use indexmap::IndexMap;

use crate::{
    dockerfile::check::report::CheckFinding,
    graph::{self, VertexIx},
    oci::{ImageConfig, Platform},
    report::Diagnostic,
    spec::{ExtraHost, NetworkMode, ResourceLimits, SecretOrigin, Ulimit},
};

/// The options of one build of a Dockerfile: target, platform, arguments, contexts, and what its steps may use.
#[derive(Clone, Debug)]
pub(crate) struct LowerOptions {
    /// Stage to build, in any case of letters; the last one when `None`.
    pub(crate) target: Option<String>,
    pub(crate) platform: Platform,
    /// The user named the platform: the config of the result says so whatever its base says.
    pub(crate) explicit_platform: bool,
    pub(crate) build_platform: Platform,
    pub(crate) build_args: IndexMap<String, String>,
    /// Build arguments whose values the history does not show.
    pub(crate) hidden_args: BTreeSet<String>,
    /// Labels of the result, over those of the file.
    pub(crate) labels: IndexMap<String, String>,
    pub(crate) no_cache: NoCache,
    /// Network of RUN instructions that do not choose.
    pub(crate) network: NetworkMode,
    pub(crate) allow: Allow,
    pub(crate) extra_hosts: Vec<ExtraHost>,
    pub(crate) shm_size: Option<u64>,
    pub(crate) ulimits: Vec<Ulimit>,
    pub(crate) hostname: Option<String>,
    pub(crate) resources: ResourceLimits,
    /// The namespace of cache mounts; empty for the one that local builds share.
    pub(crate) cache_namespace: String,
    /// Where the build takes its secrets from, by id. Not their values.
    pub(crate) secrets: HashMap<String, SecretOrigin>,
    /// The sockets of its agents, by id.
    pub(crate) agents: HashMap<String, SecretOrigin>,
    /// Several platforms are built: step names say which.
    pub(crate) multi_platform: bool,
    /// The Dockerfile, for the records that say later why a step ran.
    pub(crate) step_file: Arc<graph::StepFile>,
    /// The target, for the names of steps and for messages; may be empty.
    pub(crate) label_prefix: Arc<str>,
    /// Named contexts: `name` or `name::os/arch`.
    pub(crate) contexts: IndexMap<String, NamedContext>,
    pub(crate) main: NamedContext,
    /// Seconds since 1970 when `SOURCE_DATE_EPOCH` is not a number but names a source (see [`EpochOption`]); the engine asks
    /// that. `None`: it has no time.
    pub(crate) source_date_epoch: Option<i64>,
    /// Lower every stage, for the checks of a whole file.
    pub(crate) all_stages: bool,
}

/// Privileges that RUN may request beyond the sandbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Allow {
    pub(crate) network_host: bool,
    pub(crate) security_insecure: bool,
}

/// Which steps run even if their result is cached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum NoCache {
    #[default]
    No,
    All,
    /// Those of these stages, in any case of letters.
    Stages(Vec<String>),
}

/// A source of files or of a base: the main context, or one that is named in the options.
#[derive(Clone, Debug)]
pub(crate) enum NamedContext {
    Local(graph::Local),
    /// An image of a registry, or of the OCI layout in the folder `layout`; `scratch` is the empty image. The reference is
    /// as written; in a [`Query`] that of a registry is normalised.
    Image {
        reference: String,
        layout: Option<String>,
    },
    /// The result of another build of the same graph.
    Built(Arc<BuiltContext>),
    Git(graph::GitOp),
    Http(graph::HttpOp),
    Scratch,
}

/// The result of another build of the same graph; the fields are those of [`Lowered`].
#[derive(Clone, Debug)]
pub(crate) struct BuiltContext {
    pub(crate) vertex: VertexIx,
    pub(crate) config: ImageConfig,
    pub(crate) base_layers: usize,
    pub(crate) steps: Vec<HistoryStep>,
    /// It is based on an image that was not resolved and is treated as empty.
    pub(crate) is_assumed: bool,
}

/// A question to the caller: what is this image, for this platform?
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Query {
    /// Normalised (`docker.io/library/alpine:3`) for a registry; as the context says for a layout.
    pub(crate) reference: String,
    /// Folder of an OCI layout.
    pub(crate) layout: Option<String>,
    pub(crate) platform: Platform,
}

/// The answer to a [`Query`].
#[derive(Clone, Debug)]
pub(crate) struct ImageInfo {
    pub(crate) image: graph::ImageOp,
    pub(crate) config: Arc<ImageConfig>,
}

/// The images that are known so far: the answers to earlier [`Query`]s.
#[derive(Clone, Debug, Default)]
pub(crate) struct KnownImages {
    pub(crate) images: HashMap<Query, ImageInfo>,
    /// Images that cannot be read, and why, without a place. They are faults of the stages that begin with them, which are
    /// lowered all the same so that the rest of the file is checked; nothing that depends on their configs is reported.
    pub(crate) unread: HashMap<Query, Diagnostic>,
    /// No registry may be asked: its images are treated as ones without layers, and nothing that depends on their configs
    /// is reported.
    pub(crate) assume: bool,
}

/// The outcome of one call of `lower`: a build, questions about images, or errors.
pub(crate) enum LowerOutcome {
    Done(Box<Lowered>),
    /// Answer these and call again.
    Needs(Vec<Query>),
    Failed(Box<LowerFaults>),
}

/// Why a build cannot be lowered, and what was found on the way.
pub(crate) struct LowerFaults {
    /// Checks that fired; see `check`.
    pub(crate) findings: Vec<CheckFinding>,
    /// Errors of the Dockerfile.
    pub(crate) faults: Vec<Diagnostic>,
    /// Errors of images that cannot be read.
    pub(crate) unread: Vec<Diagnostic>,
    /// The error that sums up the findings, when the Dockerfile declares that they are errors.
    pub(crate) checks_failed: Option<Diagnostic>,
}

/// One build after lowering: the vertex of its result, and the config of its image.
#[derive(Debug)]
pub(crate) struct Lowered {
    /// The tree of the result.
    pub(crate) result: VertexIx,
    /// `rootfs` and `history` are those of the base image; `created` is not set.
    pub(crate) config: ImageConfig,
    /// New history in order; each that is not empty stands for one layer of `result` above the base.
    pub(crate) steps: Vec<HistoryStep>,
    /// How many layers of `result` are those of the base image.
    pub(crate) base_layers: usize,
    /// Checks that fired; see `check`.
    pub(crate) findings: Vec<CheckFinding>,
    /// One warning for each build argument that nothing declares.
    pub(crate) unused_args: Vec<Diagnostic>,
    /// One warning for each stage of `no-cache-filter` that the file does not have.
    pub(crate) unknown_stages: Vec<Diagnostic>,
    /// One notice for each named context that is used under a name which BuildKit does not look up.
    pub(crate) own_contexts: Vec<Diagnostic>,
    /// Value of `SOURCE_DATE_EPOCH` in seconds, if it has one.
    pub(crate) epoch: Option<i64>,
    /// It is based on an image that was not resolved and is treated as empty.
    pub(crate) is_assumed: bool,
    /// What the scanner of an sbom is to see beside the result: stages by name, and `context`.
    pub(crate) scanned: Vec<(String, VertexIx)>,
    /// What a copy or a bind mount reads depends on the config of an image that was not resolved.
    pub(crate) guesses_sources: bool,
}

/// One history entry of the result, without its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HistoryStep {
    pub(crate) created_by: String,
    pub(crate) empty_layer: bool,
    pub(crate) comment: &'static str,
}

/// A parsed value of `SOURCE_DATE_EPOCH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EpochOption {
    Seconds(i64),
    /// The commit or modification time of the main context.
    MainContext,
    /// That of a named context or of a stage.
    Named(String),
}
