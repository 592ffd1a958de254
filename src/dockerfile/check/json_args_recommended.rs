//! `JSONArgsRecommended`: CMD and ENTRYPOINT are in JSON form unless SHELL is set.

use super::report::{CheckReport, CheckRule};
use crate::dockerfile::instruction::Instruction;

pub(crate) static RULE: CheckRule = CheckRule {
    name: "JSONArgsRecommended",
    code: "bake::check::json_args_recommended",
    page: Some("json-args-recommended"),
    experimental: false,
    check: None,
};

/// Reports a CMD or ENTRYPOINT in shell form.
pub(crate) fn fire(report: &mut CheckReport, instruction: &Instruction) {
    let keyword = instruction.keyword.to_uppercase();
    let message = format!("{keyword} should be a JSON array, a shell does not pass on signals");
    report.fire(&RULE, &instruction.comments, instruction.at, message);
}
