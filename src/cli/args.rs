//! The command line, as clap reads it. What it means together with the environment is `settings`' affair.

use clap::{ArgAction, Args, CommandFactory as _, Parser, Subcommand, ValueEnum, builder::styling::Styles};

use super::{
    affected_args::AffectedArgs,
    build_args::BuildArgs,
    builder_args::{BuilderArgs, BuildersArgs},
    headings::{CHANGE, COMPARE, FILES, RUN, SHOW},
    matrix_args::{MatrixArgs, MergeArgs},
    shard::ShardChoice,
};
use crate::{spec, store::SpaceLimits};

const STYLES: Styles = Styles::styled()
    .header(clap::builder::styling::AnsiColor::Yellow.on_default().bold())
    .usage(clap::builder::styling::AnsiColor::Yellow.on_default().bold())
    .literal(clap::builder::styling::AnsiColor::Green.on_default());

const AFTER: &str = "\
Commands (first argument; a target of this name comes first, and `bake -- NAME` always is a target):
  build        Build one Dockerfile as `docker build` does
  convert      Write Compose files or `docker build` lines as a bake file
  plan         Show builds and exports and how they depend on each other
  explain      Tell which steps would run and why, and why the others last ran
  log          Show the whole output of a step that ran
  debug        Open a shell in front of a RUN step
  affected     Tell which targets can have another result since a revision of git
  matrix       Write the jobs of a CI pipeline that build a plan, one for each target, platform or part
  builders     List builders: nodes, platforms, versions, load, and what is wrong with them
  merge        Make one image of what runners have pushed for one platform each
  check        Tell what is wrong with the definition and all Dockerfiles
  fmt          Lay out bake files: indentation, blanks, aligned `=`
  du           Show what the state directory holds
  prune        Remove what is not needed any more
  cache        Look after the state directory: `cache verify`, `cache export`, …
  completions  Print completions for a shell
  version      Print the version

Examples:
  bake                                  build the group or target `default`
  bake web api                          build two targets
  bake release '!docs'                  build a group without one of its targets
  bake --print 'app-*'                  show what would be built, as JSON
  bake --set '*.platform=linux/arm64'   build for another platform
  bake --set app.args.VERSION=2 --push  change a build argument, push the result
  bake -f ci.hcl --var TAG=v1           another definition, a variable
  bake plan --format dot | dot -Tsvg    draw the plan
  bake build -t app -o app.d .          build a Dockerfile, write the result into a folder

Files are looked for in the working directory: compose.yaml, docker-compose.yml,
docker-bake.json, docker-bake.hcl, docker-bake.override.hcl and their like.";

/// Build what a bake file describes.
#[derive(Debug, Parser)]
#[command(
    name = "bake",
    version,
    about = "Build what a bake file describes: docker-bake.hcl, JSON, YAML or Compose",
    override_usage = "bake [OPTIONS] [TARGET]...\n       bake <COMMAND>",
    after_help = AFTER,
    styles = STYLES,
    max_term_width = 110
)]
pub(crate) struct Bake {
    #[command(flatten)]
    pub(crate) plan: PlanArgs,

