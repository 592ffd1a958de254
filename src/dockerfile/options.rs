//! The input of [`lower`](super::lower) beside the file, and its output.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use indexmap::IndexMap;

use crate::{
    graph::{self, StepNetwork, StepResources, VertexIx},
    oci::{ImageConfig, Platform},
    report::{Diagnostic, Span},
};

/// The options of one build.
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
    pub(crate) network: StepNetwork,
    pub(crate) allow: Allow,
    /// Name and address.
    pub(crate) extra_hosts: Vec<(String, String)>,
    pub(crate) shm_size: Option<u64>,
    /// `name=soft:hard`.
    pub(crate) ulimits: Vec<String>,
    pub(crate) hostname: Option<String>,
    pub(crate) resources: StepResources,
    /// Where the build takes its secrets from, by id. Not their values.
    pub(crate) secrets: HashMap<String, String>,
    /// The sockets of its agents, by id.
    pub(crate) agents: HashMap<String, String>,
    /// Several platforms are built: step names say which.
    pub(crate) multi_platform: bool,
    /// First word in the brackets of step names; may be empty.
    pub(crate) label_prefix: String,
    /// Named contexts: `name` or `name::os/arch`.
    pub(crate) contexts: IndexMap<String, NamedContext>,
    pub(crate) main: NamedContext,
    /// Seconds since 1970 when `SOURCE_DATE_EPOCH` is not a number but names a context (see [`EpochOption`]); the engine knows.
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

/// Which steps run even if a result is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum NoCache {
    #[default]
    No,
    All,
    /// Those of these stages, in any case of letters.
    Stages(Vec<String>),
}

/// A place that files or a base come from.
#[derive(Clone, Debug)]
pub(crate) enum NamedContext {
    Local(graph::Local),
    /// An image of a registry, or of the OCI layout in the folder `layout`. The reference goes into a [`Query`] as it is.
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

/// A question: what is this image, for this platform?
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Query {
    /// Normalised (`docker.io/library/alpine:3`) for a registry; as the context says for a layout.
    pub(crate) reference: String,
    /// Folder of an OCI layout.
    pub(crate) layout: Option<String>,
    pub(crate) platform: Platform,
}

/// A question and the instruction that asks it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) query: Query,
    pub(crate) at: Span,
    /// A stage whose name is near that of the image, should there be no such image.
    pub(crate) near: Option<String>,
}

/// The answer to a [`Query`].
#[derive(Clone, Debug)]
pub(crate) struct ImageInfo {
    pub(crate) image: graph::ImageOp,
    pub(crate) config: Arc<ImageConfig>,
}

/// The answers so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct KnownImages {
    pub(crate) images: HashMap<Query, ImageInfo>,
    /// No registry may be asked: its images are treated as empty, and nothing that depends on their configs is
    /// reported.
    pub(crate) assume: bool,
}

/// The outcome of lowering.
#[derive(Clone, Debug)]
pub(crate) enum LowerOutcome {
    Done(Box<Lowered>),
    /// Answer these and call again.
    Needs(Vec<Asked>),
    /// Errors, and the warnings found on the way.
    Failed(Vec<Diagnostic>),
}

/// A build as a vertex and the config of its image.
#[derive(Clone, Debug)]
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
    pub(crate) warnings: Vec<Diagnostic>,
    /// One warning for each build argument that nothing declares.
    pub(crate) unused_args: Vec<Diagnostic>,
    /// Value of `SOURCE_DATE_EPOCH` in seconds, if it has one.
    pub(crate) epoch: Option<i64>,
    /// It is based on an image that was not resolved and is treated as empty.
    pub(crate) is_assumed: bool,
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
