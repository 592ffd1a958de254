//! The arguments of `bake affected`, as clap reads them.

use clap::{Args, ValueEnum};

use super::{args::PlanArgs, headings::SHOW};

const COMPARE: &str = "Compare with a revision";

/// `bake affected`.
#[derive(Debug, Args)]
pub(crate) struct AffectedArgs {
    #[command(flatten)]
    pub(crate) plan: PlanArgs,
    /// The revision to compare with: a branch, a tag, a commit
    #[arg(long, value_name = "REV", help_heading = COMPARE)]
    since: String,
    /// Compare up to this revision instead of the files of the work tree
    #[arg(long, value_name = "REV", help_heading = COMPARE)]
    until: Option<String>,
    /// Compare with REV itself, not with the merge base
    #[arg(long, help_heading = COMPARE)]
    direct: bool,
    /// How it is written
    #[arg(long, value_enum, default_value_t = AffectedFormat::Text, help_heading = SHOW)]
    pub(crate) format: AffectedFormat,
}

impl AffectedArgs {
    /// Which revisions are compared.
    pub(crate) fn revisions(&self) -> WantedRevisions {
        WantedRevisions { since: self.since.clone(), until: self.until.clone(), is_direct: self.direct }
    }
}

/// What the command line asks for.
#[derive(Clone, Debug)]
pub(crate) struct WantedRevisions {
    pub(crate) since: String,
    /// `None`: the files on the disk.
    pub(crate) until: Option<String>,
    /// Compare with `since` itself, not with the merge base.
    pub(crate) is_direct: bool,
}

/// How `bake affected` writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AffectedFormat {
    /// A line for each reason
    Text,
    Json,
    /// For the matrix of a GitHub workflow
    Matrix,
}