    /// Print the resolved plan: json, or hcl or yaml for a bake file to keep
    #[arg(
        long,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "json",
        value_enum,
        hide_possible_values = true,
        value_name = "FORMAT",
        conflicts_with_all = ["list", "list_targets", "list_variables"],
        help_heading = SHOW
    )]
    pub(crate) print: Option<PrintFormat>,

    /// List what there is: targets, variables, or type=…,format=table|json
    #[arg(long, value_name = "WHAT", help_heading = SHOW)]
    pub(crate) list: Option<String>,

    /// Build only what can have another result since a revision of git; see `bake affected`
    #[arg(
        long,
        requires = "since",
        conflicts_with_all = ["list", "list_targets", "list_variables"],
        help_heading = COMPARE
    )]
    pub(crate) affected: bool,

    /// With --affected: the revision to compare with
    #[arg(long, value_name = "REV", requires = "affected", help_heading = COMPARE)]
    pub(crate) since: Option<String>,

    /// With --affected: compare with REV itself, not with the merge base
    #[arg(long, requires = "affected", help_heading = COMPARE)]
    pub(crate) direct: bool,

    /// Build only a part of the plan, as in 2/5: each of five runners another one; see `bake matrix`
    #[arg(long, value_name = "K/N", conflicts_with_all = ["list", "list_targets", "list_variables"], help_heading = COMPARE)]
    pub(crate) shard: Option<ShardChoice>,

    /// With --shard: only its targets of this wave, from 1
    #[arg(long, value_name = "N", requires = "shard", help_heading = COMPARE)]
    pub(crate) wave: Option<std::num::NonZeroUsize>,

    #[arg(long, hide = true)]
    pub(crate) list_targets: bool,

    #[arg(long, hide = true)]
    pub(crate) list_variables: bool,

    #[command(flatten)]
    pub(crate) run: RunArgs,
}

/// What decides the plan.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct PlanArgs {
    /// Targets, groups or patterns, `!NAME` to leave one out; `default` if none is named
    #[arg(value_name = "TARGET")]
    pub(crate) targets: Vec<String>,

    /// Definition file, - for standard input; may be repeated
    #[arg(short, long = "file", value_name = "FILE", allow_hyphen_values = true, help_heading = FILES)]
    pub(crate) files: Vec<String>,

    /// Set a variable; beats the environment
    #[arg(long = "var", value_name = "NAME=VALUE", help_heading = FILES)]
    pub(crate) vars: Vec<String>,

    /// Set variables from a file: HCL, JSON, YAML, or lines of NAME=value; may be repeated
    #[arg(long = "var-file", value_name = "FILE", help_heading = FILES)]
    pub(crate) var_files: Vec<String>,

    /// Treat warnings about the definition as errors
    #[arg(long, help_heading = FILES)]
    pub(crate) strict: bool,

    /// Override an attribute: TARGET.KEY=VALUE; += appends to a list, !TARGET.KEY unsets
    #[arg(long = "set", value_name = "OVERRIDE", help_heading = CHANGE)]
    pub(crate) sets: Vec<String>,

    /// Short for --set=*.push=true
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", help_heading = CHANGE)]
    pub(crate) push: Option<String>,

    /// Short for --set=*.load=true
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", help_heading = CHANGE)]
    pub(crate) load: Option<String>,

    /// Use no cached result
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", help_heading = CHANGE)]
    pub(crate) no_cache: Option<String>,

    /// Ask registries for newer base images
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", help_heading = CHANGE)]
    pub(crate) pull: Option<String>,

    /// Short for --set=*.attest=type=sbom,…
    #[arg(long, value_name = "BOOL|OPTIONS", help_heading = CHANGE)]
    pub(crate) sbom: Option<String>,

    /// Short for --set=*.attest=type=provenance,…
    #[arg(long, value_name = "BOOL|OPTIONS", help_heading = CHANGE)]
    pub(crate) provenance: Option<String>,

    /// Source policy: disabled=, strict=, log-level=
    #[arg(long = "policy", value_name = "OPTIONS", help_heading = CHANGE)]
    pub(crate) policies: Vec<String>,

    /// What to ask of the Dockerfile: build, check, outline, targets
    #[arg(long, value_name = "METHOD", help_heading = SHOW)]
    pub(crate) call: Option<String>,

    /// Short for --call=check
    #[arg(long, help_heading = SHOW)]
    pub(crate) check: bool,

    /// Allow what a build asks for: network.host, security.insecure, device, ssh, fs=PATH, fs.read=PATH, fs.write=PATH,
    /// fs.special
    #[arg(long = "allow", value_name = "GRANT", help_heading = RUN)]
    pub(crate) allows: Vec<String>,

    /// Share cache mounts with the builds that name the same namespace, and with no others
    #[arg(long, value_name = "NAME", help_heading = CHANGE)]
    pub(crate) cache_namespace: Option<String>,
}

