//! Evaluation: a definition and the world's input become typed targets. Pure: everything of the world comes in as
//! [`Input`](input::Input).
//!
//! ```text
//! syntax ─► scope (variables, functions, attributes, on demand) ─► block (matrix) ─► target (typed, inherit, overrides)
//!                                                                                 ─► group ─► print, list
//! ```

pub(crate) mod block;
pub(crate) mod call;
pub(crate) mod convert;
pub(crate) mod evaluate;
pub(crate) mod expr;
pub(crate) mod fault;
pub(crate) mod field;
pub(crate) mod function;
pub(crate) mod group;
pub(crate) mod inherit;
pub(crate) mod input;
pub(crate) mod json;
pub(crate) mod limits;
pub(crate) mod link;
pub(crate) mod list;
pub(crate) mod names;
mod namespace;
pub(crate) mod number;
pub(crate) mod overrides;
pub(crate) mod pattern;
mod place;
pub(crate) mod print;
mod rebase;
pub(crate) mod scope;
mod sensitive;
pub(crate) mod target;
pub(crate) mod unknown;
pub(crate) mod value;
pub(crate) mod var_file;
pub(crate) mod variable;

#[cfg(test)]
mod language_tests;
#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod target_tests;

use std::sync::Arc;

use indexmap::IndexMap;

use crate::{
    report::{Diagnostic, Hidden},
    spec::entitlement::Grant,
};
use group::TargetGroup;
use target::{Target, TargetName};

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
