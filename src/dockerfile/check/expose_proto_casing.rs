//! `ExposeProtoCasing`: protocols of EXPOSE are lower case.

use super::{Report, Rule};
use crate::dockerfile::instruction::Instruction;

pub(crate) static RULE: Rule =
    Rule { name: "ExposeProtoCasing", code: "bake::check::expose_proto_casing", experimental: false, check: None };

pub(crate) fn fire(report: &mut Report, it: &Instruction, port: &str) {
    report.fire(&RULE, &it.comments, it.at, format!("the protocol should be in lower case: {port}"));
}