/// How a plan is run.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct RunArgs {
    /// How progress is shown: auto, plain, tty, rawjson, quiet
    #[arg(
        long,
        value_enum,
        hide_possible_values = true,
        value_name = "MODE",
        help_heading = RUN
    )]
    pub(crate) progress: Option<ProgressArg>,

    /// How many steps run at once; the number of cores by default
    #[arg(short, long, value_name = "N", help_heading = RUN)]
    pub(crate) jobs: Option<std::num::NonZeroUsize>,

    /// The most memory that all steps of the run have together, as in 4g
    #[arg(long, value_name = "BYTES", value_parser = memory, help_heading = RUN)]
    pub(crate) max_memory: Option<u64>,

    /// Leave the processor to others: 0 (as usual) to 19 (only what nobody else wants)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..=19), help_heading = RUN)]
    pub(crate) nice: Option<i32>,

    /// When results become visible and what a failure stops: fail-fast, defer-output (all or nothing), defer-error
    #[arg(long, value_name = "MODE", help_heading = RUN)]
    pub(crate) execution: Option<String>,

    /// What becomes of a RUN step that fails: fail; shell, for a shell in its file system; keep, to keep that as a folder
    #[arg(long, value_enum, hide_possible_values = true, value_name = "MODE", default_value_t, help_heading = RUN)]
    pub(crate) on_error: OnErrorArg,

    /// Write digests and names of what was built to a file, as JSON
    #[arg(long, value_name = "FILE", help_heading = RUN)]
    pub(crate) metadata_file: Option<String>,

    #[command(flatten)]
    pub(crate) reports: ReportArgs,

    #[command(flatten)]
    pub(crate) builder: BuilderArgs,

    /// Log what is done inside, for developers; as BAKE_LOG=debug
    #[arg(short = 'D', long, action = ArgAction::SetTrue, help_heading = RUN)]
    pub(crate) debug: bool,
}

/// The reports of a command.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ReportArgs {
    /// Write a report: github, gitlab=FILE, junit=FILE, sarif=FILE, summary=FILE; none for no report that GitHub Actions gets
    /// by itself. May be repeated
    #[arg(long = "report", value_name = "FORMAT=FILE", help_heading = RUN)]
    pub(crate) reports: Vec<String>,
}

/// What becomes of a RUN step that fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnErrorArg {
    /// It is told, and its files go away
    #[default]
    Fail,
    /// A shell runs in its file system
    Shell,
    /// Its file system is kept as a folder
    Keep,
}

/// How `--print` writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PrintFormat {
    #[value(alias = "true")]
    Json,
    Hcl,
    Yaml,
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressArg {
    /// `tty` on a terminal, else `plain`
    #[default]
    Auto,
    /// Lines as they come
    Plain,
    /// A live display
    Tty,
    /// One JSON object per event
    Rawjson,
    /// Nothing but errors
    Quiet,
    /// Nothing but errors
    None,
}

