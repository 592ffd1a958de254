//! What a job is, before it runs: builds of one target that one node does, and the output that they are for.

use petgraph::graph::NodeIndex;

/// What a job builds, and for what.
#[derive(Clone, Debug)]
pub(super) struct JobSpec {
    /// Of one target, in the order of their platforms.
    pub(super) builds: Vec<NodeIndex>,
    pub(super) export: Option<NodeIndex>,
    /// The target, as progress names it.
    pub(super) label: String,
    /// The result has a platform in its names, as one of several.
    pub(super) multi_platform: bool,
    /// Other nodes make the other platforms of the output.
    pub(super) is_part: bool,
    /// It writes the shared caches of its builds.
    pub(super) writes_caches: bool,
}
