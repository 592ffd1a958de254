//! The result of evaluation, as `plan` and `--print` read it. Data only; `evaluate` fills it.

use std::sync::Arc;

use indexmap::IndexMap;

use super::target::{
    group::TargetGroup,
    typed::{Target, TargetName},
};
use crate::{
    report::{Diagnostic, Hidden},
    spec::{ExecutionMode, entitlement::Grant},
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

impl Evaluation {
    /// The mode that the groups of the plan ask for by `release`; `None` if none of them asks.
    ///
    /// # Errors
    /// Two groups ask for different modes: a run has one.
    pub(crate) fn release(&self) -> Result<Option<ExecutionMode>, Box<Diagnostic>> {
        let mut asked = self.groups.values().filter_map(|group| Some((&group.name, group.release.as_ref()?)));
        let Some((first, release)) = asked.next() else { return Ok(None) };
        let Some((other, different)) = asked.find(|(_, other)| other.value != release.value) else {
            return Ok(Some(release.value));
        };
        let message = format!("the groups `{first}` and `{other}` ask for different releases, and a run has one");
        let fault = Diagnostic::error("bake::eval::release_conflict", message);
        let fault = fault.at(release.at, format!("`{first}` asks for this"));
        let fault = fault.at(different.at, format!("`{other}` asks for this"));
        Err(Box::new(fault.help("build them one after the other, or decide for both with --execution")))
    }
}
