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

/// What a definition says once nothing in it is left to compute.
#[derive(Debug, Default)]
pub(crate) struct Evaluation {
    /// All targets of the plan, linked ones included, in the order in which they were reached.
    pub(crate) targets: IndexMap<TargetName, Target>,
    /// The groups that were met on the way.
    pub(crate) groups: IndexMap<Arc<str>, TargetGroup>,
    /// What was asked for: names as typed, patterns expanded.
    pub(crate) arguments: Vec<Arc<str>>,
    /// What `--set` names itself and is therefore allowed.
    pub(crate) grants: Vec<Grant>,
    /// What must not be shown.
    pub(crate) hidden: Hidden,
    /// What is wrong and stops nothing: faults of targets and groups that the plan does not need.
    pub(crate) aside: Vec<Diagnostic>,
}
