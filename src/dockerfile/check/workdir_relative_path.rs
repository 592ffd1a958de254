//! `WorkdirRelativePath`: the first WORKDIR of a file is absolute.

use super::report::{CheckReport, CheckRule};
use crate::dockerfile::instruction::Instruction;

pub(crate) static RULE: CheckRule = CheckRule {
    name: "WorkdirRelativePath",
    code: "bake::check::workdir_relative_path",
    page: Some("workdir-relative-path"),
    experimental: false,
    check: None,
};

/// Reports a relative WORKDIR before any absolute one.
pub(crate) fn fire(report: &mut CheckReport, instruction: &Instruction, path: &str) {
    let message = format!("a relative WORKDIR before any absolute one depends on the base image: {path}");
    report.fire(&RULE, &instruction.comments, instruction.at, message);
}
