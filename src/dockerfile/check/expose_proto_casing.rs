//! `ExposeProtoCasing`: protocols of EXPOSE are lower case.

use super::report::{CheckReport, CheckRule};
use crate::dockerfile::instruction::Instruction;

pub(crate) static RULE: CheckRule = CheckRule {
    name: "ExposeProtoCasing",
    code: "bake::check::expose_proto_casing",
    page: Some("expose-proto-casing"),
    experimental: false,
    check: None,
};

/// Reports a protocol of EXPOSE that is not in lower case; `port` is the word as expanded.
pub(crate) fn fire(report: &mut CheckReport, instruction: &Instruction, port: &str) {
    report.fire(&RULE, &instruction.comments, instruction.at, format!("the protocol should be in lower case: {port}"));
}