/// The command line when its first argument is the name of a command.
#[derive(Debug, Parser)]
#[command(name = "bake", version, styles = STYLES, max_term_width = 110)]
pub(crate) struct WithCommand {
    #[command(subcommand)]
    pub(crate) command: CliCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CliCommand {
    /// Build one Dockerfile, as `docker build` and `docker buildx build` do
    #[command(
        args_override_self = true,
        override_usage = "bake build [OPTIONS] [PATH|URL|-|IMAGE]",
        mut_arg("print", |it| it.hide_possible_values(true))
    )]
    Build(Box<BuildArgs>),
    /// Write Compose files, or a script of `docker build` lines, as a bake file to standard output
    Convert(ConvertArgs),
    /// Show builds and exports and how they depend on each other
    Plan {
        #[command(flatten)]
        plan: Box<PlanArgs>,
        /// How it is written
        #[arg(long, value_enum, default_value_t = PlanFormat::Text)]
        format: PlanFormat,
    },
    /// Tell which steps would run and which input of them has changed, and why the cached ones last ran; build nothing
    #[command(mut_arg("call", |it| it.hide(true)), mut_arg("check", |it| it.hide(true)))]
    Explain {
        #[command(flatten)]
        plan: Box<PlanArgs>,
        /// Write JSON
        #[arg(long, help_heading = SHOW)]
        json: bool,
    },
    /// Tell which targets can have another result since a revision of git, and why; build nothing
    ///
    /// Compared are the definition, the Dockerfiles, the ignore files and the files that steps can read, at the merge base of
    /// REV and HEAD and in the work tree, with what is not committed.
    #[command(
        mut_arg("targets", |it| it.help("Targets, groups or patterns; all targets if none is named")),
        mut_arg("call", |it| it.hide(true)),
        mut_arg("check", |it| it.hide(true)),
        mut_arg("cache_namespace", |it| it.hide(true))
    )]
    Affected(Box<AffectedArgs>),
    /// Write the jobs of a CI pipeline that build a plan; build nothing
    #[command(
        mut_arg("targets", |it| it.help("Targets, groups or patterns; the default group if none is named")),
        mut_arg("call", |it| it.hide(true)),
        mut_arg("check", |it| it.hide(true)),
        mut_arg("cache_namespace", |it| it.hide(true))
    )]
    Matrix {
        #[command(flatten)]
        plan: Box<PlanArgs>,
        #[command(flatten)]
        args: MatrixArgs,
    },
    /// Make one image of what runners have pushed for one platform each, under the tags of the target; build nothing
    #[command(
        mut_arg("targets", |it| it.help("Targets, groups or patterns; the default group if none is named")),
        mut_arg("call", |it| it.hide(true)),
        mut_arg("check", |it| it.hide(true)),
        mut_arg("cache_namespace", |it| it.hide(true))
    )]
    Merge {
        #[command(flatten)]
        plan: Box<PlanArgs>,
        #[command(flatten)]
        args: MergeArgs,
    },
    /// List the builders that `--builder` can name, and what their nodes say now
    Builders(BuildersArgs),
    /// Tell what is wrong with the definition and the Dockerfiles of all targets; build nothing
    #[command(
        mut_arg("targets", |it| it.help("Targets, groups or patterns; all targets if none is named")),
        mut_arg("strict", |it| it.help("Treat all warnings as errors")),
        mut_arg("call", |it| it.hide(true)),
        mut_arg("check", |it| it.hide(true)),
        mut_arg("cache_namespace", |it| it.hide(true))
    )]
    Check {
        #[command(flatten)]
        plan: Box<PlanArgs>,
        /// How it is written: text to standard error, json to standard output
        #[arg(long, value_enum, hide_possible_values = true, value_name = "text|json", default_value_t = CheckFormat::Text)]
        format: CheckFormat,
        #[command(flatten)]
        reports: ReportArgs,
    },
    /// Lay out bake files: indentation, blanks, aligned `=`; what they say stays the same
    Fmt(FmtArgs),
    /// Show the whole output of a step that ran
    ///
    /// Without a step, list those of the last run. A step that is found in the cache does not run and has no output.
    Log(LogArgs),
    /// Build up to a RUN step and open a shell in front of it, with its mounts, environment and user
    ///
    /// Nothing that is done in the shell is cached or changes a result; cache mounts are the real ones. The exit code is that
    /// of the shell or COMMAND.
    #[command(
        override_usage = "bake debug [OPTIONS] [TARGET] [-- COMMAND...]",
        mut_arg("targets", |it| {
            it.index(1).num_args(1).action(ArgAction::Set).help("The target; `default` if none is named")
        }),
        mut_arg("push", |it| it.hide(true)),
        mut_arg("load", |it| it.hide(true)),
        mut_arg("sbom", |it| it.hide(true)),
        mut_arg("provenance", |it| it.hide(true)),
        mut_arg("call", |it| it.hide(true)),
        mut_arg("check", |it| it.hide(true))
    )]
    Debug(DebugArgs),
    /// Show what the state directory holds
    Du(DuArgs),
    /// Remove what is not needed any more
    Prune(PruneArgs),
    /// Look after the state directory
    Cache {
        #[command(subcommand)]
        command: CacheCommand,
    },
    /// Print completions for a shell
    Completions {
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Print the version
    Version,
}

