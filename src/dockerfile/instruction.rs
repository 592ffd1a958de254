//! The typed form of a Dockerfile: instructions as written, nothing expanded, nothing resolved.

use crate::report::{Span, Spanned};

/// A parsed Dockerfile.
#[derive(Clone, Debug)]
pub(crate) struct ParsedDockerfile {
    /// The escape character, `\` or a backquote.
    pub(crate) escape: char,
    /// Value of `# syntax=`.
    pub(crate) syntax: Option<Spanned<String>>,
    /// Value of `# check=`.
    pub(crate) check: Option<Spanned<String>>,
    /// ARG instructions before the first FROM.
    pub(crate) globals: Vec<Instruction>,
    pub(crate) stages: Vec<Stage>,
    /// Blank lines inside of continued instructions, for the check.
    pub(crate) empty_continuations: Vec<Span>,
}

/// One stage: a FROM and the instructions that follow it.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    pub(crate) image: Spanned<String>,
    /// Lower case; `None` for an unnamed stage.
    pub(crate) name: Option<Spanned<String>>,
    /// The name as written, and the word before it.
    pub(crate) written_name: Option<String>,
    pub(crate) written_as: Option<String>,
    pub(crate) platform: Option<Spanned<String>>,
    /// `FROM` as written.
    pub(crate) keyword: String,
    pub(crate) at: Span,
    /// Lines of the comment directly above.
    pub(crate) comments: Vec<String>,
    pub(crate) instructions: Vec<Instruction>,
}

/// One instruction inside of a stage, or a global ARG.
#[derive(Clone, Debug)]
pub(crate) struct Instruction {
    /// The keyword as written.
    pub(crate) keyword: String,
    /// The whole instruction without heredoc bodies.
    pub(crate) at: Span,
    /// The line with continuations joined, for those that become steps.
    pub(crate) code: String,
    /// Lines of the comment directly above.
    pub(crate) comments: Vec<String>,
    pub(crate) kind: InstructionKind,
}

/// An instruction with its parsed arguments; variables are not expanded yet.
#[derive(Clone, Debug)]
pub(crate) enum InstructionKind {
    Arg(Vec<ArgDef>),
    Env(Vec<Pair>),
    Label(Vec<Pair>),
    Run(Box<RunInstruction>),
    Copy(Box<CopyInstruction>),
    Cmd(CommandLine),
    Entrypoint(CommandLine),
    Shell(Vec<String>),
    Healthcheck(Health),
    Expose(Vec<Spanned<String>>),
    Volume(Vec<Spanned<String>>),
    User(Spanned<String>),
    Workdir(Spanned<String>),
    StopSignal(Spanned<String>),
    Maintainer(String),
    Onbuild(String),
}

/// One argument that ARG declares, with its default.
#[derive(Clone, Debug)]
pub(crate) struct ArgDef {
    pub(crate) name: String,
    pub(crate) default: Option<String>,
    pub(crate) at: Span,
}

/// One `key=value` of ENV or LABEL.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) key: String,
    pub(crate) value: String,
    /// Written as `KEY value`.
    pub(crate) legacy: bool,
    pub(crate) at: Span,
}

/// A command line in exec form (a JSON array) or shell form.
#[derive(Clone, Debug)]
pub(crate) struct CommandLine {
    /// The elements of the array, or the one text.
    pub(crate) args: Vec<String>,
    pub(crate) json: bool,
    /// The shell form looks like an array but is none: why.
    pub(crate) almost_json: Option<Spanned<String>>,
}

/// A here-document (`<<EOF`) with its body as it stands in the file.
#[derive(Clone, Debug)]
pub(crate) struct Heredoc {
    pub(crate) name: String,
    pub(crate) body: String,
    /// The name was not quoted.
    pub(crate) expand: bool,
    /// `<<-`: leading tabs of each line are dropped.
    pub(crate) strip_tabs: bool,
}

/// The parsed arguments and flags of RUN.
#[derive(Clone, Debug)]
pub(crate) struct RunInstruction {
    pub(crate) command: CommandLine,
    pub(crate) heredocs: Vec<Heredoc>,
    /// The whole text is one heredoc.
    pub(crate) is_heredoc: bool,
    /// `--mount` values, not yet expanded.
    pub(crate) mounts: Vec<Spanned<String>>,
    pub(crate) network: Option<Spanned<String>>,
    pub(crate) security: Option<Spanned<String>>,
}

/// The parsed arguments and flags of COPY or ADD.
#[derive(Clone, Debug)]
pub(crate) struct CopyInstruction {
    pub(crate) is_add: bool,
    pub(crate) sources: Vec<Spanned<String>>,
    pub(crate) heredocs: Vec<Heredoc>,
    pub(crate) dest: Spanned<String>,
    pub(crate) from: Option<Spanned<String>>,
    pub(crate) chown: Option<Spanned<String>>,
    pub(crate) chmod: Option<Spanned<String>>,
    pub(crate) checksum: Option<Spanned<String>>,
    pub(crate) exclude: Vec<Spanned<String>>,
    pub(crate) link: bool,
    pub(crate) parents: bool,
    pub(crate) keep_git_dir: Option<bool>,
    pub(crate) unpack: Option<bool>,
    /// The sources look like an array but are none: why.
    pub(crate) almost_json: Option<Spanned<String>>,
}

/// The parsed arguments and flags of HEALTHCHECK; durations in nanoseconds, 0 where a flag is missing.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    pub(crate) test: Vec<String>,
    pub(crate) interval: i64,
    pub(crate) timeout: i64,
    pub(crate) start_period: i64,
    pub(crate) start_interval: i64,
    pub(crate) retries: i64,
    pub(crate) almost_json: Option<Spanned<String>>,
}

/// All keywords of instructions, in upper case, for suggestions.
pub(crate) const KEYWORDS: &[&str] = &[
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

impl ParsedDockerfile {
    /// The description in the comment above a stage or ARG: the text after a line's first word, if that is `name`.
    pub(crate) fn description<'a>(comments: &'a [String], name: &str) -> Option<&'a str> {
        comments.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).map(str::trim)
    }
}
