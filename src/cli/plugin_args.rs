//! The arguments of `docker buildx` and `docker bake`, as clap reads them: the commands of the peer
//! (<https://docs.docker.com/reference/cli/docker/buildx/>) that a pipeline calls. What they mean is decided in `plugin`.

use std::ffi::OsString;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use super::{
    args::{Bake, DuArgs, PruneArgs, SpaceArgs, TableFormat},
    build_args::BuildArgs,
};
use crate::report::Diagnostic;

const AFTER_BAKE: &str = "\
Examples:
  docker buildx bake                                  build the group or target `default`
  docker buildx bake web api                          build two targets
  docker buildx bake release '!docs'                  build a group without one of its targets
  docker buildx bake --print 'app-*'                  show what would be built, as JSON
  docker buildx bake --set '*.platform=linux/arm64'   build for another platform

Files are looked for in the working directory: compose.yaml, docker-compose.yml,
docker-bake.json, docker-bake.hcl, docker-bake.override.hcl and their like.";

/// `docker buildx COMMAND`.
#[derive(Debug, Parser)]
#[command(
    name = "docker buildx",
    bin_name = "docker buildx",
    version,
    about = "Docker Buildx, served by bake: builds run in this process",
    args_override_self = true,
    max_term_width = 110
)]
pub(crate) struct Buildx {
    #[command(flatten)]
    pub(crate) builder: BuilderArg,
    #[command(subcommand)]
    pub(crate) command: BuildxCommand,
}

impl Buildx {
    /// Reads the arguments, the first of which is the program. `bake --help` tells of targets alone: a first word that is a
    /// command of `bake` itself is a target here.
    ///
    /// # Errors
    /// As clap has them; `--help` is one of them.
    pub(crate) fn read(arguments: Vec<OsString>) -> Result<Self, clap::Error> {
        let usage = "docker buildx bake [OPTIONS] [TARGET]...";
        let command = Self::command().mut_subcommand("bake", |it| it.override_usage(usage).after_help(AFTER_BAKE));
        Self::from_arg_matches(&command.try_get_matches_from(arguments)?)
    }
}