#[derive(Debug, Args)]
pub(crate) struct ConvertArgs {
    /// Compose files, which are merged, or one script, - for standard input; the files of the working directory if none is named
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<String>,
    /// How the bake file is written
    #[arg(long, value_enum, hide_possible_values = true, value_name = "hcl|yaml", default_value_t = ConvertFormat::Hcl)]
    pub(crate) format: ConvertFormat,
}

/// How `bake convert` writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ConvertFormat {
    Hcl,
    Yaml,
}

#[derive(Debug, Args)]
pub(crate) struct FmtArgs {
    /// Files in HCL or JSON, - for standard input; docker-bake.hcl and docker-bake.override.hcl if none is named
    #[arg(value_name = "FILE", allow_hyphen_values = false)]
    pub(crate) files: Vec<String>,
    /// The same as FILE
    #[arg(short = 'f', long = "file", value_name = "FILE", allow_hyphen_values = true)]
    pub(crate) more: Vec<String>,
    /// Write nothing, list the files that would change; exit 1 if there are any
    #[arg(long)]
    pub(crate) check: bool,
    /// Show what changes as a unified diff, instead of names
    #[arg(long)]
    pub(crate) diff: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Everything, cache mounts too
    #[arg(long, short)]
    pub(crate) all: bool,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) force: bool,
    /// Only what was not used for this long, as in 24h or 7d
    #[arg(long, value_name = "DURATION")]
    pub(crate) older_than: Option<String>,
    /// until=DURATION, the same as --older-than; type=snapshot|blob|cachemount|git|log|failed|record
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// List what was removed
    #[arg(long)]
    pub(crate) verbose: bool,
    #[command(flatten)]
    pub(crate) space: SpaceArgs,
}

#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    /// The step: its place, as in 'web build 2/5', or any part of its name that no other step has
    pub(crate) step: Option<String>,
    /// Which run: 1 is the last one that ran a step, 2 the one before
    #[arg(long, value_name = "N")]
    pub(crate) run: Option<std::num::NonZeroUsize>,
}

#[derive(Debug, Args)]
pub(crate) struct DebugArgs {
    #[command(flatten)]
    pub(crate) plan: Box<PlanArgs>,
    /// The step: its place, as in 'web build 2/5', or any part of its name that no other step has; the last RUN step, or the
    /// first that fails before it, if none is named
    #[arg(long, value_name = "STEP", help_heading = RUN)]
    pub(crate) step: Option<String>,
    /// How progress is shown: auto, plain, tty, rawjson, quiet
    #[arg(long, value_enum, hide_possible_values = true, value_name = "MODE", help_heading = RUN)]
    pub(crate) progress: Option<ProgressArg>,
    /// How many steps run at once; the number of cores by default
    #[arg(short, long, value_name = "N", help_heading = RUN)]
    pub(crate) jobs: Option<std::num::NonZeroUsize>,
    /// Runs in place of a shell
    #[arg(last = true, index = 2, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DuArgs {
    /// How it is written
    #[arg(long, value_enum, default_value_t = TableFormat::Table)]
    pub(crate) format: TableFormat,
    /// Every single thing: name, size, last use, and whether a build may use it again
    #[arg(long)]
    pub(crate) verbose: bool,
    /// until=DURATION, what was not used for so long; type=snapshot|blob|cachemount|git|record
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
}

/// Limits of room; with any of them what was not used for the longest time goes until they hold.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct SpaceArgs {
    /// Remove until the state directory takes no more than this, as in 10gb
    #[arg(long, value_name = "BYTES", value_parser = size)]
    pub(crate) max_used_space: Option<u64>,
    /// Keep this much whatever the other limits say
    #[arg(long, visible_alias = "keep-storage", value_name = "BYTES", value_parser = size)]
    pub(crate) reserved_space: Option<u64>,
    /// Remove until this much of the file system is free
    #[arg(long, value_name = "BYTES", value_parser = size)]
    pub(crate) min_free_space: Option<u64>,
}

