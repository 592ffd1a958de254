//! The command line, as clap reads it. What it means together with the environment is `settings`' affair.

use clap::{ArgAction, Args, CommandFactory as _, Parser, Subcommand, ValueEnum, builder::styling::Styles};

const FILES: &str = "Definition";
const CHANGE: &str = "Changes to targets";
const SHOW: &str = "Show, do not build";
const RUN: &str = "Run";

const STYLES: Styles = Styles::styled()
    .header(clap::builder::styling::AnsiColor::Yellow.on_default().bold())
    .usage(clap::builder::styling::AnsiColor::Yellow.on_default().bold())
    .literal(clap::builder::styling::AnsiColor::Green.on_default());

const AFTER: &str = "\
Commands (first argument; `bake -- NAME` builds a target of such a name):
  plan         Show builds and exports and how they depend on each other
  check        Tell what is wrong with the definition and all Dockerfiles
  fmt          Lay out bake files: indentation, blanks, aligned `=`
  du           Show what the state directory holds
  prune        Remove what is not needed any more
  cache        Check the state directory: `cache verify`
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

    /// Print the resolved plan as JSON
    #[arg(long, conflicts_with_all = ["list", "list_targets", "list_variables"], help_heading = SHOW)]
    pub(crate) print: bool,

    /// List what there is: targets, variables, or type=…,format=table|json
    #[arg(long, value_name = "WHAT", help_heading = SHOW)]
    pub(crate) list: Option<String>,

    #[arg(long, hide = true)]
    pub(crate) list_targets: bool,

    #[arg(long, hide = true)]
    pub(crate) list_variables: bool,

    #[command(flatten)]
    pub(crate) run: RunArgs,
}

/// What decides the plan.
#[derive(Debug, Args)]
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
}

/// How a plan is run.
#[derive(Debug, Args)]
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

    /// Write digests and names of what was built to a file, as JSON
    #[arg(long, value_name = "FILE", help_heading = RUN)]
    pub(crate) metadata_file: Option<String>,

    /// Accepted for compatibility; there is one builder, in this process
    #[arg(long, value_name = "NAME", help_heading = RUN)]
    pub(crate) builder: Option<String>,

    /// Log what is done inside, for developers; as BAKE_LOG=debug
    #[arg(short = 'D', long, action = ArgAction::SetTrue, help_heading = RUN)]
    pub(crate) debug: bool,
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
    /// Show builds and exports and how they depend on each other
    Plan {
        #[command(flatten)]
        plan: Box<PlanArgs>,
        /// How it is written
        #[arg(long, value_enum, default_value_t = PlanFormat::Text)]
        format: PlanFormat,
    },
    /// Tell what is wrong with the definition and the Dockerfiles of all targets; build nothing
    #[command(
        mut_arg("targets", |it| it.help("Targets, groups or patterns; all targets if none is named")),
        mut_arg("strict", |it| it.help("Treat all warnings as errors")),
        mut_arg("call", |it| it.hide(true)),
        mut_arg("check", |it| it.hide(true)),
        mut_arg("allows", |it| it.hide(true))
    )]
    Check {
        #[command(flatten)]
        plan: Box<PlanArgs>,
        /// How it is written: text to standard error, json to standard output
        #[arg(long, value_enum, hide_possible_values = true, value_name = "text|json", default_value_t = CheckFormat::Text)]
        format: CheckFormat,
    },
    /// Lay out bake files: indentation, blanks, aligned `=`; what they say stays the same
    Fmt(FmtArgs),
    /// Show what the state directory holds
    Du {
        /// How it is written
        #[arg(long, value_enum, default_value_t = TableFormat::Table)]
        format: TableFormat,
    },
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
    /// The same as until=DURATION
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// Read everything and compare it with its digest
    Verify,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TableFormat {
    Table,
    Json,
}

/// The command line with its commands, for completions. The program itself reads either the one or the other.
pub(crate) fn whole() -> clap::Command {
    Bake::command().subcommands(WithCommand::command().get_subcommands().cloned())
}

/// First arguments that are commands.
pub(crate) const COMMANDS: [&str; 9] =
    ["plan", "check", "fmt", "du", "prune", "cache", "completions", "version", "help"];

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
        let mut known = COMMANDS;
        known.sort_unstable();
        assert_eq!(names, known);
    }
}
