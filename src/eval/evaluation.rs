//! The result of evaluation, as `plan` and `--print` read it. Data only; `evaluate` fills it.

use std::sync::Arc;

use indexmap::IndexMap;

use super::target::{
    group::TargetGroup,
    typed::{Target, TargetName},
};
use crate::{
    report::{Diagnostic, Hidden},
    spec::entitlement::Grant,
};

/// An evaluated definition: the targets and groups of the plan, with no expression left.
#[derive(Debug, Default)]
pub(crate) struct Evaluation {
    /// All targets of the plan, including those that contexts link to, in the order in which they were reached.
    pub(crate) targets: IndexMap<TargetName, Target>,
    /// The groups that were resolved, by name.
    pub(crate) groups: IndexMap<Arc<str>, TargetGroup>,
    /// The requested names as typed, with patterns expanded.
    pub(crate) arguments: Vec<Arc<str>>,
    /// Paths and devices that `--set` names; the user typed them, so they need no further grant.
    pub(crate) grants: Vec<Grant>,
    /// Texts that must not be shown.
    pub(crate) hidden: Hidden,
    /// Errors and warnings of targets and groups that the plan does not need; they stop nothing.
    pub(crate) unneeded_faults: Vec<Diagnostic>,
}