impl SpaceArgs {
    /// The limits as the store takes them.
    pub(crate) const fn limits(self) -> SpaceLimits {
        let Self { max_used_space, reserved_space, min_free_space } = self;
        SpaceLimits { max_used: max_used_space, reserved: reserved_space, min_free: min_free_space }
    }
}

/// A limit of memory: enough for the smallest program to start.
fn memory(text: &str) -> Result<u64, String> {
    const LEAST: u64 = 6 << 20;
    let bytes = size(text)?;
    if bytes < LEAST { Err("no step can start with less than 6m".to_owned()) } else { Ok(bytes) }
}

/// A number of bytes on the command line.
fn size(text: &str) -> Result<u64, String> {
    spec::size::parse(text).map_err(|_| "write a number and k, m, g or t, as in 10gb".to_owned())
}

#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// Read everything and compare it with its digest
    Verify {
        /// Remove what is damaged, so that the next build makes it again
        #[arg(long)]
        repair: bool,
    },
    /// Write all of it to one archive, for a machine that begins with nothing
    Export {
        /// The file; - for standard output
        file: String,
    },
    /// Add what such an archive holds; what it says is believed, as what lies in the state directory is
    Import {
        /// The file; - for standard input
        file: String,
    },
    /// List releases that did not end, which the next build goes on with
    Releases {
        /// Give them up: what is not visible stays as it is, what was staged for it is taken away
        #[arg(long)]
        abandon: bool,
    },
}

/// How `bake plan` writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PlanFormat {
    /// A tree to read
    Text,
    Json,
    /// For Graphviz
    Dot,
}

/// How `bake check` writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CheckFormat {
    Text,
    Json,
}

/// How `bake --list` writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TableFormat {
    Table,
    Json,
}

/// The command line with its commands, for completions. The program itself reads either the one or the other.
pub(crate) fn whole() -> clap::Command {
    Bake::command().subcommands(WithCommand::command().get_subcommands().cloned())
}

/// First arguments that are commands, each in a form that cannot be taken for a target.
pub(crate) const COMMANDS: [(&str, &str); 18] = [
    ("build", "bake build ."),
    ("convert", "bake convert FILE"),
    ("plan", "bake plan --format=text"),
    ("explain", "bake explain --json"),
    ("log", "bake log --run=1"),
    ("debug", "bake debug --step=STEP TARGET"),
    ("affected", "bake affected --since=REV"),
    ("matrix", "bake matrix --by=target"),
    ("builders", "bake builders --json"),
    ("merge", "bake merge --metadata=FILE"),
    ("check", "bake check --format=text"),
    ("fmt", "bake fmt FILE"),
    ("du", "bake du --format=table"),
    ("prune", "bake prune --older-than=7d"),
    ("cache", "bake cache verify"),
    ("completions", "bake completions bash"),
    ("version", "bake --version"),
    ("help", "bake --help"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_known_told_and_completed() {
        let commands = WithCommand::command();
        let mut names: Vec<&str> = commands.get_subcommands().map(clap::Command::get_name).collect();
        for name in &names {
            let row = format!("\n  {name} ");
            assert!(AFTER.contains(&row), "`bake --help` does not mention: {name}");
        }
        for shell in [clap_complete::Shell::Bash, clap_complete::Shell::Zsh, clap_complete::Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut whole(), "bake", &mut script);
            let script = String::from_utf8(script).expect("scripts are text");
            for name in &names {
                assert!(script.contains(name), "completions for {shell} lack: {name}");
            }
            assert!(script.contains("diff"), "completions for {shell} lack the options of `fmt`");
        }
        names.push("help");
        names.sort_unstable();
        let mut known = COMMANDS.map(|(name, _)| name);
        known.sort_unstable();
        assert_eq!(names, known);
    }
}