#[derive(Debug, Args)]
pub(crate) struct BuilderArg {
    /// The builder that a command is about; one that is not known here is this process
    #[arg(long = "builder", value_name = "NAME")]
    pub(crate) name: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BuildxCommand {
    /// Build from a file
    #[command(visible_alias = "f")]
    Bake(Box<Bake>),
    /// Start a build
    #[command(visible_alias = "b", args_override_self = true)]
    Build(Box<BuildArgs>),
    /// Disk usage
    Du(BuildxDuArgs),
    /// Remove build cache
    Prune(BuildxPruneArgs),
    /// Show the version
    Version,
    /// Show a builder and its nodes
    Inspect(InspectArgs),
    /// List builders and their nodes
    Ls(LsArgs),
    /// Succeed: there is nothing to create
    Create(CreateArgs),
    /// Succeed: a builder is named where it is used, with --builder
    Use(UseArgs),
    /// Succeed: there is nothing to remove
    Rm(RmArgs),
    /// Succeed: nothing runs between builds
    Stop {
        #[arg(value_name = "NAME")]
        builder_name: Option<String>,
        #[command(flatten)]
        builder: BuilderArg,
    },
    /// Succeed: `docker build` is served by this plugin already
    #[command(hide = true)]
    Install,
    /// Succeed: there is nothing to take away
    #[command(hide = true)]
    Uninstall,
    /// Builds are not recorded
    History {
        #[command(flatten)]
        builder: BuilderArg,
        #[command(subcommand)]
        command: HistoryCommand,
    },
    /// Work with images in registries
    Imagetools {
        #[command(flatten)]
        builder: BuilderArg,
        #[command(subcommand)]
        command: ImagetoolsCommand,
    },
}

#[derive(Debug, Args)]
pub(crate) struct BuildxDuArgs {
    #[command(flatten)]
    pub(crate) builder: BuilderArg,
    #[arg(long)]
    pub(crate) filter: Vec<String>,
    #[arg(long)]
    pub(crate) format: Option<String>,
    #[arg(long)]
    pub(crate) verbose: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BuildxPruneArgs {
    #[command(flatten)]
    pub(crate) builder: BuilderArg,
    /// Everything, cache mounts too
    #[arg(long, short)]
    pub(crate) all: bool,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) force: bool,
    /// until=DURATION
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    #[arg(long)]
    pub(crate) verbose: bool,
    #[command(flatten)]
    pub(crate) space: SpaceArgs,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    #[arg(value_name = "NAME")]
    pub(crate) wanted: Option<String>,
    #[command(flatten)]
    pub(crate) builder: BuilderArg,
    /// Accepted for compatibility
    #[arg(long)]
    pub(crate) bootstrap: bool,
    /// json, or a template as in '{{.Name}}' and '{{json .Nodes}}'
    #[arg(long)]
    pub(crate) format: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    #[command(flatten)]
    pub(crate) builder: BuilderArg,
    /// table, json, or a template as in '{{.Name}}' and '{{json .}}'
    #[arg(long)]
    pub(crate) format: Option<String>,
    #[arg(long)]
    pub(crate) no_trunc: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    pub(crate) endpoint: Option<String>,
    #[arg(long = "name", value_name = "NAME")]
    pub(crate) chosen: Option<String>,
    #[arg(long)]
    pub(crate) driver: Option<String>,
    #[arg(long)]
    pub(crate) driver_opt: Vec<String>,
    #[arg(long, alias = "config")]
    pub(crate) buildkitd_config: Option<String>,
    #[arg(long, alias = "flags", allow_hyphen_values = true)]
    pub(crate) buildkitd_flags: Option<String>,
    #[arg(long)]
    pub(crate) platform: Vec<String>,
    #[arg(long)]
    pub(crate) node: Option<String>,
    #[arg(long = "use")]
    pub(crate) is_used: bool,
    #[arg(long)]
    pub(crate) bootstrap: bool,
    #[arg(long)]
    pub(crate) append: bool,
    #[arg(long)]
    pub(crate) leave: bool,
    #[arg(long)]
    pub(crate) timeout: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct UseArgs {
    #[arg(value_name = "NAME")]
    pub(crate) wanted: String,
    #[command(flatten)]
    pub(crate) builder: BuilderArg,
    #[arg(long)]
    pub(crate) default: bool,
    #[arg(long)]
    pub(crate) global: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    #[command(flatten)]
    pub(crate) builder: BuilderArg,
    pub(crate) names: Vec<String>,
    #[arg(long)]
    pub(crate) all_inactive: bool,
    #[arg(long, short)]
    pub(crate) force: bool,
    #[arg(long)]
    pub(crate) keep_state: bool,
    #[arg(long)]
    pub(crate) keep_daemon: bool,
    #[arg(long)]
    pub(crate) timeout: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum HistoryCommand {
    /// List builds: there are none
    Ls {
        #[arg(long)]
        format: Option<String>,
        #[arg(long)]
        filter: Vec<String>,
        #[arg(long)]
        local: bool,
        #[arg(long)]
        no_trunc: bool,
    },
    /// Succeed: there is nothing to remove
    Rm {
        names: Vec<String>,
        #[arg(long)]
        all: bool,
    },
    /// Anything else needs a record of a build
    #[command(external_subcommand)]
    Other(Vec<String>),
}

#[derive(Debug, Subcommand)]
pub(crate) enum ImagetoolsCommand {
    /// Show what a registry has under a name
    Inspect {
        #[arg(value_name = "NAME")]
        image: String,
        /// The manifest as it is, byte by byte
        #[arg(long)]
        raw: bool,
        /// A template as in '{{.Manifest.Digest}}' and '{{json .Image}}'; fields: Name, Manifest, Image, Provenance, SBOM
        #[arg(long)]
        format: Option<String>,
    },
    /// Make one image of several manifests, wherever they are
    Create(ImageCreateArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ImageCreateArgs {
    /// Names of manifests or indexes; sha256:… is one in the repository of the first --tag
    pub(crate) sources: Vec<String>,
    /// The name that it gets
    #[arg(long = "tag", short = 't', value_name = "NAME")]
    pub(crate) tags: Vec<String>,
    /// Annotation of the index, or with `manifest-descriptor[PLATFORM]:` of its entries
    #[arg(long = "annotation", value_name = "[TYPE:]KEY=VALUE")]
    pub(crate) annotations: Vec<String>,
    /// Add to what the first name stands for, if there is such a name
    #[arg(long)]
    pub(crate) append: bool,
    /// Only images of these platforms
    #[arg(long = "platform", short = 'p', value_name = "PLATFORM", value_delimiter = ',')]
    pub(crate) platforms: Vec<String>,
    /// Whether the manifest of one image becomes an index of one
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", value_name = "BOOL", action = clap::ArgAction::Set)]
    pub(crate) prefer_index: bool,
    /// Write name and digest of what was made to a file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) metadata_file: Option<String>,
    /// Print what would be written
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Accepted for compatibility
    #[arg(long)]
    pub(crate) progress: Option<String>,
}

impl BuildxDuArgs {
    /// The arguments of `bake du` that mean the same.
    ///
    /// # Errors
    /// When the format is not known.
    pub(crate) fn du(self) -> Result<DuArgs, Box<Diagnostic>> {
        let Self { builder: _, filter, format, verbose } = self;
        let format = match format.as_deref() {
            None | Some("" | "table") => TableFormat::Table,
            Some("json") => TableFormat::Json,
            Some(other) => {
                let message = format!("`docker buildx du` knows no format: {other}");
                return Err(Box::new(Diagnostic::error("bake::cli::buildx", message).help("write table or json")));
            }
        };
        Ok(DuArgs { format, verbose, filter })
    }
}

impl From<BuildxPruneArgs> for PruneArgs {
    fn from(args: BuildxPruneArgs) -> Self {
        let BuildxPruneArgs { builder: _, all, force, filter, verbose, space } = args;
        Self { all, force, older_than: None, filter, verbose, space }
    }
}
