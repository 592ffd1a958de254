//! `ExposeInvalidFormat`: EXPOSE names ports of the container alone.

use super::report::{CheckReport, CheckRule};
use crate::dockerfile::instruction::Instruction;

pub(crate) static RULE: CheckRule = CheckRule {
    name: "ExposeInvalidFormat",
    code: "bake::check::expose_invalid_format",
    page: Some("expose-invalid-format"),
    experimental: false,
    check: None,
};

/// Reports an EXPOSE that names an address or port of the host; `port` is the word as expanded.
pub(crate) fn fire(report: &mut CheckReport, instruction: &Instruction, port: &str) {
    report.fire(
        &RULE,
        &instruction.comments,
        instruction.at,
        format!("EXPOSE should name neither address nor port of the host: {port}"),
    );
}
