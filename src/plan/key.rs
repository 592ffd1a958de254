//! The key of a node of the plan.

use std::fmt;

use crate::oci::Digest;

/// Identifies a node within a run: equal keys, equal work. Means nothing in another run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PlanKey(pub(crate) Digest);

/// The first digits.
impl fmt::Display for PlanKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.hex()[..12])
    }
}
