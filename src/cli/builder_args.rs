//! The arguments that are about builders, as clap reads them. What they mean is decided in `builder_choice`.

use clap::Args;

use super::headings::{RUN, SHOW};

/// Where a plan is built.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct BuilderArgs {
    /// Build on BuildKit: a builder of buildx, a Docker context or an address as in tcp://HOST:1234; `current` for the one
    /// that buildx uses; `embedded` for this process. May be repeated for several nodes
    #[arg(long = "builder", value_name = "NAME|URL", help_heading = RUN)]
    pub(crate) builders: Vec<String>,
}

/// What `bake builders` is told.
#[derive(Clone, Debug, Args)]
pub(crate) struct BuildersArgs {
    /// Builders or addresses; all builders that are known here if none is named
    #[arg(value_name = "NAME|URL")]
    pub(crate) wanted: Vec<String>,
    /// Write JSON
    #[arg(long, help_heading = SHOW)]
    pub(crate) json: bool,
}
