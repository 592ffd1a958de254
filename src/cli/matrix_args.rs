//! The arguments of `bake matrix` and `bake merge`, as clap reads them.

use std::num::NonZeroUsize;

use clap::{Args, ValueEnum};

use super::headings::{RUN, SHOW};

/// What `bake merge` is told.
#[derive(Clone, Debug, Args)]
pub(crate) struct MergeArgs {
    /// The metadata file of a runner; once for each of them
    #[arg(long, value_name = "FILE", required = true, help_heading = RUN)]
    pub(crate) metadata: Vec<String>,
    /// Write digests and names of what was made to a file, as JSON
    #[arg(long, value_name = "FILE", help_heading = RUN)]
    pub(crate) metadata_file: Option<String>,
}

/// What `bake matrix` makes jobs of, and how it writes them.
#[derive(Clone, Debug, Args)]
pub(crate) struct MatrixArgs {
    /// A job for each target, platform or group; target if neither this nor --shards is given
    #[arg(long, value_enum, value_name = "WHAT", conflicts_with = "shards", help_heading = SHOW)]
    pub(crate) by: Option<MatrixUnit>,
    /// Divide the targets among so many runners: what has steps in common stays together, all take about as long
    #[arg(long, value_name = "N", value_parser = shards, help_heading = SHOW)]
    pub(crate) shards: Option<NonZeroUsize>,
    /// Only the jobs of this wave, from 1: those of the next need the results of these
    #[arg(long, value_name = "N", help_heading = SHOW)]
    pub(crate) wave: Option<NonZeroUsize>,
    /// How they are written
    #[arg(long, value_enum, default_value_t = MatrixFormat::Github, help_heading = SHOW)]
    pub(crate) format: MatrixFormat,
}

/// What a job is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum MatrixUnit {
    Target,
    /// One platform of a target
    Platform,
    Group,
}

/// How `bake matrix` writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum MatrixFormat {
    /// One line of JSON for `strategy.matrix` of a workflow
    Github,
    /// The configuration of a child pipeline
    Gitlab,
    /// As for GitHub, with what is known of the division
    Json,
}

/// The number of parts of a division.
fn shards(text: &str) -> Result<NonZeroUsize, String> {
    const MOST: usize = 10_000;
    let number = text.parse::<NonZeroUsize>().ok().filter(|number| number.get() <= MOST);
    number.ok_or_else(|| format!("write a number from 1 to {MOST}"))
}
