//! `MultipleInstructionsDisallowed`: a stage has one CMD, ENTRYPOINT, HEALTHCHECK.

use super::report::{CheckReport, CheckRule};
use crate::{dockerfile::instruction::Instruction, report::Span};

pub(crate) static RULE: CheckRule = CheckRule {
    name: "MultipleInstructionsDisallowed",
    code: "bake::check::multiple_instructions_disallowed",
    page: Some("multiple-instructions-disallowed"),
    experimental: false,
    check: None,
};

/// Reports at `earlier` an instruction that a later one of the same keyword, `instruction`, makes void.
pub(crate) fn fire(report: &mut CheckReport, instruction: &Instruction, earlier: Span) {
    let keyword = instruction.keyword.to_uppercase();
    let message = format!("only the last {keyword} of a stage is used, this one is not");
    report.fire(&RULE, &instruction.comments, earlier, message);
}
